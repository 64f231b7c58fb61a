"""Kalshi feed for ssmd."""
