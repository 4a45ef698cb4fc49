"""Gates: what is closed, when, and that they fold. K coordinates."""

import pytest
import torch

from tcs.students.backbone import parse_student
from tcs.students.student import LAST_SHARE, PERIODS, Gates, StudentPlan, build_student, kept_after, period_ending


def test_the_weakest_by_gate_times_gradient_are_closed_for_good():
    gates = Gates(4)
    for scale in (1.0, 2.0):  # importance adds up over steps
        gates.zero_grad()
        (gates(torch.ones(1, 4)) * torch.tensor([3.0, -1.0, 0.5, -2.0]) * scale).sum().backward()
        gates.observe()
    assert gates.importance_K.tolist() == pytest.approx([9.0, 3.0, 1.5, 6.0])
    gates.close_weakest(2)
    assert gates.open_K.tolist() == [1, 0, 0, 1]
    assert gates.importance_K.tolist() == [0, 0, 0, 0]
    gates.zero_grad()
    (gates(torch.ones(1, 4)) * torch.tensor([1.0, 100.0, 100.0, 5.0])).sum().backward()
    gates.observe()
    assert gates.importance_K.tolist() == [1, 0, 0, 5]  # a closed gate gets no gradient
    gates.close_weakest(1)
    assert gates.open_K.tolist() == [0, 0, 0, 1]


def test_each_period_closes_an_equal_share_and_the_last_leaves_what_was_asked_for():
    kept = [kept_after(period, 64, 8) for period in range(1, PERIODS + 1)]
    assert kept[-1] == 8
    assert kept == sorted(kept, reverse=True)
    assert all(
        after / before == pytest.approx(8 ** (-1 / PERIODS), abs=0.05)
        for before, after in zip([64, *kept[:-1]], kept, strict=True)
    )
    assert kept_after(3, 5, 5) == 5


def test_periods_end_within_the_first_part_of_the_phase():
    ends = {step: period for step in range(1, 401) if (period := period_ending(step, 100, 400)) is not None}
    assert list(ends.values()) == list(range(1, PERIODS + 1))
    assert max(ends) <= 100 + LAST_SHARE * 300
    assert len({b - a for a, b in zip(list(ends)[:-1], list(ends)[1:], strict=True)}) == 1


@pytest.mark.parametrize("steps", range(1, 30))
def test_a_short_phase_leaves_as_few_as_was_asked_for(steps):
    ends = [
        period for step in range(1, steps + 1) if (period := period_ending(100 + step, 100, 100 + steps)) is not None
    ]
    assert ends[-1] == PERIODS
    assert ends == sorted(set(ends))


def test_gates_fold_into_the_classifier():
    spec = parse_student("resnet18,layers=(1,1,1,1),channels=(4,4,8,8)")
    plan = StudentPlan(
        spec=spec, n_classes=3, components=6, reads_coordinates=True, image_size=32, pretrained=False, seed=0
    )
    student = build_student(plan).eval()
    student.add_gates()
    with torch.no_grad():
        student.gates.gate_K.copy_(torch.linspace(-1, 2, 6))
        student.gates.open_K[2] = 0
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    output = student(images)
    weight_CS, bias_C = student.folded_classifier()
    torch.testing.assert_close(output.features_BS @ weight_CS.T + bias_C, output.logits_BC, atol=1e-5, rtol=1e-5)
