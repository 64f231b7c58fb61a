"""How variables become values of a model. Imported only where one is set: it is heavy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from pydantic import BaseModel
from pydantic_settings import BaseSettings, EnvSettingsSource

__all__ = ["read_variables"]


def read_variables(model: type[BaseModel], environ: Mapping[str, str]) -> dict[str, Any]:
    """Return what ``environ`` says of the fields of ``model``; an empty variable says nothing."""
    return _Environ(model, environ)()


class _Environ(EnvSettingsSource):
    """pydantic's source of variables, over a given mapping."""

    def __init__(self, model: type[BaseModel], environ: Mapping[str, str]) -> None:
        # It asks for fields and their aliases only, which every model has.
        super().__init__(cast("type[BaseSettings]", model), case_sensitive=True)
        self.env_vars = {name: value for name, value in environ.items() if value != ""}
