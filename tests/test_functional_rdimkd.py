"""RdimKD against loops over rows and dims. Legend: B rows, T dims, K reduced dims, H, W."""

import pytest
import torch
from published import draw, finite_gradient
from torch.autograd import gradcheck

from tcs.errors import ConfigError
from tcs.functional.rdimkd import orthonormal, rdimkd, rdimkd_cached, rdimkd_encoded


def loop(s, t, k):
    """Squared entries of (F_s - F_t) K, one list a row; rows are positions of maps."""
    if s.ndim == 4:
        s, t = (x.permute(0, 2, 3, 1).reshape(-1, x.shape[1]) for x in (s, t))
    difference = (s - t).tolist()
    return [[sum(v * w for v, w in zip(row, col, strict=True)) ** 2 for col in k.T.tolist()] for row in difference]


def sides(shape):
    return draw(*shape, seed=0), draw(*shape, seed=1) + 1, draw(shape[1], 2, seed=2)


@pytest.mark.parametrize("shape", [(5, 4), (3, 4, 2, 3)])
def test_reductions_are_loops(shape):
    s, t, k = sides(shape)
    squares = loop(s, t, k)
    total = sum(map(sum, squares))
    for reduction, expected in (
        ("mean", total / len(squares) / 2),
        ("rows", total / len(squares)),
        ("sum", total),
    ):
        assert rdimkd(s, t, k, reduction).item() == pytest.approx(expected, rel=1e-12)
        projected = torch.einsum("bt...,tk->bk...", t, k)
        assert rdimkd_cached(s, projected, k, reduction).item() == pytest.approx(expected, rel=1e-11)
        assert rdimkd_encoded(s, t, lambda rows: rows @ k + 3, reduction).item() == pytest.approx(expected, rel=1e-11)


def test_a_common_shift_and_a_rotation_inside_the_span_change_nothing():
    s, t, k = sides((5, 4))
    rotation = orthonormal(draw(2, 2, seed=3))
    value = rdimkd(s, t, k).item()
    assert rdimkd(s + 7, t + 7, k).item() == pytest.approx(value, rel=1e-10)
    assert rdimkd(s, t, k @ rotation).item() == pytest.approx(value, rel=1e-12)


def test_gradient_is_zero_outside_the_span():
    s, t, k = sides((5, 4))
    k = orthonormal(k)
    gradient = finite_gradient(lambda x: rdimkd(x, t, k, "sum"), s)
    assert torch.allclose(gradient, 2 * (s - t) @ k @ k.T, rtol=1e-12)
    assert (gradient - gradient @ k @ k.T).abs().max() < 1e-12


def test_a_non_linear_encoder_is_applied_to_both_sides():
    s, t, k = sides((5, 4))
    expected = ((s @ k).tanh() - (t @ k).tanh()).square().mean()
    assert rdimkd_encoded(s, t, lambda rows: (rows @ k).tanh()).item() == pytest.approx(expected.item(), rel=1e-12)


@pytest.mark.parametrize("shape", [(5, 4), (2, 4, 2, 2)])
def test_gradient_is_right_and_reaches_neither_teacher_nor_projection(shape):
    s, t, k = (x.requires_grad_() for x in sides(shape))
    assert gradcheck(lambda x: rdimkd(x, t.detach(), k.detach()), (s,))
    assert gradcheck(lambda x: rdimkd_encoded(x, t.detach(), lambda r: (r @ k.detach()).tanh(), "rows"), (s,))
    rdimkd(s, t, k).backward()
    assert t.grad is None
    assert k.grad is None


@pytest.mark.parametrize(("size_s", "size_t"), [((4, 4), (2, 2)), ((2, 2), (4, 4)), ((4, 4), (4, 4))])
def test_of_two_maps_the_larger_is_pooled_and_the_student_adapted(size_s, size_t):
    s, t, k = draw(3, 5, *size_s, seed=5), draw(3, 4, *size_t, seed=6), draw(4, 2, seed=7)
    weight, bias = draw(4, 5, seed=8, grad=True), draw(4, seed=9)
    size = min(size_s, size_t)
    small_s, small_t = (torch.nn.functional.adaptive_avg_pool2d(x, size) for x in (s, t))
    mapped = torch.einsum("bshw,ts->bthw", small_s, weight) + bias[:, None, None]
    expected = torch.einsum("bthw,tk->bkhw", mapped - small_t, k).square().mean()
    cached = torch.einsum("bthw,tk->bkhw", t, k)
    given = {"adaptor_TS": weight, "adaptor_bias_T": bias}
    for found in (
        rdimkd(s, t, k, **given),
        rdimkd_cached(s, cached, k, **given),
        rdimkd_encoded(s, t, lambda rows: rows @ k, **given),
    ):
        assert found.item() == pytest.approx(expected.item(), rel=1e-12)
        assert torch.allclose(
            *torch.autograd.grad(found, weight), *torch.autograd.grad(expected, weight, retain_graph=True)
        )


def test_half_precision_is_computed_in_float32():
    s, t, k = sides((5, 4))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = rdimkd(s.half(), t.half(), k.float())
    assert found.item() == rdimkd(s.half().float(), t.half().float(), k.float()).item()
    assert rdimkd(t, t, k).item() == 0


def test_orthonormal_keeps_the_span():
    k = draw(6, 3, seed=4)
    q = orthonormal(k)
    assert torch.allclose(q.T @ q, torch.eye(3).double(), atol=1e-12)
    assert torch.allclose(q @ q.T @ k, k, atol=1e-12)
    assert orthonormal(k.float()).dtype == torch.float32


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda s, t, k: rdimkd(s[:, :3], t, k), "adapt the student to the teacher's channels and size"),
        (lambda s, t, k: rdimkd(s, t, k[:3]), r"features \(5, 4\) and a projection \(3, 2\)"),
        (lambda s, t, k: rdimkd(s, t, k, "max"), "reduction of rdimkd is 'max'; known ones are mean, sum, rows"),
        (lambda s, t, k: rdimkd_cached(s, t, k), "cache the teacher through the same projection"),
        (lambda s, t, k: rdimkd_encoded(s, t[:2], lambda r: r), "adapt the student"),
        (lambda s, t, k: orthonormal(torch.ones(4, 2)), r"columns of the \(4, 2\) projection are dependent"),
        (lambda s, t, k: orthonormal(k.T), r"columns of the \(2, 4\) projection are dependent"),
    ],
)
def test_what_makes_no_sense_is_refused(call, message):
    with pytest.raises(ConfigError, match=message):
        call(*sides((5, 4)))
