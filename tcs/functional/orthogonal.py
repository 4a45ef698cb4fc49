"""A projector with orthonormal columns at every step, whatever the optimiser does to its parameters: first columns of exp(skew).

The map is the paper's (V_kD, Miles et al. 2024). Householder products, which the published code gets from torch for a
non-square weight, are not offered: they keep a +-1 flag on the parameter's diagonal, truncated to an integer when read, and
the first step of weight decay turns that flag, and with it the whole projector, into zeros for ever.

Legend: B batch, T teacher dims, S student dims (S <= T), R = 2 S.
"""

import math

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from tcs.errors import ConfigError
from tcs.functional.precision import full_precision

SERIES_REACH = 0.8  # 1-norm


@full_precision
def expm0(raw_TS: Tensor) -> Tensor:
    """(T, S): the first S columns of exp(A), A = X - X' with X the strict lower triangle of `raw_TS` padded to (T, T).

    Costs products of 2 S x 2 S where those are smaller than T x T (`low_rank_expm0`). ConfigError if S > T.
    """
    _require_tall(raw_TS)
    width_t, width_s = raw_TS.shape
    return low_rank_expm0(raw_TS) if 2 * width_s < width_t else dense_expm0(raw_TS)


@full_precision
def expm(raw_TS: Tensor, base_TT: Tensor) -> Tensor:
    """(T, S): base @ `expm0`, with a fixed orthogonal base (torch's trivialisation); a raw of zeros gives the base's first columns."""
    return base_TT @ expm0(raw_TS)


def _require_tall(raw_TS: Tensor) -> None:
    if raw_TS.ndim != 2 or raw_TS.shape[0] < raw_TS.shape[1]:
        shape = tuple(raw_TS.shape)
        raise ConfigError(
            f"The orthogonal projector has the shape {shape} (teacher, student dims); a wider student needs a linear projector."
        )


def dense_expm0(raw_TS: Tensor) -> Tensor:
    """`expm0` by the T x T matrix exponential."""
    width_t, width_s = raw_TS.shape
    lower_TT = F.pad(raw_TS.tril(-1), (0, width_t - width_s))
    moved_TT = matrix_expm1(lower_TT - lower_TT.T)
    return torch.eye(width_t, width_s, dtype=raw_TS.dtype, device=raw_TS.device) + moved_TT[:, :width_s]


def low_rank_expm0(raw_TS: Tensor) -> Tensor:
    """`expm0` from 2 S x 2 S matrices: A = U V' has rank 2 S, so exp(A) E = E + U phi(V'U) V'E, phi(M) = sum of M^j / (j + 1)!.

    E is the first S columns of the identity, U = [X / c, -c E], V = [c E, X / c]; c drops out of A but keeps V'U as small as A
    is.
    """
    width_t, width_s = raw_TS.shape
    lower_TS = raw_TS.tril(-1)
    first_TS = torch.eye(width_t, width_s, dtype=raw_TS.dtype, device=raw_TS.device)
    balance = _balance(lower_TS)
    u_TR = torch.cat([lower_TS / balance, -first_TS * balance], dim=1)
    v_TR = torch.cat([first_TS * balance, lower_TS / balance], dim=1)
    return first_TS + u_TR @ (matrix_phi(v_TR.T @ u_TR) @ (v_TR.T @ first_TS))


def _balance(lower_TS: Tensor) -> Tensor:
    size = torch.linalg.matrix_norm(lower_TS.detach()) / lower_TS.shape[1] ** 0.5
    balance: Tensor = torch.where(size > 0, size, 1.0).sqrt()
    return balance


def matrix_phi(m_RR: Tensor) -> Tensor:
    """phi(M) = sum of M^j / (j + 1)!, (R, R), by a Taylor series and doublings of its argument.

    The derivative is that of these products. torch.linalg.matrix_exp, which has no phi, takes the exponential of a matrix twice as wide
    for phi and of one twice as wide again for its derivative. As that function, this one waits for the norm of `m_RR`.
    """
    doublings = _doublings(m_RR)
    x = m_RR / 2**doublings
    phi = _phi_series(x)
    moved = x @ phi
    for left in reversed(range(doublings)):
        phi = phi + phi @ moved / 2  # phi(2 X) = phi(X) (exp(X) + I) / 2
        moved = _doubled(moved) if left else moved
    return phi


