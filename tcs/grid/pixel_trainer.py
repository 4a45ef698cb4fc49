"""One student trained by SimCLR (tcs.simclr) on resident pixels: no label, no teacher, nothing of a cache.

Legend: n rows of this run, B images of a step, V = 2B views, P projection dims, S student width, m rows asked for.
"""

import dataclasses
import pathlib
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tcs.augmentation.pixels import network_inputs
from tcs.checkpoint import fitting, load_resume, save_resume
from tcs.config.optimiser import OptimiserConfig
from tcs.errors import ArtefactError
from tcs.functional.contrast import projection_head
from tcs.methods.named import METHODS
from tcs.plain_files import RESUME
from tcs.runtime import ResumableBar, resident_mib, seed_for
from tcs.simclr import PAIR_VIEWS, PairLearner, PairTask, run_steps, view_pairs
from tcs.students.backbone import pre_logits
from tcs.students.memory_layout import laid_out
from tcs.students.student import build_student, normalisation
from tcs.training.batches import draw
from tcs.training.checks import check_optimiser
from tcs.training.jobs import Job
from tcs.training.optimisation import make_optimiser, make_schedule

TEMPERATURE = 0.5
EVAL_BATCH = 256
LOG_POINTS = 50


@dataclasses.dataclass(frozen=True, kw_only=True)
class PixelRun:
    """What a run came to. `images_seen` counts forward passes; `wall_seconds` are those of this process."""

    wall_seconds: float
    images_seen: int
    peak_mib: float
    summary: tuple[dict[str, Any], ...]


