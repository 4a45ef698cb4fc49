"""Whitening of teacher features as a fixed linear map, fitted once from the mean and covariance of all cached rows.

Legend: B batch, T teacher dims.
"""

import dataclasses

import torch
from torch import Tensor

from tcs.errors import ConfigError
from tcs.functional.checks import require_shapes
from tcs.functional.precision import full_precision


@dataclasses.dataclass(frozen=True, kw_only=True)
class Whitening:
    """(t - mean_T) @ matrix_TT.T is white: uncorrelated columns of one scale. Both float64, as fitted."""

    mean_T: Tensor
    matrix_TT: Tensor


def fit_whitening(
    mean_T: Tensor, covariance_TT: Tensor, kind: str = "zca", floor: float = 1e-6, rows: int | None = None
) -> Whitening:
    """The whitening map of features with this mean and covariance, computed in float64.

    `zca`: C^(-1/2), which keeps the axes as near to the originals as can be. `pca`: principal axes, largest variance first,
    signs fixed (largest entry positive). Scale: columns get unit variance (under the covariance's own normalisation); with
    `rows` = n they get unit length over n rows instead (the paper's Z'Z = I), that is, all is divided by sqrt(n). Eigenvalues
    below `floor` times the largest are raised to it, else directions without variance would be blown up; such columns end
    below unit variance. ConfigError: shapes, NaN or Inf, kind, floor, rows, no variance at all.
    """
    _require_moments(mean_T, covariance_TT, kind, floor, rows)
    eigenvalues_T, axes_TT = torch.linalg.eigh(covariance_TT.double())
    largest = float(eigenvalues_T[-1])
    if not largest > 0:
        raise ConfigError("The covariance to whiten has no variance; fit it on more than one distinct row.")
    roots_T = eigenvalues_T.clamp_min(floor * largest).rsqrt() / (rows or 1) ** 0.5
    if kind == "zca":
        return Whitening(mean_T=mean_T.double(), matrix_TT=(axes_TT * roots_T) @ axes_TT.T)
    signs_T = axes_TT.gather(0, axes_TT.abs().argmax(0, keepdim=True)).sign()
    matrix_TT = ((axes_TT * signs_T) * roots_T).T.flip(0)
    return Whitening(mean_T=mean_T.double(), matrix_TT=matrix_TT)


def _require_moments(mean_T: Tensor, covariance_TT: Tensor, kind: str, floor: float, rows: int | None) -> None:
    if mean_T.ndim != 1 or covariance_TT.shape != (len(mean_T), len(mean_T)):
        shapes = f"mean {tuple(mean_T.shape)} and covariance {tuple(covariance_TT.shape)}"
        raise ConfigError(f"Whitening has {shapes}; they must be (T,) and (T, T).")
    if not (torch.isfinite(mean_T).all() and torch.isfinite(covariance_TT).all()):
        raise ConfigError("Whitening has a mean or covariance that is not finite (NaN or Inf); check the features.")
    if kind not in ("zca", "pca"):
        raise ConfigError(f"The kind of whitening is '{kind}'; known kinds are zca, pca.")
    if not 0 < floor < 1:
        raise ConfigError(
            f"The floor of whitening is {floor}; it is a share of the largest variance, above 0 and below 1."
        )
    if rows is not None and rows < 1:
        raise ConfigError(f"The rows of whitening are {rows}; give 1 or more, or leave them out for unit variance.")


@full_precision
def _apply(t_BT: Tensor, mean_T: Tensor, matrix_TT: Tensor) -> Tensor:
    return (t_BT - mean_T) @ matrix_TT.T


def whiten(t_BT: Tensor, whitening: Whitening) -> Tensor:
    """(B, T) whitened rows, in at least float32 (the map is brought to that dtype and to the rows' device). ConfigError: shapes."""
    mean, matrix = ("mean_T", whitening.mean_T, "T"), ("matrix_TT", whitening.matrix_TT, "T T")
    require_shapes("whiten", mean, matrix, ("t_BT", t_BT, "B T"))
    dtype = torch.promote_types(t_BT.dtype, torch.float32)
    mean_T, matrix_TT = (x.to(t_BT.device, dtype) for x in (whitening.mean_T, whitening.matrix_TT))
    return _apply(t_BT, mean_T, matrix_TT)
