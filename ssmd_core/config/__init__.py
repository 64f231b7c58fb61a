"""What the two YAML files and the environment ask for, with file:line errors."""

from ssmd_core.config.load import Loaded, load_files
from ssmd_core.config.models import EnvFile, FeedFile, FeedVersion
from ssmd_core.config.process import HealthAddress, ProcessSettings
from ssmd_core.config.section import Section

__all__ = [
    "EnvFile",
    "FeedFile",
    "FeedVersion",
    "HealthAddress",
    "Loaded",
    "ProcessSettings",
    "Section",
    "load_files",
]
