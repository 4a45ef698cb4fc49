"""The stage `tcs export`: students of a run written in a form that others load, each proved before it has its name.

Legend: N images, S image side in pixels, C classes (features of a student without classes).
"""

import contextlib
import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

import cache
from tcs.config.evaluate import EvalConfig
from tcs.config.export import ENDINGS, ExportConfig
from tcs.errors import ArtefactError, ConfigError
from tcs.evaluation.students import FinishedStudent, evaluate_student
from tcs.export import int8
from tcs.export.card import Score, model_card
from tcs.export.check import Claim, differences, outputs_of_run
from tcs.export.folders import hf_folder, timm_folder
from tcs.export.graphs import onnx_bytes, program_bytes, require_onnx
from tcs.export.metadata import describe, read_metadata, same_export
from tcs.export.place import Contents, Draft
from tcs.export.sources import find_finished, open_pictures, open_store, sample, teacher_facts
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


def export_students(config: ExportConfig) -> list[dict[str, Any]]:
    """Export and prove the students; one row each: `model`, `format`, `path`, `max_difference` (None where the export was there
    already), and with `int8` its file and what it loses.

    ConfigError for options that do not fit and for packages that are missing, ArtefactError for a run that is not finished, an
    output of something else, an export that does not give what the run gives, and for an int8 file that loses more than `max_drop`
    points (it is kept under another name); ModelError for a student that cannot be exported so.
    """
    if config.to == "onnx":
        require_onnx()
    orders = _orders(config)
    made = _make_missing(config, orders)
    rows = [_row(config, order, made.get(order.out)) for order in orders]
    if config.int8 is not None:
        rows = [row | _quantise(config, order) for row, order in zip(rows, orders, strict=True)]
        _refuse_losses(config, rows)
    return rows


def _orders(config: ExportConfig) -> list[Order]:
    students = find_finished(config)
    places = _places(config, students)
    if config.int8 is not None:
        for student in students:
            int8.require_decisions(student)
    stores = {student.folder: open_store(config, student) for student in students}
    return [
        Order(
            student=student,
            store=stores[student.folder],
            metadata=describe(student, teacher_facts(student, stores[student.folder]), config.with_preprocess),
            out=out,
        )
        for student, out in zip(students, places, strict=True)
    ]


def _places(config: ExportConfig, students: Sequence[FinishedStudent]) -> list[pathlib.Path]:
    """Where each student goes: `out` itself for one, a name of its own in the folder `out` for several."""
    out, ending = pathlib.Path(config.out), ENDINGS.get(config.to, "")
    if len(students) > 1:
        return [out / f"{student.folder.name}{ending}" for student in students]
    if ending and out.suffix != ending:
        raise ConfigError(f"--out is '{config.out}', and --to {config.to} writes one file; name it {out}{ending}.")
    return [out]


def _make_missing(config: ExportConfig, orders: Sequence[Order]) -> dict[pathlib.Path, float]:
    """Make what is not there, proved all together by one fresh process; the largest difference from the run by path."""
    missing = [order for order in orders if not _is_there(config, order)]
    if not missing:
        return {}
    with contextlib.ExitStack() as stack:
        drafts = [stack.enter_context(Draft(order.out)) for order in missing]
        for order, draft in zip(missing, drafts, strict=True):
            say(f"{order.name}: exporting to {config.to}")
            draft.write(_contents(config, order))
        found = differences([_claim(config, order, draft.path) for order, draft in zip(missing, drafts, strict=True)])
        for draft in drafts:
            draft.commit()
    return {order.out: difference for order, difference in zip(missing, found, strict=True)}


def _is_there(config: ExportConfig, order: Order) -> bool:
    """Whether this very export is there. ArtefactError for another one without --overwrite, and for what is no export at all."""
    if not (order.out.exists() or order.out.is_symlink()):
        return False
    found = read_metadata(order.out)
    if found is None and not _is_empty_folder(order.out):
        raise ArtefactError(f"{order.out} is there and is no export of a student; name another --out, or remove it.")
    if found is None or config.overwrite:
        return False
    if not same_export(found, order.metadata) or order.out.is_dir() != (config.to not in ENDINGS):
        raise ArtefactError(
            f"{order.out} is the export of another student, or made otherwise; name another --out, or pass --overwrite to replace it."
        )
    say(f"{order.out} is finished already; nothing to do (--overwrite makes it anew).")
    return True


