"""IbM2 ("instance-based max-margin"): a cosine classifier on frozen features, trained on noisy copies of the few support rows.

The noise level is searched by bisection: as much noise as still lets the classifier fit its own support. The searched trainings
continue one classifier (lr 1, 20 epochs each); a fresh one is then trained at the level found.

Legend: N support rows, R copies of each, B batch, C classes, D feature dims.
"""

import dataclasses
from collections.abc import Callable

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from tcs.errors import ConfigError
from tcs.functional.checks import require_labels, require_shapes, require_vectors
from tcs.functional.norms import unit
from tcs.functional.precision import full_precision

COPIES = 200


@full_precision
def cosine_logits(x_BD: Tensor, directions_CD: Tensor, gains_C: Tensor, scale: float = 10.0) -> Tensor:
    """(B, C): scale * g_c (x . v_c) / ((|x| + 1e-5) |v_c|); directions v and gains g are trained, there is no bias."""
    matrices = x_BD.ndim == directions_CD.ndim == 2
    if not matrices or x_BD.shape[1] != directions_CD.shape[1] or gains_C.shape != directions_CD.shape[:1]:
        shapes = f"{tuple(x_BD.shape)}, {tuple(directions_CD.shape)} and {tuple(gains_C.shape)}"
        raise ConfigError(f"cosine_logits has the shapes {shapes}; they must be (B, D), (C, D) and (C,).")
    lengths_B1: Tensor = torch.linalg.vector_norm(x_BD, dim=1, keepdim=True)
    weight_CD = gains_C.unsqueeze(1) * unit(directions_CD, dim=1)
    return scale * (x_BD / (lengths_B1 + 1e-5)) @ weight_CD.T


@full_precision
def smoothed_loss(logits_BC: Tensor, labels_B: Tensor, smoothing: float = 0.1) -> Tensor:
    """Mean over rows of (1 - a) NLL + a times the mean over all classes of -log p, a = `smoothing`. ConfigError: labels, smoothing."""
    require_vectors(logits_BC, "smoothed_loss")
    labels_B = require_labels(labels_B, logits_BC, "smoothed_loss")
    if not 0 <= smoothing < 1:
        raise ConfigError(f"The label smoothing is {smoothing}; it must be from 0 to below 1.")
    return F.cross_entropy(logits_BC, labels_B, label_smoothing=smoothing)


def support_std(support_ND: Tensor) -> Tensor:
    """(D,): unbiased standard deviation of each dim over the support. ConfigError for fewer than 2 rows."""
    if support_ND.shape[0] < 2:
        raise ConfigError(
            f"The support has {support_ND.shape[0]} rows; the noise of IbM2 needs their spread: use 2 or more."
        )
    return support_ND.to(torch.promote_types(support_ND.dtype, torch.float32)).std(0)


@full_precision
def perturb(support_ND: Tensor, std_D: Tensor, epsilon: float, noise_NRD: Tensor) -> Tensor:
    """(N R, D): x + epsilon * std * noise, the R copies of a row together (labels: `labels_N.repeat_interleave(R)`).

    ConfigError: shapes.
    """
    require_shapes(
        "perturb", ("support_ND", support_ND, "N D"), ("std_D", std_D, "D"), ("noise_NRD", noise_NRD, "N R D")
    )
    return (support_ND.unsqueeze(1) + epsilon * std_D * noise_NRD).flatten(0, 1)


@full_precision
def ibm2(
    support_ND: Tensor,
    labels_N: Tensor,
    directions_CD: Tensor,
    gains_C: Tensor,
    epsilon: float,
    noise_NRD: Tensor,
    std_D: Tensor | None = None,
    smoothing: float = 0.1,
    scale: float = 10.0,
) -> Tensor:
    """The loss of one training step: `smoothed_loss` of `cosine_logits` of the `perturb`-ed support (published: rows of unit length).

    `std_D` is that of the whole support where this is a batch of it; without it, of these rows. ConfigError: shapes, labels.
    """
    require_shapes("ibm2", ("support_ND", support_ND, "N D"), ("labels_N", labels_N, "N"))
    std_D = support_std(support_ND) if std_D is None else std_D
    copies = perturb(support_ND, std_D, epsilon, noise_NRD)
    logits = cosine_logits(copies, directions_CD, gains_C, scale)
    return smoothed_loss(logits, labels_N.repeat_interleave(noise_NRD.shape[1]), smoothing)


def noisy_copies(
    support_ND: Tensor, std_D: Tensor, epsilon: float, generator: torch.Generator, copies: int = COPIES
) -> Tensor:
    """`perturb` with fresh standard normal noise of `copies` rows each, drawn anew at every step. Memory N R D floats."""
    rows, width = support_ND.shape
    noise_NRD = torch.randn(rows, copies, width, generator=generator, device=generator.device, dtype=std_D.dtype)
    return perturb(support_ND, std_D, epsilon, noise_NRD)


@dataclasses.dataclass(frozen=True, kw_only=True)
class EpsilonSearch:
    """What the bisection found: the noise level, the accuracy it had to beat, and (epsilon, accuracy) of each training."""

    epsilon: float
    threshold: float
    tried: tuple[tuple[float, float], ...]


def search_epsilon(
    accuracy_at: Callable[[float], float],
    clean_accuracy: float,
    highest: float = 10.0,
    tolerance: float = 0.05,
    ceiling: float = 0.9,
) -> EpsilonSearch:
    """Bisection of [0, highest] for the noise level at which the accuracy on freshly noised support falls to the threshold.

    `accuracy_at(epsilon)` trains on (continuing the same classifier, as published) and gives the accuracy, 0 to 1. The
    threshold is min(ceiling, clean_accuracy); above it the noise goes up, else down, until the interval is below `tolerance`
    (8 trainings by default); the middle of the last interval is the answer. ConfigError: bounds, accuracies outside 0..1.
    """
    if not 0 < tolerance < highest < float("inf"):
        raise ConfigError(
            f"The search has tolerance {tolerance} and highest {highest}; 0 < tolerance < highest must hold."
        )
    threshold = min(ceiling, _accuracy(clean_accuracy))
    low, high, tried = 0.0, highest, []
    while high - low >= tolerance:
        epsilon = (low + high) / 2
        accuracy = _accuracy(accuracy_at(epsilon))
        tried.append((epsilon, accuracy))
        low, high = (epsilon, high) if accuracy > threshold else (low, epsilon)
    return EpsilonSearch(epsilon=(low + high) / 2, threshold=threshold, tried=tuple(tried))


def _accuracy(value: float) -> float:
    if not 0 <= value <= 1:
        raise ConfigError(f"An accuracy of the search is {value}; give it as a share from 0 to 1.")
    return value
