"""Losses between maps against loops over positions and channels, and what they refuse. Legend: B rows, C channels, H, W."""

import math

import numpy as np
import pytest
import torch
from published import draw, finite_gradient
from torch.autograd import gradcheck

from tcs.errors import ConfigError
from tcs.functional.maps import (
    at,
    at_cached,
    at_stage,
    attention,
    hcl,
    hcl_level,
    hint,
    icc,
    nst,
    nst_stage,
    pool_to_smaller,
)

STAGES = {"at": at_stage, "nst": nst_stage, "icc": icc, "hcl": hcl_level, "hint": hint}
SAME_SHAPE = {"hcl", "hint"}


def pooled(x_BCHW, size):
    """Adaptive average pooling by its definition, on a numpy array."""
    _, _, height, width = x_BCHW.shape
    rows = [(i * height // size[0], -(-(i + 1) * height // size[0])) for i in range(size[0])]
    columns = [(j * width // size[1], -(-(j + 1) * width // size[1])) for j in range(size[1])]
    return np.stack([np.stack([x_BCHW[:, :, a:b, c:d].mean((2, 3)) for c, d in columns], -1) for a, b in rows], -2)


def maps(size_s=(4, 4), size_t=(4, 4), channels=(3, 5)):
    return draw(3, channels[0], *size_s, seed=0), draw(3, channels[1], *size_t, seed=1) * 2


def smaller(s, t):
    size = min(s.shape[2:], t.shape[2:])
    return pooled(s.numpy(), size), pooled(t.numpy(), size)


SIZES = [((4, 4), (4, 4)), ((4, 4), (2, 2)), ((3, 3), (5, 5)), ((4, 6), (2, 3))]


def loop_attention(x_CHW):
    positions = [float((x_CHW[:, i, j] ** 2).mean()) for i in range(x_CHW.shape[1]) for j in range(x_CHW.shape[2])]
    return [v / math.sqrt(sum(p * p for p in positions)) for v in positions]


@pytest.mark.parametrize(("size_s", "size_t"), SIZES)
def test_at_is_a_loop_over_positions(size_s, size_t):
    s, t = maps(size_s, size_t)
    terms = []
    for a, b in zip(*smaller(s, t), strict=True):
        terms += [(p - q) ** 2 for p, q in zip(loop_attention(a), loop_attention(b), strict=True)]
    assert at_stage(s, t).item() == pytest.approx(sum(terms) / len(terms), rel=1e-12)
    assert at([s, s], [t, t]).item() == pytest.approx(2 * sum(terms) / len(terms), rel=1e-12)


@pytest.mark.parametrize(("size_s", "size_t"), SIZES)
def test_a_cached_attention_map_at_the_compared_size_serves_as_well_as_the_map(size_s, size_t):
    s, t = maps(size_s, size_t)
    _, small_t = pool_to_smaller(s, t)
    cached = attention(small_t).reshape(3, *small_t.shape[2:])
    assert at_cached(s, cached).item() == pytest.approx(at_stage(s, t).item(), rel=1e-13)


def kernel_mean(a_BCP, b_BCP):
    values = [float(u @ v) ** 2 for a, b in zip(a_BCP, b_BCP, strict=True) for u in a for v in b]
    return sum(values) / len(values)


@pytest.mark.parametrize(("size_s", "size_t"), SIZES)
def test_nst_is_a_loop_over_channel_pairs(size_s, size_t):
    s, t = maps(size_s, size_t)
    a, b = (x.reshape(*x.shape[:2], -1) for x in smaller(s, t))
    a, b = (x / np.sqrt((x**2).sum(-1, keepdims=True)) for x in (a, b))
    expected = kernel_mean(b, b) + kernel_mean(a, a) - 2 * kernel_mean(a, b)
    assert nst_stage(s, t).item() == pytest.approx(expected, rel=1e-11)
    assert nst([s], [t]).item() == nst_stage(s, t).item()


def loop_icc(x_CHW):
    channels = x_CHW.reshape(x_CHW.shape[0], -1).tolist()
    table = [[sum(p * q for p, q in zip(u, v, strict=True)) for v in channels] for u in channels]
    return [[v / math.sqrt(sum(w * w for w in row)) for v in row] for row in table]


@pytest.mark.parametrize(("size_s", "size_t"), SIZES)
def test_icc_is_a_loop_over_channel_pairs_and_pools_nothing(size_s, size_t):
    s, t = maps(size_s, size_t, channels=(4, 4))
    total = 0.0
    for a, b in zip(s.numpy(), t.numpy(), strict=True):
        a, b = loop_icc(a), loop_icc(b)
        total += sum((a[i][j] - b[i][j]) ** 2 for i in range(4) for j in range(4))
    assert icc(s, t).item() == pytest.approx(total / (4 * 3), rel=1e-12)


@pytest.mark.parametrize("case", ["plain", "dead channels", "dead maps"])
@pytest.mark.parametrize("name", ["nst", "icc"])
def test_few_positions_are_a_shorter_way_to_the_same_number(name, case):
    """Twelve channels on four positions: `nst` and `icc` are then made of products of positions."""
    s, t = maps((2, 2), (2, 2), channels=(12, 12))
    if case == "dead channels":
        s[:, 0], t[:, 1], s[:, 2], t[:, 2] = 0, 0, 0, 0
    elif case == "dead maps":
        s[0] = 0
    total = 0.0
    for a, b in zip(s.flatten(2).numpy(), t.flatten(2).numpy(), strict=True):
        if name == "nst":
            a, b = (x / np.sqrt((x**2).sum(1, keepdims=True)).clip(1e-12) for x in (a, b))
            total += kernel_mean([b], [b]) + kernel_mean([a], [a]) - 2 * kernel_mean([a], [b])
        else:
            grams = [x @ x.T for x in (a, b)]
            a, b = (x / np.sqrt((x**2).sum(1, keepdims=True)).clip(1e-12) for x in grams)
            total += ((a - b) ** 2).sum() / 12
    assert STAGES[name](s, t).item() == pytest.approx(total / 3, rel=1e-11)
    assert finite_gradient(lambda x: STAGES[name](x, t), s).abs().max() < 100


@pytest.mark.parametrize(("size", "used"), [(8, [4, 2, 1]), (4, [2, 1]), (3, [2, 1]), (2, [1]), (1, [])])
def test_hcl_weighs_the_sizes_that_are_used(size, used):
    s, t = maps((size, size), (size, size), channels=(4, 4))
    errors = [float(((s - t) ** 2).mean())]
    errors += [float(((pooled(s.numpy(), (n, n)) - pooled(t.numpy(), (n, n))) ** 2).mean()) for n in used]
    weights = [0.5**k for k in range(len(errors))]
    expected = sum(w * e for w, e in zip(weights, errors, strict=True)) / sum(weights)
    assert hcl_level(s, t).item() == pytest.approx(expected, rel=1e-12)
    assert hcl([s, s], [t, t]).item() == pytest.approx(2 * expected, rel=1e-12)


@pytest.mark.parametrize("shape", [(3, 4), (3, 4, 2, 2)])
def test_hint_is_the_mean_squared_error(shape):
    s, t = draw(*shape, seed=2), draw(*shape, seed=3)
    expected = sum((a - b) ** 2 for a, b in zip(s.flatten().tolist(), t.flatten().tolist(), strict=True)) / s.numel()
    assert hint(s, t).item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("name", STAGES)
def test_gradient_is_right_and_stops_at_the_teacher(name):
    s, t = draw(2, 3, 3, 3, seed=4, grad=True), draw(2, 3, 3, 3, seed=5, grad=True)
    assert gradcheck(lambda x: STAGES[name](x, t.detach()), (s,))
    STAGES[name](s, t).backward()
    assert t.grad is None


@pytest.mark.parametrize("name", STAGES)
@pytest.mark.parametrize("case", ["match", "dead channels", "dead maps", "one row"])
def test_awkward_points_are_finite_and_tame(name, case):
    t = draw(3, 4, 3, 3, seed=6, dtype=torch.float32)
    s = t.clone() if case == "match" else draw(3, 4, 3, 3, seed=7, dtype=torch.float32)
    if case == "dead channels":
        s[:, 0], t[:, 1] = 0, 0
    elif case == "dead maps":
        s = torch.zeros_like(s)
    elif case == "one row":
        s, t = s[:1], t[:1]
    assert finite_gradient(lambda x: STAGES[name](x, t), s).abs().max() < 100


@pytest.mark.parametrize("name", ["at", "nst", "icc"])
@pytest.mark.parametrize("side", [0, 1])
def test_what_pooling_makes_meaningless_is_refused(name, side):
    sides = [draw(2, 3, 4, 4, seed=8), draw(2, 3, 4, 4, seed=9)]
    sides[side] = sides[side][:, :, :1, :1]
    with pytest.raises(ConfigError, match=f"{name} has a map of one position.*Use a map before pooling"):
        STAGES[name](*sides)
    sides[side] = sides[side].flatten(1)
    with pytest.raises(ConfigError, match=f"{name} has an input of shape .*takes maps of shape"):
        STAGES[name](*sides)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: at([x], []), "at has 1 student and 0 teacher stages"),
        (lambda x: nst([], []), "nst has 0 student and 0 teacher stages"),
        (lambda x: at_cached(x, torch.ones(2, 8, 8)), r"cached attention of \(8, 8\) for student maps of \(4, 4\)"),
        (lambda x: at_cached(x[:, :, :1, :1], torch.ones(2, 1, 1)), "at_cached has a map of one position"),
        (lambda x: at_stage(x, x[:1]), "at has 2 student and 1 teacher rows"),
        (lambda x: at_stage(x[:, :, :2], x[..., :2]), r"student \(2, 4\) and teacher \(4, 2\).*one aspect ratio"),
        (lambda x: icc(x[:, :2], x), "2 student and 3 teacher channels"),
        (lambda x: hint(x[:, :2], x), "regress the student to the teacher's shape"),
        (lambda x: hcl([x[:, :2]], [x]), "fuse the student's maps"),
        (lambda x: hcl_level(x.flatten(1), x.flatten(1)), "hcl has an input of shape"),
    ],
)
def test_what_makes_no_sense_is_refused(call, message):
    with pytest.raises(ConfigError, match=message):
        call(torch.ones(2, 3, 4, 4))
