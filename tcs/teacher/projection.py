"""A fixed linear projection of a readout before it is stored, so that maps take D / d times less room (RdimKD).

Stored is ``(x - origin) @ matrix``. The loss of RdimKD is a norm of ``(student - teacher) @ matrix``, from which the origin
cancels; it is subtracted because float16 keeps 11 bits, and the mean of a teacher's features is often larger than their
spread. A random matrix has origin zero: it then depends on the seed alone. Matrix and origin are constants of the store's plan.

Legend: B batch, H W height and width, D teacher dims, d projected dims.
"""

import dataclasses
from collections.abc import Mapping

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray

import cache
from tcs.coordinates.axes import make_axes
from tcs.coordinates.moments import streaming_moments
from tcs.errors import DataError
from tcs.runtime import seed_for


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Projection:
    """float32 `matrix_Dd` with orthonormal columns and `origin_D`; `spectrum_D` are the sample's variances along all axes, if fitted."""

    matrix_Dd: NDArray[np.float32]
    origin_D: NDArray[np.float32]
    spectrum_D: NDArray[np.float32] | None = None

    @property
    def dims(self) -> int:
        """d."""
        return int(self.matrix_Dd.shape[1])

    @property
    def share(self) -> float | None:
        """The share of the sample's variance that the d axes hold; None for a random projection."""
        if self.spectrum_D is None:
            return None
        variances_D = self.spectrum_D.astype(np.float64)
        return float(variances_D[: self.dims].sum() / max(variances_D.sum(), 1e-30))

    def apply(self, features: torch.Tensor) -> torch.Tensor:
        """float32 (..., d) of float32 (..., D), on its device; in float32 under autocast too."""
        matrix_Dd, origin_D = (torch.tensor(a, device=features.device) for a in (self.matrix_Dd, self.origin_D))
        with torch.autocast(features.device.type, enabled=False):
            return (features - origin_D) @ matrix_Dd

    def constants(self, readout: str) -> dict[str, cache.Constant]:
        """The arrays by the names they have in a store's plan."""
        arrays = {"matrix": self.matrix_Dd, "origin": self.origin_D, "spectrum": self.spectrum_D}
        return {f"projection/{readout}/{name}": cache.Constant.of(a) for name, a in arrays.items() if a is not None}


def stored_projection(constants: Mapping[str, cache.Constant], readout: str) -> Projection | None:
    """The projection of `readout` among the constants of a plan; None where it is not projected."""
    prefix = f"projection/{readout}/"
    arrays = {name.removeprefix(prefix): item.array() for name, item in constants.items() if name.startswith(prefix)}
    if "matrix" not in arrays or "origin" not in arrays:
        return None
    spectrum_D = arrays.get("spectrum")
    return Projection(
        matrix_Dd=arrays["matrix"].astype(np.float32),
        origin_D=arrays["origin"].astype(np.float32),
        spectrum_D=None if spectrum_D is None else spectrum_D.astype(np.float32),
    )


def orthogonal_projection(dims: int, projected: int, seed: int, readout: str) -> Projection:
    """RdimKD-R: the Q of a seeded Gaussian (D, d), made in float64. A function of (dims, projected, seed, readout)."""
    generator = np.random.default_rng(seed_for(seed, f"projection {readout}"))
    q_Dd, r_dd = np.linalg.qr(generator.standard_normal((dims, projected)))
    signs_d = np.where(np.diag(r_dd) < 0, -1.0, 1.0)  # LAPACKs choose signs freely
    return Projection(matrix_Dd=(q_Dd * signs_d).astype(np.float32), origin_D=np.zeros(dims, np.float32))


def fitted_projection(sample_ND: NDArray[np.floating], projected: int, method: str, seed: int = 0) -> Projection:
    """Axes fitted to a sample's vectors, and their mean.

    `pca`: the first `projected` principal axes (RdimKD-P). `autoencoder`: orthonormal columns that span the encoder of a linear
    auto-encoder, started by `seed` (RdimKD-A). DataError unless there are more vectors than axes.
    """
    if len(sample_ND) <= projected:
        raise DataError(
            f"{len(sample_ND)} vectors have at most {max(len(sample_ND) - 1, 0)} principal axes, and {projected} are asked for;"
            " raise --projection-images, lower the dims of --project, or use --projection orthogonal."
        )
    mean_D, covariance_DD = streaming_moments(sample_ND)
    basis_DD, spectrum_D = make_axes(covariance_DD, method, seed, projected)
    return Projection(
        matrix_Dd=np.ascontiguousarray(basis_DD[:, :projected], np.float32),
        origin_D=mean_D.astype(np.float32),
        spectrum_D=spectrum_D.astype(np.float32),
    )


def resize_map(map_BHWD: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """A map averaged (where it grows, repeated) to `size`: torch's adaptive average pooling, (B, *size, D)."""
    pooled_BDHW = F.adaptive_avg_pool2d(map_BHWD.permute(0, 3, 1, 2), size)
    return pooled_BDHW.permute(0, 2, 3, 1).contiguous()
