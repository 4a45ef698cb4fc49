"""Normalisations against their formulas, with and without spread. Legend: B rows, D dims."""

import pytest
import torch
from published import draw, finite_gradient

from tcs.errors import ConfigError
from tcs.functional.norms import batch_norm, group_norm, l2_norm, layer_norm, standardise, unit
from tcs.functional.precision import full_precision


def test_unit_has_the_values_of_division_and_no_gradient_at_zero():
    x = draw(4, 3, seed=0)
    x[1] = 0
    x[2] *= 1e-14
    expected = torch.stack([row / max(float(row.norm()), 1e-12) for row in x])
    assert torch.equal(unit(x), expected)
    gradient = finite_gradient(lambda v: (unit(v) * draw(4, 3, seed=1)).sum(), x)
    assert gradient[1:3].abs().max() == 0
    assert gradient[0].abs().max() > 0


@pytest.mark.parametrize("eps", [0.0, 1e-5, 1e-4])
def test_batch_norm_is_torchs_without_parameters(eps):
    x = draw(6, 3, seed=2)
    expected = torch.nn.functional.batch_norm(x, None, None, training=True, eps=eps or 1e-30)
    assert torch.allclose(batch_norm(x, eps), expected, rtol=1e-13, atol=1e-13)


def test_standardise_uses_the_unbiased_std():
    x = draw(6, 3, seed=3)
    assert torch.allclose(standardise(x), (x - x.mean(0)) / x.std(0), rtol=1e-13)


@pytest.mark.parametrize("value", [0.0, 0.1, 1e5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_constant_column_gives_zeros_and_a_finite_gradient(value, dtype):
    x = draw(7, 2, seed=4, dtype=dtype)
    x[:, 0] = value
    for norm in (standardise, lambda v: batch_norm(v, 0.0)):
        assert norm(x)[:, 0].abs().max() <= 8 * torch.finfo(dtype).eps * value  # the mean's rounding, not blown up
        finite_gradient(lambda v, norm=norm: norm(v).square().sum(), x)


def test_layer_and_group_norm_are_per_row():
    x = draw(4, 6, seed=5)
    assert torch.allclose(layer_norm(x), (x - x.mean(1, keepdim=True)) / (x.var(1, False, keepdim=True) + 1e-5).sqrt())
    parts = torch.cat([layer_norm(x[:, :3]), layer_norm(x[:, 3:])], 1)
    assert torch.allclose(group_norm(x, 2), parts)
    assert torch.allclose(group_norm(x), layer_norm(x))
    assert torch.allclose(l2_norm(x).norm(dim=1), torch.ones(4).double())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: batch_norm(torch.zeros(1, 3), 0.0), "batch normalisation compares the rows of a batch"),
        (lambda: standardise(torch.zeros(1, 3)), "standardisation compares the rows of a batch"),
        (lambda: group_norm(torch.zeros(2, 3), 2), "groups is 2 for 3 columns; it must divide them"),
    ],
)
def test_what_makes_no_sense_is_refused(call, message):
    with pytest.raises(ConfigError, match=message):
        call()


def test_full_precision_widens_floats_only_and_switches_autocast_off():
    @full_precision
    def product(a, b, *, labels):
        assert labels.dtype == torch.int64
        return a @ b

    a, b = draw(2, 2, seed=6).half(), draw(2, 2, seed=7).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = product(a, b, labels=torch.tensor([1]))
        assert torch.is_autocast_enabled("cpu")
    assert found.dtype == torch.float32
    assert torch.equal(found, a.float() @ b.float())
    assert product(a, b=b.double(), labels=torch.tensor([1])).dtype == torch.float64
