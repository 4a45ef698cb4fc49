"""The loop around the steps of many students on one stream of batches: resumable, each with a fate of its own."""

import contextlib
import dataclasses
import pathlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

from tcs.checkpoint import START_AGAIN, fitting, load_resume, save_resume
from tcs.distributed.collectives import ALONE, Collectives
from tcs.errors import ArtefactError
from tcs.plain_files import RESUME
from tcs.runtime import ResumableBar, StopRequest, resident_mib, stop_requests
from tcs.schemas.check import require_schema
from tcs.schemas.runs import ResumeState
from tcs.training.feed import Batch, Feed
from tcs.training.finite import NotFiniteError
from tcs.training.log import RunLog
from tcs.training.trainer import Trainer

LOG_POINTS = 50  # rows of a log, unless --log-interval asks for others
AGREE_STEPS = 10  # after which processes agree on whether to stop


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pace:
    """After how many steps a row is logged, a state is saved, and the held-out rows are looked at."""

    log: int
    save: int
    look: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cost:
    """What a student cost. The seconds are those of this process, of a resumed run its last part only: `wall_seconds` from
    the first step to the last, with other students between; `step_seconds` in the student's own steps; `share_seconds` its
    part of the wall time: its own steps, and of all else (images, logs) as much as each of the `students` of the stream.
    `wait_share` is the share of the wall time in which the stream of images was waited for."""

    wall_seconds: float
    step_seconds: float
    share_seconds: float
    students: int
    wait_share: float
    images_seen: int
    peak_mib: float


@dataclasses.dataclass(kw_only=True)
class Runner:
    """A student on a stream: its trainer, where its log and state go (None: nowhere), and how it fares.

    `look` scores the student on held-out rows. `failure` is what stopped it before the others.
    """

    trainer: Trainer
    folder: pathlib.Path | None
    look: Callable[[Trainer], dict[str, float]] | None = None
    failure: NotFiniteError | None = None
    log: RunLog | None = None
    step_seconds: float = 0.0
    peak_mib: float = 0.0
    first_image: int = 0

    def resume(self) -> None:
        """Take up the state that an earlier process left, and cut the log back to it."""
        if self.folder is None:
            return
        ranks = self.trainer.ranks
        found = ranks.broadcast_json((self.folder / RESUME).exists())
        if found:
            self._load(self.folder / RESUME)
        self.first_image = self.trainer.images_seen
        if ranks.leads:
            self.log = RunLog.open(
                self.folder, self.trainer.step if found else None, self.trainer.job.config.tensorboard
            )

    def _load(self, path: pathlib.Path) -> None:
        """Go on from the state of `path`, which the leading process has found."""
        ranks = self.trainer.ranks
        shared = "; --out must lie on a file system that all ranks share."
        if not path.exists():
            raise ArtefactError(f"rank {ranks.rank} cannot see {path}, which rank 0 resumes from{shared}")
        state = load_resume(path)
        if state.pop("fingerprint", None) != self.trainer.job.fingerprint:
            raise ArtefactError(
                f"resume file {path} belongs to another configuration; use another --out, or --overwrite."
            )
        require_schema(path, {"fingerprint": self.trainer.job.fingerprint, **state}, ResumeState, START_AGAIN)
        first = ranks.broadcast_json(state["step"])
        if state["step"] != first:
            raise ArtefactError(f"rank {ranks.rank} reads step {state['step']} in {path}, rank 0 step {first}{shared}")
        with fitting(path):
            self.trainer.load_state(state)

    def write(self, row: dict[str, Any]) -> None:
        """Put a row into the log, on the process that has one."""
        if self.log is not None:
            self.log.write(row)

    def save(self) -> None:
        """Write the state that a later process goes on from, on the process that has a log."""
        self.trainer.watch.settle()
        if self.folder is not None and self.log is not None:
            self.log.save()
            fingerprint = self.trainer.job.fingerprint
            save_resume(self.folder / RESUME, self.trainer.state() | {"fingerprint": fingerprint})

    def seen(self) -> dict[str, float]:
        """What `look` scores. Where it finds features that are not finite, all processes raise its NotFiniteError."""
        assert self.look is not None
        scores, failure = {}, None
        try:
            scores = self.look(self.trainer)
        except NotFiniteError as error:
            failure = error
        told = None if failure is None else [failure.term, failure.value, failure.step]
        told = self.trainer.ranks.broadcast_json(told)
        if told is not None:
            raise failure or NotFiniteError(self.trainer.job.name, *told)
        return scores

    @contextlib.contextmanager
    def failing_alone(self) -> Iterator[None]:
        """Keep what is not finite as this student's `failure`, so that the others go on."""
        try:
            yield
        except NotFiniteError as error:
            self.failure = error

    def close_log(self) -> None:
        """Write the log whole, and let go of its files."""
        if self.log is not None:
            self.log.save()
            self.log.close()
            self.log = None


def train_students(
    feed: Feed, runners: Sequence[Runner], bar: ResumableBar, pace: Pace, ranks: Collectives = ALONE
) -> list[Cost]:
    """Run what is left of every student's steps on one stream of batches; returns their costs.

    States are saved as `pace` says, and on Ctrl-C or SIGTERM; with the same thread count on a CPU the result of a resumed
    student is the same bit for bit, and the same as without the other students. A student whose loss is not finite keeps
    its `failure`, and the others go on.
    """
    try:
        for runner in runners:
            runner.resume()
        loop = _Loop(feed, runners, bar, pace, ranks)
        with stop_requests() as stop:
            loop.run(stop)
        return [loop.cost(runner) for runner in runners]
    finally:
        for runner in runners:
            runner.close_log()


