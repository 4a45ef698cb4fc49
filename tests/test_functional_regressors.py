"""Regressors and embeddings against loops over their weights. Legend: B rows, S and T channels, H, W."""

import math

import pytest
import torch
from published import draw

from tcs.errors import ConfigError
from tcs.functional.regressors import ChannelEmbed, HintRegressor, LinearEmbed, UnitEmbed, VidRegressor, adapted


@pytest.fixture(autouse=True)
def own_generator():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


@pytest.mark.parametrize(
    ("size_s", "size_t", "kernel", "stride"),
    [
        ((8, 8), (4, 4), (3, 3), (2, 2)),
        ((4, 4), (8, 8), (4, 4), (2, 2)),
        ((8, 8), (8, 8), (1, 1), (1, 1)),
        ((8, 8), (6, 6), (3, 3), (1, 1)),
        ((8, 10), (6, 5), (3, 6), (1, 1)),
        ((2, 2), (1, 1), (3, 3), (2, 2)),
        ((1, 1), (1, 1), (1, 1), (1, 1)),
    ],
)
def test_hint_regressor_brings_the_map_to_the_teachers_size(size_s, size_t, kernel, stride):
    regressor = HintRegressor(3, 5, size_s, size_t)
    assert regressor.convolution.kernel_size == kernel
    assert regressor.convolution.stride == stride
    assert regressor.convolution.bias is not None
    out = regressor(torch.randn(2, 3, *size_s))
    assert out.shape == (2, 5, *size_t)
    assert out.min() == 0


def test_hint_regressor_refuses_a_student_map_that_is_too_small():
    with pytest.raises(ConfigError, match=r"student map of \(3, 3\) for the teacher's \(8, 8\)"):
        HintRegressor(3, 5, (3, 3), (8, 8))


def test_hint_regressor_of_vectors_is_linear_batch_norm_relu():
    regressor = HintRegressor(3, 5).double()
    f = draw(6, 3, seed=0)
    weight, bias = regressor.convolution.weight[:, :, 0, 0], regressor.convolution.bias
    line = f @ weight.T + bias
    expected = ((line - line.mean(0)) / (line.var(0, unbiased=False) + 1e-5).sqrt()).clamp_min(0)
    assert torch.allclose(regressor(f), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", [HintRegressor, ChannelEmbed])
def test_a_single_pooled_row_has_no_batch_statistics(kind):
    module = kind(3, 5)
    with pytest.raises(ConfigError, match="1 pooled row has no batch statistics; use 2 rows or more"):
        module(torch.zeros(1, 3, 1, 1))
    assert module.eval()(torch.zeros(1, 3, 1, 1)).shape == (1, 5, 1, 1)


def test_vid_regressor_is_three_matrices_with_relu_between():
    regressor = VidRegressor(3, 5).double()
    f = draw(4, 3, seed=1)
    one, two, three = (c.weight[:, :, 0, 0] for c in regressor.convolutions)
    expected = ((f @ one.T).clamp_min(0) @ two.T).clamp_min(0) @ three.T
    assert torch.allclose(regressor(f), expected, rtol=1e-12)
    assert torch.allclose(regressor(f[:, :, None, None].expand(-1, -1, 2, 2))[:, :, 1, 0], expected, rtol=1e-12)
    assert all(c.bias is None for c in regressor.convolutions)


def test_channel_embed_is_a_matrix_and_batch_norm_over_rows_and_positions():
    embed = ChannelEmbed(3, 5).double()
    f = draw(4, 3, 2, 2, seed=2)
    line = torch.einsum("bshw,ts->bthw", f, embed.convolution.weight[:, :, 0, 0])
    variance = line.var((0, 2, 3), unbiased=False, keepdim=True)
    expected = (line - line.mean((0, 2, 3), keepdim=True)) / (variance + 1e-5).sqrt()
    assert torch.allclose(embed(f), expected, rtol=1e-12)
    assert embed.convolution.bias is None


def test_an_adaptor_is_a_matrix_at_every_position():
    f, weight, bias = draw(4, 3, 2, 2, seed=4), draw(5, 3, seed=5), draw(5, seed=6)
    expected = torch.einsum("bshw,ts->bthw", f, weight) + bias[:, None, None]
    for form in (weight, weight[:, :, None, None]):
        assert torch.allclose(adapted(f, form, bias), expected, rtol=1e-12)
        assert torch.allclose(adapted(f[:, :, 0, 0], form, bias), expected[:, :, 0, 0], rtol=1e-12)
    assert adapted(f, None) is f


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda f: adapted(f, None, torch.ones(5)), "a bias and no weight"),
        (
            lambda f: adapted(f, torch.ones(3, 5)),
            r"weight is \(3, 5\) for features of shape \(4, 3\); it must be \(T, S\)",
        ),
        (lambda f: adapted(f[:, :, None], torch.ones(5, 3)), r"features of shape \(4, 3, 1\)"),
        (lambda f: adapted(f, torch.ones(5, 3, 3, 3)), r"weight is \(5, 3, 3, 3\)"),
    ],
)
def test_an_adaptor_that_does_not_fit_is_refused(call, message):
    with pytest.raises(ConfigError, match=message):
        call(torch.ones(4, 3))


def test_embeddings_of_cc_and_crd():
    f = draw(4, 3, seed=3)
    plain, on_sphere = LinearEmbed(3, 6).double(), UnitEmbed(3, 6).double()
    on_sphere.load_state_dict(plain.state_dict())
    line = f @ plain.linear.weight.T + plain.linear.bias
    assert torch.allclose(plain(f), line, rtol=1e-14)
    for row, expected in zip(on_sphere(f).tolist(), line.tolist(), strict=True):
        length = math.sqrt(sum(v * v for v in expected))
        assert row == pytest.approx([v / length for v in expected], rel=1e-12)
    assert LinearEmbed(12).linear.weight.shape == (128, 12)
    assert LinearEmbed(12)(torch.zeros(2, 3, 2, 2)).shape == (2, 128)
