"""Whole losses with weights as arguments against the modules that own such weights. Legend: B rows, S and T channels, N bank rows."""

from collections.abc import Iterator

import pytest
import torch
from published import draw
from torch import Tensor
from torch.autograd import gradcheck

from tcs.errors import ConfigError
from tcs.functional.composed import cc_embedded, crd_embedded, fitnet, ickd, reviewkd, vid_regressed
from tcs.functional.crd import crd
from tcs.functional.fusion import ReviewFusion
from tcs.functional.maps import hcl, hint, icc
from tcs.functional.regressors import ChannelEmbed, HintRegressor, LinearEmbed, UnitEmbed, VidRegressor
from tcs.functional.relations import cc
from tcs.functional.vid import vid


@pytest.fixture(autouse=True)
def own_generator() -> Iterator[None]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def same(found: Tensor, expected: Tensor, *leaves: Tensor) -> None:
    """Equal values, and equal gradients of every leaf."""
    assert found.item() == pytest.approx(expected.item(), rel=1e-12)
    for a, b in zip(torch.autograd.grad(found, leaves), torch.autograd.grad(expected, leaves), strict=True):
        assert bool(b.any())
        assert torch.allclose(a, b, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize(
    ("size_s", "size_t"), [((8, 8), (8, 8)), ((8, 8), (4, 4)), ((4, 4), (8, 8)), ((8, 8), (6, 6)), ((8, 9), (4, 5))]
)
def test_fitnet_of_maps(size_s: tuple[int, int], size_t: tuple[int, int]) -> None:
    regressor = HintRegressor(3, 5, size_s, size_t).double()
    weights = [*regressor.convolution.parameters(), *regressor.norm.parameters()]
    f_s, f_t = draw(6, 3, *size_s, seed=0, grad=True), draw(6, 5, *size_t, seed=1)
    same(fitnet(f_s, f_t, *weights), hint(regressor(f_s), f_t), f_s, *weights)


def test_fitnet_of_vectors_takes_a_matrix() -> None:
    regressor = HintRegressor(3, 5).double()
    weight, bias, scale, shift = [*regressor.convolution.parameters(), *regressor.norm.parameters()]
    f_s, f_t = draw(6, 3, seed=2, grad=True), draw(6, 5, seed=3)
    same(fitnet(f_s, f_t, weight[:, :, 0, 0], bias, scale, shift), hint(regressor(f_s), f_t), f_s, weight)


@pytest.mark.parametrize(("size_s", "size_t"), [((4, 4), (4, 4)), ((4, 4), (2, 2)), ((2, 2), (4, 4))])
def test_vid_of_maps(size_s: tuple[int, int], size_t: tuple[int, int]) -> None:
    regressor, scale = VidRegressor(3, 5).double(), draw(5, seed=4, grad=True)
    weights = list(regressor.parameters())
    f_s, f_t = draw(4, 3, *size_s, seed=5, grad=True), draw(4, 5, *size_t, seed=6)
    same(vid_regressed(f_s, f_t, *weights, scale), vid(regressor(f_s, size_t), f_t, scale), f_s, *weights, scale)


def test_vid_of_vectors_takes_matrices() -> None:
    regressor, scale = VidRegressor(3, 5).double(), draw(5, seed=7, grad=True)
    matrices = [weight[:, :, 0, 0] for weight in regressor.parameters()]
    f_s, f_t = draw(4, 3, seed=8, grad=True), draw(4, 5, seed=9)
    same(vid_regressed(f_s, f_t, *matrices, scale), vid(regressor(f_s), f_t, scale), f_s, scale)


@pytest.mark.parametrize("size_t", [(4, 4), (2, 2)])
def test_ickd_pools_nothing(size_t: tuple[int, int]) -> None:
    embed = ChannelEmbed(3, 5).double()
    weights = list(embed.parameters())
    f_s, f_t = draw(4, 3, 4, 4, seed=10, grad=True), draw(4, 5, *size_t, seed=11)
    same(ickd(f_s, f_t, *weights), icc(embed(f_s), f_t), f_s, *weights)


def test_cc_and_crd_train_both_embeddings() -> None:
    f_s, f_t = draw(4, 3, seed=12, grad=True), draw(4, 5, seed=13, grad=True)
    plain = LinearEmbed(3, 6).double(), LinearEmbed(5, 6).double()
    weights = [p for embed in plain for p in embed.parameters()]
    same(cc_embedded(f_s, f_t, *weights), cc(plain[0](f_s), plain[1](f_t.detach())), f_s, *weights)
    on_sphere = UnitEmbed(3, 6).double(), UnitEmbed(5, 6).double()
    weights = [p for embed in on_sphere for p in embed.parameters()]
    given = draw(9, 6, seed=14), draw(9, 6, seed=15), torch.arange(20).reshape(4, 5) % 9, 3.0, 5.0
    found = crd_embedded(f_s, f_t, *weights, *given)
    same(found, crd(on_sphere[0](f_s), on_sphere[1](f_t.detach()), *given), f_s, *weights)
    found = crd_embedded(f_s, f_t, *weights, *given)
    assert torch.autograd.grad(found, f_t, allow_unused=True) == (None,)


def test_reviewkd_takes_maps_and_vectors() -> None:
    fusion = ReviewFusion([3, 4], [5, 6]).double()
    f_s, levels_t = draw(4, 3, 4, 4, seed=16, grad=True), [draw(4, 5, 8, 8, seed=17), draw(4, 6, seed=18)]
    levels_s = [f_s, draw(4, 4, seed=19)]
    expected = hcl(fusion(levels_s, [(8, 8), (1, 1)]), [levels_t[0], levels_t[1][:, :, None, None]])
    same(reviewkd(levels_s, levels_t, fusion), expected, f_s, *fusion.parameters())


def test_gradients_are_right() -> None:
    f_s, f_t = draw(3, 2, 2, 2, seed=20, grad=True), draw(3, 3, 2, 2, seed=21)
    weight, scale = draw(3, 2, seed=22, grad=True), draw(3, seed=23, grad=True)
    assert gradcheck(lambda x, w, s: ickd(x, f_t, w, s, scale), (f_s, weight, scale))
    square = draw(3, 3, seed=24)
    assert gradcheck(lambda x, w, s: vid_regressed(x, f_t, w, square, square, s), (f_s, weight, scale))


def test_cached_half_precision_meets_a_float32_student() -> None:
    f_s, f_t = draw(4, 2, seed=25, dtype=torch.float32), draw(4, 3, seed=26).half()
    weight, bias = draw(3, 2, seed=27, dtype=torch.float32), torch.ones(3)
    assert fitnet(f_s, f_t, weight, bias, bias, bias).dtype == torch.float32


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda v: fitnet(torch.ones(1, 2), torch.ones(1, 3), torch.ones(3, 2), v, v, v), "1 pooled row has no batch"),
        (
            lambda v: fitnet(torch.ones(2, 2, 3, 3), torch.ones(2, 3, 8, 8), torch.ones(3, 2, 1, 1), v, v, v),
            r"student map of \(3, 3\) for the teacher's \(8, 8\)",
        ),
        (lambda v: ickd(torch.ones(2, 2, 1, 1), torch.ones(2, 3, 1, 1), torch.ones(3, 2), v, v), "map of one position"),
    ],
)
def test_what_makes_no_sense_is_refused(call, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ConfigError, match=message):
        call(torch.ones(3))
