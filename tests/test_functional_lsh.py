"""LSH and LSHL2 against the authors' numbers and loops. Legend: B rows, N images, T dims, H bits."""

import math
import statistics

import pytest
import torch
from published import check_parity, compare, draw, finite_gradient, published, tensor
from torch.autograd import gradcheck

from tcs.errors import ConfigError
from tcs.functional.lsh import draw_hash_weight, hash_bias, hash_bits, hash_values, lsh, lsh_from_bits, lshl2, lshl2_s

INPUTS = ["f_s", "f_t", "hash_weight", "hash_bias"]


@pytest.mark.parametrize(("name", "loss"), [("lsh", lsh), ("lshl2", lshl2)])
def test_losses_have_the_published_numbers(name, loss):
    # The original casts its bits to float32, and so its loss (fixtures' README): 1e-6 on the value, full float64 on gradients.
    check_parity(published(name), loss, INPUTS, "loss", {"f_s": "grad_f_s"}, rtol=1e-6)


@pytest.mark.parametrize("name", ["lsh", "lshl2"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_bits_are_the_published_ones(name, dtype):
    arrays = published(name)
    f_t, weight, bias = (tensor(arrays[key], dtype) for key in INPUTS[1:])
    assert hash_bits(f_t, weight, bias).numpy().astype("uint8").tolist() == arrays["teacher_bits"].tolist()


@pytest.mark.parametrize(
    ("kind", "rows", "stored"),
    [("median", 100, "bias_median_even"), ("median", 99, "bias_median_odd"), ("mean", 100, "bias_mean")],
)
def test_bias_has_the_published_numbers(kind, rows, stored):
    arrays = published("lsh")
    bank, weight = (tensor(arrays[key], torch.float32) for key in ("bias_bank", "hash_weight"))
    compare(hash_bias(bank[:rows], weight, kind), arrays[stored], 1e-6)
    compare(hash_bias(bank[:rows].double(), weight, kind), arrays[stored], 1e-6)
    if stored == "bias_median_even":
        assert (arrays["hash_bias"] == arrays["bias_median_even"]).all()


def sides():
    return draw(5, 4, seed=0), draw(5, 4, seed=1), draw(6, 4, seed=2), draw(6, seed=3)


def value(row, plane, bias):
    return sum(a * b for a, b in zip(row, plane, strict=True)) + bias


def loop_rows(s, t, weight, bias):
    """Binary cross-entropy of each row, averaged over its bits."""
    rows = []
    for a, b in zip(s.tolist(), t.tolist(), strict=True):
        terms = []
        for plane, shift in zip(weight.tolist(), bias.tolist(), strict=True):
            logit = value(a, plane, shift)
            terms.append(math.log1p(math.exp(-logit if value(b, plane, shift) > 0 else logit)))
        rows.append(sum(terms) / len(terms))
    return rows


def loop_squares(s, t):
    return [
        sum((a - b) ** 2 for a, b in zip(x, y, strict=True)) / 4 for x, y in zip(s.tolist(), t.tolist(), strict=True)
    ]


def test_losses_are_loops_over_rows_and_bits():
    s, t, weight, bias = sides()
    hashes, squares = loop_rows(s, t, weight, bias), loop_squares(s, t)
    assert lsh(s, t, weight, bias).item() == pytest.approx(sum(hashes) / 5, rel=1e-12)
    assert lshl2(s, t, weight, bias).item() == pytest.approx((sum(hashes) + sum(squares)) / 5, rel=1e-12)
    right = torch.tensor([True, False, True, True, False])
    kept = [hashes[i] + squares[i] for i in (0, 2, 3)]
    assert lshl2_s(s, t, weight, bias, right).item() == pytest.approx(sum(kept) / 3, rel=1e-12)


@pytest.mark.parametrize(("distance", "power"), [("l1", 1), ("l2", 2)])
def test_ablations_compare_hash_values(distance, power):
    s, t, weight, bias = sides()
    gaps = [
        abs(value(a, p, 0) - value(b, p, 0))
        for a, b in zip(s.tolist(), t.tolist(), strict=True)
        for p in weight.tolist()
    ]
    expected = sum(gap**power for gap in gaps) / len(gaps)
    assert lsh(s, t, weight, bias, distance).item() == pytest.approx(expected, rel=1e-12)


def test_all_rows_right_is_the_plain_mean():
    s, t, weight, bias = sides()
    right = torch.ones(5, dtype=torch.bool)
    assert lshl2_s(s, t, weight, bias, right).item() == pytest.approx(lshl2(s, t, weight, bias).item(), rel=1e-13)


def test_no_row_right_is_zero_without_gradient():
    s, t, weight, bias = sides()
    gradient = finite_gradient(lambda x: lshl2_s(x, t, weight, bias, torch.zeros(5, dtype=torch.bool)), s)
    assert gradient.abs().max() == 0


def test_cached_bits_serve_as_well_as_features():
    s, t, weight, bias = sides()
    bits = hash_bits(t, weight, bias)
    for kept in (bits, bits.to(torch.uint8), bits.float()):
        assert lsh_from_bits(s, kept, weight, bias).item() == lsh(s, t, weight, bias).item()


def test_a_tie_is_a_zero_bit():
    assert hash_bits(torch.zeros(1, 2), torch.ones(3, 2), torch.tensor([0.0, 1e-6, -1e-6])).tolist() == [
        [False, True, False]
    ]


@pytest.mark.parametrize("rows", [1, 2, 7, 8])
@pytest.mark.parametrize("chunk_bytes", [1, 200, 1 << 20])
def test_median_bias_is_the_lower_median_of_each_bit(rows, chunk_bytes):
    bank, weight = draw(rows, 4, seed=4), draw(6, 4, seed=5)
    expected = [-statistics.median_low([value(row, plane, 0) for row in bank.tolist()]) for plane in weight.tolist()]
    assert hash_bias(bank, weight, "median", chunk_bytes).tolist() == pytest.approx(expected, rel=1e-12)
    means = [-statistics.fmean([value(row, plane, 0) for row in bank.tolist()]) for plane in weight.tolist()]
    assert hash_bias(bank, weight, "mean", chunk_bytes).tolist() == pytest.approx(means, rel=1e-9)


def test_median_bias_splits_each_bit_in_halves():
    bank, weight = draw(101, 8, seed=6, dtype=torch.float32), draw_hash_weight(64, 8, 0.5, seed=7)
    values = hash_values(bank, weight, hash_bias(bank.half(), weight))
    assert ((values > 0).sum(0) - 50).abs().max() <= 1
    assert hash_bias(bank, weight, "zero").tolist() == [0.0] * 64


def test_hash_weight_is_gaussian_and_a_function_of_the_seed():
    weight = draw_hash_weight(200, 100, 0.06, seed=8)
    assert weight.std().item() == pytest.approx(0.06, rel=0.02)
    assert torch.equal(weight, draw_hash_weight(200, 100, 0.06, seed=8))
    assert not torch.equal(weight, draw_hash_weight(200, 100, 0.06, seed=9))


LOSSES = {
    "lsh": lsh,
    "l1": lambda s, t, w, b: lsh(s, t, w, b, "l1"),
    "l2": lambda s, t, w, b: lsh(s, t, w, b, "l2"),
    "lshl2": lshl2,
    "lshl2_s": lambda s, t, w, b: lshl2_s(s, t, w, b, torch.tensor([True, False, True, True, False])),
}


@pytest.mark.parametrize("name", LOSSES)
def test_gradient_is_right_and_stops_at_the_teacher(name):
    s, t, weight, bias = sides()
    s.requires_grad_()
    t.requires_grad_()
    assert gradcheck(lambda x: LOSSES[name](x, t.detach(), weight, bias), (s,))
    LOSSES[name](s, t, weight, bias).backward()
    assert t.grad is None


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("factor", [0.0, 1.0, 1e4])
def test_awkward_points_are_finite(name, factor):
    _, t, weight, bias = (x.float() for x in sides())
    finite_gradient(lambda x: LOSSES[name](x, t, weight, bias), t * factor)


@pytest.mark.parametrize("name", LOSSES)
def test_autocast_does_not_round_the_hashes(name):
    s, t, weight, bias = (x.float() for x in sides())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = LOSSES[name](s, t, weight, bias)
    assert found.item() == LOSSES[name](s, t, weight, bias).item()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda s, t, w, b: lsh(s[:, :3], t, w, b), "hash planes of 4 dims; project the student"),
        (lambda s, t, w, b: lsh(s[:2], t, w, b), "2 student and 5 teacher rows"),
        (lambda s, t, w, b: lsh(s, t, w, b, "cosine"), "distance of lsh is 'cosine'; known ones are bce, l1, l2"),
        (lambda s, t, w, b: lshl2(s[:, :3], t, w, b), "project the student first"),
        (
            lambda s, t, w, b: lsh_from_bits(s, torch.zeros(5, 7), w, b),
            "take the bits of the same rows and hash planes",
        ),
        (lambda s, t, w, b: lshl2_s(s, t, w, b, torch.ones(5)), r"must be torch.bool of shape \(5,\)"),
        (
            lambda s, t, w, b: lshl2_s(s, t, w, b, torch.ones(4, dtype=torch.bool)),
            r"must be torch.bool of shape \(5,\)",
        ),
        (lambda s, t, w, b: hash_bias(t, w, "mode"), "hash bias is 'mode'; known ones are median, mean, zero"),
        (lambda s, t, w, b: hash_bias(t[:0], w), r"features \(0, 4\) and weight \(6, 4\)"),
        (
            lambda s, t, w, b: draw_hash_weight(4, 4, 0.0, seed=0),
            "std of the hash weight is 0.0; it must be a positive",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(call, message):
    with pytest.raises(ConfigError, match=message):
        call(*sides())
