"""The one place where the chain exports students, by the function of `tcs export`."""

import pathlib

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


def export_run(kind: str, run: pathlib.Path, folder: pathlib.Path, test_store: pathlib.Path | None) -> list[str]:
    """All students of `run` in the format `kind`, each under its own name in `folder`; returns what was written.

    A model card tells the scores on `test_store`, where there is one.
    """
    students = find_students(run, ())
    out = folder if len(students) > 1 else folder / f"{students[0].name}{ENDINGS.get(kind, '')}"
    test = str(test_store) if kind == "hf" and test_store is not None else None
    return [str(row["path"]) for row in export_students(ExportConfig(run=str(run), to=kind, out=str(out), test=test))]
