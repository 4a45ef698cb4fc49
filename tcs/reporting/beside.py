"""What a report shows beside the files of a grid's folder: its plan, images of the test store, coordinates. Gathered by `tcs.grid`."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tcs.reporting.coverage import Key

Thumbnails = Callable[[str, Sequence[str]], Mapping[str, bytes]]


def no_thumbnails(_dataset: str, _keys: Sequence[str]) -> Mapping[str, bytes]:
    """For a report without images."""
    return {}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Axes:
    """A coordinate system of the grid's targets: `spectrum` are the variances along all axes of the teacher's features, falling;
    `ceiling` rows and `history` rounds are those of tcs.coordinates, empty where none were measured."""

    name: str
    method: str
    components: int
    spectrum: Sequence[float]
    ceiling: Sequence[Mapping[str, Any]] = ()
    history: Sequence[Mapping[str, Any]] = ()
    kept: int | None = None
    note: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Beside:
    """`planned` are the cells of the recipe, None where it cannot be read; of the methods in `unasked`, which no recipe named but this
    release runs, only those count as planned that were begun: an earlier release ran others. `thumbnails` gives (dataset, keys) ->
    key -> JPEG or PNG bytes, for those keys that could be read. A process is at the cells `at_work` at this moment."""

    planned: tuple[Key, ...] | None = None
    unasked: frozenset[str] = frozenset()
    at_work: frozenset[Key] = frozenset()
    axes: tuple[Axes, ...] = ()
    thumbnails: Thumbnails = no_thumbnails


NOTHING = Beside()
