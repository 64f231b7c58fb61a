"""File archive storage for ssmd."""
