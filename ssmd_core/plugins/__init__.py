"""How feeds and sinks are found. A plugin imports its records and ``hookimpl`` from here."""

from ssmd_core.plugins.hookspecs import hookimpl
from ssmd_core.plugins.records import (
    Demo,
    FeedType,
    SchemaType,
    StorageType,
    TransportType,
)

__all__ = ["Demo", "FeedType", "SchemaType", "StorageType", "TransportType", "hookimpl"]