def matrix_expm1(m_RR: Tensor) -> Tensor:
    """exp(M) - I, (R, R), in the way of `matrix_phi`."""
    doublings = _doublings(m_RR)
    x = m_RR / 2**doublings
    moved: Tensor = x @ _phi_series(x)
    for _ in range(doublings):
        moved = _doubled(moved)
    return moved


def _doubled(moved_RR: Tensor) -> Tensor:
    """exp(2 X) - I from exp(X) - I."""
    doubled_RR: Tensor = 2 * moved_RR + moved_RR @ moved_RR
    return doubled_RR


def _doublings(m_RR: Tensor) -> int:
    """How often `m_RR` is halved until its 1-norm is within the reach of the series; 0 where it is not finite, which no series mends."""
    norm = float(torch.linalg.matrix_norm(m_RR.detach(), 1))
    return max(0, math.ceil(math.log2(norm / SERIES_REACH))) if SERIES_REACH < norm < math.inf else 0


def _phi_series(x_RR: Tensor) -> Tensor:
    """phi up to the power 15, four powers at a time (Paterson and Stockmeyer): the rest is below 1e-16 within SERIES_REACH."""
    factors = [1 / math.factorial(power + 1) for power in range(16)]
    square = x_RR @ x_RR
    powers = (torch.eye(len(x_RR), dtype=x_RR.dtype, device=x_RR.device), x_RR, square, square @ x_RR)
    fourth = square @ square
    fours = [
        sum((factors[first + at] * powers[at] for at in (1, 2, 3)), factors[first] * powers[0])
        for first in (0, 4, 8, 12)
    ]
    return fours[0] + (fours[1] + (fours[2] + fours[3] @ fourth) @ fourth) @ fourth


class OrthogonalProjector(nn.Module):
    """V_kD's projector W of shape (T, S) with W'W = I: base @ exp(A)[:, :S], A from the parameter `raw`, the base a random rotation.

    It starts at the base's first columns. Any value of `raw` gives orthonormal columns, so weight decay cannot break W; it
    only pulls W towards its start, and `no_weight_decay` names `raw` for optimisers that ask. The exponential is computed in
    float64 (float32 loses orthogonality at 1e-3 for wide students), except on devices without it.
    """

    base_TT: Tensor

    def __init__(self, width_s: int, width_t: int, seed: int = 0) -> None:
        super().__init__()
        self.raw = nn.Parameter(torch.zeros(width_t, width_s))
        _require_tall(self.raw)
        self.register_buffer("base_TT", random_rotation(width_t, seed).float())

    def no_weight_decay(self) -> set[str]:
        """Names of parameters that weight decay should leave alone (timm's convention)."""
        return {"raw"}

    def weight(self) -> Tensor:
        """W, shape (T, S), in the parameter's dtype."""
        wide = self.raw.dtype if self.raw.device.type == "mps" else torch.float64
        with torch.autocast(device_type=self.raw.device.type, enabled=False):
            start_TS = expm0(self.raw.to(wide))
            return (self.base_TT.to(wide) @ start_TS).to(self.raw.dtype)

    def forward(self, f_s_BS: Tensor) -> Tensor:
        """(B, S) to (B, T): f_s W'."""
        return F.linear(f_s_BS, self.weight())


def random_rotation(width: int, seed: int) -> Tensor:
    """A (width, width) orthogonal float64 matrix, uniform over rotations and reflections, the same for a seed on any device."""
    gaussian = torch.randn(width, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    q, r = torch.linalg.qr(gaussian)
    rotation: Tensor = q * r.diagonal().sign()
    return rotation
