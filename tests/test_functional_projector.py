"""Projector KD's losses against the authors' numbers, against loops, and at a perfect match. Legend: B rows, S and T dims."""

import math

import pytest
import torch
from published import check_parity, compare, draw, finite_gradient, published, tensor
from torch.autograd import gradcheck

from tcs.errors import ConfigError
from tcs.functional.logits import kd
from tcs.functional.norms import batch_norm
from tcs.functional.projector import (
    NORMALISATIONS,
    correlation_log_sum,
    itrd_correlation,
    linear_projector,
    log_sum,
    mlp_projector,
    normalised_l2,
    projector_kd,
    projector_kd_correlation,
)

SIDES = ["f_s", "f_t", "embed_weight", "embed_bias"]
LOSSES = {
    "log_sum": log_sum,
    "correlation_log_sum": correlation_log_sum,
    "itrd_correlation": itrd_correlation,
    "normalised_l2": normalised_l2,
}


def sides():
    return draw(6, 4, seed=0), draw(6, 4, seed=1) + 0.5


def test_element_wise_form_has_the_published_numbers():
    gradients = {"f_s": "imagenet_grad_f_s", "embed_weight": "imagenet_grad_embed_weight"}
    check_parity(published("projector"), projector_kd, SIDES, "imagenet_loss", gradients)


def test_batch_norms_have_the_published_numbers():
    arrays = published("projector")
    f_s, f_t, weight, bias = (tensor(arrays[name], torch.float64) for name in SIDES)
    compare(batch_norm(f_s @ weight.T + bias, 1e-4), arrays["imagenet_f_s_norm"], 1e-9)
    compare(NORMALISATIONS["bn"](f_t), arrays["imagenet_f_t_norm"], 1e-9)


def test_correlation_form_has_the_published_numbers():
    gradients = {"f_s": "deit_grad_f_s", "embed_weight": "deit_grad_embed_weight"}
    check_parity(published("projector"), projector_kd_correlation, SIDES, "deit_loss", gradients)


@pytest.mark.parametrize(("case", "alpha"), [("imagenet_total", 4.0), ("srd_exp1", 1.0), ("srd_exp4", 4.0)])
def test_totals_with_soft_labels_have_the_published_numbers(case, alpha):
    gradients = {"f_s": f"{case}_grad_f_s"}
    if case == "imagenet_total":
        gradients["logits_s"] = "imagenet_total_grad_logits_s"
    check_parity(
        published("projector"),
        lambda s, t, w, b, a, c: 2 * projector_kd(s, t, w, b, alpha) + kd(a, c, 1.0),
        [*SIDES, "logits_s", "logits_t"],
        f"{case}_loss",
        gradients,
    )


@pytest.mark.parametrize("alpha", [1.0, 2.5, 4.0])
def test_log_sum_is_a_loop_over_entries(alpha):
    s, t = sides()
    total = sum(abs(a - b) ** alpha for a, b in zip(s.flatten().tolist(), t.flatten().tolist(), strict=True))
    assert log_sum(s, t, alpha).item() == pytest.approx(math.log(total), rel=1e-12)


def test_log_sum_of_a_repeated_batch_is_higher_by_the_log_of_two():
    s, t = sides()
    twice = log_sum(torch.cat([s, s]), torch.cat([t, t])).item()
    assert twice == pytest.approx(log_sum(s, t).item() + math.log(2), rel=1e-12)


@pytest.mark.parametrize(("alpha", "eps"), [(4.0, 1e-5), (2.0, 0.0)])
def test_correlation_log_sum_is_a_loop_over_columns(alpha, eps):
    s, t = sides()
    columns = zip(s.T.tolist(), t.T.tolist(), strict=True)
    gaps = [abs(sum(a * b for a, b in zip(x, y, strict=True)) / 6 - 1) for x, y in columns]
    expected = math.log(sum(gap**alpha for gap in gaps) + eps)
    assert correlation_log_sum(s, t, alpha, eps).item() == pytest.approx(expected, rel=1e-12)


def standardised(column):
    mean = sum(column) / len(column)
    std = math.sqrt(sum((v - mean) ** 2 for v in column) / (len(column) - 1))
    return [(v - mean) / std for v in column]


def test_itrd_correlation_is_a_loop_over_columns():
    s, t = sides()
    total = 0.0
    for x, y in zip(s.T.tolist(), t.T.tolist(), strict=True):
        c = sum(a * b for a, b in zip(standardised(x), standardised(y), strict=True)) / 6
        total += ((c - 1) ** 2) ** 1.01
    assert itrd_correlation(s, t).item() == pytest.approx(math.log2(total), rel=1e-12)
    assert itrd_correlation(t, t).item() == pytest.approx(math.log2(4 * ((1 / 6) ** 2) ** 1.01), rel=1e-10)


