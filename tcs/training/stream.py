"""Students of one run that are fed by one stream of batches: built together, trained together, saved one by one."""

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence

import torch

from tcs.distributed.collectives import Collectives
from tcs.errors import ConfigError
from tcs.runtime import progress_bar, say
from tcs.students.backbone import measured_maps
from tcs.students.student import Student, StudentPlan, build_student, normalisation
from tcs.training.data import hash_planes
from tcs.training.feed import Feed, frame_size, showing_of
from tcs.training.jobs import Job, fingerprint_of
from tcs.training.loading import load_rows
from tcs.training.loop import LOG_POINTS, Outcome, Pace, Runner, train_students
from tcs.training.monitor import Look, look_at
from tcs.training.recipe import Recipe, make_recipe, plan_stages
from tcs.training.record import begin, is_finished, save_failure, save_student
from tcs.training.rows import TrainingRows
from tcs.training.trainer import Surroundings, Trainer
from tcs.training.views import cached_views

LOOKS = 10  # at held-out rows, in a run


@dataclasses.dataclass(frozen=True)
class Stream:
    """Students of one image size, unfinished, ready for their first step or for the one they were stopped at."""

    jobs: tuple[Job, ...]
    trainers: tuple[Trainer, ...]

    @property
    def recipe(self) -> Recipe:
        """The numbers that the students share."""
        return self.trainers[0].recipe

    @contextlib.contextmanager
    def feed(self) -> Iterator[Feed]:
        """The stream of batches, its images decoded or about to be."""
        job, trainer = self.jobs[0], self.trainers[0]
        device, together = trainer.around.device, trainer.around.together
        side = frame_size(job.config, job.size, views=job.source.has_views)
        images = job.source.images(job.rows_n, side, device, job.config)
        views = cached_views(job.source.store, job.rows_n, job.config)
        labelled_m = trainer.rows.labelled_m
        stages = plan_stages(self.recipe, len(labelled_m), len(job.rows_n))
        try:
            yield Feed(images, labelled_m, stages, showing_of(job.config, job.size), together, views)
        finally:
            images.close()

    def begin(self) -> None:
        """Make the students' folders: once all students of all streams have passed their checks."""
        for job in self.jobs:
            begin(job, fingerprint_of(job)[1])

    def train(self) -> list[str]:
        """Train what is left, write each student's files, and return what to say of those that failed."""
        with self.feed() as feed:
            around = self.trainers[0].around
            look = look_at(self.jobs[0], around.device, leads=around.together.leads)
            runners = [self._runner(job, trainer, look) for job, trainer in zip(self.jobs, self.trainers, strict=True)]
            self._announce(feed, look)
            with progress_bar(self.recipe.steps, self._title(), "steps") as bar:
                outcomes = train_students(feed, runners, bar, self._pace(), around.together)
            return self._save(feed, runners, outcomes)

    def _runner(self, job: Job, trainer: Trainer, look: Look | None) -> Runner:
        digest = fingerprint_of(job)[0]
        return Runner(
            trainer=trainer, folder=job.folder, fingerprint=digest, tensorboard=job.config.tensorboard, look=look
        )

    def _pace(self) -> Pace:
        config, steps = self.jobs[0].config, self.recipe.steps
        return Pace(
            log=config.log_interval or max(1, steps // LOG_POINTS),
            save=config.checkpoint_every,
            look=config.held_out_every or max(1, steps // LOOKS),
        )

    def _save(self, feed: Feed, runners: Sequence[Runner], outcomes: Sequence[Outcome]) -> list[str]:
        failures, leads = [], self.trainers[0].around.together.leads
        for job, runner, outcome in zip(self.jobs, runners, outcomes, strict=True):
            identity = fingerprint_of(job)[1]
            if runner.failure is None:
                if leads:
                    save_student(job, runner.trainer, outcome, identity)
            else:
                failures.append(save_failure(job, feed, runner.failure, identity, leads=leads))
        return failures

    def _title(self) -> str:
        first = self.jobs[0].spec.name
        return first if len(self.jobs) == 1 else f"{first} and {len(self.jobs) - 1} more"

    def _announce(self, feed: Feed, look: Look | None) -> None:
        job = self.jobs[0]
        for each, trainer in zip(self.jobs, self.trainers, strict=True):
            parameters = sum(parameter.numel() for parameter in trainer.student.backbone.parameters()) / 1e6
            say(
                f"{each.spec.text}: {job.method.about}; {self.recipe.steps:,} steps of {feed.plan(0).rows} images "
                f"({len(job.split.rows_n):,} labelled rows, {len(job.rows_n):,} rows in all), {parameters:.2f} M parameters."
            )
        if not feed.images.is_resident:
            say("The decoded images do not fit --resident-share of the memory: they are streamed.")
        if feed.views is not None:
            say(
                f"The store holds {feed.views.count} views of each image: every step replays one of them, drawn anew; crops, flips "
                "and colours are those of the views, nothing is added."
            )
        say(
            job.held_out.about
            if look is not None or not len(job.held_out.rows_N)
            else "Nothing cached to watch the run by."
        )


def open_streams(jobs: Sequence[Job], device: torch.device, together: Collectives) -> list[Stream]:
    """The unfinished students of a run, built and checked, by image size in the order of the command."""
    _require_agreement(jobs, together)
    waiting = []
    # The leading process alone judges the folders; the others wait for its answer.
    finished = [is_finished(job, fingerprint_of(job)[1]) for job in jobs] if together.leads else []
    for job, is_done in zip(jobs, together.broadcast_json(finished), strict=True):
        if is_done:
            say(f"{job.folder} is finished; nothing to do.")
        else:
            waiting.append(job)
    if not waiting:
        return []
    rows = load_rows(
        waiting[0].source, waiting[0].split, waiting[0].method, waiting[0].config, waiting[0].rows_n, device
    )
    trainers = [make_trainer(job, rows, device, together) for job in waiting]
    streams = []
    for size in dict.fromkeys(job.size for job in waiting):
        chosen = [number for number, job in enumerate(waiting) if job.size == size]
        streams.append(Stream(tuple(waiting[at] for at in chosen), tuple(trainers[at] for at in chosen)))
    return streams


def _require_agreement(jobs: Sequence[Job], together: Collectives) -> None:
    """Refuse a process that would train something else, or at another pace, than the leading one."""
    names = ("checkpoint_every", "log_interval", "held_out_every")
    ours = [[fingerprint_of(job)[0], *(getattr(job.config, name) for name in names)] for job in jobs]
    if together.broadcast_json(ours) != ours:
        raise ConfigError(
            f"rank {together.rank} is to train other students than rank 0, or from another store; give all ranks one command "
            "and the same files."
        )


def make_trainer(job: Job, rows: TrainingRows, device: torch.device, together: Collectives) -> Trainer:
    """The student of a job and its surroundings, ready for step 0. ModelError where the job's images or losses do not suit it."""
    targets, student = job.source.targets, _build(job)
    mean, std = normalisation(student.backbone)
    maps = len(rows.teacher_maps)
    around = Surroundings(
        planes=hash_planes(targets, device) if targets is not None and "bits" in job.method.needs else None,
        probe=job.probe,
        device=device,
        student_maps=measured_maps(student.backbone, job.spec, job.size, maps) if maps else (),
        mean=mean,
        std=std,
        together=together,
    )
    labelled_rows = len(rows.labelled_m)
    recipe = dataclasses.replace(make_recipe(job.config, job.method, labelled_rows, len(job.rows_n)), gates=job.gates)
    least = min(plan.rows for _, plan in plan_stages(recipe, len(rows.labelled_m), len(job.rows_n)))
    trainer = Trainer(student, rows, recipe, around, job.spec.text)
    _check_shares(trainer, least)
    return trainer


def _check_shares(trainer: Trainer, rows: int) -> None:
    """Refuse a batch of `rows` that gives some process too few of them to forward."""
    ranks, parts = trainer.around.together.world_size, trainer.recipe.optimiser.grad_accum_steps
    normed = any(not isinstance(layer, torch.nn.SyncBatchNorm) for layer in trainer.statistics)
    needed = 2 if ranks > 1 and normed else 1
    if rows // (ranks * parts) < needed:
        raise ConfigError(
            f"a batch has {rows} rows, for {ranks} process(es) in {parts} part(s) each; {trainer.name} needs {needed} or more "
            "at once. Use a larger --batch-size, a smaller --grad-accum-steps or fewer processes."
        )


def _build(job: Job) -> Student:
    return build_student(
        StudentPlan(
            spec=job.spec,
            n_classes=len(job.classes),
            components=job.components,
            reads_coordinates=job.method.head == "tcs",
            image_size=job.size,
            pretrained=job.config.pretrained,
            seed=job.config.seed,
        )
    )
