"""How many rows of the pool belong to each class: offsets of the classes' logits that lead the mean soft label there.

Alternating column and row sums (Sinkhorn; as optimal transport Cuturi 2013, arXiv 1306.0895) multiplies P = softmax(L) by one
number a class and divides rows by their sum, so its outcome is softmax(L + u): u (C,) is all that is kept, and rows outside
the sample get it as well.

Legend: S rows of a sample, C classes.
"""

import torch
from torch import Tensor

from tcs.pool_labels.options import PoolLabelOptions

ALTERNATIONS = 20

CLOSE = 1e-3  # as a share of the prior: nearer than this the masses are there

SMALLEST = 1e-12


def class_offsets(logits_SC: Tensor, options: PoolLabelOptions, start_C: Tensor) -> Tensor:
    """Offsets u (C,) for these logits, of mean 0; `start_C` is where the search begins (those of the last round).

    "uniform" and "given" lead the mean soft label to the prior. "half" is u / 2 of "uniform": rows get the geometric mean of
    their soft labels before and after (the arithmetic mean was as good, and is no linear head). "estimated" is EM for the
    weights of a mixture under a Dirichlet prior of as many rows as there are, equally many a class.
    """
    if options.balance == "none":
        return torch.zeros_like(start_C)
    if options.balance == "estimated":
        return _estimated(logits_SC)
    classes = logits_SC.shape[1]
    prior_C = logits_SC.new_tensor(options.class_prior or [1 / classes] * classes)
    if options.balance == "half":
        return sinkhorn_offsets(logits_SC, prior_C, 2 * start_C) / 2
    return sinkhorn_offsets(logits_SC, prior_C, start_C)


def sinkhorn_offsets(logits_SC: Tensor, prior_C: Tensor, start_C: Tensor) -> Tensor:
    """u (C,) of mean 0 after at most ALTERNATIONS of column and row sums: softmax(L + u) has nearly the mean `prior_C`."""
    powers_SC, factor_C = _powers(logits_SC), start_C.exp()
    for _ in range(ALTERNATIONS):
        turn_C = prior_C / _masses(powers_SC, factor_C).clamp_min(SMALLEST)
        factor_C = factor_C * turn_C
        if turn_C.log().abs().max() < CLOSE:
            break
    return factor_C.log() - factor_C.log().mean()


def _estimated(logits_SC: Tensor) -> Tensor:
    """Log weights of the mixture, of mean 0."""
    powers_SC, classes = _powers(logits_SC), logits_SC.shape[1]
    weights_C = logits_SC.new_full((classes,), 1 / classes)
    for _ in range(ALTERNATIONS):
        weights_C = (_masses(powers_SC, weights_C) + 1 / classes) / 2
    return weights_C.log() - weights_C.log().mean()


def _powers(logits_SC: Tensor) -> Tensor:
    """exp(L), each row over its largest: with it a turn is two products with a vector, and no further exponential."""
    return (logits_SC - logits_SC.amax(dim=1, keepdim=True)).exp_()


def _masses(powers_SC: Tensor, factor_C: Tensor) -> Tensor:
    """The mean (C,) over rows of softmax(L + log factor)."""
    return factor_C * (powers_SC.T @ (1 / (powers_SC @ factor_C))) / len(powers_SC)
