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
    offset_C = start_C
    for _ in range(ALTERNATIONS):
        mass_C = torch.softmax(logits_SC + offset_C, dim=1).mean(0)
        turn_C = prior_C.log() - mass_C.clamp_min(SMALLEST).log()
        offset_C = offset_C + turn_C
        if turn_C.abs().max() < CLOSE:
            break
    return offset_C - offset_C.mean()


def _estimated(logits_SC: Tensor) -> Tensor:
    """Log weights of the mixture, of mean 0."""
    classes = logits_SC.shape[1]
    weights_C = logits_SC.new_full((classes,), 1 / classes)
    for _ in range(ALTERNATIONS):
        mass_C = torch.softmax(logits_SC + weights_C.log(), dim=1).mean(0)
        weights_C = (mass_C + 1 / classes) / 2
    return weights_C.log() - weights_C.log().mean()
