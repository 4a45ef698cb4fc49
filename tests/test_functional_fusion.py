"""ReviewKD's fusion against the same steps written out with matrices. Legend: B rows, M middle channels."""

import pytest
import torch
from published import draw

from tcs.errors import ConfigError
from tcs.functional.fusion import FusionWeights, ReviewFusion, fuse
from tcs.functional.maps import hcl


@pytest.fixture(autouse=True)
def own_generator():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def normalised(x):
    return (x - x.mean((0, 2, 3), keepdim=True)) / (x.var((0, 2, 3), unbiased=False, keepdim=True) + 1e-5).sqrt()


def one_by_one(x, convolution):
    out = torch.einsum("bshw,ts->bthw", x, convolution.weight[:, :, 0, 0])
    return out if convolution.bias is None else out + convolution.bias[:, None, None]


def three_by_three(x, convolution):
    """Sum of nine shifted products with zero padding."""
    height, width = x.shape[2:]
    padded = torch.zeros(x.shape[0], x.shape[1], height + 2, width + 2, dtype=x.dtype)
    padded[:, :, 1:-1, 1:-1] = x
    shifts = [(i, j) for i in range(3) for j in range(3)]
    return sum(
        torch.einsum("bshw,ts->bthw", padded[:, :, i : i + height, j : j + width], convolution.weight[:, :, i, j])
        for i, j in shifts
    )


def test_fusion_goes_from_deep_to_shallow():
    fusion = ReviewFusion([3, 4, 5], [6, 7, 8]).double()
    shallow, deep, vector = draw(4, 3, 4, 4, seed=0), draw(4, 4, 2, 2, seed=1), draw(4, 5, seed=2)
    outputs = fusion([shallow, deep, vector], [(8, 8), (2, 2), (1, 1)])
    first, second, third = fusion.levels
    x3 = normalised(one_by_one(vector[:, :, None, None], third.reduce[0]))
    x2 = normalised(one_by_one(deep, second.reduce[0]))
    y3 = x3.expand(-1, -1, 2, 2)
    gates = torch.sigmoid(one_by_one(torch.cat([x2, y3], 1), second.gates))
    x2 = x2 * gates[:, :1] + y3 * gates[:, 1:]
    x1 = normalised(one_by_one(shallow, first.reduce[0]))
    y2 = x2.repeat_interleave(2, 2).repeat_interleave(2, 3)
    gates = torch.sigmoid(one_by_one(torch.cat([x1, y2], 1), first.gates))
    x1 = (x1 * gates[:, :1] + y2 * gates[:, 1:]).repeat_interleave(2, 2).repeat_interleave(2, 3)
    expected = [
        normalised(three_by_three(x, level.expand[0])) for x, level in zip((x1, x2, x3), fusion.levels, strict=True)
    ]
    for found, wanted in zip(outputs, expected, strict=True):
        assert torch.allclose(found, wanted, rtol=1e-10, atol=1e-10)


def test_every_part_is_trained_by_hcl():
    fusion = ReviewFusion([3, 4, 5], [6, 7, 8])
    maps = [torch.randn(4, 3, 4, 4), torch.randn(4, 4, 2, 2), torch.randn(4, 5)]
    targets = [torch.randn(4, 6, 4, 4), torch.randn(4, 7, 2, 2), torch.randn(4, 8, 1, 1)]
    hcl(fusion(maps, [(4, 4), (2, 2), (1, 1)]), targets).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in fusion.parameters())


def test_the_middle_is_as_wide_as_the_deepest_level_up_to_512():
    assert ReviewFusion([3, 5], [6, 7]).levels[0].reduce[0].out_channels == 5
    assert ReviewFusion([3, 600], [6, 7]).levels[0].reduce[0].out_channels == 512


LEVEL = FusionWeights(
    reduce_MS=torch.ones(2, 3),
    reduce_scale_M=torch.ones(2),
    reduce_shift_M=torch.zeros(2),
    expand_TM33=torch.ones(4, 2, 3, 3),
    expand_scale_T=torch.ones(4),
    expand_shift_T=torch.zeros(4),
)


def test_given_weights_meet_maps_of_other_precisions():
    maps = [draw(4, 3, 2, 2, seed=9)]
    (wide,) = fuse(maps, [(2, 2)], [LEVEL])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        (single,) = fuse([maps[0].half()], [(2, 2)], [LEVEL])
    assert (wide.dtype, single.dtype) == (torch.float64, torch.float32)
    assert torch.allclose(wide, single.double(), atol=2e-2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ReviewFusion([3], [4, 5]), "1 student and 2 teacher levels"),
        (lambda: ReviewFusion([3], [4])([], []), "0 maps and 0 sizes for 1 levels"),
        (lambda: ReviewFusion([3], [4])([torch.zeros(1, 3)], [(1, 1)]), "a batch of 1 row"),
        (lambda: fuse([], [], []), "0 maps, 0 sizes and 0 levels of weights; give one of each"),
        (lambda: fuse([torch.zeros(2, 3)], [(1, 1)], [LEVEL, LEVEL]), "1 maps, 1 sizes and 2 levels of weights"),
        (lambda: fuse([torch.zeros(2, 3)] * 2, [(1, 1)] * 2, [LEVEL, LEVEL]), "gates at wrong levels; every level but"),
        (lambda: fuse([torch.zeros(1, 3)], [(1, 1)], [LEVEL]), "1 pooled row has no batch statistics"),
    ],
)
def test_what_makes_no_sense_is_refused(call, message):
    with pytest.raises(ConfigError, match=message):
        call()
