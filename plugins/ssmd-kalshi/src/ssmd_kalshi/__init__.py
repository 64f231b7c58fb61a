"""Kalshi's trade API v2 as a feed of ssmd. Nothing is imported here."""
