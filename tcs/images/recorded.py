"""The options a store was extracted with, as its manifest records them: for repair and recomputation."""

import contextlib
import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any

from tcs.config.extract import DataConfig, ExtractConfig
from tcs.config.pixels import FIRST
from tcs.errors import ArtefactError, ConfigError


def recorded_config(store: pathlib.Path, provenance: Any, changes: Mapping[str, Any]) -> ExtractConfig:
    """The ExtractConfig in the provenance of `store`, written to `store` itself, with `changes` that are not None.

    Raises ArtefactError where none is recorded, or one that this release does not understand.
    """
    recorded = provenance.get("config") if isinstance(provenance, Mapping) else None
    if not isinstance(recorded, Mapping):
        raise ArtefactError(
            f"{store} does not record the options of a tcs extract run, so nothing can be extracted again from it; "
            "delete the files that tcs cache verify names, and rerun the command that made it: it writes only those."
        )
    names = {field.name for field in dataclasses.fields(ExtractConfig)}
    unknown = [name for name in recorded if name not in names]
    if unknown:
        raise ArtefactError(
            f"{store} was extracted with the option {unknown[0]}, which this release does not know; use the release that "
            "made it."
        )
    options = {name: _with_tuples(value) for name, value in recorded.items()}
    options.setdefault("pixel_rules", FIRST)  # of a release that knew no others
    options.setdefault("teacher_channels_last", False)
    given = {name: value for name, value in changes.items() if value is not None}
    try:
        return ExtractConfig(**{**options, **given, "out": str(store), "overwrite": False, "dry_run": False})
    except (ConfigError, TypeError, ValueError, AttributeError) as error:  # values of other types than the options have
        raise ArtefactError(
            f"{store} records options that make no sense ({error}); run the command that made it."
        ) from error


def recorded_data(provenance: Any) -> DataConfig | None:
    """The options of the source of images in a store's provenance; None where none are recorded.

    Of a store that is part of another, or of several, those of the first.
    """
    with contextlib.suppress(
        AttributeError, IndexError, KeyError, TypeError
    ):  # no parents, or told otherwise than we do
        return recorded_data(provenance["derived"]["parents"][0]["provenance"])
    recorded = provenance.get("config") if isinstance(provenance, Mapping) else None
    names = {field.name for field in dataclasses.fields(DataConfig)}
    if not isinstance(recorded, Mapping) or "data" not in recorded:
        return None
    try:
        return DataConfig(**{name: value for name, value in recorded.items() if name in names})
    except (ConfigError, TypeError):  # values of other types than the options have
        return None


def require_path(path: str | None, option: str, store: pathlib.Path) -> None:
    """Raise ConfigError where a recorded path, which may be relative to another folder, leads nowhere."""
    if path is not None and not is_there(path):
        raise ConfigError(f"{store} was extracted from {path}, which is not here; say where it is now with {option}.")


def is_there(source: str) -> bool:
    """Whether a recorded source can be asked for: a path that exists, or the name of a data set, as torch/cifar10 is."""
    return pathlib.Path(source).exists() or source.partition("/")[0] in ("torch", "hfds") or ":" in source


def _with_tuples(value: Any) -> Any:
    """JSON lists as the tuples they were."""
    if isinstance(value, list):
        return tuple(_with_tuples(item) for item in value)
    if isinstance(value, dict):
        return {name: _with_tuples(item) for name, item in value.items()}
    return value
