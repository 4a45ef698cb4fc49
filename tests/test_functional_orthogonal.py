"""The orthogonal map against the plain matrix exponential and the authors' numbers, and orthogonality under weight decay.

Legend: T teacher dims, S student dims.
"""

import pytest
import torch
from published import compare, draw, published, tensor
from torch.autograd import gradcheck

from tcs.errors import ConfigError
from tcs.functional.orthogonal import (
    OrthogonalProjector,
    dense_expm0,
    expm,
    expm0,
    low_rank_expm0,
    matrix_expm1,
    matrix_phi,
    random_rotation,
)


def plain(raw):
    """First columns of exp(X - X'), by a Taylor series of 60 terms on a matrix halved 12 times, then squared back."""
    width_t, width_s = raw.shape
    a = torch.zeros(width_t, width_t, dtype=raw.dtype)
    for i in range(width_t):
        for j in range(min(i, width_s)):
            a[i, j], a[j, i] = raw[i, j], -raw[i, j]
    term = total = torch.eye(width_t, dtype=raw.dtype)
    for k in range(1, 60):
        term = term @ (a / 4096) / k
        total = total + term
    for _ in range(12):
        total = total @ total
    return total[:, :width_s]


@pytest.mark.parametrize("scale", [0.0, 0.01, 0.3, 1.0, 3.0])
@pytest.mark.parametrize("shape", [(9, 1), (12, 2), (10, 4), (6, 6), (20, 5), (1, 1)])
def test_cheap_and_dense_forms_are_the_plain_exponential(shape, scale):
    raw = draw(*shape, seed=0) * scale
    for form in (expm0, low_rank_expm0, dense_expm0):
        assert (form(raw) - plain(raw)).abs().max() < 1e-12


def test_cheap_form_at_a_real_width():
    raw = draw(192, 32, seed=1) * 0.3
    assert (low_rank_expm0(raw) - dense_expm0(raw)).abs().max() < 1e-12
    weight = expm0(raw)
    assert (weight.T @ weight - torch.eye(32)).abs().max() < 1e-12


@pytest.mark.parametrize("size", [0.0, 0.5, 0.8, 0.81, 7.0, 60.0])
def test_phi_and_expm1_of_a_matrix_are_those_of_torchs_exponential(size):
    given = draw(24, 24, seed=8)
    skew = (given - given.T) * size / torch.linalg.matrix_norm(given - given.T, 1)
    phi, moved = matrix_phi(skew), matrix_expm1(skew)
    twice = torch.zeros(48, 48, dtype=torch.float64)
    twice[:24, :24], twice[:24, 24:] = skew, torch.eye(24)
    assert (phi - torch.linalg.matrix_exp(twice)[:24, 24:]).abs().max() < 1e-13
    assert (moved + torch.eye(24) - torch.linalg.matrix_exp(skew)).abs().max() < 1e-13


@pytest.mark.parametrize("broken", [torch.nan, torch.inf])
def test_what_is_not_finite_stays_so(broken):
    raw = draw(9, 3, seed=9)
    raw[4, 1] = broken
    assert not expm0(raw).isfinite().all()


@pytest.mark.parametrize("form", [low_rank_expm0, dense_expm0])
@pytest.mark.parametrize("scale", [0.0, 1.0])
def test_gradient_is_right_also_at_the_start(form, scale):
    raw = (draw(7, 2, seed=2) * scale).requires_grad_()
    assert gradcheck(form, (raw,))


def test_diagonal_and_upper_triangle_do_nothing():
    raw = draw(8, 3, seed=3, grad=True)
    expm0(raw)[:, 0].sum().backward()
    assert raw.grad.triu().abs().max() == 0
    assert torch.equal(expm0(raw), expm0(raw.tril(-1)))


def test_zeros_give_the_first_columns_of_the_base():
    base = random_rotation(6, seed=0)
    assert torch.allclose(base.T @ base, torch.eye(6).double(), atol=1e-14)
    assert torch.allclose(expm(torch.zeros(6, 2).double(), base), base[:, :2], atol=1e-14)
    assert torch.equal(expm0(torch.zeros(6, 2)), torch.eye(6, 2))


