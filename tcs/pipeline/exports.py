"""The one place where the chain exports students, by the function of `tcs export`."""

import pathlib

from tcs.config.distill import DistillConfig
from tcs.config.export import ENDINGS, ExportConfig
from tcs.export.graphs import require_onnx
from tcs.export.stage import export_students
from tcs.inference.runs import find_students


def require_exports(kinds: tuple[str, ...], run: pathlib.Path, folder: pathlib.Path) -> None:
    """ConfigError, before anything is extracted, for a format that `tcs export` does not have or cannot write here."""
    for kind in kinds:
        ExportConfig(run=str(run), to=kind, out=str(folder / kind))
    if "onnx" in kinds:
        require_onnx()


def export_run(kind: str, config: DistillConfig, test_store: pathlib.Path | None) -> list[str]:
    """All students of the chain's run in the format `kind`, each under its own name; returns what was written.

    A model card tells the scores on `test_store`, where there is one. `overwrite` replaces exports of other weights.
    """
    run, folder = config.places.run, config.places.exported(kind)
    students = find_students(run, ())
    out = folder if len(students) > 1 else folder / f"{students[0].name}{ENDINGS.get(kind, '')}"
    test = str(test_store) if kind == "hf" and test_store is not None else None
    export = ExportConfig(run=str(run), to=kind, out=str(out), test=test, overwrite=config.overwrite)
    return [str(row["path"]) for row in export_students(export)]
