"""Selection while training: a trainable gate per coordinate, the weakest of which are closed on a schedule.

After a period the open gates with the least importance, the sum over its steps of |gate * dL/dgate| (what closing a gate
would change in the loss, to first order), are closed for good. Periods are equally long, and each closes an equal share
of what is open, so that `keep` of K are left after the last one. Legend: K coordinates, B batch rows.
"""

import torch
from torch import Tensor, nn

PERIODS = 8
# Closing ends here, so that the classifier settles on the coordinates that stay.
LAST_SHARE = 0.6


class Gates(nn.Module):
    """gate_K (trained), open_K (0 or 1) and importance_K (since the last period began), float32."""

    open_K: Tensor
    importance_K: Tensor

    def __init__(self, components: int) -> None:
        super().__init__()
        self.gate_K = nn.Parameter(torch.ones(components))
        self.register_buffer("open_K", torch.ones(components))
        self.register_buffer("importance_K", torch.zeros(components))

    def forward(self, z_BK: Tensor) -> Tensor:
        """The coordinates as the classifier reads them."""
        return z_BK * self.factors()

    def factors(self) -> Tensor:
        """What each coordinate is multiplied with, (K,)."""
        return self.gate_K * self.open_K

    @torch.no_grad()
    def observe(self) -> None:
        """Add the last backward pass to the importance; nothing where no loss reached the gates."""
        if self.gate_K.grad is not None:
            self.importance_K += (self.gate_K * self.gate_K.grad).abs()

    @torch.no_grad()
    def close_weakest(self, keep: int) -> None:
        """Close open gates until `keep` are left, the least important first (ties: the later coordinate), and begin a period."""
        importance_K = torch.where(self.open_K > 0, self.importance_K, -1.0)
        order_K = torch.argsort(importance_K, descending=True, stable=True)
        self.open_K[order_K[min(keep, int(self.open_K.sum())) :]] = 0.0
        self.importance_K.zero_()


def kept_after(period: int, components: int, keep: int) -> int:
    """How many of `components` gates are open after `period` (1-based) of PERIODS."""
    share: float = (keep / components) ** (period / PERIODS)
    return max(keep, round(components * share))


def period_ending(step: int, start: int, stop: int) -> int | None:
    """The period (1-based) that the `step`-th step of the phase [start, stop) ends; None within a period.

    Where there are fewer steps than periods, all of them end at once.
    """
    span = max(1, int((stop - start) * LAST_SHARE))
    if span < PERIODS:
        return PERIODS if step - start == span else None
    length = span // PERIODS
    period, rest = divmod(step - start, length)
    return period if rest == 0 and 1 <= period <= PERIODS else None
