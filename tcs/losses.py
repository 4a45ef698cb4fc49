"""Losses as pure functions of (student output, cached row), in one table, composed by a string such as ``ce + 1.0*elsh``.

Legend: B batch rows, C classes, K coordinates, H hash bits.
"""

import dataclasses
import re
from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F  # noqa: N812  (torch's own convention)
from torch import Tensor

from tcs.errors import ConfigError, did_you_mean

ELSH_SHARPNESS = 2.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class HashPlanes:
    """What the eLSH loss needs of a targets file: rotation_HK, thresholds_H and rms_H, float32 on the student's device."""

    rotation_HK: Tensor
    thresholds_H: Tensor
    rms_H: Tensor


@dataclasses.dataclass(frozen=True, kw_only=True)
class LossInputs:
    """One step's student outputs and cached rows. `labels_B` and `logits_BC` hold the labelled rows only; the rest holds the mimic rows."""

    logits_BC: Tensor | None = None
    labels_B: Tensor | None = None
    z_BK: Tensor | None = None
    coordinates_BK: Tensor | None = None
    bits_BH: Tensor | None = None
    planes: HashPlanes | None = None


def cross_entropy(logits_BC: Tensor, labels_B: Tensor) -> Tensor:
    """Mean cross-entropy over the labelled rows; logits float, labels int64 in 0..C-1."""
    return F.cross_entropy(logits_BC, labels_B)


def coordinate_l2(z_BK: Tensor, coordinates_BK: Tensor) -> Tensor:
    """Mean squared difference over rows and coordinates (RdimKD's distance in a frozen projection, with a mean reduction).

    The stored scales make the mean variance of the cached coordinates 1, so the value starts near 1 for any teacher.
    """
    return F.mse_loss(z_BK, coordinates_BK)


def hash_logits(z_BK: Tensor, planes: HashPlanes, sharpness: float = ELSH_SHARPNESS) -> Tensor:
    """Student logits of the H bits: sharpness * (R_h z - t_h) / rms_h, shape (B, H)."""
    return sharpness * (z_BK @ planes.rotation_HK.T - planes.thresholds_H) / planes.rms_H


def elsh(z_BK: Tensor, bits_BH: Tensor, planes: HashPlanes, sharpness: float = ELSH_SHARPNESS) -> Tensor:
    """Mean binary cross-entropy of the hash logits against the teacher's bits (LSH loss of "Mimicking Features", faiss hashes)."""
    logits_BH = hash_logits(z_BK, planes, sharpness)
    return F.binary_cross_entropy_with_logits(logits_BH, bits_BH.to(logits_BH.dtype))


def unpack_bits(packed_BP: Tensor) -> Tensor:
    """Bits (B, 8 P) as uint8 from bytes (B, P) in faiss's order (bit 0 of a byte first)."""
    shifts = torch.arange(8, dtype=torch.uint8, device=packed_BP.device)
    return ((packed_BP.unsqueeze(-1) >> shifts) & 1).flatten(1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Loss:
    """One entry of the table: what it reads of the cache, and how it is called."""

    reads: frozenset[str]
    call: Callable[[LossInputs], Tensor]


def _require(value: Tensor | None) -> Tensor:
    assert value is not None  # the trainer fills what `reads` names
    return value


def _planes(inputs: LossInputs) -> HashPlanes:
    assert inputs.planes is not None
    return inputs.planes


LOSSES: Mapping[str, Loss] = {
    "ce": Loss(reads=frozenset({"labels"}), call=lambda i: cross_entropy(_require(i.logits_BC), _require(i.labels_B))),
    "l2": Loss(
        reads=frozenset({"coordinates"}),
        call=lambda i: coordinate_l2(_require(i.z_BK), _require(i.coordinates_BK)),
    ),
    "elsh": Loss(reads=frozenset({"bits"}), call=lambda i: elsh(_require(i.z_BK), _require(i.bits_BH), _planes(i))),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class LossTerm:
    """`weight` times the loss called `name`."""

    name: str
    weight: float


def parse_loss(text: str) -> tuple[LossTerm, ...]:
    """The terms of a loss string such as ``ce + 1.0*elsh``. ConfigError for an unknown name, a bad weight or a name given twice."""
    terms = tuple(_parse_term(part, text) for part in text.split("+"))
    names = [term.name for term in terms]
    if len(set(names)) != len(names):
        raise ConfigError(f"--loss is '{text}'; each loss may stand in it once. Add up the weights instead.")
    return terms


def _parse_term(part: str, text: str) -> LossTerm:
    match = re.fullmatch(r"\s*(?:([0-9.eE-]+)\s*\*\s*)?([a-z0-9_-]+)\s*", part)
    if match is None:
        raise ConfigError(f"--loss is '{text}'; '{part.strip()}' is not NAME or WEIGHT*NAME, as in 'ce + 1.0*elsh'.")
    weight, name = match.groups()
    if name not in LOSSES:
        raise ConfigError(f"--loss names '{name}'; known losses are {', '.join(LOSSES)}.{did_you_mean(name, LOSSES)}")
    try:
        value = float(weight) if weight else 1.0
    except ValueError as error:
        raise ConfigError(f"--loss is '{text}'; the weight '{weight}' is not a number.") from error
    if not 0 < value < float("inf"):
        raise ConfigError(f"--loss is '{text}'; the weight {weight} must be a positive number.")
    return LossTerm(name=name, weight=value)


def reads(terms: tuple[LossTerm, ...]) -> frozenset[str]:
    """Everything that the terms read of the cache: a subset of labels, coordinates, bits."""
    return frozenset().union(*(LOSSES[term.name].reads for term in terms))
