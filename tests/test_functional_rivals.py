"""DHO, CustomKD and CSD against their formulas in numpy, a row at a time. Legend: B, U rows, C classes, S, T dims."""

import numpy as np
import pytest
import torch
from published import draw
from torch.autograd import gradcheck

from tcs.errors import ConfigError
from tcs.functional import (
    csd,
    csd_cached,
    customisation,
    customkd,
    dho,
    draw_projection,
    fold_heads,
    mixed_logits,
    mixed_probabilities,
)

B, U, C, S, T, K = 4, 6, 3, 5, 7, 4
LABELS = torch.tensor([0, 2, 1, 2])


def softmax(row):
    exponents = np.exp(row - row.max())
    return exponents / exponents.sum()


def divergence(teacher, student, temperature):
    """Mean over rows of KL(teacher || student) at a temperature, times its square."""
    rows = zip(teacher.detach().numpy(), student.detach().numpy(), strict=True)
    values = []
    for row_t, row_s in rows:
        p, q = softmax(row_t / temperature), softmax(row_s / temperature)
        values.append(sum(a * np.log(a / b) for a, b in zip(p, q, strict=True)))
    return temperature**2 * np.mean(values)


def nll(logits, labels):
    rows = zip(logits.detach().numpy(), labels.tolist(), strict=True)
    return np.mean([-np.log(softmax(row)[label]) for row, label in rows])


def heads(grad=False):
    return [draw(rows, C, seed=seed, grad=grad) for seed, rows in enumerate((B, B, B, U, U))]


@pytest.mark.parametrize(("balance", "temperature"), [(0.5, 2.0), (0.8, 1.0)])
def test_dho_is_cross_entropy_of_one_head_and_kd_of_the_other_on_all_rows(balance, temperature):
    logits, distilled, teacher, distilled_u, teacher_u = heads()
    found = dho(logits, LABELS, distilled, teacher, distilled_u, teacher_u, balance, temperature)
    labelled, pool = divergence(teacher, distilled, temperature), divergence(teacher_u, distilled_u, temperature)
    expected = balance * nll(logits, LABELS) + (1 - balance) * (labelled + pool)
    assert found.item() == pytest.approx(expected, rel=1e-12)
    alone = dho(logits, LABELS, distilled, teacher, balance=balance, temperature=temperature)
    assert alone.item() == pytest.approx(balance * nll(logits, LABELS) + (1 - balance) * labelled, rel=1e-12)


def test_dho_trains_each_head_by_its_own_part_and_never_the_teacher():
    logits, distilled, teacher, distilled_u, teacher_u = heads(grad=True)
    loss = dho(logits, LABELS, distilled, teacher, distilled_u, teacher_u)
    loss.backward()
    assert all(bool(x.grad.any()) for x in (logits, distilled, distilled_u))
    assert teacher.grad is None
    assert teacher_u.grad is None
    (first,) = torch.autograd.grad(torch.nn.functional.cross_entropy(logits, LABELS), logits)
    assert torch.allclose(logits.grad, first / 2)
    fixed = [x.detach() for x in (teacher, teacher_u)]
    assert gradcheck(lambda a, b, c: dho(a, LABELS, b, fixed[0], c, fixed[1]), (logits, distilled, distilled_u))


@pytest.mark.parametrize(("alpha", "temperature"), [(0.5, 1.0), (0.2, 1.5), (0.0, 2.0), (1.0, 2.0)])
def test_two_heads_whose_logits_are_mixed_fold_into_one(alpha, temperature):
    f, weights = draw(B, S, seed=1), [draw(C, S, seed=2), draw(C, seed=3), draw(C, S, seed=4), draw(C, seed=5)]
    first, second = f @ weights[0].T + weights[1], f @ weights[2].T + weights[3]
    weight, bias = fold_heads(*weights, alpha=alpha, temperature=temperature)
    expected = mixed_logits(first, second, alpha, temperature)
    assert torch.allclose(f @ weight.T + bias, expected, rtol=1e-12)
    assert torch.allclose(expected, alpha * first + (1 - alpha) * second / temperature, rtol=1e-12)
    mixed = mixed_probabilities(first, second, alpha, temperature)
    for row, a, b in zip(mixed.numpy(), first.numpy(), second.numpy(), strict=True):
        assert row == pytest.approx(alpha * softmax(a) + (1 - alpha) * softmax(b / temperature), rel=1e-12)
    assert weight.shape == (C, S)
    assert bias.shape == (C,)


def test_mixed_softmaxes_are_no_linear_head():
    """Logits of a linear head add up where features do; the logarithm of the published mix does not."""
    first, second = draw(2, C, seed=1) * 3, draw(2, C, seed=2) * 3

    def centred(x):
        return x - x.mean(1, keepdim=True)

    logs = centred(mixed_probabilities(first, second).log())
    of_the_sum = centred(mixed_probabilities(first.sum(0, keepdim=True), second.sum(0, keepdim=True)).log())
    assert (logs.sum(0) - of_the_sum[0]).abs().max() > 0.1


