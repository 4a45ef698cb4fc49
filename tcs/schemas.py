"""What the JSON that tcs writes holds, as types; a file that was changed by hand or damaged is refused with the place and the rule.

Fields that a type does not name are left alone: a later release may have written them. Sizes are bounded, so that no number of a file
makes a program of ours take memory or time without end.
"""

import pathlib
from typing import Annotated, Any, Literal

import msgspec

from tcs.errors import ArtefactError

Count = Annotated[int, msgspec.Meta(ge=0, le=10**15)]
Seconds = Annotated[float, msgspec.Meta(ge=0, le=1e12)]
Side = Annotated[int, msgspec.Meta(ge=1, le=8192)]
Three = Annotated[list[Annotated[float, msgspec.Meta(ge=-1e6, le=1e6)]], msgspec.Meta(min_length=3, max_length=3)]
ThreePositive = Annotated[list[Annotated[float, msgspec.Meta(gt=0, le=1e6)]], msgspec.Meta(min_length=3, max_length=3)]
Temperature = Annotated[float, msgspec.Meta(gt=0, le=1e6)]


class RunIdentity(msgspec.Struct):
    """Of a run's identity what is read back: the student as the command named it."""

    model: str
    store_identity: str | None = None


class RunMethod(msgspec.Struct):
    """The method of a run."""

    loss: str
    head: str = "linear"


class RunStudent(msgspec.Struct):
    """The student of a run and what it takes: an image side in pixels, mean and standard deviation of each colour in [0, 1]."""

    name: str
    kwargs: dict[str, Any]
    image_size: Side
    mean: Three
    std: ThreePositive
    parameters: Count


class RunRows(msgspec.Struct):
    """How many rows a run had."""

    labelled: Count = 0
    all: Count = 0
    held_out: Count = 0


class RunCost(msgspec.Struct):
    """What a run cost."""

    wall_seconds: Seconds = 0.0
    images_seen: Count = 0
    share_seconds: Seconds = 0.0
    peak_mib: Seconds = 0.0


class RunCalibration(msgspec.Struct):
    """The temperature that was fitted to held-out rows, None where there were none."""

    temperature: Temperature | None = None


class FinishedRun(msgspec.Struct):
    """config.json of a finished student: what scoring, exporting and reporting read of it."""

    state: Literal["finished"]
    identity: RunIdentity
    config: dict[str, Any]
    method: RunMethod
    classes: list[str]
    student: RunStudent
    rows: RunRows = msgspec.field(default_factory=RunRows)
    recipe: dict[str, Any] = msgspec.field(default_factory=dict)
    cost: RunCost = msgspec.field(default_factory=RunCost)
    calibration: RunCalibration | None = None
    coordinates: dict[str, Any] | None = None
    selection: dict[str, Any] | None = None
    environment: dict[str, Any] = msgspec.field(default_factory=dict)


def require_schema(path: pathlib.Path, content: Any, kind: type[msgspec.Struct], remedy: str) -> None:
    """ArtefactError, with the place and the rule, where the JSON `content` of `path` is not as `kind` says."""
    try:
        msgspec.convert(content, kind)
    except msgspec.ValidationError as error:
        raise ArtefactError(f"file {path} is not as any release wrote it ({error}); {remedy}.") from error
