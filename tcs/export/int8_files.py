"""The 8-bit file beside a float one: made, measured, proved, and refused where it loses too much.

Legend: n images to calibrate with, m to measure on, S image side in pixels, C classes.
"""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tcs.config.export import ExportConfig
from tcs.config.pixels import student_rules_in
from tcs.errors import ArtefactError
from tcs.export import int8
from tcs.export.check import CHECKED_IMAGES, Claim, differences
from tcs.export.graphs import with_metadata
from tcs.export.metadata import read_metadata, same_export
from tcs.export.orders import Order
from tcs.export.place import Draft
from tcs.export.sources import Pictures, open_pictures
from tcs.runtime import say

INT8 = "int8"  # what an 8-bit file has in its metadata and a float one has not


def write_int8(config: ExportConfig, order: Order) -> dict[str, Any]:
    """Make NAME.int8.onnx beside the float file, or NAME.int8-refused.onnx where it loses more than `max_drop` points; never both.

    Columns of the result: `int8` its path, `int8_refused`, `int8_drop` in points, and the comparison, each with `int8_` before it.
    ArtefactError where there is a file of such a name that is no 8-bit export, or, without `overwrite`, one made otherwise.
    """
    pictures = open_pictures(
        str(config.int8), order.metadata["classes"], student_rules_in(order.metadata["transform"], str(order.out))
    )
    accepted, refused = (order.out.with_suffix(f".{kind}.onnx") for kind in ("int8", "int8-refused"))
    standing = _standing((accepted, refused), order, pictures, config.overwrite)
    comparison, made = (standing.comparison, None) if standing else _make(order, pictures)
    is_refused = comparison.drop > config.max_drop
    final, other = (refused, accepted) if is_refused else (accepted, refused)
    if made is not None:
        _place(order, pictures, final, comparison, made)
        other.unlink(missing_ok=True)
    elif standing is not None and standing.path != final:  # `max_drop` is another one than it was
        standing.path.replace(final)
    say(f"{order.name}: int8 {comparison.in_words()}")
    return {
        "int8": str(final),
        "int8_refused": is_refused,
        "int8_drop": round(comparison.drop, 4),
        **{f"int8_{name}": value for name, value in dataclasses.asdict(comparison).items()},
    }


def losses(config: ExportConfig, rows: Sequence[Mapping[str, Any]]) -> str | None:
    """Which 8-bit files lose too much, and what to do, in words; None where none does."""
    told = "; ".join(
        f"{row['model']} loses {row['int8_drop']:.2f} points, kept as {row['int8']}"
        for row in rows
        if row.get("int8_refused")
    )
    if not told:
        return None
    return (
        f"int8 loses more than --max-drop {config.max_drop:g}: {told}. Calibrate with more images like those in use, raise "
        "--max-drop, or use the float file, which is finished."
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Standing:
    """The 8-bit file that is there, and what was measured of it."""

    path: pathlib.Path
    comparison: int8.Comparison


def _standing(
    places: tuple[pathlib.Path, pathlib.Path], order: Order, pictures: Pictures, overwrite: bool
) -> _Standing | None:
    """The very file that is asked for, if it is there under either name; None where it has to be made."""
    same = None
    for path in places:
        if not path.exists():
            continue
        found = read_metadata(path)
        told = None if found is None else found.pop(INT8, None)
        if found is None or not isinstance(told, dict):
            raise ArtefactError(
                f"{path} is there and is no 8-bit export of a student; move it away, or name another --out."
            )
        if told["data"] == pictures.identity and same_export(found, order.metadata):
            same = _Standing(path=path, comparison=int8.Comparison(**told["comparison"]))
        elif not overwrite:
            raise ArtefactError(
                f"{path} is of another student, or was calibrated with other images; move it away, or pass --overwrite to replace it."
            )
    if same is None or overwrite:
        return None
    say(f"{same.path} is finished already; nothing to do (--overwrite makes it anew).")
    return same


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class _Made:
    """A new 8-bit model (onnx's ModelProto), with some of the images it was measured on and what it gave."""

    model: Any
    calibrated_with: int
    images_m3SS: NDArray[np.uint8]
    outputs_mC: NDArray[np.float32]


def _make(order: Order, pictures: Pictures) -> tuple[int8.Comparison, _Made]:
    calibration_n, measured_m = int8.split_pictures(pictures)
    size, float_model = order.metadata["transform"]["img_size"], order.out.read_bytes()
    model = int8.quantised(float_model, pictures.pixels(calibration_n, size), order.metadata)
    measured_m3SS = pictures.pixels(measured_m, size)
    float_mC = int8.logits_of(float_model, measured_m3SS, order.metadata)
    int8_mC = int8.logits_of(model.SerializeToString(), measured_m3SS, order.metadata)
    few = slice(0, CHECKED_IMAGES)
    made = _Made(
        model=model, calibrated_with=len(calibration_n), images_m3SS=measured_m3SS[few], outputs_mC=int8_mC[few]
    )
    return int8.compare(float_mC, int8_mC, pictures.labels_N[measured_m]), made


def _place(order: Order, pictures: Pictures, final: pathlib.Path, comparison: int8.Comparison, made: _Made) -> None:
    """Write the model, its measurement inside, and let a fresh process give what this one measured."""
    told = {
        "data": pictures.identity,
        "calibrated_with": made.calibrated_with,
        "comparison": dataclasses.asdict(comparison),
    }
    with Draft(final) as draft:
        draft.write(with_metadata(made.model, {**order.metadata, INT8: told}))
        claim = Claim(
            path=draft.path,
            format="onnx",
            architecture=order.metadata["architecture"],
            images_N3SS=made.images_m3SS,
            expected_NC=made.outputs_mC,
        )
        differences([claim])
        draft.commit()
