"""Finite or not: the loss terms of each step, looked at before the step counts.

On a GPU the look at a step comes one step later, so that no step waits for the device; the batch of a step can be made
again, so nothing is lost by it, and no state is saved before it was looked at.
"""

import collections
import dataclasses
import math
from collections.abc import Mapping

import torch
from torch import Tensor

from tcs.errors import DivergedError

GRADIENT, FEATURES, WEIGHTS = "grad_norm", "features", "weights"

BESIDE_LOSSES = {
    GRADIENT: "the norm of the gradient",
    FEATURES: "a feature of an image",
    WEIGHTS: "a weight or statistic",
}


class NotFiniteError(DivergedError):
    """A loss term, the norm of the gradient, the student's features or its weights were NaN or infinite at `step`."""

    def __init__(self, student: str, term: str, value: float, step: int) -> None:
        what = BESIDE_LOSSES.get(term, f"loss '{term.removeprefix('loss_')}'")
        super().__init__(f"student {student}: {what} is {value} at step {step}; lower --lr and train again.")
        self.term, self.value, self.step = term, value, step


@dataclasses.dataclass(frozen=True)
class _Coming:
    step: int
    names: tuple[str, ...]
    values: Tensor
    event: torch.cuda.Event | None


class Watch:
    """The values of the steps of one student, on their way from its device. `last` holds those looked at last."""

    def __init__(self, student: str, device: torch.device) -> None:
        self._student, self._lag = student, 1 if device.type == "cuda" else 0
        self._coming: collections.deque[_Coming] = collections.deque()
        self.last: dict[str, float] = {}

    def put(self, step: int, values: Mapping[str, Tensor]) -> None:
        """Send the values of `step` (scalars) on their way, and look at what has come. Raises NotFiniteError."""
        stacked = torch.stack([value.detach().float() for value in values.values()])
        event = None
        if stacked.is_cuda:
            stacked = torch.empty(len(values), pin_memory=True).copy_(stacked, non_blocking=True)
            event = torch.cuda.Event()  # type: ignore[no-untyped-call]
            event.record()
        self._coming.append(_Coming(step, tuple(values), stacked, event))
        while len(self._coming) > self._lag:
            self._look()

    def settle(self) -> None:
        """Look at all that is still on its way: before a state is saved or a loss is told."""
        while self._coming:
            self._look()

    def _look(self) -> None:
        coming = self._coming.popleft()
        if coming.event is not None:
            coming.event.synchronize()
        self.last = dict(zip(coming.names, coming.values.tolist(), strict=True))
        for name, value in self.last.items():
            if not math.isfinite(value):
                raise NotFiniteError(self._student, name, value, coming.step)
