"""SimCLR (Chen et al. 2020, arXiv 2002.05709): two views of every image, one update by NT-Xent, and the loop around it.

Teachers are pretrained by it (tcs.pretraining), and the reference student without a teacher (tcs.grid.same_pixels); who trains
what, on which images, is theirs. Everything random is a pure function of (seed, purpose, step), so a resumed run equals an
uninterrupted one.

Legend: B images of a step, V = 2B views, P projection dims, S image side in pixels.
"""

import dataclasses
import math
from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from tcs.augmentation.apply import apply
from tcs.augmentation.draws import draw
from tcs.config.augment import AugmentConfig
from tcs.errors import DivergedError
from tcs.functional.contrast import nt_xent
from tcs.runtime import ResumableBar, seed_for, stop_requests
from tcs.training.optimisation import own_randomness

# Appendix B.9, for small images: boxes of 8 to 100 % of the area, colours of strength 0.5 with probability 0.8, grey with 0.2,
# no blur. Their order of colour changes is fixed, not shuffled.
PAIR_VIEWS = AugmentConfig(
    scale=(0.08, 1.0),
    train_interpolation="bilinear",
    hflip=0.5,
    color_jitter=0.4,
    color_jitter_prob=0.8,
    grayscale_prob=0.2,
)


def view_pairs(images_B3SS: Tensor, views: AugmentConfig, size: int, generator: torch.Generator) -> Tensor:
    """uint8 (2B, 3, size, size) on the images' device: the first view of every image, then the second.

    images_B3SS uint8, square. Every view has draws of its own from a CPU generator, so that every device sees the same ones.
    """
    draws = draw(views, size, 2 * len(images_B3SS), generator)
    return apply(images_B3SS.repeat(2, 1, 1, 1), draws, size)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PairTask:
    """What a step depends on beside images and weights. `name` is that of the network, for its seeds and for messages."""

    name: str
    seed: int
    temperature: float
    clip_grad: float | None = None
    amp: bool = False


class PairLearner:
    """The step of networks that learn which views show the same image, and how many were made.

    `project` maps normalised views (V, 3, H, W) to float (V, P); `set_rate` sets the learning rate of a step.
    """

    def __init__(
        self,
        project: Callable[[Tensor], Tensor],
        optimiser: torch.optim.Optimizer,
        set_rate: Callable[[int], object],
        task: PairTask,
        device: torch.device,
    ) -> None:
        self.task, self.optimiser, self.step = task, optimiser, 0
        self._project, self._set_rate, self._device = project, set_rate, device

    def train_step(self, views_V3HW: Tensor) -> tuple[float, float]:
        """One update; the loss, and the share of views that find their pair.

        views_V3HW are normalised: the first view of every image, then the second. DivergedError, before the update, for a loss
        that is not finite.
        """
        task = self.task
        self._set_rate(self.step)
        with (
            own_randomness(seed_for(task.seed, f"forward {task.name}", self.step), self._device),
            torch.autocast(self._device.type, torch.bfloat16, enabled=task.amp),
        ):
            first_BP, second_BP = self._project(views_V3HW).chunk(2)
        loss, match = nt_xent(first_BP, second_BP, task.temperature)
        if not math.isfinite(loss.item()):
            raise DivergedError(
                f"{task.name}: loss 'nt-xent' is {loss.item()} at step {self.step}; lower --lr and train again."
            )
        self._move(loss)
        self.step += 1
        return loss.item(), match.item()

    def _move(self, loss: Tensor) -> None:
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        if self.task.clip_grad:
            parameters = [parameter for group in self.optimiser.param_groups for parameter in group["params"]]
            torch.nn.utils.clip_grad_norm_(parameters, self.task.clip_grad)
        self.optimiser.step()


def run_steps(
    steps: Iterable[tuple[float, float]], first: int, bar: ResumableBar, save: Callable[[], None], every: int
) -> None:
    """Go through `steps`, each of which is made when it is asked for and gives its loss and the share of pairs found.

    `first` of them were made by earlier processes. `save` is called every `every` steps, and before leaving on Ctrl-C or
    SIGTERM.
    """
    bar.begin_at(first)
    with stop_requests() as stop:
        for made, (loss, match) in enumerate(steps, first + 1):
            bar.advance(1, f"loss {loss:.3f}, pairs found {match:.0%}")
            if made % every == 0 or stop.requested:
                save()
            if stop.requested:
                stop.leave()