def _is_empty_folder(path: pathlib.Path) -> bool:
    return path.is_dir() and not any(path.iterdir())


def _contents(config: ExportConfig, order: Order) -> Contents:
    if config.to == "timm":
        return timm_folder(order.student, order.metadata)
    if config.to == "hf":
        return hf_folder(order.student, order.metadata, model_card(order.name, order.metadata, _score(config, order)))
    make = onnx_bytes if config.to == "onnx" else program_bytes
    return make(order.student, order.metadata)


def _score(config: ExportConfig, order: Order) -> Score | None:
    """Top-1 on `--test`; None without it, and for a student without classes."""
    if config.test is None or not order.metadata["classes"]:
        return None
    store = cache.open(pathlib.Path(config.test))
    row = evaluate_student(order.student, store, EvalConfig(run=config.run, store=config.test))
    hits = round(row["top1"] / 100 * row["rows"])
    return Score(store=store.path.name, identity=store.identity, hits=hits, n=row["rows"], seen=row["seen"])


def _claim(config: ExportConfig, order: Order, path: pathlib.Path) -> Claim:
    images_N3SS = sample(order.store, order.metadata["transform"]["img_size"], config.data)
    return Claim(
        path=path,
        format=config.to,
        architecture=order.metadata["architecture"],
        images_N3SS=images_N3SS.numpy(),
        expected_NC=outputs_of_run(order.student, images_N3SS),
    )


def _row(config: ExportConfig, order: Order, difference: float | None) -> dict[str, Any]:
    return {"model": order.name, "format": config.to, "path": str(order.out), "max_difference": difference}


def _quantise(config: ExportConfig, order: Order) -> dict[str, Any]:
    """Make the int8 file beside the float one, and measure both; under the name of a refused one where it loses too much."""
    pictures = open_pictures(str(config.int8), order.metadata["classes"])
    calibration_n, measured_m = int8.split_pictures(pictures)
    size, float_model = order.metadata["transform"]["img_size"], order.out.read_bytes()
    calibration_n3SS = pictures.pixels(calibration_n, size)
    metadata = {
        **order.metadata,
        "int8": {"calibrated_with": len(calibration_n), "data": pathlib.Path(pictures.name).name},
    }
    model = int8.quantised(float_model, calibration_n3SS, metadata)
    measured_m3SS = pictures.pixels(measured_m, size)
    float_mC, int8_mC = (int8.logits_of(each, measured_m3SS, metadata) for each in (float_model, model))
    comparison = int8.compare(float_mC, int8_mC, pictures.labels_N[measured_m])
    accepted, refused = (order.out.with_suffix(f".{kind}.onnx") for kind in ("int8", "int8-refused"))
    is_refused = comparison.drop > config.max_drop
    with Draft(refused if is_refused else accepted) as draft:
        draft.write(model)
        _prove_int8(order, draft.path, measured_m3SS, int8_mC)
        draft.commit()
    say(f"{order.name}: int8 {comparison.in_words()}")
    return {
        "int8": str(draft.final),
        "int8_refused": is_refused,
        "int8_drop": round(comparison.drop, 4),
        **{f"int8_{name}": value for name, value in dataclasses.asdict(comparison).items()},
    }


def _prove_int8(
    order: Order, path: pathlib.Path, images_N3SS: NDArray[np.uint8], outputs_NC: NDArray[np.float32]
) -> None:
    """A fresh process gives what this one measured."""
    few = slice(0, 16)
    claim = Claim(
        path=path,
        format="onnx",
        architecture=order.metadata["architecture"],
        images_N3SS=images_N3SS[few],
        expected_NC=outputs_NC[few],
    )
    differences([claim])


def _refuse_losses(config: ExportConfig, rows: Sequence[Mapping[str, Any]]) -> None:
    refused = [row for row in rows if row["int8_refused"]]
    if refused:
        told = "; ".join(
            f"{row['model']} loses {row['int8_drop']:.2f} points, kept as {row['int8']}" for row in refused
        )
        raise ArtefactError(
            f"int8 loses more than --max-drop {config.max_drop:g}: {told}. Calibrate with more images like those in use, raise "
            "--max-drop, or use the float file, which is finished."
        )
