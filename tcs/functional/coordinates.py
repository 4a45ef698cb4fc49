"""Losses on coordinates: squared distance, and binary cross-entropy on the hash bits of the eLSH targets.

Legend: B batch rows, K coordinates, H hash bits, P = H / 8 bytes.
"""

import dataclasses

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from tcs.functional.checks import require_same_shape, require_shapes, require_vectors
from tcs.functional.precision import full_precision

ELSH_SHARPNESS = 2.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class HashPlanes:
    """What the eLSH loss needs of a targets file: rotation_HK, thresholds_H and rms_H, floating, on the student's device."""

    rotation_HK: Tensor
    thresholds_H: Tensor
    rms_H: Tensor

    def to(self, device: torch.device) -> "HashPlanes":
        """The same on another device."""
        return HashPlanes(
            rotation_HK=self.rotation_HK.to(device),
            thresholds_H=self.thresholds_H.to(device),
            rms_H=self.rms_H.to(device),
        )


@full_precision
def coordinate_l2(z_BK: Tensor, coordinates_BK: Tensor) -> Tensor:
    """Mean squared difference over rows and coordinates (RdimKD's distance in a frozen projection, with a mean reduction).

    The stored scales make the mean variance of the cached coordinates 1, so the value starts near 1 for any teacher.
    `tcs.functional.rdimkd.rdimkd` takes both sides' features and the projection instead. ConfigError: shapes.
    """
    require_vectors(z_BK, "coordinate_l2")
    require_same_shape(z_BK, coordinates_BK, "coordinate_l2", remedy="give the student as many coordinates")
    return F.mse_loss(z_BK, coordinates_BK.detach())


@full_precision
def hash_logits(z_BK: Tensor, planes: HashPlanes, sharpness: float = ELSH_SHARPNESS) -> Tensor:
    """Student logits of the H bits: sharpness * (R_h z - t_h) / rms_h, shape (B, H). ConfigError: shapes."""
    require_shapes(
        "elsh",
        ("z_BK", z_BK, "B K"),
        ("rotation_HK", planes.rotation_HK, "H K"),
        ("thresholds_H", planes.thresholds_H, "H"),
        ("rms_H", planes.rms_H, "H"),
    )
    rotation_HK, thresholds_H, rms_H = (
        x.to(z_BK.dtype) for x in (planes.rotation_HK, planes.thresholds_H, planes.rms_H)
    )
    return sharpness * (z_BK @ rotation_HK.T - thresholds_H) / rms_H


@full_precision
def elsh(z_BK: Tensor, bits_BH: Tensor, planes: HashPlanes, sharpness: float = ELSH_SHARPNESS) -> Tensor:
    """Mean binary cross-entropy of the hash logits against the teacher's bits (LSH loss of "Mimicking Features", faiss hashes).

    ConfigError: shapes.
    """
    logits_BH = hash_logits(z_BK, planes, sharpness)
    require_same_shape(logits_BH, bits_BH, "elsh", remedy="take the bits of the same rows and targets")
    return F.binary_cross_entropy_with_logits(logits_BH, bits_BH.to(logits_BH.dtype))


def unpack_bits(packed_BP: Tensor) -> Tensor:
    """Bits (B, 8 P) as uint8 from bytes (B, P) in faiss's order (bit 0 of a byte first)."""
    shifts = torch.arange(8, dtype=torch.uint8, device=packed_BP.device)
    return ((packed_BP.unsqueeze(-1) >> shifts) & 1).flatten(1)
