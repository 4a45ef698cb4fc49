"""IbM2's head, loss, noise and search against loops. Legend: N support rows, R copies, C classes, D dims."""

import math

import pytest
import torch
from published import draw, finite_gradient
from torch.autograd import gradcheck

from tcs.errors import ConfigError
from tcs.functional.ibm2 import cosine_logits, ibm2, noisy_copies, perturb, search_epsilon, smoothed_loss, support_std

LABELS = torch.tensor([0, 2, 1, 2])


def test_cosine_logits_are_a_loop():
    x, v, g = draw(4, 5, seed=0), draw(3, 5, seed=1), draw(3, seed=2)
    logits = cosine_logits(x, v, g)
    for i in range(4):
        for c in range(3):
            dot = sum(float(a * b) for a, b in zip(x[i], v[c], strict=True))
            length_x, length_v = (math.sqrt(sum(float(a) ** 2 for a in row)) for row in (x[i], v[c]))
            expected = 10 * float(g[c]) * dot / ((length_x + 1e-5) * length_v)
            assert logits[i, c].item() == pytest.approx(expected, rel=1e-12)


def test_cosine_logits_are_a_weight_normed_layer():
    x, v, g = draw(4, 5, seed=3), draw(3, 5, seed=4), draw(3, seed=5)
    weight = torch._weight_norm(v, g[:, None], 0)
    expected = 10 * torch.nn.functional.linear(x / (x.norm(dim=1, keepdim=True) + 1e-5), weight)
    assert torch.allclose(cosine_logits(x, v, g), expected, rtol=1e-12)


@pytest.mark.parametrize("smoothing", [0.1, 0.0, 0.5])
def test_smoothed_loss_is_a_loop(smoothing):
    logits = draw(4, 3, seed=6)
    total = 0.0
    for row, label in zip(logits.tolist(), LABELS.tolist(), strict=True):
        logs = [z - math.log(sum(math.exp(w) for w in row)) for z in row]
        total += (1 - smoothing) * -logs[label] + smoothing * -sum(logs) / 3
    assert smoothed_loss(logits, LABELS, smoothing).item() == pytest.approx(total / 4, rel=1e-12)


def test_gradients_are_right():
    x, v, g = draw(4, 5, seed=7), draw(3, 5, seed=8, grad=True), draw(3, seed=9, grad=True)
    assert gradcheck(lambda a, b: smoothed_loss(cosine_logits(x, a, b), LABELS), (v, g))


def test_zero_rows_are_finite():
    x, v, g = draw(4, 5, seed=10), draw(3, 5, seed=11), draw(3, seed=12)
    v[1], x[0] = 0, 0
    finite_gradient(lambda a: smoothed_loss(cosine_logits(x, a, g), LABELS), v)
    finite_gradient(lambda a: smoothed_loss(cosine_logits(a, v, g), LABELS), x)


def test_std_is_unbiased_and_copies_stay_together():
    support, noise = draw(4, 3, seed=13), draw(4, 2, 3, seed=14)
    std = support_std(support)
    for d in range(3):
        column = support[:, d].tolist()
        mean = sum(column) / 4
        assert std[d].item() == pytest.approx(math.sqrt(sum((v - mean) ** 2 for v in column) / 3), rel=1e-12)
    copies = perturb(support, std, 0.7, noise)
    labels = LABELS.repeat_interleave(2)
    for n in range(4):
        for m in range(2):
            expected = [float(support[n, d] + 0.7 * std[d] * noise[n, m, d]) for d in range(3)]
            assert copies[2 * n + m].tolist() == pytest.approx(expected, rel=1e-12)
            assert labels[2 * n + m] == LABELS[n]


def test_the_loss_of_a_step_is_a_loop_over_copies():
    x, v, g, noise, std = (
        draw(4, 5, seed=7),
        draw(3, 5, seed=8),
        draw(3, seed=9),
        draw(4, 2, 5, seed=10),
        draw(5, seed=11),
    )
    total = 0.0
    for row in range(4):
        for copy in range(2):
            noisy = x[row] + 0.7 * std * noise[row, copy]
            total += smoothed_loss(cosine_logits(noisy[None], v, g), LABELS[row : row + 1]).item()
    assert ibm2(x, LABELS, v, g, 0.7, noise, std).item() == pytest.approx(total / 8, rel=1e-12)
    assert ibm2(x, LABELS, v, g, 0.7, noise).item() == ibm2(x, LABELS, v, g, 0.7, noise, x.std(0)).item()
    assert gradcheck(lambda a, b: ibm2(x, LABELS, a, b, 0.7, noise, std), (v.requires_grad_(), g.requires_grad_()))


def test_noise_has_the_spread_asked_for():
    support = draw(3, 4, seed=15, dtype=torch.float32)
    std = support_std(support)
    copies = noisy_copies(support, std, 2.0, torch.Generator().manual_seed(16), copies=4000).reshape(3, 4000, 4)
    assert copies.dtype == torch.float32
    assert torch.allclose(copies.mean(1), support, atol=0.15)
    assert torch.allclose(copies.std(1), (2 * std).expand(3, 4), rtol=0.05)
    assert torch.equal(noisy_copies(support, std, 0.0, torch.Generator())[::200], support)


def test_search_finds_where_the_accuracy_falls_in_eight_trainings():
    result = search_epsilon(lambda epsilon: 1.0 if epsilon < 3.3 else 0.2, clean_accuracy=1.0)
    assert result.threshold == 0.9
    assert len(result.tried) == 8
    assert result.tried[0][0] == 5.0
    assert abs(result.epsilon - 3.3) < 0.05
    low = max(e for e, accuracy in result.tried if accuracy == 1.0)
    high = min(e for e, accuracy in result.tried if accuracy == 0.2)
    assert result.epsilon == (low + high) / 2


def test_threshold_is_the_clean_accuracy_where_that_is_lower_and_a_tie_goes_down():
    result = search_epsilon(lambda epsilon: 0.6, clean_accuracy=0.6)
    assert result.threshold == 0.6
    assert result.epsilon < 0.05
    assert search_epsilon(lambda epsilon: 0.61, clean_accuracy=0.6).epsilon > 9.95


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: cosine_logits(torch.ones(2, 3), torch.ones(4, 2), torch.ones(4)),
            r"must be \(B, D\), \(C, D\) and \(C,\)",
        ),
        (lambda: smoothed_loss(torch.ones(2, 3), torch.tensor([0, 5])), "the label 5 with 3 classes"),
        (lambda: smoothed_loss(torch.ones(2, 3), torch.tensor([0, 1]), 1.0), "label smoothing is 1.0"),
        (lambda: support_std(torch.ones(1, 3)), "support has 1 rows"),
        (lambda: search_epsilon(lambda e: 0.5, 1.0, tolerance=0.0), "tolerance 0.0 and highest 10.0"),
        (lambda: search_epsilon(lambda e: 50.0, 1.0), "accuracy of the search is 50.0; give it as a share"),
        (lambda: search_epsilon(lambda e: 0.5, 99.0), "accuracy of the search is 99.0"),
    ],
)
def test_what_makes_no_sense_is_refused(call, message):
    with pytest.raises(ConfigError, match=message):
        call()