class PixelTrainer:
    """A student, its projection head and its step. The optimiser, schedule and clipping are those of tcs.training.trainer."""

    def __init__(self, job: Job, images_n3HW: Tensor, device: torch.device) -> None:
        self.job, self.device = job, device
        config, optimiser = job.config, job.config.optimiser
        self.images_n3HW = images_n3HW.to(device)
        self.images = min(config.batch_size, len(images_n3HW)) // 2  # of a step; each is shown in two views
        start = dataclasses.replace(job, method=METHODS["labels"])  # the start that every plain timm classifier has
        student = build_student(start.student_plan)
        self.student = laid_out(student, device, channels_last=optimiser.channels_last)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed_for(config.seed, f"projection head {job.name}"))
            self.head = projection_head(student.width).to(device)
        mean, std = normalisation(student.backbone)
        self.mean, self.std = (torch.tensor(values, device=device).view(3, 1, 1) for values in (mean, std))
        self.optimiser = _make_optimiser([*student.backbone.parameters(), *self.head.parameters()], optimiser)
        scheduler = make_schedule(self.optimiser, optimiser, job.steps)
        task = PairTask(name=job.name, seed=config.seed, temperature=TEMPERATURE, clip_grad=optimiser.clip_grad)
        self.pairs = PairLearner(self._project, self.optimiser, scheduler.step_update, task, device)
        self.images_seen = 0
        self.summary: list[dict[str, Any]] = []

    @property
    def step(self) -> int:
        """Steps made so far, by this process and those before it."""
        return self.pairs.step

    def train_step(self) -> tuple[float, float]:
        """One step; the loss and the share of views that find their pair. DivergedError, before the update, if not finite."""
        self.student.train()
        made = self.pairs.train_step(self._views())
        self.images_seen += 2 * self.images
        return made

    def _views(self) -> Tensor:
        """The normalised views (V, 3, H, W) of this step's images."""
        place_B = draw(len(self.images_n3HW), self.images, self.job.config.seed, "pool", self.step)
        generator = torch.Generator().manual_seed(seed_for(self.job.config.seed, "augment", self.step))
        views = dataclasses.replace(PAIR_VIEWS, hflip=self.job.config.augment.hflip)
        images_B3HW = self.images_n3HW[place_B.to(self.device)]
        return self._normalised(view_pairs(images_B3HW, views, images_B3HW.shape[-1], generator))

    def _normalised(self, images_B3HW: Tensor) -> Tensor:
        """What the student is fed for uint8 images."""
        is_last = self.job.config.optimiser.channels_last
        return network_inputs(images_B3HW, self.mean, self.std, channels_last=is_last)

    def _project(self, views_V3HW: Tensor) -> Tensor:
        projected_VP: Tensor = self.head(pre_logits(self.student.backbone, views_V3HW))
        return projected_VP

    @torch.no_grad()
    def clean_features(self, place_m: Tensor) -> NDArray[np.float32]:
        """float32 (m, S): the frozen student's pre-logits of un-augmented rows, at positions of this run."""
        self.student.eval()
        parts = [
            pre_logits(self.student.backbone, self._normalised(images)).float().cpu()
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
        self.pairs.step, self.images_seen = state["step"], state["images_seen"]
        self.summary = list(state["summary"])
        self.student.load_state_dict(state["student"])
        self.head.load_state_dict(state["head"])
        self.optimiser.load_state_dict(state["optimiser"])


def _make_optimiser(parameters: list[nn.Parameter], config: OptimiserConfig) -> torch.optim.Optimizer:
    """Biases and norms are not decayed, as in the cells. ConfigError for a name that timm does not have."""
    check_optimiser(config)
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    return make_optimiser(groups, config)


def train_pixels(trainer: PixelTrainer, bar: ResumableBar, folder: pathlib.Path) -> PixelRun:
    """Run what is left of the steps and return the cost.

    The state is saved in `folder` every --checkpoint-every steps and on Ctrl-C or SIGTERM; an earlier state of the same
    fingerprint is taken up, another one refused (ArtefactError).
    """
    fingerprint, every = trainer.job.fingerprint, trainer.job.config.checkpoint_every
    if (folder / RESUME).exists():
        _resume(trainer, folder / RESUME, fingerprint)
    started, peak = time.perf_counter(), _Peak(trainer.device)
    run_steps(
        _steps(trainer, peak),
        trainer.step,
        bar,
        lambda: save_resume(folder / RESUME, trainer.state() | {"fingerprint": fingerprint}),
        every,
    )
    return PixelRun(
        wall_seconds=time.perf_counter() - started,
        images_seen=trainer.images_seen,
        peak_mib=peak.mib,
        summary=tuple(trainer.summary),
    )


def _steps(trainer: PixelTrainer, peak: "_Peak") -> Iterator[tuple[float, float]]:
    """What is left of the steps; a row of the summary every so often and at the end."""
    interval = max(1, trainer.job.steps // LOG_POINTS)
    while trainer.step < trainer.job.steps:
        loss, match = trainer.train_step()
        if trainer.step % interval == 0 or trainer.step == trainer.job.steps:
            peak.look()
            trainer.summary.append(_summary_row(trainer, loss, match))
        yield loss, match


def _resume(trainer: PixelTrainer, path: pathlib.Path, fingerprint: str) -> None:
    state = load_resume(path)
    if state.pop("fingerprint", None) != fingerprint:
        raise ArtefactError(f"resume file {path} belongs to another configuration; use another --out.")
    with fitting(path):
        trainer.load_state(state)


def _summary_row(trainer: PixelTrainer, loss: float, match: float) -> dict[str, Any]:
    where = {"step": trainer.step, "images_seen": trainer.images_seen, "lr": trainer.optimiser.param_groups[0]["lr"]}
    return where | {"loss": loss, "pairs_found": match}


class _Peak:
    """The most memory seen: of the device's allocator on CUDA; on CPU of the process, when it was looked at."""

    def __init__(self, device: torch.device) -> None:
        self._device, self.mib = device, 0.0
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)

    def look(self) -> None:
        """Take a look now."""
        on_cuda = self._device.type == "cuda"
        now = torch.cuda.max_memory_allocated(self._device) / 2**20 if on_cuda else resident_mib()
        self.mib = max(self.mib, now)
