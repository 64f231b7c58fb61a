"""ssmd: capture live market data. Nothing heavy is imported here."""

__version__ = "0.1.0"
