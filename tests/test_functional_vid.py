"""VID against a loop over entries. Legend: B rows, T channels."""

import math

import pytest
import torch
from published import draw, finite_gradient
from torch.autograd import gradcheck

from tcs.errors import ConfigError
from tcs.functional.regressors import VidRegressor
from tcs.functional.vid import start_log_scale, variances, vid


@pytest.mark.parametrize("shape", [(4, 3), (4, 3, 2, 2)])
def test_vid_is_a_loop_over_entries(shape):
    mu, t, scale = draw(*shape, seed=0), draw(*shape, seed=1), draw(3, seed=2)
    total = 0.0
    for c in range(3):
        v = math.log(1 + math.exp(float(scale[c]))) + 1e-5
        pairs = zip(mu[:, c].flatten().tolist(), t[:, c].flatten().tolist(), strict=True)
        total += sum(0.5 * ((a - b) ** 2 / v + math.log(v)) for a, b in pairs)
    assert vid(mu, t, scale).item() == pytest.approx(total / mu.numel(), rel=1e-12)


def test_published_start_is_a_variance_of_five():
    scale = start_log_scale(4, dtype=torch.float64)
    assert scale.tolist() == pytest.approx([math.log(math.exp(5 - 1e-5) - 1)] * 4, rel=1e-14)
    assert variances(scale).tolist() == pytest.approx([5.0] * 4, rel=1e-14)


def test_a_larger_teacher_map_is_pooled():
    mu, t, scale = draw(2, 3, 2, 2, seed=3), draw(2, 3, 4, 4, seed=4), draw(3, seed=5)
    small = t.reshape(2, 3, 2, 2, 2, 2).mean((3, 5))
    assert vid(mu, t, scale).item() == pytest.approx(vid(mu, small, scale).item(), rel=1e-14)


def test_a_larger_student_map_is_pooled_before_its_regressor():
    regressor = VidRegressor(2, 3).double()
    f_s, t, scale = draw(2, 2, 4, 4, seed=6), draw(2, 3, 2, 2, seed=7), draw(3, seed=8)
    small = f_s.reshape(2, 2, 2, 2, 2, 2).mean((3, 5))
    expected = vid(regressor(small), t, scale)
    assert vid(regressor(f_s, (2, 2)), t, scale).item() == pytest.approx(expected.item(), rel=1e-14)
    with pytest.raises(ConfigError, match=r"regressed map of \(4, 4\) for the teacher's \(2, 2\); pool the student"):
        vid(regressor(f_s), t, scale)


def test_gradients_are_right_and_the_log_scale_is_trained():
    mu, t, scale = draw(3, 2, 2, 2, seed=9, grad=True), draw(3, 2, 2, 2, seed=10), draw(2, seed=11, grad=True)
    assert gradcheck(lambda m, s: vid(m, t, s), (mu, scale))
    teacher = t.clone().requires_grad_()
    vid(mu, teacher, scale).backward()
    assert teacher.grad is None
    assert scale.grad is not None


@pytest.mark.parametrize("log_scale", [-100.0, 100.0])
def test_extreme_log_scales_are_finite(log_scale):
    mu, t = draw(3, 2, seed=12, dtype=torch.float32), draw(3, 2, seed=13, dtype=torch.float32)
    finite_gradient(lambda s: vid(mu, t, s), torch.full((2,), log_scale))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: vid(torch.zeros(2, 3), torch.zeros(2, 4), torch.zeros(3)), "regress the student"),
        (lambda: vid(torch.zeros(2, 3), torch.zeros(1, 3), torch.zeros(3)), "2 student and 1 teacher rows"),
        (lambda: vid(torch.zeros(2, 3), torch.zeros(2, 3), torch.zeros(1)), "1 log-scales for 3 channels"),
        (lambda: start_log_scale(3, 1e-6), "starts with is 1e-06; it must be above 1e-05"),
    ],
)
def test_what_makes_no_sense_is_refused(call, message):
    with pytest.raises(ConfigError, match=message):
        call()
