"""kd, dkd and dist against the authors' numbers, against loops, and at awkward points. Legend: B rows, C classes."""

import math

import pytest
import torch
from published import check_parity, draw, finite_gradient, published
from torch.autograd import gradcheck

from tcs.errors import ConfigError
from tcs.functional.logits import dist, dkd, kd

LABELS = torch.tensor([0, 3, 2, 2, 1])


def softmax(row, temperature):
    top = max(row)
    weights = [math.exp((z - top) / temperature) for z in row]
    return [w / sum(weights) for w in weights]


def kl(p, q):
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))


def rows():
    return draw(5, 4, seed=0), draw(5, 4, seed=1)


@pytest.mark.parametrize("temperature", [4.0, 1.0])
def test_kd_has_the_published_numbers(temperature):
    prefix = f"T{temperature:.0f}"
    check_parity(
        published("kd"),
        lambda s, t: kd(s, t, temperature),
        ["logits_s", "logits_t"],
        f"{prefix}_loss",
        {"logits_s": f"{prefix}_grad_logits_s"},
    )


def test_benchmark_mix_of_kd_and_labels_has_the_published_numbers():
    check_parity(
        published("kd"),
        lambda s, t, y: 0.1 * torch.nn.functional.cross_entropy(s, y) + 0.9 * kd(s, t, 4.0),
        ["logits_s", "logits_t", "labels"],
        "bench_loss_total",
        {"logits_s": "bench_grad_logits_s"},
    )


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_kd_is_a_loop_over_rows(temperature):
    s, t = rows()
    loops = [kl(softmax(b, temperature), softmax(a, temperature)) for a, b in zip(s.tolist(), t.tolist(), strict=True)]
    assert float(kd(s, t, temperature)) == pytest.approx(temperature**2 * sum(loops) / 5, rel=1e-12)


@pytest.mark.parametrize(("alpha", "beta", "temperature"), [(1.0, 8.0, 4.0), (0.5, 2.0, 1.0), (0.0, 1.0, 2.0)])
def test_dkd_is_a_loop_over_rows(alpha, beta, temperature):
    s, t = rows()
    total = 0.0
    for a, b, y in zip(s.tolist(), t.tolist(), LABELS.tolist(), strict=True):
        p, q = softmax(a, temperature)[y], softmax(b, temperature)[y]
        binary = kl([q, 1 - q], [p, 1 - p])
        others_s = softmax([z for c, z in enumerate(a) if c != y], temperature)
        others_t = softmax([z for c, z in enumerate(b) if c != y], temperature)
        total += alpha * binary + beta * kl(others_t, others_s)
    expected = temperature**2 * total / 5
    assert float(dkd(s, t, LABELS, alpha, beta, temperature)) == pytest.approx(expected, rel=1e-12)


def test_dkd_is_what_masking_with_a_large_number_gives():
    """The published form: -1000 on the label's logit, log of plain probabilities."""
    s, t = rows()
    label = torch.nn.functional.one_hot(LABELS, 4).double()
    p, q = ((z / 4).softmax(1) for z in (s, t))
    p2, q2 = (torch.stack([(x * label).sum(1), (x * (1 - label)).sum(1)], 1) for x in (p, q))
    binary = (q2 * (q2 / p2).log()).sum() / 5
    others = torch.nn.functional.kl_div(
        (s / 4 - 1000 * label).log_softmax(1), (t / 4 - 1000 * label).softmax(1), reduction="sum"
    )
    assert float(dkd(s, t, LABELS, 1, 8, 4)) == pytest.approx(float(16 * (binary + 8 * others / 5)), rel=1e-10)


def test_kd_weighs_the_two_parts_of_dkd_by_the_teacher():
    """KD = TCKD + (1 - p_label) NCKD row by row (Zhao et al., eq. 6), here for one row."""
    s, t, y = draw(1, 6, seed=3), draw(1, 6, seed=4), torch.tensor([2])
    others = 1 - float(t.softmax(1)[0, 2])
    parts = dkd(s, t, y, 1.0, 0.0, 1.0) + others * dkd(s, t, y, 0.0, 1.0, 1.0)
    assert float(kd(s, t, 1.0)) == pytest.approx(float(parts), rel=1e-12)


