"""The one place where the chain exports students: `tcs export`, by the functions of its own room."""

import importlib
import pathlib
from typing import Any

import tcs
from tcs.errors import ConfigError

CONFIG, FUNCTION = "ExportConfig", "export_students"  # as `tcs` lists them


def require_exports(kinds: tuple[str, ...], run: pathlib.Path, out: pathlib.Path) -> None:
    """ConfigError, before anything is extracted, for a format that `tcs export` does not have."""
    for kind in kinds:
        _public(CONFIG)(run=str(run), to=kind, out=str(out / kind))


def export_run(kind: str, run: pathlib.Path, out: pathlib.Path, *, overwrite: bool) -> list[str]:
    """All students of `run` in the format `kind`, under the folder `out`; returns what was written.

    `overwrite` replaces those of other weights.
    """
    rows = _public(FUNCTION)(_public(CONFIG)(run=str(run), to=kind, out=str(out), overwrite=overwrite))
    return [str(row["path"]) for row in rows]


def _public(name: str) -> Any:
    """A name that `tcs` offers, where this release has it."""
    module = tcs.MODULE_OF.get(name)
    if module is None:
        raise ConfigError(
            "--export is not available in this release; leave it out: run/<student>/folded.safetensors is a plain timm state dict."
        )
    return getattr(importlib.import_module(module), name)
