"""A feed for the invented venue acme."""
