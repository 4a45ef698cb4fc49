"""Records of tcs probe: probe.json of one store, teachers.json of several."""

from typing import Annotated, Any

import msgspec

from tcs.schemas.values import Count, Number, Percent, Positive


class ProbeRow(msgspec.Struct):
    """One head and seed: its accuracy in percent, and what it costs."""

    method: str
    components: Positive
    head: str
    readout: str
    shots: int | str
    labelled: Count
    seed: int | str
    top1: Percent
    seen: Count = 0
    rows: Count = 0
    compression: Number | None = None


class ProbeRecord(msgspec.Struct):
    """probe.json: all that decides the numbers, and the numbers."""

    recipe: dict[str, Any]
    rows: Annotated[list[ProbeRow], msgspec.Meta(min_length=1)]
    environment: dict[str, Any]


class TeacherRow(msgspec.Struct):
    """One teacher, measure, shots and seed: top-1 in percent."""

    teacher: str
    measure: str
    shots: int | str
    seed: int | str
    top1: Percent


class TeacherFacts(msgspec.Struct):
    """A teacher: how many images it was compared on, how many were scored, and how many of those are in its training store."""

    teacher: str
    rows: Count
    scored: Count
    seen: Count


class TeacherDifference(msgspec.Struct):
    """The difference of two teachers in points: mean, half-width of the 95 % interval, and the n that it is over."""

    first: str
    second: str
    measure: str
    mean: Number
    n: Count
    half: Number | None = None
    p: Number | None = None


class TeachersRecord(msgspec.Struct):
    """teachers.json: facts of each teacher, rows, differences of every two and their alignment."""

    teachers: Annotated[list[TeacherFacts], msgspec.Meta(min_length=1)]
    rows: Annotated[list[TeacherRow], msgspec.Meta(min_length=1)]
    differences: list[TeacherDifference]
    cka: list[dict[str, Any]]
    recipe: dict[str, Any]
    environment: dict[str, Any]
