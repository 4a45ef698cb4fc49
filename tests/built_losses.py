"""A loss as a run builds it, off its start, and the gradients of a value."""

import torch
from expressions import draws
from torch import Tensor

from tcs.criteria.base import Criterion, Setting
from tcs.criteria.losses import build_criteria
from tcs.criteria.terms import parse_loss


def make_criterion(name: str, setting: Setting) -> Criterion:
    """The loss in float64 with its parameters moved off their start, where some of them are zeros."""
    criterion = build_criteria(parse_loss(name), setting)[name].double()
    draw = draws(5)
    with torch.no_grad():
        for parameter in criterion.parameters():
            parameter.add_(0.1 * draw(*parameter.shape))
    assert isinstance(criterion, Criterion)
    return criterion


def gradients(value: Tensor, leaves: list[Tensor]) -> list[Tensor]:
    found = torch.autograd.grad(value, leaves, allow_unused=True)
    return [torch.zeros_like(leaf) if g is None else g for g, leaf in zip(found, leaves, strict=True)]
