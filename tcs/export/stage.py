"""The stage `tcs export`: students of a run written in a form that others load, each proved before it has its name.

Legend: N images, S image side in pixels, C classes (features of a student without classes).
"""

import contextlib
import copy
import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Any

import cache
from tcs.config.evaluate import EvalConfig
from tcs.config.export import ExportConfig
from tcs.errors import ArtefactError
from tcs.evaluation.students import evaluate_student
from tcs.export.card import Score, model_card
from tcs.export.check import Claim, differences, outputs_of_run
from tcs.export.folders import hf_folder, timm_folder
from tcs.export.graphs import onnx_bytes, program_bytes, require_onnx
from tcs.export.int8 import require_decisions, require_pictures
from tcs.export.int8_files import losses, write_int8
from tcs.export.orders import Order, is_there, make_orders
from tcs.export.place import Contents, Draft
from tcs.export.sources import sample
from tcs.runtime import say


def export_students(config: ExportConfig) -> list[dict[str, Any]]:
    """Export and prove the students; returns one row each: `model`, `format`, `path`, `max_difference` (None where the export was
    there already), and with `int8` its file and what it loses.

    ConfigError for options that do not fit and for packages that are missing, ArtefactError for a run that is not finished, an
    output of something else, an export that does not give what the run gives, and for an int8 file that loses more than `max_drop`
    points (it is kept under another name); ModelError for a student that cannot be exported so.
    """
    rows = make_exports(config)
    told = losses(config, rows)
    if told is not None:
        raise ArtefactError(told)
    return rows


def make_exports(config: ExportConfig) -> list[dict[str, Any]]:
    """The same, and no error where an int8 file loses too much: its row says `int8_refused`."""
    if config.to == "onnx":
        require_onnx()
    orders = make_orders(config)
    if config.int8 is not None:  # all that can be wrong with it is told before a float file is made
        require_pictures(config.int8)
        for order in orders:
            require_decisions(order.student)
    made = _make_missing(config, orders)
    rows = [_row(config, order, made.get(order.out)) for order in orders]
    if config.int8 is not None:
        rows = [row | write_int8(config, order) for row, order in zip(rows, orders, strict=True)]
    return rows


def _make_missing(config: ExportConfig, orders: Sequence[Order]) -> dict[pathlib.Path, float]:
    """Make what is not there, proved all together by one fresh process; the largest difference from the run by path."""
    missing = [order for order in orders if not is_there(config, order)]
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
    student = dataclasses.replace(
        order.student, model=copy.deepcopy(order.student.model)
    )  # its memory layout is changed
    row = evaluate_student(student, store, EvalConfig(run=config.run, store=config.test))
    hits = round(row["top1"] / 100 * row["rows"])
    return Score(store=store.path.name, identity=store.labelled_identity, hits=hits, n=row["rows"], seen=row["seen"])


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
