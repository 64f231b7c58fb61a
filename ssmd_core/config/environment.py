"""Decides what an environment file asks for on its own, where nothing is captured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from ssmd_core.config.faults import joined
from ssmd_core.config.load import _ENV_SPELLINGS, _SINGLES, _head, _part, _root, _split
from ssmd_core.config.models import EnvFile, TransportHead
from ssmd_core.config.overrides import read_overrides
from ssmd_core.config.section import Section
from ssmd_core.errors import ConfigError

__all__ = ["LoadedEnvironment", "load_environment"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedEnvironment:
    """An environment file, valid as far as the host can tell."""

    env: EnvFile
    transport: Section
    """Without what is the host's, such as ``transport_type``."""


def load_environment(env_path: Path | str, environ: Mapping[str, str]) -> LoadedEnvironment:
    """Read an environment file, with the variables of ``environ`` over it.

    Raises:
        ConfigError: every fault, one a line; carries the place of the first.
    """
    faults: list[ConfigError] = []
    _, overrides = _split(read_overrides(environ, _SINGLES))
    root = _root(env_path, _ENV_SPELLINGS, overrides, faults)
    env = _head(root, EnvFile, ("transport", "storage"), [], faults)
    if faults:
        raise joined(faults)
    if env is None or root is None:  # pragma: no cover
        raise ConfigError("cannot be read", file=env_path)
    section = _part(root, "transport")
    own = {k: v for k, v in section.data.items() if k not in TransportHead.model_fields}
    return LoadedEnvironment(env=env, transport=replace(section, data=own))
