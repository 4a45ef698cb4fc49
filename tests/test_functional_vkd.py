"""V_kD's losses against the authors' numbers and loops. Legend: B rows, N tokens, S and T dims."""

import pytest
import torch
from published import check_parity, compare, draw, finite_gradient, published, tensor
from torch.autograd import gradcheck

from tcs.errors import ConfigError
from tcs.functional.logits import kd
from tcs.functional.norms import layer_norm
from tcs.functional.orthogonal import expm, expm0
from tcs.functional.vkd import map_mean, patch_mean, vkd, vkd_given_target, vkd_standardised, vkd_whitened
from tcs.functional.whitening import fit_whitening, whiten


@pytest.mark.parametrize("name", ["hh", "expm", "expm0"])
def test_discriminative_loss_with_a_given_weight_has_the_published_numbers(name):
    check_parity(
        published("vkd"),
        lambda s, t, w: vkd(patch_mean(s), map_mean(t), w),
        ["z_s_tokens", "z_t_map", f"{name}_W"],
        f"{name}_loss",
        {"z_s_tokens": f"{name}_grad_z_s_tokens"},
    )


@pytest.mark.parametrize(("name", "inputs"), [("expm", ["expm_raw", "expm_base"]), ("expm0", ["expm0_raw"])])
def test_gradient_of_the_raw_parameter_has_the_published_numbers(name, inputs):
    check_parity(
        published("vkd"),
        lambda s, t, *raw: vkd(patch_mean(s), map_mean(t), (expm if len(raw) == 2 else expm0)(*raw)),
        ["z_s_tokens", "z_t_map", *inputs],
        f"{name}_loss",
        {"z_s_tokens": f"{name}_grad_z_s_tokens", f"{name}_raw": f"{name}_grad_raw"},
    )


def test_both_normalised_sides_have_the_published_numbers():
    arrays = published("vkd")
    s, t, w = (tensor(arrays[name], torch.float64) for name in ("z_s_tokens", "z_t_map", "expm_W"))
    compare(layer_norm(map_mean(t)), arrays["expm_z_t_norm"], 1e-9)
    compare(patch_mean(s) @ w.T, arrays["expm_z_s_proj"], 1e-9)


def test_detection_form_has_the_published_numbers():
    inputs = ["vidt_body_s", "vidt_body_t", "vidt_W", "vidt_scale", "vidt_bias"]
    check_parity(published("vkd"), vkd_standardised, inputs, "vidt_loss", {"vidt_body_s": "vidt_grad_body_s"})


def test_soft_label_term_has_the_published_numbers():
    gradients = {"logits_s": "kl_grad_logits_s"}
    check_parity(published("vkd"), lambda s, t: kd(s, t, 1.0), ["logits_s", "logits_t"], "kl_loss", gradients)


def smooth_l1(x):
    return 0.5 * x * x if abs(x) < 1 else abs(x) - 0.5


def mean_smooth_l1(a, b):
    pairs = zip(a.flatten().tolist(), b.flatten().tolist(), strict=True)
    return sum(smooth_l1(x - y) for x, y in pairs) / a.numel()


def test_losses_are_loops_over_entries():
    s, t, w = draw(5, 3, seed=0) * 2, draw(5, 4, seed=1) * 3 + 1, draw(4, 3, seed=2)
    projected = torch.tensor([[sum(float(a * b) for a, b in zip(row, col, strict=True)) for col in w] for row in s])
    projected = projected.double()
    normed = (t - t.mean(1, keepdim=True)) / (t.var(1, unbiased=False, keepdim=True) + 1e-5).sqrt()
    assert vkd(s, t, w).item() == pytest.approx(mean_smooth_l1(projected, normed), rel=1e-6)
    assert vkd_given_target(s, t, w).item() == pytest.approx(mean_smooth_l1(projected, t), rel=1e-6)
    scaled = [(x - x.mean(0)) / x.std(0) for x in (s @ w.T, t)]
    assert vkd_standardised(s, t, w).item() == pytest.approx(mean_smooth_l1(*scaled), rel=1e-12)


def test_scale_and_bias_cancel_in_the_standardised_form():
    s, t, w = draw(5, 3, seed=3), draw(5, 4, seed=4), draw(4, 3, seed=5)
    scale, bias = draw(4, seed=6).abs() + 0.1, draw(4, seed=7)
    assert vkd_standardised(s, t, w, scale, bias).item() == pytest.approx(vkd_standardised(s, t, w).item(), rel=1e-10)


def test_whitened_form_has_a_white_target():
    s, t, w = draw(50, 3, seed=8), draw(50, 4, seed=9) @ draw(4, 4, seed=10) + 2, draw(4, 3, seed=11)
    whitening = fit_whitening(t.mean(0), t.T.cov(correction=0))
    expected = mean_smooth_l1(s @ w.T, whiten(t, whitening))
    assert vkd_whitened(s, t, w, whitening).item() == pytest.approx(expected, rel=1e-10)


def test_prefix_tokens_are_left_out():
    tokens = draw(2, 5, 3, seed=12)
    assert torch.allclose(patch_mean(tokens, 2), (tokens[:, 2] + tokens[:, 3] + tokens[:, 4]) / 3)


@pytest.mark.parametrize("loss", [vkd, vkd_given_target, vkd_standardised])
def test_gradient_is_right_and_stops_at_the_teacher(loss):
    s, t, w = draw(5, 3, seed=13, grad=True), draw(5, 4, seed=14, grad=True), draw(4, 3, seed=15, grad=True)
    assert gradcheck(lambda x, y: loss(x, t.detach(), y), (s, w))
    loss(s, t, w).backward()
    assert t.grad is None


def test_constant_channels_are_finite():
    s, t, w = draw(6, 3, seed=16), draw(6, 4, seed=17), draw(4, 3, seed=18)
    t[:, 1], w[2] = 0.7, 0
    finite_gradient(lambda x: vkd_standardised(x, t, w), s)
    finite_gradient(lambda x: vkd(x, torch.ones_like(t), w), s)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: vkd(torch.zeros(2, 3), torch.zeros(2, 5), torch.zeros(4, 3)), "projector of the teacher's width"),
        (lambda: vkd_standardised(torch.zeros(4, 3), torch.zeros(2, 4), torch.zeros(4, 3)), "compares entry by entry"),
        (lambda: vkd_standardised(torch.zeros(1, 3), torch.zeros(1, 4), torch.zeros(4, 3)), "use 2 rows or more"),
        (lambda: patch_mean(torch.zeros(2, 3, 4), 3), "prefix_tokens is 3 of 3 tokens"),
    ],
)
def test_what_makes_no_sense_is_refused(call, message):
    with pytest.raises(ConfigError, match=message):
        call()
