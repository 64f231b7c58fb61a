"""Archives on local disk and in object storage: raw frames as JSON lines, a ledger beside them."""
