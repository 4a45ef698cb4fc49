"""Students of one run that are fed by one stream of batches: built together, trained together, saved one by one."""

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence

import torch

from tcs.distributed.collectives import Collectives
from tcs.errors import ConfigError
from tcs.runtime import say
from tcs.training.data import RunData
from tcs.training.feed import Feed, frame_size, showing_of
from tcs.training.jobs import Job
from tcs.training.loading import load_rows
from tcs.training.loop import LOG_POINTS, Cost, Pace, Runner, train_students
from tcs.training.monitor import Look, look_at
from tcs.training.progress import ShowSteps
from tcs.training.record import begin, is_finished, save_failure, save_student
from tcs.training.soft_labels import labels_by_store, pool_labels
from tcs.training.trainer import Trainer
from tcs.training.views import cached_views

LOOKS = 10  # at held-out rows, in a run


@dataclasses.dataclass(frozen=True)
class Stream:
    """Students of one image size, unfinished, ready for their first step or for the one they were stopped at."""

    data: RunData
    trainers: tuple[Trainer, ...]

    @property
    def job(self) -> Job:
        """The first student's: the others have the same images, rows and steps."""
        return self.trainers[0].job

    @contextlib.contextmanager
    def feed(self) -> Iterator[Feed]:
        """The stream of batches, its images decoded or about to be."""
        job, first = self.job, self.trainers[0]
        rows_n, views = job.rows.rows_n, cached_views(self.data.store, job.rows.rows_n, job.config)
        side = frame_size(job.config.augment, job.size, views=self.data.has_views)
        images = self.data.images(rows_n, side, first.device, job.config)
        showing = showing_of(job.config, job.size)
        try:
            yield Feed(images, first.rows.labelled_m, job.stages, showing, first.ranks, views)
        finally:
            images.close()

    def begin(self) -> None:
        """Make the students' folders: once all students of all streams have passed their checks."""
        for trainer in self.trainers:
            begin(trainer.job)

    def train(self, show: ShowSteps) -> list[str]:
        """Train what is left, write each student's files, and return what to say of those that failed."""
        first = self.trainers[0]
        with self.feed() as feed:
            look = look_at(self.job, self.data, first.device, leads=first.ranks.leads)
            runners = [Runner(trainer=trainer, folder=trainer.job.folder, look=look) for trainer in self.trainers]
            self._announce(feed, look)
            with show(self.job.steps, self._title(), feed.plan(0).rows * len(self.trainers)) as bar:
                costs = train_students(feed, runners, bar, self._pace(), first.ranks)
            return self._save(feed, runners, costs)

    def _pace(self) -> Pace:
        config, steps = self.job.config, self.job.steps
        return Pace(
            log=config.log_interval or max(1, steps // LOG_POINTS),
            save=config.checkpoint_every,
            look=config.held_out_every or max(1, steps // LOOKS),
        )

    def _save(self, feed: Feed, runners: Sequence[Runner], costs: Sequence[Cost]) -> list[str]:
        failures, leads = [], self.trainers[0].ranks.leads
        for runner, cost in zip(runners, costs, strict=True):
            trainer = runner.trainer
            if runner.failure is not None:
                failures.append(save_failure(trainer.job, self.data, feed, runner.failure, leads=leads))
            elif leads:
                save_student(trainer, self.data, cost)
        return failures

    def _title(self) -> str:
        first = self.job.spec.name
        return first if len(self.trainers) == 1 else f"{first} and {len(self.trainers) - 1} more"

    def _announce(self, feed: Feed, look: Look | None) -> None:
        rows = self.job.rows
        for trainer in self.trainers:
            parameters = sum(parameter.numel() for parameter in trainer.student.backbone.parameters()) / 1e6
            say(
                f"{trainer.job.name}: {trainer.job.method.about}; {trainer.job.steps:,} steps of {feed.plan(0).rows} images "
                f"({len(rows.split.rows_n):,} labelled rows, {len(rows.rows_n):,} rows in all), {parameters:.2f} M parameters."
            )
        if not feed.images.is_resident:
            say("The decoded images do not fit --resident-share of the memory: they are streamed.")
        if self.job.config.augment.scaled_decoding:
            say(
                f"JPEGs far larger than frames of {feed.images.size} pixels are decoded at a half, a quarter or an eighth "
                "(--scaled-decoding); so they are when the student is scored or used."
            )
        if feed.views is not None:
            say(
                f"The store holds {feed.views.count} views of each image: every step replays one of them, drawn anew; crops, flips "
                "and colours are those of the views, nothing is added."
            )
        watched = look is not None or not len(rows.held_out.rows_N)
        say(rows.held_out.about if watched else "Nothing cached to watch the run by.")


def open_streams(jobs: Sequence[Job], data: RunData, device: torch.device, ranks: Collectives) -> list[Stream]:
    """The unfinished students of a run, built and checked, by image size in the order of the command."""
    _require_agreement(jobs, ranks)
    waiting = []
    # The leading process alone judges the folders; the others wait for its answer.
    finished = [is_finished(job) for job in jobs] if ranks.leads else []
    for job, is_done in zip(jobs, ranks.broadcast_json(finished), strict=True):
        if is_done:
            say(f"{job.folder} is finished; nothing to do.")
        else:
            waiting.append(job)
    if not waiting:
        return []
    heads, by_store = pool_labels(waiting[0], data, ranks), labels_by_store(waiting[0], data, ranks)
    rows = load_rows(waiting[0], data, device, heads, by_store)
    trainers = [Trainer(job, rows, device, ranks) for job in waiting]
    for trainer in trainers:
        _check_shares(trainer)
    sizes = dict.fromkeys(job.size for job in waiting)
    return [Stream(data, tuple(trainer for trainer in trainers if trainer.job.size == size)) for size in sizes]


def _require_agreement(jobs: Sequence[Job], ranks: Collectives) -> None:
    """Refuse a process that would train something else, or at another pace, than the leading one."""
    names = ("checkpoint_every", "log_interval", "held_out_every")
    ours = [[job.fingerprint, *(getattr(job.config, name) for name in names)] for job in jobs]
    if ranks.broadcast_json(ours) != ours:
        raise ConfigError(
            f"rank {ranks.rank} is to train other students than rank 0, or from another store; give all ranks one command "
            "and the same files."
        )


def _check_shares(trainer: Trainer) -> None:
    """Refuse a batch that gives some process too few rows to forward."""
    rows = min(plan.rows for _, plan in trainer.job.stages)
    ranks, parts = trainer.ranks.world_size, trainer.config.optimiser.grad_accum_steps
    normed = any(not isinstance(layer, torch.nn.SyncBatchNorm) for layer in trainer.statistics)
    needed = 2 if ranks > 1 and normed else 1
    if rows // (ranks * parts) < needed:
        raise ConfigError(
            f"a batch has {rows} rows, for {ranks} process(es) in {parts} part(s) each; {trainer.job.name} needs {needed} or "
            "more at once. Use a larger --batch-size, a smaller --grad-accum-steps or fewer processes."
        )