class _Loop:
    """The state of one call of `train_students`."""

    def __init__(
        self, feed: Feed, runners: Sequence[Runner], bar: ResumableBar, pace: Pace, ranks: Collectives
    ) -> None:
        self._feed, self._runners, self._bar, self._pace, self._ranks = feed, runners, bar, pace, ranks
        self._device = runners[0].trainer.device
        self._started = time.perf_counter()
        self._waited = feed.wait_seconds
        self._seconds = 0.0  # from the first step to the last, known after it

    def run(self, stop: StopRequest) -> None:
        """All steps that some student has not made yet."""
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)
        for runner in self._runners:
            self._first_look(runner)
        first = min(runner.trainer.step for runner in self._runners)
        self._bar.begin_at(first)
        for step in range(first, self._feed.steps):
            active = [runner for runner in self._runners if runner.failure is None]
            if not active:
                break
            batch = self._feed.batch(step)
            for runner in active:
                if runner.trainer.step == step:
                    self._step(runner, batch)
            self._bar.advance(1, self._note(active))
            if self._asks_to_stop(step, stop):
                self._leave(active, stop)
        self._seconds = time.perf_counter() - self._started

    def _asks_to_stop(self, step: int, stop: StopRequest) -> bool:
        """Whether some process was asked to stop; several agree on it every few steps, because to ask takes a while."""
        if self._ranks.world_size > 1 and step % AGREE_STEPS and step + 1 < self._feed.steps:
            return False
        return self._ranks.any_of(stop.requested)

    def _step(self, runner: Runner, batch: Batch) -> None:
        started = time.perf_counter()
        with runner.failing_alone():
            runner.trainer.train_step(self._feed, batch)
            runner.step_seconds += time.perf_counter() - started
            self._after(runner)

    def _first_look(self, runner: Runner) -> None:
        """How held-out rows fare before the first step: the level that means that nothing was learnt."""
        trainer = runner.trainer
        if runner.look is not None and trainer.step == 0:
            row = {"step": 0, "phase": trainer.phase.name, "images_seen": 0, "lr": trainer.optimisation.lr}
            with runner.failing_alone():
                runner.write(row | runner.seen())

    def _after(self, runner: Runner) -> None:
        """Log, look at held-out rows and save, where it is time."""
        step, last, row = runner.trainer.step, self._feed.steps, {}
        if step == last:
            runner.trainer.watch.settle()
            runner.trainer.require_finite_weights()
        looks = runner.look is not None and (step % self._pace.look == 0 or step == last)
        if looks:
            row = runner.seen()
        if looks or step % self._pace.log == 0 or step == last:
            runner.trainer.watch.settle()
            runner.peak_mib = max(runner.peak_mib, _memory_mib(self._device))
            runner.write(self._row(runner) | row)
        if step % self._pace.save == 0 and step < last:
            runner.save()

    def _row(self, runner: Runner) -> dict[str, Any]:
        trainer = runner.trainer
        seconds = time.perf_counter() - self._started
        return {
            "step": trainer.step,
            "phase": trainer.phase.name,
            "images_seen": trainer.images_seen,
            "lr": trainer.optimisation.lr,
            "loss": trainer.watch.last["loss"],
            **trainer.watch.last,
            "images_per_s": round((trainer.images_seen - runner.first_image) / seconds, 1),
            "data_wait": round(self._wait_share(seconds), 4),
        }

    def _wait_share(self, seconds: float) -> float:
        return (self._feed.wait_seconds - self._waited) / max(seconds, 1e-9)

    def _note(self, active: Sequence[Runner]) -> str:
        loss = active[0].trainer.watch.last.get("loss", float("nan"))
        others = f" and {len(active) - 1} more" if len(active) > 1 else ""
        seconds = time.perf_counter() - self._started
        images = sum(runner.trainer.images_seen - runner.first_image for runner in active)
        wait = 100 * self._wait_share(seconds)
        return f"loss {loss:.3f}{others}, {images / max(seconds, 1e-9):,.0f} images/s, data wait {wait:.0f} %"

    def _leave(self, active: Sequence[Runner], stop: StopRequest) -> None:
        for runner in active:
            # A step that failed has changed batch statistics, and is made again from an older state.
            if runner.failure is None:
                with runner.failing_alone():
                    runner.save()
        self._ranks.barrier()  # who leaves early looks dead to who still writes
        stop.leave()

    def cost(self, runner: Runner) -> Cost:
        """What a student cost."""
        seconds, students = self._seconds, len(self._runners)
        beside = seconds - sum(other.step_seconds for other in self._runners)
        return Cost(
            wall_seconds=seconds,
            step_seconds=runner.step_seconds,
            share_seconds=runner.step_seconds + max(0.0, beside) / students,
            students=students,
            wait_share=self._wait_share(seconds),
            images_seen=runner.trainer.images_seen,
            peak_mib=runner.peak_mib,
        )


def _memory_mib(device: torch.device) -> float:
    """Peak of the device's allocator on CUDA; on CPU the resident memory of the process now."""
    return torch.cuda.max_memory_allocated(device) / 2**20 if device.type == "cuda" else resident_mib()
