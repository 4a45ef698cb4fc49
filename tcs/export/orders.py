"""What a command asks for: one order a student, with the place it goes to and what is there already."""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import cache
from tcs.config.export import ENDINGS, ExportConfig
from tcs.errors import ArtefactError, ConfigError
from tcs.export.metadata import describe, read_metadata, same_export
from tcs.export.sources import find_finished, open_store, teacher_facts
from tcs.inference.runs import FinishedStudent
from tcs.runtime import say


@dataclasses.dataclass(frozen=True, kw_only=True)
class Order:
    """One student to export to `out`; `store` has the images it is compared on."""

    student: FinishedStudent
    store: cache.Store
    metadata: Mapping[str, Any]
    out: pathlib.Path

    @property
    def name(self) -> str:
        """The student as the run's command named it."""
        return str(self.student.record["identity"]["model"])


def make_orders(config: ExportConfig) -> list[Order]:
    """One order a student. ArtefactError for a run that is not finished, ConfigError for an `out` that is not of the format."""
    students = find_finished(config)
    places = _places(config, students)
    stores = {student.folder: open_store(config, student) for student in students}
    return [
        Order(
            student=student,
            store=stores[student.folder],
            metadata=_describe(config, student, stores[student.folder]),
            out=out,
        )
        for student, out in zip(students, places, strict=True)
    ]


def _describe(config: ExportConfig, student: FinishedStudent, store: cache.Store) -> dict[str, Any]:
    """The metadata of an export, with what tells it from other exports of the student."""
    metadata = describe(student, teacher_facts(student, store), config.with_preprocess)
    tested_on = None if config.test is None else cache.open(pathlib.Path(config.test)).labelled_identity
    return metadata | {"exported_as": config.to, "tested_on": tested_on}


def _places(config: ExportConfig, students: Sequence[FinishedStudent]) -> list[pathlib.Path]:
    """Where each student goes: `out` itself for one, a name of its own in the folder `out` for several."""
    out, ending = pathlib.Path(config.out), ENDINGS.get(config.to, "")
    if len(students) > 1:
        return [out / f"{student.folder.name}{ending}" for student in students]
    if ending and out.suffix != ending:
        raise ConfigError(f"--out is '{config.out}', and --to {config.to} writes one file; name it {out}{ending}.")
    return [out]


def is_there(config: ExportConfig, order: Order) -> bool:
    """Whether this very export is there. ArtefactError for another one without --overwrite, and for what is no export at all."""
    if not (order.out.exists() or order.out.is_symlink()):
        return False
    found = read_metadata(order.out)
    if found is None and not _is_empty_folder(order.out):
        raise ArtefactError(f"{order.out} is there and is no export of a student; name another --out, or remove it.")
    if found is None or config.overwrite:
        return False
    if not same_export(found, order.metadata):
        raise ArtefactError(
            f"{order.out} is the export of another student, or made otherwise; name another --out, or pass --overwrite to replace it."
        )
    say(f"{order.out} is finished already; nothing to do (--overwrite makes it anew).")
    return True


def _is_empty_folder(path: pathlib.Path) -> bool:
    return path.is_dir() and not any(path.iterdir())
