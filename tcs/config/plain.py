"""What Python code gives a configuration and a command line cannot: paths as objects, one text where several are meant."""

import dataclasses
import os
from collections.abc import Mapping
from typing import Any

from tcs.errors import require


def take_plain(config: Any) -> None:
    """Put texts in the place of paths in a frozen dataclass that is being built, so that every artefact can record it.

    Raises ConfigError for a text where several are asked for: its letters would be taken for them.
    """
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        require(
            field.type != tuple[str, ...] or not isinstance(value, str | os.PathLike),
            f"{field.name} is '{value}', a single one; it must be a tuple, as ('{value}',).",
        )
        object.__setattr__(config, field.name, _plain(value))


def _plain(value: Any) -> Any:
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    return {key: _plain(item) for key, item in value.items()} if isinstance(value, Mapping) else value
