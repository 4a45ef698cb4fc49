"""Losses between student and teacher logits. Nothing beside the student is trained.

Legend: B batch, C classes, R the other C - 1 classes.
"""

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from tcs.errors import ConfigError
from tcs.functional.checks import require_labels, require_pairs, require_positive, require_same_shape, require_vectors
from tcs.functional.precision import full_precision

SAME_CLASSES = "give both heads the same classes in the same order"


@full_precision
def kd(logits_s_BC: Tensor, logits_t_BC: Tensor, temperature: float = 4.0) -> Tensor:
    """T^2 times the mean over rows of KL(softmax(z_t / T) || softmax(z_s / T)) (Hinton, Vinyals and Dean 2015). ConfigError: shapes, T."""
    _require_logits(logits_s_BC, logits_t_BC, temperature, "kd")
    return temperature**2 * _divergence(logits_s_BC / temperature, logits_t_BC.detach() / temperature)


@full_precision
def soft_cross_entropy(logits_s_BC: Tensor, shares_BC: Tensor) -> Tensor:
    """The mean over rows of -sum_c p_c log softmax(z_s)_c for soft labels p that sum to 1. ConfigError: shapes."""
    require_vectors(logits_s_BC, "soft_cross_entropy")
    require_same_shape(logits_s_BC, shares_BC, "soft_cross_entropy", remedy=SAME_CLASSES)
    return F.cross_entropy(logits_s_BC, shares_BC.detach())


def _require_logits(logits_s_BC: Tensor, logits_t_BC: Tensor, temperature: float, loss: str) -> None:
    require_vectors(logits_s_BC, loss)
    require_same_shape(logits_s_BC, logits_t_BC, loss, remedy=SAME_CLASSES)
    require_positive(temperature, f"the temperature of {loss}")


def _divergence(scaled_s_BC: Tensor, scaled_t_BC: Tensor) -> Tensor:
    return F.kl_div(scaled_s_BC.log_softmax(1), scaled_t_BC.log_softmax(1), reduction="batchmean", log_target=True)


@full_precision
def dkd(
    logits_s_BC: Tensor,
    logits_t_BC: Tensor,
    labels_B: Tensor,
    alpha: float = 1.0,
    beta: float = 8.0,
    temperature: float = 4.0,
) -> Tensor:
    """Decoupled KD (Zhao et al. 2022, eq. 7): T^2 (alpha TCKD + beta NCKD), both means over rows.

    TCKD is KL between label and not-label, NCKD between the softmaxes over the other C - 1 classes. log(1 - p) is a
    log-sum of the others, so a saturated softmax stays finite. ConfigError: shapes, T, C < 2, a label outside 0..C-1.
    """
    _require_logits(logits_s_BC, logits_t_BC, temperature, "dkd")
    labels_B = require_labels(labels_B, logits_s_BC, "dkd")
    if logits_s_BC.shape[1] < 2:
        raise ConfigError("dkd has 1 class; it needs 2 or more.")
    scaled_s_BC, scaled_t_BC = logits_s_BC / temperature, logits_t_BC.detach() / temperature
    binary = _divergence(_label_or_not(scaled_s_BC, labels_B), _label_or_not(scaled_t_BC, labels_B))
    others = _divergence(_others(scaled_s_BC, labels_B), _others(scaled_t_BC, labels_B))
    return temperature**2 * (alpha * binary + beta * others)


def _label_or_not(scaled_BC: Tensor, labels_B: Tensor) -> Tensor:
    """Two logits a row whose softmax is (p_label, 1 - p_label)."""
    at_label_B = scaled_BC.gather(1, labels_B.unsqueeze(1)).squeeze(1)
    return torch.stack([at_label_B, _others(scaled_BC, labels_B).logsumexp(1)], dim=1)


def _others(scaled_BC: Tensor, labels_B: Tensor) -> Tensor:
    classes_R = torch.arange(scaled_BC.shape[1] - 1, device=scaled_BC.device)
    return scaled_BC.gather(1, classes_R + (classes_R >= labels_B.unsqueeze(1)))


@full_precision
def dist(
    logits_s_BC: Tensor, logits_t_BC: Tensor, beta: float = 1.0, gamma: float = 1.0, temperature: float = 1.0
) -> Tensor:
    """DIST (Huang et al. 2022): T^2 (beta inter + gamma intra) with Pearson correlations of softmax(z / T).

    inter: 1 - mean over rows of their correlation; intra: 1 - mean over classes of the columns' correlation.
    ConfigError: shapes, T, fewer than 2 rows.
    """
    _require_logits(logits_s_BC, logits_t_BC, temperature, "dist")
    require_pairs(logits_s_BC, "dist")
    p_s_BC = (logits_s_BC / temperature).softmax(1)
    p_t_BC = (logits_t_BC.detach() / temperature).softmax(1)
    inter = 1 - _correlation(p_s_BC, p_t_BC).mean()
    intra = 1 - _correlation(p_s_BC.T, p_t_BC.T).mean()
    return temperature**2 * (beta * inter + gamma * intra)


def _correlation(a: Tensor, b: Tensor, eps: float = 1e-8) -> Tensor:
    """Pearson correlation of each row of `a` with that of `b`; 0 for a constant row."""
    a, b = a - a.mean(1, keepdim=True), b - b.mean(1, keepdim=True)
    lengths: Tensor = torch.linalg.vector_norm(a, dim=1) * torch.linalg.vector_norm(b, dim=1)
    return (a * b).sum(1) / (lengths + eps)
