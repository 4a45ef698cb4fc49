"""Losses that remember or train much, stepped as functions and as the criteria of `tcs train`: the same numbers, step after step.

Legend: as in `expressions`.
"""

import dataclasses
from collections.abc import Callable

import pytest
import torch
from built_losses import make_criterion
from expressions import B, D, N, S, draws, make_rows, make_setting
from torch import Tensor

from tcs.criteria.base import Criterion, StepRows
from tcs.functional import (
    CrdState,
    FusionWeights,
    ReviewFusion,
    crd_embedded,
    crd_step,
    draw_index,
    queue_step,
    reviewkd,
    start_bank,
    start_crd,
    start_fusion,
    start_queue,
    update_bank,
)

Steps = list[tuple[float, list[Tensor]]]


def trained(weights: list[Tensor], loss_of: Callable[[StepRows], Tensor]) -> Steps:
    """The loss, and the weights after the step, of four steps of SGD on rows of the run."""
    optimiser = torch.optim.SGD(weights, lr=0.05, momentum=0.9)
    steps = []
    for seed in range(4):
        optimiser.zero_grad()
        loss = loss_of(make_rows(make_setting(), seed))
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        steps.append((loss.item(), [weight.detach().clone() for weight in weights]))
    return steps


def copies(criterion: Criterion) -> list[Tensor]:
    return [parameter.detach().clone().requires_grad_() for parameter in criterion.parameters()]


def same(found: Steps, expected: Steps) -> None:
    assert len({loss for loss, _ in expected}) == 4
    for (loss_a, weights_a), (loss_b, weights_b) in zip(found, expected, strict=True):
        assert loss_a == pytest.approx(loss_b, rel=1e-12)
        assert all(torch.allclose(a, b, rtol=1e-10, atol=1e-13) for a, b in zip(weights_a, weights_b, strict=True))


def test_crd_as_a_function_goes_with_the_criterion_step_by_step() -> None:
    criterion = make_criterion("crd", make_setting())
    weights, buffers = copies(criterion), {name: b.clone() for name, b in criterion.named_buffers()}
    state = CrdState(bank_s_NE=buffers["bank_s_nE"], bank_t_NE=buffers["bank_t_nE"])
    generator = torch.Generator().manual_seed(11)

    def step(rows: StepRows) -> Tensor:
        nonlocal state
        index_BM = draw_index(
            rows.place_B, N, N - 1, generator
        )  # all other rows, in another order than the criterion's
        loss, state = crd_step(rows.features_BS, rows.teacher_BD, *weights, state, rows.place_B, index_BM)
        return loss

    same(trained(weights, step), trained(list(criterion.parameters()), criterion))
    after = dict(criterion.named_buffers())
    assert torch.allclose(state.bank_s_NE, after["bank_s_nE"], rtol=1e-11)
    assert torch.allclose(state.bank_t_NE, after["bank_t_nE"], rtol=1e-11)
    assert torch.allclose(torch.stack([state.z_s, state.z_t]), after["normalisers"], rtol=1e-11)


def test_a_crd_step_is_the_loss_and_two_updates_and_leaves_the_given_state() -> None:
    draw = draws(3)
    f_s, f_t, weights = draw(4, S), draw(4, D), [draw(6, S), draw(6), draw(6, D), draw(6)]
    state, rows = start_crd(9, 6, seed=5), torch.tensor([3, 0, 8, 1])
    given = dataclasses.asdict(state)
    index = torch.tensor([[3, 1, 2], [0, 5, 6], [8, 7, 2], [1, 4, 4]])
    loss, after = crd_step(f_s, f_t, *weights, state, rows, index)
    assert loss.item() == crd_embedded(f_s, f_t, *weights, state.bank_s_NE, state.bank_t_NE, index).item()
    for side, f, weight, bias in (("s", f_s, *weights[:2]), ("t", f_t, *weights[2:])):
        e = f @ weight.T + bias
        bank = f"bank_{side}_NE"
        expected = update_bank(getattr(state, bank), e / e.norm(dim=1, keepdim=True), rows)
        assert torch.allclose(getattr(after, bank), expected, rtol=1e-6)
        assert torch.equal(getattr(state, bank), given[bank])
    again, last = crd_step(f_s, f_t, *weights, after, rows, index)
    assert (last.z_s, last.z_t) == (after.z_s, after.z_t)
    assert (
        again.item()
        == crd_embedded(f_s, f_t, *weights, after.bank_s_NE, after.bank_t_NE, index, after.z_s, after.z_t).item()
    )


def test_the_state_of_crd_starts_from_two_banks_of_a_seed() -> None:
    state = start_crd(9, 6, seed=5)
    assert torch.equal(state.bank_s_NE, start_bank(9, 6, seed=5))
    assert torch.equal(state.bank_t_NE, start_bank(9, 6, seed=6))
    assert (state.z_s, state.z_t) == (None, None)


def test_the_queue_as_a_function_goes_with_the_criterion_step_by_step() -> None:
    criterion = make_criterion("queue-kl", make_setting())
    weights, queue = copies(criterion), start_queue(20, D)
    queue = dataclasses.replace(queue, rows_QT=queue.rows_QT.double())

    def step(rows: StepRows) -> Tensor:
        nonlocal queue
        adaptor = {"adaptor_TS": weights[0], "adaptor_bias_T": weights[1]}
        loss, queue = queue_step(rows.features_BS, rows.teacher_BD, queue, **adaptor)
        return loss

    same(trained(weights, step), trained(list(criterion.parameters()), criterion))
    assert queue.filled == 20
    assert torch.equal(queue.rows_QT, dict(criterion.named_buffers())["queue_QD"])


def test_reviewkd_as_a_function_goes_with_the_criterion_step_by_step() -> None:
    criterion = make_criterion("review", make_setting())
    fusion = criterion.fusion
    assert isinstance(fusion, ReviewFusion)
    levels = tuple(
        FusionWeights(**{k: None if v is None else v.detach().clone().requires_grad_() for k, v in vars(level).items()})
        for level in fusion.weights()
    )

    def step(rows: StepRows) -> Tensor:
        return reviewkd([*rows.student_maps, rows.features_BS], [*rows.teacher_maps, rows.teacher_BD], levels)

    mine = [tensor for level in levels for tensor in level.trained()]
    theirs = [tensor for level in fusion.weights() for tensor in level.trained()]
    assert {id(tensor) for tensor in theirs} == {id(parameter) for parameter in criterion.parameters()}
    same(trained(mine, step), trained(theirs, criterion))


def test_reviewkd_starts_as_its_module_and_leaves_the_global_generator_alone() -> None:
    before = torch.random.get_rng_state()
    first, again, other = (start_fusion([3, 4], [5, 6], seed=seed) for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), before)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        module = ReviewFusion([3, 4], [5, 6])
    for one, two, owned in zip(first, again, module.weights(), strict=True):
        for a, b, c in zip(one.trained(), two.trained(), owned.trained(), strict=True):
            assert a.requires_grad
            assert a.is_leaf
            assert torch.equal(a, b)
            assert torch.equal(a, c)
    assert not torch.equal(first[0].reduce_MS, other[0].reduce_MS)
    assert [len(level.trained()) for level in first] == [8, 6]  # the deepest has no gates
    maps = [torch.ones(B, 3, 4, 4), torch.ones(B, 4)], [torch.ones(B, 5, 4, 4), torch.ones(B, 6)]
    assert reviewkd(*maps, module).item() == reviewkd(*maps, first).item()
