"""Files of a run of tcs train: config.json of a student, the plain part of its resume.pt, a line of metrics.jsonl; tcs pretrain's state."""

from typing import Any, Literal

import msgspec

from tcs.schemas.values import Count, Format, Positive, Seconds, Side, Temperature, Three, ThreePositive, Two


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
    stores_read: list[str] = msgspec.field(default_factory=list)
    environment: dict[str, Any] = msgspec.field(default_factory=dict)
    format: Format = 1


class ResumeState(msgspec.Struct):
    """What resume.pt holds beside its tensors, which are checked against the student as they are loaded."""

    step: Count
    images_seen: Count
    student: dict[str, Any]
    criteria: dict[str, Any]
    optimiser: dict[str, Any]
    scaler: dict[str, Any]
    fingerprint: str
    averaged: dict[str, Any] | None = None
    format: Format = 1


class PretrainState(msgspec.Struct):
    """What the state of an unfinished teacher holds: its settings, the updates made so far, mean loss and match of each finished epoch and
    their sums in the current one. Network and optimiser are held against those of a new teacher after one update."""

    identity: dict[str, Any]
    network: dict[str, Any]
    optimizer: dict[str, Any]
    step: Positive
    epochs: list[Two]
    sums: Two
    format: Format = 1


class MetricsRow(msgspec.Struct):
    """A line of metrics.jsonl: `step`, and any columns beside it; numbers that are not finite are the texts "nan", "inf", "-inf"."""

    step: Count
