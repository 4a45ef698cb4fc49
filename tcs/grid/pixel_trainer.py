"""SimCLR steps of one student on resident pixels: no label, no teacher, nothing of a cache. The loss is tcs.functional.contrast.

Everything random is a pure function of (seed, purpose, step), so a resumed run equals an uninterrupted one.

Legend: n rows of this run, B images of a step, V = 2B views, P projection dims, S student width, m rows asked for.
"""

import dataclasses
import math
import pathlib
import time
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tcs.checkpoint import RESUME, load_resume, save_resume
from tcs.errors import ArtefactError, DivergedError
from tcs.functional.contrast import nt_xent, projection_head
from tcs.grid.view_pairs import view_pairs
from tcs.runtime import ResumableBar, resident_mib, seed_for, stop_requests
from tcs.students.backbone import pre_logits
from tcs.students.student import Student, normalisation
from tcs.training.batches import draw
from tcs.training.checks import check_optimiser
from tcs.training.optimisation import make_optimiser, make_schedule
from tcs.training.recipe import Recipe

TEMPERATURE = 0.5

EVAL_BATCH = 256

LOG_POINTS = 50


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a run cost. `images_seen` counts forward passes; `wall_seconds` are those of this process."""

    wall_seconds: float
    images_seen: int
    peak_mib: float
    summary: tuple[dict[str, Any], ...]


class PixelTrainer:
    """A student, its projection head and its step. The optimiser, schedule and clipping are those of tcs.training.trainer."""

    def __init__(self, student: Student, images_n3HW: Tensor, recipe: Recipe, name: str, device: torch.device) -> None:
        self.recipe, self.name, self.device = recipe, name, device
        self.images_n3HW = images_n3HW.to(device)
        self.images = min(recipe.batch_size, len(images_n3HW)) // 2  # of a step; each is shown in two views
        layout = torch.channels_last if recipe.optimiser.channels_last else torch.contiguous_format
        self.student = student.to(device=device, memory_format=layout)  # type: ignore[call-overload]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed_for(recipe.seed, f"projection head {name}"))
            self.head = projection_head(student.width).to(device)
        mean, std = normalisation(student.backbone)
        self.mean, self.std = (torch.tensor(values, device=device).view(3, 1, 1) for values in (mean, std))
        self.parameters = [*student.backbone.parameters(), *self.head.parameters()]
        self.optimiser = _make_optimiser(self.parameters, recipe)
        self.scheduler = make_schedule(self.optimiser, recipe.optimiser, recipe.steps)
        self.step, self.images_seen = 0, 0
        self.summary: list[dict[str, Any]] = []

    def train_step(self) -> tuple[float, float]:
        """One step; the loss and the share of views that find their pair. DivergedError, before the update, if not finite."""
        self.student.train()
        self.scheduler.step_update(self.step)
        first_BP, second_BP = self._project(self._views()).chunk(2)
        loss, match = nt_xent(first_BP, second_BP, TEMPERATURE)
        if not math.isfinite(loss.item()):
            raise DivergedError(
                f"student {self.name}: loss 'nt-xent' is {loss.item()} at step {self.step}; lower --lr and train again."
            )
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        if self.recipe.optimiser.clip_grad:
            torch.nn.utils.clip_grad_norm_(self.parameters, self.recipe.optimiser.clip_grad)
        self.optimiser.step()
        self.step += 1
        self.images_seen += 2 * self.images
        return loss.item(), match.item()

    def _views(self) -> Tensor:
        """The normalised views (V, 3, H, W) of this step's images."""
        place_B = draw(len(self.images_n3HW), self.images, self.recipe.seed, "pool", self.step)
        generator = torch.Generator().manual_seed(seed_for(self.recipe.seed, "augment", self.step))
        views_V3HW = view_pairs(self.images_n3HW[place_B.to(self.device)], self.recipe.augment.hflip, generator)
        return self._normalised(views_V3HW)

    def _normalised(self, images_B3HW: Tensor) -> Tensor:
        """What the student is fed for images on a 0..1 scale."""
        inputs = (images_B3HW - self.mean) / self.std
        return inputs.contiguous(memory_format=torch.channels_last) if self.recipe.optimiser.channels_last else inputs

    def _project(self, views_V3HW: Tensor) -> Tensor:
        """(V, P); dropout and drop-path draw from the step's own seed, and the process's generators stay as they were."""
        with torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else [], device_type="cuda"):
            torch.manual_seed(seed_for(self.recipe.seed, f"forward {self.name}", self.step))
            projected_VP: Tensor = self.head(pre_logits(self.student.backbone, views_V3HW))
        return projected_VP

    @torch.no_grad()
    def clean_features(self, place_m: Tensor) -> NDArray[np.float32]:
        """float32 (m, S): the frozen student's pre-logits of un-augmented rows, at positions of this run."""
        self.student.eval()
        parts = [
            pre_logits(self.student.backbone, self._normalised(images.float() / 255)).float().cpu()
            for images in torch.split(self.images_n3HW[place_m.to(self.device)], EVAL_BATCH)
        ]
        features_mS: NDArray[np.float32] = torch.cat(parts).numpy()
        return features_mS

    def state(self) -> dict[str, Any]:
        """All that a later process needs to go on: plain values and tensors."""
        return {
            "step": self.step,
            "images_seen": self.images_seen,
            "student": self.student.state_dict(),
            "head": self.head.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "summary": self.summary,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from `state`, as if this process had run the steps before it."""
        self.step, self.images_seen, self.summary = state["step"], state["images_seen"], list(state["summary"])
        self.student.load_state_dict(state["student"])
        self.head.load_state_dict(state["head"])
        self.optimiser.load_state_dict(state["optimiser"])


def _make_optimiser(parameters: list[nn.Parameter], recipe: Recipe) -> torch.optim.Optimizer:
    """Biases and norms are not decayed, as in the cells. ConfigError for a name that timm does not have."""
    check_optimiser(recipe.optimiser)
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": recipe.optimiser.weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    return make_optimiser(groups, recipe.optimiser)


def train_pixels(
    trainer: PixelTrainer, bar: ResumableBar, folder: pathlib.Path, fingerprint: str, every: int
) -> Outcome:
    """Run what is left of the steps and return the cost.

    The state is saved in `folder` `every` so many steps and on Ctrl-C or SIGTERM; an earlier state of the same `fingerprint`
    is taken up, another one refused (ArtefactError).
    """
    if (folder / RESUME).exists():
        _resume(trainer, folder / RESUME, fingerprint)
        bar.begin_at(trainer.step)
    started, peak_mib, interval = time.perf_counter(), 0.0, max(1, trainer.recipe.steps // LOG_POINTS)
    if trainer.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(trainer.device)
    with stop_requests() as stop:
        while trainer.step < trainer.recipe.steps:
            loss, match = trainer.train_step()
            bar.advance(1, f"loss {loss:.3f}, pairs found {match:.0%}")
            if trainer.step % interval == 0 or trainer.step == trainer.recipe.steps:
                peak_mib = max(peak_mib, _memory_mib(trainer.device))
                trainer.summary.append(_summary_row(trainer, loss, match))
            if trainer.step % every == 0 or stop.requested:
                save_resume(folder / RESUME, trainer.state() | {"fingerprint": fingerprint})
            if stop.requested:
                stop.leave()
    return Outcome(
        wall_seconds=time.perf_counter() - started,
        images_seen=trainer.images_seen,
        peak_mib=peak_mib,
        summary=tuple(trainer.summary),
    )


def _resume(trainer: PixelTrainer, path: pathlib.Path, fingerprint: str) -> None:
    state = load_resume(path)
    if state.pop("fingerprint", None) != fingerprint:
        raise ArtefactError(f"resume file {path} belongs to another configuration; use another --out.")
    trainer.load_state(state)


def _summary_row(trainer: PixelTrainer, loss: float, match: float) -> dict[str, Any]:
    where = {"step": trainer.step, "images_seen": trainer.images_seen, "lr": trainer.optimiser.param_groups[0]["lr"]}
    return where | {"loss": loss, "pairs_found": match}


def _memory_mib(device: torch.device) -> float:
    """Peak of the device's allocator on CUDA; on CPU the resident memory of the process now."""
    return torch.cuda.max_memory_allocated(device) / 2**20 if device.type == "cuda" else resident_mib()