@pytest.mark.parametrize(("name", "rtol"), [("expm", 1e-9), ("expm0", 1e-9)])
def test_weights_have_the_published_numbers(name, rtol):
    arrays = published("vkd")
    raw = tensor(arrays[f"{name}_raw"], torch.float64)
    given = [tensor(arrays["expm_base"], torch.float64)] if name == "expm" else []
    compare((expm if given else expm0)(raw, *given), arrays[f"{name}_W"], rtol)
    if not given:
        compare(low_rank_expm0(raw), arrays["expm0_W"], rtol)


def gap(weight):
    return float((weight.T @ weight - torch.eye(weight.shape[1], dtype=weight.dtype)).norm())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_projector_stays_orthogonal_under_adamw_with_weight_decay(dtype):
    projector = OrthogonalProjector(8, 48).to(dtype)
    optimiser = torch.optim.AdamW(projector.parameters(), lr=1e-2, weight_decay=0.05)
    f_s, f_t = draw(32, 8, seed=4, dtype=dtype), draw(32, 48, seed=5, dtype=dtype)
    start, losses = projector.weight().detach().clone(), []
    for _ in range(200):
        loss = torch.nn.functional.smooth_l1_loss(projector(f_s), f_t)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    with torch.no_grad():
        assert gap(projector.weight()) < 1e-5
        assert (projector.weight() - start).norm() > 0.5
    assert losses[-1] < losses[0]


def test_projector_is_orthogonal_under_autocast_and_far_from_its_start():
    projector = OrthogonalProjector(32, 48, seed=1)
    with torch.no_grad():
        projector.raw += draw(48, 32, seed=6, dtype=torch.float32) * 3
        with torch.autocast("cpu", dtype=torch.bfloat16):
            weight = projector.weight()
        assert gap(weight) < 1e-5
    assert projector.no_weight_decay() <= dict(projector.named_parameters()).keys()
    assert "base_TT" in projector.state_dict()


def householder(raw, base):
    """The published projector as torch builds it for a non-square weight: base H_1 ... H_S diag(int of raw's diagonal)."""
    width_t, width_s = raw.shape
    product = torch.eye(width_t, dtype=raw.dtype)
    for k in range(width_s):
        v = torch.cat([torch.zeros(k, dtype=raw.dtype), torch.ones(1, dtype=raw.dtype), raw[k + 1 :, k]])
        product = product @ (
            torch.eye(width_t, dtype=raw.dtype) - 2 / (1 + raw[k + 1 :, k].square().sum()) * v.outer(v)
        )
    flags = raw.diagonal().detach().trunc()
    return base @ product[:, :width_s] * flags


def test_householder_form_here_is_the_published_one():
    arrays = published("vkd")
    raw, base = (tensor(arrays[f"hh_{name}"], torch.float64) for name in ("raw", "base"))
    compare(householder(raw, base), arrays["hh_W"], 1e-9)


def test_the_published_parametrisation_collapses_to_zero_at_the_first_decayed_step():
    raw = draw(48, 32, seed=7) * 0.1
    raw.diagonal().fill_(-1)
    raw.requires_grad_()
    optimiser = torch.optim.AdamW([raw], lr=5e-4, weight_decay=0.05)
    base = random_rotation(48, seed=2)
    assert householder(raw, base).square().sum().item() == pytest.approx(32, rel=1e-10)
    householder(raw, base).sum().backward()
    optimiser.step()
    assert raw.diagonal().tolist() == pytest.approx([-0.999975] * 32, rel=1e-9)
    assert householder(raw, base).abs().max() == 0


def test_torchs_own_default_for_a_non_square_weight_collapses_alike():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layer = torch.nn.utils.parametrizations.orthogonal(torch.nn.Linear(32, 48, bias=False))
    optimiser = torch.optim.AdamW(layer.parameters(), lr=5e-4, weight_decay=0.05)
    assert layer.weight.detach().square().sum().item() == pytest.approx(32, rel=1e-5)
    layer(torch.ones(2, 32)).square().sum().backward()
    optimiser.step()
    assert layer.weight.abs().max() == 0


@pytest.mark.parametrize("call", [lambda: expm0(torch.zeros(3, 4)), lambda: OrthogonalProjector(4, 3)])
def test_a_student_wider_than_its_teacher_is_refused(call):
    with pytest.raises(
        ConfigError, match=r"shape \(3, 4\) .teacher, student dims.; a wider student needs a linear projector"
    ):
        call()
