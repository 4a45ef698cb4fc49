"""SimCLR's shared part: pairs of views, the update, the loop. Legend: B images, V = 2B views, P projection dims."""

import os
import signal
from collections.abc import Iterator

import pytest
import torch
from torch import nn

from tcs.augmentation.apply import apply
from tcs.augmentation.draws import draw
from tcs.errors import DivergedError
from tcs.runtime import seed_for
from tcs.simclr import PAIR_VIEWS, PairLearner, PairTask, run_steps, view_pairs

TASK = PairTask(name="net", seed=3, temperature=0.5)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random_images(count: int, side: int = 8) -> torch.Tensor:
    return torch.randint(0, 256, (count, 3, side, side), generator=generator(1), dtype=torch.uint8)


def test_the_first_views_of_all_images_come_before_the_second() -> None:
    images_B3SS = random_images(5)
    shown = view_pairs(images_B3SS, PAIR_VIEWS, 6, generator(3))
    assert (shown.shape, shown.dtype) == ((10, 3, 6, 6), torch.uint8)
    draws = draw(PAIR_VIEWS, 6, 10, generator(3))
    for place in range(10):
        alone = apply(images_B3SS[place % 5][None], draws.rows(slice(place, place + 1)), 6)
        assert torch.equal(shown[place], alone[0]), place


def test_views_depend_on_the_given_generator_alone_and_differ() -> None:
    images_B3SS = random_images(4)
    torch.manual_seed(5)
    expected = torch.rand(2)
    torch.manual_seed(5)
    shown = view_pairs(images_B3SS, PAIR_VIEWS, 8, generator(1))
    assert torch.equal(torch.rand(2), expected)
    assert torch.equal(shown, view_pairs(images_B3SS, PAIR_VIEWS, 8, generator(1)))
    assert not torch.equal(shown, view_pairs(images_B3SS, PAIR_VIEWS, 8, generator(2)))
    assert not torch.equal(shown[:4], shown[4:])


def test_views_are_drawn_as_published() -> None:
    draws = draw(PAIR_VIEWS, 32, 4000, generator())
    assert draws.boxes_B4 is not None
    assert draws.colours_B4 is not None
    assert draws.hflips_B is not None
    assert draws.greys_B is not None
    height_B, width_B = draws.boxes_B4[:, 2], draws.boxes_B4[:, 3]
    area_B, ratio_B = height_B * width_B, width_B / height_B
    assert 0.08 - 1e-6 <= area_B.min() < 0.1
    assert 0.9 < area_B.max() <= 1
    assert 0.75 - 1e-5 <= ratio_B.min() < 0.76
    assert 1.32 < ratio_B.max() <= 4 / 3 + 1e-5
    factors_B3, hue_B = draws.colours_B4[:, :3], draws.colours_B4[:, 3]
    assert 0.6 <= factors_B3.min() < 0.61
    assert 1.39 < factors_B3.max() <= 1.4
    assert 0.099 < hue_B.abs().max() <= 0.1
    assert (hue_B != 0).float().mean().item() == pytest.approx(0.8, abs=0.03)
    assert draws.greys_B.float().mean().item() == pytest.approx(0.2, abs=0.03)
    assert draws.hflips_B.float().mean().item() == pytest.approx(0.5, abs=0.03)


def reference_loss(projected_VP: torch.Tensor, temperature: float) -> torch.Tensor:
    """Equation 1 of the paper, pair by pair."""
    views, half = [row / row.norm() for row in projected_VP], len(projected_VP) // 2
    terms = []
    for i, view in enumerate(views):
        others = [torch.exp(view @ other / temperature) for k, other in enumerate(views) if k != i]
        terms.append(-torch.log(torch.exp(view @ views[(i + half) % len(views)] / temperature) / sum(others)))
    return torch.stack(terms).mean()


