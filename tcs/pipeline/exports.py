"""The one place where the chain exports students, by the function of `tcs export`."""

import pathlib
from typing import Any

from tcs.config.distill import DistillConfig
from tcs.config.export import ENDINGS, ExportConfig
from tcs.errors import ConfigError
from tcs.export.graphs import require_onnx
from tcs.export.int8 import require_pictures
from tcs.export.int8_files import losses
from tcs.export.stage import make_exports
from tcs.inference.runs import find_students
from tcs.runtime import say


def require_exports(config: DistillConfig, has_classes: bool) -> None:
    """ConfigError, before anything is extracted, for a format that `tcs export` does not have or cannot write here, and for 8-bit
    files of students without classes; DataError for images that these could not be calibrated with."""
    for kind in config.exports:
        _export_config(kind, config, config.places.exported(kind))
    if "onnx" in config.exports:
        require_onnx()
    if config.int8 is not None:
        if not has_classes:
            raise ConfigError(
                "--int8 measures how often decisions change, and the method reads no labels; leave it out."
            )
        if pathlib.Path(config.int8) not in (
            config.places.train_store,
            config.places.test_store,
        ):  # which are made first
            require_pictures(config.int8)


def export_run(kind: str, config: DistillConfig, test_store: pathlib.Path | None) -> tuple[list[str], str | None]:
    """All students of the chain's run in the format `kind`, each under its own name: what was written, and which 8-bit files lose
    too much, in a sentence, None where none does.

    A model card tells the scores on `test_store`, where there is one. `overwrite` replaces exports of other weights.
    """
    folder = config.places.exported(kind)
    students = find_students(config.places.run, ())
    out = folder if len(students) > 1 else folder / f"{students[0].name}{ENDINGS.get(kind, '')}"
    export = _export_config(kind, config, out, test_store)
    rows = make_exports(export)
    for row in rows:
        if row["max_difference"] is not None:
            say(f"{row['path']}: largest difference from the run {row['max_difference']:.1e}.")
    return _written(rows), losses(export, rows)


def _export_config(
    kind: str, config: DistillConfig, out: pathlib.Path, test_store: pathlib.Path | None = None
) -> ExportConfig:
    """What `tcs export` would be told: each option where the format has it."""
    int8 = {"int8": config.int8, "max_drop": config.max_drop} if kind == "onnx" and config.int8 is not None else {}
    return ExportConfig(
        run=str(config.places.run),
        to=kind,
        out=str(out),
        test=str(test_store) if kind == "hf" and test_store is not None else None,
        with_preprocess=config.with_preprocess and kind in ENDINGS,
        overwrite=config.overwrite,
        **int8,  # type: ignore[arg-type]
    )


def _written(rows: list[dict[str, Any]]) -> list[str]:
    return [str(row[name]) for row in rows for name in ("path", "int8") if name in row]
