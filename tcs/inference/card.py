"""What has to be known of a student to use it, wherever it comes from: classes, pixels, temperature, origin.

In an exported folder it is the file `tcs.json`, in an ONNX file the text under the key `tcs` of its metadata. This room reads it,
`tcs export` writes it.
"""

import dataclasses
import json
import pathlib
from collections.abc import Mapping
from typing import Any

from tcs.config.pixels import EARLIER, PixelRules, student_rules_in
from tcs.errors import ArtefactError, listed
from tcs.plain_files import require_parts
from tcs.schemas.check import require_schema
from tcs.schemas.exports import ExportCard

FORMAT = 1
KEY, FILE = "tcs", "tcs.json"
EXPORT_AGAIN = "export the student again: tcs export RUN --to timm|hf|onnx"

# How tcs.images.decode makes a square: students are trained and scored on no other pixels.
INTERPOLATION, CROP = "bicubic", "shorter side resized to img_size, then the centre crop"

PARTS: Mapping[str, Any] = {
    "architecture": str,
    "kwargs": dict,
    "classes": list,
    "transform": {"img_size": int, "mean": list, "std": list},
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Card:
    """`classes` in the order of the outputs, none without a classifier; images are squares of `size` pixels, normalised with `mean`
    and `std` on a 0..1 scale; `rules` say how files become pixels. `temperature` divides the logits, None where it was never fitted.
    `teacher` and `run` tell where the student comes from."""

    architecture: str
    classes: tuple[str, ...]
    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    rules: PixelRules = EARLIER
    temperature: float | None = None
    kwargs: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    preprocess_in_graph: bool = False
    teacher: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    run: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def read_card(text: str | bytes, path: pathlib.Path) -> Card:
    """The card in the JSON `text`, found in or beside `path`. ArtefactError where it is none, or of a later release."""
    try:
        content = json.loads(text)
    except ValueError as error:
        raise ArtefactError(
            f"what {path} says of its student is no JSON ({error}); {EXPORT_AGAIN} --out ANOTHER."
        ) from error
    if not isinstance(content, dict):
        raise ArtefactError(f"what {path} says of its student is {str(content)[:40]}, no JSON object; {EXPORT_AGAIN}.")
    _check_format(content, path)
    require_parts(path, content, PARTS, EXPORT_AGAIN)
    transform, temperature = content["transform"], content.get("temperature")
    _check_transform(transform, path)
    if temperature is not None and not (isinstance(temperature, int | float) and temperature > 0):
        raise ArtefactError(f"{path} has {temperature!r} for 'temperature', which is a number above 0; {EXPORT_AGAIN}.")
    require_schema(path, content, ExportCard, EXPORT_AGAIN)
    return Card(
        architecture=content["architecture"],
        kwargs=content["kwargs"],
        classes=tuple(str(name) for name in content["classes"]),
        size=transform["img_size"],
        mean=tuple(transform["mean"]),
        std=tuple(transform["std"]),
        rules=student_rules_in(transform, str(path)),
        temperature=temperature,
        preprocess_in_graph=bool(content.get("preprocess_in_graph")),
        teacher=content.get("teacher") or {},
        run=content.get("run") or {},
    )


def _check_format(content: Mapping[str, Any], path: pathlib.Path) -> None:
    found = content.get("format")
    if not isinstance(found, int) or not 1 <= found <= FORMAT:
        raise ArtefactError(
            f"{path} is of format {found}, and this release reads no later one than {FORMAT}; use the release that wrote it."
        )


def _check_transform(transform: Mapping[str, Any], path: pathlib.Path) -> None:
    """Pixels are made as training made them; a card that asks for others is of a release that can make them."""
    triples = (transform["mean"], transform["std"])
    if any(len(triple) != 3 or not all(isinstance(n, int | float) for n in triple) for triple in triples):
        raise ArtefactError(
            f"{path} has mean {listed(transform['mean'])} and std {listed(transform['std'])}, which are 3 numbers each; "
            f"{EXPORT_AGAIN}."
        )
    if transform["img_size"] < 1 or 0 in transform["std"]:
        raise ArtefactError(f"{path} has an image size or a std of 0; {EXPORT_AGAIN}.")
    for name, ours in (("interpolation", INTERPOLATION), ("crop", CROP)):
        asked = transform.get(name, ours)
        if asked != ours:
            raise ArtefactError(
                f"{path} asks for images of {name} '{asked}', and this release makes '{ours}'; use the release that wrote it."
            )