def test_customisation_trains_the_map_through_the_head_of_the_student():
    f_t, head, head_bias = draw(B, T, seed=0, grad=True), draw(C, S, seed=1, grad=True), draw(C, seed=2, grad=True)
    weight, bias = draw(S, T, seed=3, grad=True), draw(S, seed=4, grad=True)
    loss = customisation(f_t, LABELS, weight, bias, head, head_bias)
    logits = (f_t @ weight.T + bias) @ head.T + head_bias
    assert loss.item() == pytest.approx(nll(logits, LABELS), rel=1e-12)
    loss.backward()
    assert (f_t.grad, head.grad, head_bias.grad) == (None, None, None)
    assert gradcheck(lambda w, b: customisation(f_t, LABELS, w, b, head, head_bias), (weight, bias))


@pytest.mark.parametrize(("general", "specific"), [(1.0, 1.0), (0.5, 2.0)])
def test_customkd_mimics_both_targets_and_trains_the_student_alone(general, specific):
    f_s, f_t = draw(B, S, seed=0, grad=True), draw(B, T, seed=1, grad=True)
    weight, bias = draw(S, T, seed=3, grad=True), draw(S, seed=4, grad=True)
    up, up_bias = draw(T, S, seed=5, grad=True), draw(T, seed=6, grad=True)
    loss = customkd(f_s, f_t, weight, bias, up, up_bias, general, specific)
    rows = [x.detach().numpy() for x in (f_s, f_t, weight, bias, up, up_bias)]
    total = 0.0
    for s, t in zip(rows[0], rows[1], strict=True):
        total += general * np.mean((rows[4] @ s + rows[5] - t) ** 2) / B
        total += specific * np.mean((s - rows[2] @ t - rows[3]) ** 2) / B
    assert loss.item() == pytest.approx(total, rel=1e-12)
    loss.backward()
    assert (f_t.grad, weight.grad, bias.grad) == (None, None, None)
    assert all(bool(x.grad.any()) for x in (f_s, up, up_bias))


def test_csd_is_the_cosine_of_two_fingerprints():
    f_s, f_t, p_s, p_t = draw(B, S, seed=0, grad=True), draw(B, T, seed=1), draw(S, K, seed=2), draw(T, K, seed=3)
    cosines = []
    for s, t in zip(f_s.detach().numpy(), f_t.numpy(), strict=True):
        a, b = s @ p_s.numpy(), t @ p_t.numpy()
        cosines.append(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))
    loss = csd(f_s, f_t, p_s, p_t)
    assert loss.item() == pytest.approx(1 - np.mean(cosines), rel=1e-12)
    assert csd_cached(f_s, f_t @ p_t, p_s).item() == loss.item()
    assert gradcheck(lambda x: csd(x, f_t, p_s, p_t), f_s)
    p_s.requires_grad_()
    csd(f_s, f_t, p_s, p_t).backward()
    assert p_s.grad is None


def test_a_projection_keeps_lengths_on_average_and_is_a_function_of_its_seed():
    projection = draw_projection(300, 200, seed=1)
    rows = torch.randn(40, 300, generator=torch.Generator().manual_seed(2))
    ratio = (rows @ projection).square().sum(1) / rows.square().sum(1)
    assert ratio.mean().item() == pytest.approx(1, abs=0.05)
    assert torch.equal(projection, draw_projection(300, 200, seed=1))
    assert not torch.equal(projection, draw_projection(300, 200, seed=2))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda h: dho(h[0], LABELS, h[1], h[2], h[3]), "dho has unlabelled rows of one side alone; give distilled_UC"),
        (lambda h: dho(h[0], LABELS, h[1], h[2], balance=1.5), "balance is 1.5; it is the share of the first head"),
        (lambda h: dho(h[0], LABELS, h[1], h[2], temperature=0.0), "temperature of kd is 0.0; it must be a positive"),
        (lambda h: dho(h[0], LABELS + 1, h[1], h[2]), "dho has the label 3 with 3 classes"),
        (
            lambda h: dho(h[0], LABELS, h[1][:, :2], h[2]),
            r"distilled_BC of shape \(4, 2\); it must be \(B, C\) with B = 4",
        ),
        (lambda h: mixed_logits(h[0], h[3]), r"the mix of two heads has distilled_BC of shape \(6, 3\)"),
        (lambda h: mixed_logits(h[0], h[1], alpha=-0.1), "alpha is -0.1"),
        (
            lambda h: mixed_probabilities(h[0], h[1], temperature=-1),
            "temperature of the mix is -1; it must be a positive",
        ),
        (lambda h: fold_heads(h[0], h[0][0], h[1], h[1][0]), r"fold_heads has bias_C of shape \(3,\); .*C = 4"),
        (
            lambda h: customisation(draw(4, 7, seed=1), LABELS, draw(5, 7, seed=1), draw(5, seed=1), h[0], h[0][0]),
            r"customisation has head_CS of shape \(4, 3\); it must be \(C, S\) with S = 5 as in map_ST",
        ),
        (
            lambda h: customkd(draw(4, 5, seed=1), draw(4, 7, seed=1), draw(5, 6, seed=1), draw(5, seed=1)),
            r"customkd has map_ST of shape \(5, 6\); it must be \(S, T\) with T = 7 as in f_t_BT",
        ),
        (lambda h: csd(h[0], h[3], h[1], h[1]), r"csd has f_t_BT of shape \(6, 3\); it must be \(B, T\) with B = 4"),
        (lambda h: draw_projection(0, 3), "A projection of 0 to 3 dims is asked for; both must be 1 or more"),
    ],
)
def test_what_makes_no_sense_is_refused(call, message):
    with pytest.raises(ConfigError, match=message):
        call(heads())
