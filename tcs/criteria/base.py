"""What every loss is given: the setting it is built for, and the rows of a step.

Legend: B rows of a step, n rows of this run, S student dims, D teacher dims, K coordinates, H hash bits, C classes.
A map is (B, channels, height, width); maps stand in the order of their depth.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from tcs.functional.coordinates import HashPlanes

CACHED = ("labels", "coordinates", "bits", "features", "maps", "probe", "pool")
GROUPS = ("mimic", "labelled")
ONE_VIEW = "exact where the cached view is the one the student sees"


@dataclasses.dataclass(frozen=True, kw_only=True)
class LinearHead:
    """A linear classifier of features: weight (C, S) and bias (C,). No gradient flows into it."""

    weight_CS: Tensor
    bias_C: Tensor


@dataclasses.dataclass(frozen=True, kw_only=True)
class StepRows:
    """Student output and cached rows of one step. None, or no map, stands for what no loss of the run reads.

    `place_B` is the place of each row in the run (int64), for losses that remember rows. `labels_B` is -1 outside the split.
    `soft_labels_BC` stand in for labels that were smoothed or mixed. `second_BC` are the logits of the student's second
    classifier; `head` is the one linear map of its features that its classifier is at this step.
    """

    logits_BC: Tensor
    features_BS: Tensor
    second_BC: Tensor | None = None
    head: LinearHead | None = None
    z_BK: Tensor | None = None
    student_maps: tuple[Tensor, ...] = ()
    labels_B: Tensor | None = None
    soft_labels_BC: Tensor | None = None
    coordinates_BK: Tensor | None = None
    bits_BH: Tensor | None = None
    teacher_BD: Tensor | None = None
    teacher_maps: tuple[Tensor, ...] = ()
    teacher_logits_BC: Tensor | None = None
    pool_labels_BC: Tensor | None = None
    place_B: Tensor | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Setting:
    """What a loss is built for: widths of both sides, the cached features of the run, and a seed of its own.

    `teacher_nD` is None where no loss reads features; map shapes are (channels, height, width).
    """

    student_dims: int
    classes: int
    rows: int
    seed: int
    teacher_nD: Tensor | None = None
    student_maps: tuple[tuple[int, int, int], ...] = ()
    teacher_maps: tuple[tuple[int, int, int], ...] = ()
    planes: HashPlanes | None = None

    @property
    def teacher_dims(self) -> int:
        """D, the width of the cached features."""
        return given(self.teacher_nD).shape[1]


def given(value: Tensor | None) -> Tensor:
    """`value`, which the trainer has filled in because the loss says that it reads it."""
    assert value is not None
    return value


class Criterion(nn.Module):
    """A loss with what it owns: parameters (trained with the student), buffers (saved with it), neither, or both."""

    def undecayed(self) -> list[nn.Parameter]:
        """The parameters of two axes or more that weight decay must leave alone."""
        return []

    def forward(self, rows: StepRows) -> Tensor:
        """The loss of the step, a scalar."""
        raise NotImplementedError


class Plain(Criterion):
    """A loss that owns nothing: a function of the rows."""

    def __init__(self, function: Callable[[StepRows], Tensor]) -> None:
        super().__init__()
        self._function = function

    def forward(self, rows: StepRows) -> Tensor:
        """The function's value."""
        return self._function(rows)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Loss:
    """One loss: how it is built for a setting, and what a user needs to know of it.

    `reads` names what it takes from the cache: labels, coordinates and bits (a targets file), features (the store's vectors),
    maps (the store's spatial readouts), probe (logits of a probe of the frozen teacher, fitted on the run's own labels), pool
    (soft labels of every row: the run's own labels spread over its cached rows).
    `student_maps` says that it reads the student's maps, `student_head` its classifier, and `second_head` a second classifier,
    which the student then has until both are folded into one. `across_rows` says that it looks at several rows of a batch at once
    (relations, batch statistics, memories), so that its value is no mean of values of single rows. `rows` is which rows of a
    step it sees: `mimic` (all) or `labelled`. `function` is its plain functional form, which the criterion calls, with all that
    is trained or frozen as arguments; `related` its parts and its forms with other arguments. `trains` is what it trains beside
    the student, `weight` the published factor (None: none known), `exact` what differs from the online method, `differs`
    what differs from published code. `check_dims` raises ConfigError for widths (student, teacher) that it cannot be built for.
    """

    make: Callable[[Setting], Criterion]
    function: Callable[..., Tensor]
    about: str
    source: str
    reads: frozenset[str]
    student_maps: bool = False
    student_head: bool = False
    second_head: bool = False
    rows: str = "mimic"
    across_rows: bool = False
    trains: str = ""
    weight: float | None = None
    exact: str = ONE_VIEW
    differs: str = ""
    related: tuple[Callable[..., Any], ...] = ()
    check_dims: Callable[[int, int], None] | None = None

    def __post_init__(self) -> None:
        assert self.reads <= set(CACHED)
        assert self.rows in GROUPS
