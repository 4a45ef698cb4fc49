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
    """Make NAME.int8.onnx beside the float file, or NAME.int8-refused.onnx where it loses more than `max_drop` points.

    Columns of the result: `int8` its path, `int8_refused`, `int8_drop` in points, and the comparison, each with `int8_` before it.
    ArtefactError where such a file is there and is no 8-bit export.
    """
    pictures = open_pictures(str(config.int8), order.metadata["classes"])
    accepted, refused = (order.out.with_suffix(f".{kind}.onnx") for kind in ("int8", "int8-refused"))
    comparison = None if config.overwrite else _measured_before((accepted, refused), order, pictures, config.max_drop)
    if comparison is None:
        comparison = _make(config, order, pictures, accepted, refused)
    is_refused = comparison.drop > config.max_drop
    say(f"{order.name}: int8 {comparison.in_words()}")
    return {
        "int8": str(refused if is_refused else accepted),
        "int8_refused": is_refused,
        "int8_drop": round(comparison.drop, 4),
        **{f"int8_{name}": value for name, value in dataclasses.asdict(comparison).items()},
    }


def refuse_losses(config: ExportConfig, rows: Sequence[Mapping[str, Any]]) -> None:
    """ArtefactError that names the 8-bit files that lose too much, if there are any."""
    refused = [row for row in rows if row["int8_refused"]]
    if refused:
        told = "; ".join(
            f"{row['model']} loses {row['int8_drop']:.2f} points, kept as {row['int8']}" for row in refused
        )
        raise ArtefactError(
            f"int8 loses more than --max-drop {config.max_drop:g}: {told}. Calibrate with more images like those in use, raise "
            "--max-drop, or use the float file, which is finished."
        )


def _measured_before(
    places: tuple[pathlib.Path, pathlib.Path], order: Order, pictures: Pictures, max_drop: float
) -> int8.Comparison | None:
    """What was measured of the very file that is there under the name that `max_drop` gives it; None where it has to be made."""
    for place, is_refused in zip(places, (False, True), strict=True):
        found = read_metadata(place) if place.exists() else None
        told = None if found is None else found.pop(INT8, None)
        if found is None or not isinstance(told, dict) or told.get("data") != pictures.identity:
            continue
        comparison = int8.Comparison(**told["comparison"])
        if same_export(found, order.metadata) and (comparison.drop > max_drop) == is_refused:
            say(f"{place} is finished already; nothing to do (--overwrite makes it anew).")
            return comparison
    return None


def _make(
    config: ExportConfig, order: Order, pictures: Pictures, accepted: pathlib.Path, refused: pathlib.Path
) -> int8.Comparison:
    calibration_n, measured_m = int8.split_pictures(pictures)
    size, float_model = order.metadata["transform"]["img_size"], order.out.read_bytes()
    model = int8.quantised(float_model, pictures.pixels(calibration_n, size), order.metadata)
    measured_m3SS = pictures.pixels(measured_m, size)
    float_mC = int8.logits_of(float_model, measured_m3SS, order.metadata)
    int8_mC = int8.logits_of(model.SerializeToString(), measured_m3SS, order.metadata)
    comparison = int8.compare(float_mC, int8_mC, pictures.labels_N[measured_m])
    told = {
        "data": pictures.identity,
        "calibrated_with": len(calibration_n),
        "comparison": dataclasses.asdict(comparison),
    }
    final = refused if comparison.drop > config.max_drop else accepted
    _require_ours(final)
    with Draft(final) as draft:
        draft.write(with_metadata(model, {**order.metadata, INT8: told}))
        _prove(order, draft.path, measured_m3SS[:CHECKED_IMAGES], int8_mC[:CHECKED_IMAGES])
        draft.commit()
    return comparison


def _require_ours(path: pathlib.Path) -> None:
    found = read_metadata(path) if path.exists() else None
    if path.exists() and (found is None or INT8 not in found):
        raise ArtefactError(
            f"{path} is there and is no 8-bit export of a student; move it away, or name another --out."
        )


def _prove(order: Order, path: pathlib.Path, images_m3SS: NDArray[np.uint8], outputs_mC: NDArray[np.float32]) -> None:
    """A fresh process gives what this one measured."""
    claim = Claim(
        path=path,
        format="onnx",
        architecture=order.metadata["architecture"],
        images_N3SS=images_m3SS,
        expected_NC=outputs_mC,
    )
    differences([claim])
