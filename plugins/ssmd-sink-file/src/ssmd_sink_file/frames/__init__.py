"""Compressed frames: how lines are packed, and how they are found and read again."""
