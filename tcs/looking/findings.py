"""All that a page of a look shows, as rows of the store.

Legend: N rows, G groups (classes, and the unlabelled).
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from tcs.looking.kept import Comparison
from tcs.looking.maps import AxisEnds, Maps
from tcs.looking.spaces import Space
from tcs.looking.typical import TypicalRows


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Findings:
    """`names` of groups, of which the first `classes` are classes; `nearest` is, of the shown rows, the nearest row and 1 - the cosine to
    it. The rest is what the modules of this room find, of rows by number."""

    keys: Sequence[str]
    names: Sequence[str]
    classes: int
    groups_N: NDArray[np.int64]
    centrality_N: NDArray[np.float64]
    spaces: tuple[Space, ...]
    comparison: Comparison
    typical: tuple[TypicalRows, ...]
    nearest: Mapping[int, tuple[int, float]]
    ends: tuple[AxisEnds, ...]
    maps: Maps