@pytest.mark.parametrize("clip_grad", [None, 0.01])
def test_a_step_is_plain_gradient_descent_on_the_papers_loss(clip_grad: float | None) -> None:
    torch.manual_seed(0)
    net, rates = nn.Linear(12, 4).double(), []
    plain = nn.Linear(12, 4).double()
    plain.load_state_dict(net.state_dict())
    views_V3HW = torch.randn(8, 3, 2, 2, generator=generator(2)).double()
    optimiser = torch.optim.SGD(net.parameters(), lr=0.1)
    task = PairTask(name="net", seed=3, temperature=0.5, clip_grad=clip_grad)
    learner = PairLearner(lambda views: net(views.flatten(1)), optimiser, rates.append, task, torch.device("cpu"))
    for _ in range(2):
        loss, match = learner.train_step(views_V3HW)
        expected = reference_loss(plain(views_V3HW.flatten(1)), 0.5)
        grads = torch.autograd.grad(expected, list(plain.parameters()))
        norm = float(torch.cat([grad.flatten() for grad in grads]).norm())
        scale = 1.0 if clip_grad is None else min(1.0, clip_grad / norm)
        with torch.no_grad():
            for parameter, grad in zip(plain.parameters(), grads, strict=True):
                parameter -= 0.1 * scale * grad
        assert loss == pytest.approx(expected.item(), abs=1e-5)  # the loss is computed in float32
        assert 0 <= match <= 1
        for one, other in zip(net.parameters(), plain.parameters(), strict=True):
            torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)
    assert (rates, learner.step) == ([0, 1], 2)


def test_what_the_network_draws_is_a_function_of_name_seed_and_step() -> None:
    drawn: list[float] = []

    def project(views_V3HW: torch.Tensor) -> torch.Tensor:
        drawn.append(torch.rand(()).item())
        return views_V3HW.flatten(1)

    weight = nn.Parameter(torch.ones(()))
    optimiser = torch.optim.SGD([weight], lr=0.1)
    views_V3HW = random_images(4).float()
    for task, step in ((TASK, 0), (TASK, 7), (PairTask(name="other", seed=3, temperature=0.5), 0)):
        learner = PairLearner(lambda v: project(v) * weight, optimiser, lambda _: None, task, torch.device("cpu"))
        learner.step = step
        learner.train_step(views_V3HW)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed_for(3, f"forward {task.name}", step))
            assert drawn[-1] == torch.rand(()).item()
    assert len(set(drawn)) == 3


def test_a_loss_that_is_not_finite_stops_before_the_update() -> None:
    weight = nn.Parameter(torch.ones(()))
    optimiser = torch.optim.SGD([weight], lr=0.1)
    learner = PairLearner(lambda v: v.flatten(1) * weight, optimiser, lambda _: None, TASK, torch.device("cpu"))
    with pytest.raises(DivergedError, match="net: loss 'nt-xent' is nan at step 0; lower --lr and train again"):
        learner.train_step(torch.full((4, 3, 2, 2), torch.nan))
    assert (weight.item(), learner.step) == (1.0, 0)


class Bar:
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.told: list[object] = []

    def begin_at(self, done: int) -> None:
        self.told.append(f"from {done}")

    def advance(self, amount: int, note: str = "") -> None:
        self.told.append((amount, note))


def test_the_loop_saves_every_so_often_and_goes_on_from_where_it_was() -> None:
    bar, made, saved = Bar(), [4], []

    def steps() -> Iterator[tuple[float, float]]:
        while made[0] < 9:
            made[0] += 1
            yield 1.5, 0.25

    run_steps(steps(), 4, bar, lambda: saved.append(made[0]), 3)
    assert saved == [6, 9]
    assert bar.told == ["from 4", *[(1, "loss 1.500, pairs found 25%")] * 5]


@pytest.mark.parametrize(("number", "raised"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)])
def test_a_signal_ends_the_loop_after_the_step_with_its_state_saved(
    number: signal.Signals, raised: type[BaseException]
) -> None:
    made, saved = [], []

    def steps() -> Iterator[tuple[float, float]]:
        for step in range(10):
            if step == 2:
                os.kill(os.getpid(), number)
            made.append(step)
            yield 1.0, 0.0

    with pytest.raises(raised):
        run_steps(steps(), 0, Bar(), lambda: saved.append(len(made)), 100)
    assert (made, saved) == ([0, 1, 2], [3])