def pearson(a, b):
    n = len(a)
    a, b = ([v - sum(x) / n for v in x] for x in (a, b))
    dot = sum(x * y for x, y in zip(a, b, strict=True))
    return dot / (math.sqrt(sum(x * x for x in a)) * math.sqrt(sum(y * y for y in b)) + 1e-8)


@pytest.mark.parametrize(("beta", "gamma", "temperature"), [(1.0, 1.0, 1.0), (2.0, 0.5, 4.0)])
def test_dist_is_a_loop_over_rows_and_classes(beta, gamma, temperature):
    s, t = rows()
    p = [softmax(row, temperature) for row in s.tolist()]
    q = [softmax(row, temperature) for row in t.tolist()]
    inter = 1 - sum(pearson(a, b) for a, b in zip(p, q, strict=True)) / 5
    columns = zip(zip(*p, strict=True), zip(*q, strict=True), strict=True)
    intra = 1 - sum(pearson(a, b) for a, b in columns) / 4
    expected = temperature**2 * (beta * inter + gamma * intra)
    assert float(dist(s, t, beta, gamma, temperature)) == pytest.approx(expected, rel=1e-12)


LOSSES = {"kd": kd, "dkd": lambda s, t: dkd(s, t, LABELS), "dist": lambda s, t: dist(s, t, 1.0, 2.0, 3.0)}


@pytest.mark.parametrize("name", LOSSES)
def test_gradient_is_right_and_stops_at_the_teacher(name):
    s, t = draw(5, 4, seed=5, grad=True), draw(5, 4, seed=6, grad=True)
    assert gradcheck(lambda x: LOSSES[name](x, t.detach()), (s,))
    LOSSES[name](s, t).backward()
    assert t.grad is None


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("case", ["match", "constant", "saturated"])
def test_awkward_points_are_finite(name, case):
    t = draw(5, 4, seed=7, dtype=torch.float32)
    if case == "saturated":
        t = t * 1e4
    s = {"match": t, "constant": torch.zeros(5, 4), "saturated": -t}[case]
    finite_gradient(lambda x: LOSSES[name](x, t), s)


def test_perfect_match_costs_nothing():
    t = draw(5, 4, seed=8)
    for name, loss in LOSSES.items():
        assert float(loss(t, t)) == pytest.approx(0, abs=1e-4 if name == "dist" else 1e-12)  # its 1e-8


@pytest.mark.parametrize("name", LOSSES)
def test_half_precision_rows_are_computed_in_float32(name):
    s, t = draw(5, 4, seed=9).half(), draw(5, 4, seed=10).half()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = LOSSES[name](s, t)
    assert found.dtype == torch.float32
    assert float(found) == float(LOSSES[name](s.float(), t.float()))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32])
def test_labels_may_be_any_integers(dtype):
    s, t, labels = draw(5, 4, seed=11), draw(5, 4, seed=12), torch.tensor([0, 3, 1, 2, 3])
    assert dkd(s, t, labels.to(dtype)).item() == dkd(s, t, labels).item()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: kd(torch.zeros(2, 3), torch.zeros(2, 4)), r"student \(2, 3\) and teacher \(2, 4\).*same classes"),
        (lambda: kd(torch.zeros(2, 3), torch.zeros(2, 3), 0.0), "temperature of kd is 0.0; it must be a positive"),
        (lambda: dist(torch.zeros(1, 3), torch.zeros(1, 3)), "dist compares the rows of a batch and this one has 1"),
        (lambda: dkd(torch.zeros(2, 1), torch.zeros(2, 1), torch.tensor([0, 0])), "dkd has 1 class; it needs 2"),
        (lambda: dkd(torch.zeros(2, 3), torch.zeros(2, 3), torch.tensor([0, -1])), "the label -1 with 3 classes"),
        (lambda: dkd(torch.zeros(2, 3), torch.zeros(2, 3), torch.tensor([0, 3])), "the label 3 with 3 classes"),
        (lambda: dkd(torch.zeros(2, 3), torch.zeros(2, 3), torch.tensor([0])), "1 labels for 2 rows"),
        (
            lambda: dkd(torch.zeros(2, 3), torch.zeros(2, 3), torch.tensor([0.0, 1.0])),
            "labels that are floating; they must",
        ),
        (lambda: dkd(torch.zeros(2, 3), torch.zeros(2, 3), torch.tensor([True, False])), "labels that are flags"),
    ],
)
def test_what_makes_no_sense_is_refused(call, message):
    with pytest.raises(ConfigError, match=message):
        call()
