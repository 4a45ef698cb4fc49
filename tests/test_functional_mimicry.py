"""Plain mimicry against loops. Legend: B rows, T dims."""

import math

import pytest
import torch
from published import draw, finite_gradient
from torch.autograd import gradcheck

from tcs.errors import ConfigError
from tcs.functional.mimicry import cosine, l2, smooth_l1

LOSSES = {"cosine": cosine, "l2": l2, "smooth_l1": smooth_l1}


def vectors(shape):
    s, t = draw(*shape, seed=0) * 2, draw(*shape, seed=1)
    return s, t, *(x.movedim(1, -1).reshape(-1, shape[1]).tolist() for x in (s, t))


@pytest.mark.parametrize("shape", [(5, 4), (3, 4, 2, 2)])
def test_losses_are_loops(shape):
    s, t, rows_s, rows_t = vectors(shape)
    cosines = []
    for a, b in zip(rows_s, rows_t, strict=True):
        lengths = math.sqrt(sum(v * v for v in a) * sum(v * v for v in b))
        cosines.append(sum(x * y for x, y in zip(a, b, strict=True)) / lengths)
    assert cosine(s, t).item() == pytest.approx(1 - sum(cosines) / len(cosines), rel=1e-12)
    gaps = [abs(x - y) for a, b in zip(rows_s, rows_t, strict=True) for x, y in zip(a, b, strict=True)]
    assert l2(s, t).item() == pytest.approx(sum(g * g for g in gaps) / len(gaps), rel=1e-12)
    for beta in (1.0, 0.3):
        expected = sum(g * g / (2 * beta) if g < beta else g - beta / 2 for g in gaps) / len(gaps)
        assert smooth_l1(s, t, beta).item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("name", LOSSES)
def test_gradient_is_right_and_stops_at_the_teacher(name):
    s, t = draw(5, 4, seed=2, grad=True), draw(5, 4, seed=3, grad=True)
    assert gradcheck(lambda x: LOSSES[name](x, t.detach()), (s,))
    LOSSES[name](s, t).backward()
    assert t.grad is None


@pytest.mark.parametrize("name", LOSSES)
def test_match_and_zero_rows_are_finite(name):
    t = draw(5, 4, seed=4)
    assert LOSSES[name](t, t).item() == pytest.approx(0, abs=1e-15)
    finite_gradient(lambda x: LOSSES[name](x, t), t)
    assert finite_gradient(lambda x: LOSSES[name](x, t), torch.zeros_like(t)).abs().max() < 10


def test_a_zero_row_has_cosine_zero():
    assert cosine(torch.zeros(2, 3), torch.ones(2, 3)).item() == 1


@pytest.mark.parametrize("name", LOSSES)
def test_what_makes_no_sense_is_refused(name):
    with pytest.raises(ConfigError, match="project the student first"):
        LOSSES[name](torch.zeros(2, 3), torch.zeros(2, 4))
    with pytest.raises(ConfigError, match="beta of smooth_l1 is 0"):
        smooth_l1(torch.zeros(2, 3), torch.zeros(2, 3), 0)
