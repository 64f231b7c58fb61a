"""The archive on local disk: a file a day and stream, closed in parts, kept for so long."""
