"""NT-Xent against a loop, finite differences and a closed form, in float64. Legend: B rows, P dims."""

import math

import numpy as np
import pytest
import torch
from published import draw, finite_gradient
from torch.autograd import gradcheck

from tcs.errors import ConfigError
from tcs.functional.contrast import nt_xent, projection_head


def loop_nt_xent(first, second, temperature):
    """Equation 1 of arXiv 2002.05709, term by term in plain Python floats."""
    views = [row / math.sqrt(sum(row**2)) for row in (*first, *second)]
    rows, losses, hits = len(first), [], []
    for i, anchor in enumerate(views):
        pair = (i + rows) % (2 * rows)
        similar = {k: float(anchor @ views[k]) / temperature for k in range(2 * rows) if k != i}
        losses.append(-similar[pair] + math.log(sum(math.exp(value) for value in similar.values())))
        hits.append(max(similar, key=similar.get) == pair)
    return sum(losses) / len(losses), sum(hits) / len(hits)


def pairs(rows, dims):
    generator = np.random.default_rng(rows)
    first = generator.normal(size=(rows, dims))
    return first, first + 0.5 * generator.normal(size=(rows, dims))


@pytest.mark.parametrize(("rows", "dims", "temperature"), [(2, 3, 0.5), (5, 4, 0.2), (8, 16, 0.07)])
def test_nt_xent_equals_the_loop(rows, dims, temperature):
    first, second = pairs(rows, dims)
    loss, match = nt_xent(torch.from_numpy(first), torch.from_numpy(second), temperature)
    expected_loss, expected_match = loop_nt_xent(first, second, temperature)
    assert loss.dtype == torch.float64
    assert loss.item() == pytest.approx(expected_loss, rel=1e-12)
    assert match.item() == pytest.approx(expected_match)
    single, _ = nt_xent(torch.from_numpy(first).float(), torch.from_numpy(second).float(), temperature)
    assert single.item() == pytest.approx(expected_loss, rel=1e-5)


@pytest.mark.parametrize("side", [0, 1])
def test_gradient_equals_finite_differences_of_the_loop(side):
    both = pairs(4, 5)
    leaves = [torch.from_numpy(rows).requires_grad_() for rows in both]
    nt_xent(*leaves, 0.5)[0].backward()
    step = 1e-6
    for index in np.ndindex(*both[side].shape):
        losses = []
        for sign in (1, -1):
            moved = [rows.copy() for rows in both]
            moved[side][index] += sign * step
            losses.append(loop_nt_xent(*moved, 0.5)[0])
        slope = (losses[0] - losses[1]) / (2 * step)
        assert leaves[side].grad[index].item() == pytest.approx(slope, abs=1e-9)


def test_gradient_is_that_of_both_sides():
    first, second = draw(3, 4, seed=0, grad=True), draw(3, 4, seed=1, grad=True)
    assert gradcheck(lambda a, b: nt_xent(a, b, 0.5)[0], (first, second))


def test_orthogonal_pairs_are_known_in_closed_form():
    basis = torch.eye(3)
    loss, match = nt_xent(basis, basis, 1.0)
    assert loss.item() == pytest.approx(math.log(math.e + 4) - 1)
    assert match.item() == 1


def test_awkward_rows_are_finite():
    rows = draw(4, 3, seed=2, dtype=torch.float32)
    for first in (rows, torch.zeros_like(rows), rows[:1].repeat(4, 1), 1e20 * rows):
        finite_gradient(lambda x: nt_xent(x, rows, 0.07)[0], first)


def test_half_precision_is_widened():
    rows = draw(4, 3, seed=3, dtype=torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        loss, _ = nt_xent(rows, rows, 0.5)
    assert loss.dtype == torch.float32


def test_the_projection_head_has_two_layers():
    head = projection_head(6, 4)
    assert [type(layer).__name__ for layer in head] == ["Linear", "BatchNorm1d", "ReLU", "Linear"]
    assert head(torch.ones(3, 6)).shape == (3, 4)
    assert projection_head(6)(torch.ones(3, 6)).shape == (3, 128)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: nt_xent(x[:1], x[:1], 0.5), "nt_xent compares the rows of a batch and this one has 1"),
        (lambda x: nt_xent(x, x[:1], 0.5), "it compares entry by entry: project both by one head"),
        (lambda x: nt_xent(x[None], x[None], 0.5), "it takes one vector a row"),
        (lambda x: nt_xent(x, x, 0.0), "the temperature of nt_xent is 0.0; it must be a positive number"),
    ],
)
def test_what_makes_no_sense_is_refused(call, message):
    with pytest.raises(ConfigError, match=message):
        call(torch.ones(2, 3))