@pytest.mark.parametrize("shape", [(6, 4), (6, 4, 2, 2)])
def test_normalised_l2_is_a_loop_over_rows_and_positions(shape):
    s, t = draw(*shape, seed=2), draw(*shape, seed=3)
    vectors_s, vectors_t = (x.movedim(1, -1).reshape(-1, 4).tolist() for x in (s, t))
    total = 0.0
    for a, b in zip(vectors_s, vectors_t, strict=True):
        length_a, length_b = (math.sqrt(sum(v * v for v in x)) for x in (a, b))
        total += sum((x / length_a - y / length_b) ** 2 for x, y in zip(a, b, strict=True))
    assert normalised_l2(s, t).item() == pytest.approx(total / s.numel(), rel=1e-12)


@pytest.mark.parametrize("name", LOSSES)
def test_gradient_is_right_and_stops_at_the_teacher(name):
    s, t = draw(5, 3, seed=4, grad=True), draw(5, 3, seed=5, grad=True)
    assert gradcheck(lambda x: LOSSES[name](x, t.detach()), (s,))
    LOSSES[name](s, t).backward()
    assert t.grad is None


@pytest.mark.parametrize("loss", [projector_kd, projector_kd_correlation])
def test_projector_is_trained(loss):
    s, t, w, b = draw(5, 3, seed=6, grad=True), draw(5, 4, seed=7), draw(4, 3, seed=8, grad=True), draw(4, seed=9)
    assert gradcheck(lambda x, y: loss(x, t, y, b), (s, w))


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("case", ["match", "zero rows", "constant columns", "constant off zero"])
def test_awkward_points_are_finite(name, dtype, case):
    t = draw(6, 4, seed=10, dtype=dtype)
    s = t.clone() if case == "match" else draw(6, 4, seed=11, dtype=dtype)
    if case == "zero rows":
        s[:2] = 0
    elif case.startswith("constant"):
        s[:, 0], t[:, 1] = (0.0, 0.0) if case == "constant columns" else (0.3, 1e4)
    finite_gradient(lambda x: LOSSES[name](x, t), s)
    finite_gradient(lambda x: LOSSES[name](NORMALISATIONS["bn-exact"](x), NORMALISATIONS["bn-exact"](t)), s)


def test_a_perfect_match_is_finite_and_still():
    t = draw(6, 4, seed=12)
    assert log_sum(t, t).item() == pytest.approx(math.log(torch.finfo(torch.float64).tiny))
    assert finite_gradient(lambda x: log_sum(x, t), t).abs().max() == 0


def test_published_constants_are_the_defaults():
    s, t = sides()
    normed = NORMALISATIONS["bn-exact"](t)
    assert correlation_log_sum(normed, normed).item() == pytest.approx(math.log(1e-5), rel=1e-10)
    assert correlation_log_sum(s, t).item() == correlation_log_sum(s, t, 4.0, 1e-5).item()
    assert log_sum(s, t).item() == log_sum(s, t, 4.0).item()
    assert itrd_correlation(s, t).item() == itrd_correlation(s, t, 1.01).item()


def test_normalisations_are_the_ones_named():
    x = draw(6, 4, seed=13)
    assert torch.allclose(NORMALISATIONS["bn-exact"](x).var(0, unbiased=False), torch.ones(4).double())
    assert torch.allclose(NORMALISATIONS["l2"](x).square().sum(1), torch.ones(6).double())
    assert torch.allclose(NORMALISATIONS["gn"](x).mean(1), torch.zeros(6).double(), atol=1e-12)
    assert NORMALISATIONS["none"](x) is x


def test_projectors():
    with torch.random.fork_rng():
        assert linear_projector(3, 5).bias.shape == (5,)
        assert mlp_projector(8, 5)[0].out_features == 4
        assert mlp_projector(8, 5, 7)(torch.zeros(2, 8)).shape == (2, 5)


@pytest.mark.parametrize("name", ["correlation_log_sum", "itrd_correlation"])
def test_a_single_row_has_no_correlations(name):
    with pytest.raises(ConfigError, match="compares the rows of a batch and this one has 1"):
        LOSSES[name](torch.zeros(1, 4), torch.zeros(1, 4))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: log_sum(torch.zeros(2, 3), torch.zeros(2, 4)), "project the student first"),
        (lambda: log_sum(torch.zeros(2, 3), torch.zeros(2, 3), 0.5), "alpha is 0.5; it must be 1 or more"),
        (lambda: projector_kd(torch.zeros(2, 3, 2, 2), torch.zeros(2, 4), torch.zeros(4, 3), None), "pool maps first"),
        (
            lambda: projector_kd(torch.ones(1, 3), torch.ones(1, 4), torch.ones(4, 3), None),
            "batch normalisation compares",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(call, message):
    with pytest.raises(ConfigError, match=message):
        call()
