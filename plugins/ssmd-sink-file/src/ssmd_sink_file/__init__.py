"""The archive on local disk: raw frames as JSON lines, a coverage ledger beside them."""
