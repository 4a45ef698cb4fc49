"""The loop around a student's steps: what is left of them, resumable, with its cost and its summary."""

import dataclasses
import pathlib
import time
from typing import Any

import torch

from tcs.checkpoint import RESUME, load_resume, save_resume
from tcs.errors import ArtefactError
from tcs.interrupt import stop_requests
from tcs.runtime import Bar, resident_mib
from tcs.trainer import Trainer

LOG_POINTS = 50


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a run cost. `wall_seconds` are those of this process: a resumed run counts its last part only."""

    wall_seconds: float
    images_seen: int
    peak_mib: float
    summary: tuple[dict[str, Any], ...]


def train_student(trainer: Trainer, bar: Bar, folder: pathlib.Path | None, fingerprint: str, every: int) -> Outcome:
    """Run what is left of a student's steps and return the cost.

    With a `folder` the state is saved there `every` so many steps and on Ctrl-C or SIGTERM, and an earlier state of the
    same `fingerprint` is taken up; on CPU with the same thread count the result then is the same bit for bit.
    """
    if folder is not None and (folder / RESUME).exists():
        _resume(trainer, folder / RESUME, fingerprint)
        bar.advance(trainer.step)
    started, first_image, peak_mib = time.perf_counter(), trainer.images_seen, 0.0
    interval = max(1, trainer.recipe.steps // LOG_POINTS)
    if trainer.around.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(trainer.around.device)
    with stop_requests() as stop:
        while trainer.step < trainer.recipe.steps:
            losses = trainer.train_step()
            bar.advance(1, f"loss {losses['loss']:.3f}")
            if trainer.step % interval == 0 or trainer.step == trainer.recipe.steps:
                peak_mib = max(peak_mib, _memory_mib(trainer.around.device))
                rate = (trainer.images_seen - first_image) / (time.perf_counter() - started)
                trainer.summary.append(_summary_row(trainer, losses, rate))
            if folder is not None and (trainer.step % every == 0 or stop.requested):
                save_resume(folder / RESUME, trainer.state() | {"fingerprint": fingerprint})
            if stop.requested:
                stop.leave()
    return Outcome(
        wall_seconds=time.perf_counter() - started,
        images_seen=trainer.images_seen,
        peak_mib=peak_mib,
        summary=tuple(trainer.summary),
    )


def _summary_row(trainer: Trainer, losses: dict[str, float], rate: float) -> dict[str, Any]:
    learning_rate = trainer.optimiser.param_groups[0]["lr"]
    where = {"step": trainer.step, "phase": trainer.phase.name, "images_seen": trainer.images_seen, "lr": learning_rate}
    return where | losses | {"images_per_s": round(rate, 1)}


def _resume(trainer: Trainer, path: pathlib.Path, fingerprint: str) -> None:
    state = load_resume(path)
    if state.pop("fingerprint", None) != fingerprint:
        raise ArtefactError(f"resume file {path} belongs to another configuration; use another --out, or --overwrite.")
    trainer.load_state(state)


def _memory_mib(device: torch.device) -> float:
    """Peak of the device's allocator on CUDA; on CPU the resident memory of the process now."""
    return torch.cuda.max_memory_allocated(device) / 2**20 if device.type == "cuda" else resident_mib()
