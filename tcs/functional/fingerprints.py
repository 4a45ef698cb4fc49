"""CSD (Wang, "Cosine Similarity Distillation", a write-up): cosine between frozen random projections of both sides' features.

A projection of the teacher's row is its fingerprint, all that a cache needs to hold. Nothing is trained but the student.

Legend: B batch, S student dims, T teacher dims, K dims of a fingerprint.
"""

import math

import torch
from torch import Tensor

from tcs.errors import ConfigError
from tcs.functional.checks import require_shapes
from tcs.functional.mimicry import cosine
from tcs.functional.precision import full_precision


def draw_projection(width: int, dims: int, seed: int = 0) -> Tensor:
    """(width, K) float32 of independent N(0, 1 / K), so that lengths stay on average; the same for a seed on any device."""
    if width < 1 or dims < 1:
        raise ConfigError(f"A projection of {width} to {dims} dims is asked for; both must be 1 or more.")
    return torch.randn(width, dims, generator=torch.Generator().manual_seed(seed)) / math.sqrt(dims)


@full_precision
def csd(f_s_BS: Tensor, f_t_BT: Tensor, projection_SK: Tensor, projection_TK: Tensor) -> Tensor:
    """1 - mean cosine of f_s P_s and f_t P_t over rows; both projections are frozen (detached). ConfigError: shapes."""
    require_shapes(
        "csd",
        ("f_s_BS", f_s_BS, "B S"),
        ("f_t_BT", f_t_BT, "B T"),
        ("projection_SK", projection_SK, "S K"),
        ("projection_TK", projection_TK, "T K"),
    )
    return csd_cached(f_s_BS, f_t_BT @ projection_TK, projection_SK)


@full_precision
def csd_cached(f_s_BS: Tensor, fingerprint_BK: Tensor, projection_SK: Tensor) -> Tensor:
    """`csd` where only the teacher's fingerprints are cached. ConfigError: shapes."""
    require_shapes("csd", ("f_s_BS", f_s_BS, "B S"), ("projection_SK", projection_SK, "S K"))
    return cosine(f_s_BS @ projection_SK.detach(), fingerprint_BK)
