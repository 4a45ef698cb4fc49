"""What a run would cost, told by --dry-run: a few steps are timed, nothing is written.

And when the pass of the teacher has paid for itself, against training that runs the teacher in every step: that pays for the
teacher's forward pass on every image that it sees, the cache for one extraction (decoding and writing included) and for nothing
after it. A mini-batch of the student costs the same on both sides.
"""

import dataclasses
import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

import cache
from tcs.errors import listed
from tcs.runtime import readable_seconds, say
from tcs.training.feed import Feed
from tcs.training.stream import Stream
from tcs.training.trainer import Trainer

TIMED_STEPS = 3


@dataclasses.dataclass(frozen=True, kw_only=True)
class BreakEven:
    """Seconds of the one extraction and of the teacher per image; images that a pass over the run and a student see."""

    extraction_seconds: float
    teacher_seconds_per_image: float
    images_per_epoch: int
    images_per_student: int

    @property
    def epochs(self) -> float:
        """Passes over the rows of a run after which the extraction has paid for itself."""
        return self.extraction_seconds / (self.teacher_seconds_per_image * self.images_per_epoch)

    @property
    def students(self) -> float:
        """Students of this run after which it has."""
        return self.extraction_seconds / (self.teacher_seconds_per_image * self.images_per_student)

    def saved_seconds(self, students: int) -> float:
        """What so many students save in all; negative before the extraction has paid for itself."""
        return students * self.images_per_student * self.teacher_seconds_per_image - self.extraction_seconds


def forecast(streams: Sequence[Stream]) -> list[dict[str, Any]]:
    """Seconds that each unfinished student would take, and what it needs: one mapping a student, for --json as well.

    Times a few steps of each student on its real batches. The students are of no use afterwards.
    """
    rows = []
    for stream in streams:
        with stream.feed() as feed:
            batch_seconds, wait_share = _batch_seconds(feed)
            for trainer in stream.trainers:
                step = _step_seconds(trainer, feed)
                rows.append(_row(trainer, feed, step, batch_seconds / len(stream.trainers), wait_share))
    return rows


def say_forecast(streams: Sequence[Stream]) -> list[dict[str, Any]]:
    """The forecast in sentences, with the break-even of the extraction; returns the rows."""
    rows = forecast(streams)
    if not rows:
        return rows
    for row in rows:
        say(
            f"{row['model']}: {row['steps']:,} steps of {row['batch_size']} images, about {readable_seconds(row['seconds'])} "
            f"({row['images_per_s']:,.0f} images/s, data wait {100 * row['data_wait']:.0f} %), "
            f"{row['parameters'] / 1e6:.2f} M parameters, {row['state_mib']:,.0f} MiB of weights and optimiser."
        )
    total = sum(row["seconds"] for row in rows)
    say(
        f"{len(rows)} student{'s' if len(rows) > 1 else ''}: about {readable_seconds(total)} in all. Nothing was written."
    )
    costs, epoch_images = extraction_costs(streams[0].data.store), len(streams[0].job.rows.rows_n)
    say(describe_break_even(costs, epoch_images, rows[0]["images"], len(rows)))
    return rows


def extraction_costs(store: cache.Store) -> Mapping[str, Any]:
    """What the store recorded of its extraction; of a joined store the sums of seconds over its parts, where all recorded them."""
    if not store.parts:
        return store.manifest.provenance
    recorded = [part.manifest.provenance.get("run") for part in store.parts]
    runs = [run for run in recorded if isinstance(run, Mapping)]
    names = ("seconds", "teacher_seconds_per_image")
    if len(runs) < len(recorded) or not all(run.get(name) for run in runs for name in names):
        return {}
    sums: dict[str, Any] = {name: math.fsum(float(run[name]) for run in runs) for name in names}
    return {"run": sums | {"device": listed(dict.fromkeys(str(run.get("device", "its device")) for run in runs))}}


def describe_break_even(provenance: Mapping[str, Any], epoch_images: int, student_images: int, students: int) -> str:
    """After how many passes and students the store's extraction has paid for itself, from what it recorded of itself."""
    run = provenance.get("run")
    run = run if isinstance(run, Mapping) else {}
    seconds, per_image = run.get("seconds"), run.get("teacher_seconds_per_image")
    if not seconds or not per_image:
        return "The store does not record what its teacher cost, so no break-even can be told."
    even = BreakEven(
        extraction_seconds=float(seconds),
        teacher_seconds_per_image=float(per_image),
        images_per_epoch=epoch_images,
        images_per_student=student_images,
    )
    saved = even.saved_seconds(students)
    return (
        f"The extraction took {readable_seconds(even.extraction_seconds)} on {run.get('device', 'its device')}; a teacher in "
        f"every step would cost {1000 * even.teacher_seconds_per_image:.2f} ms an image there: paid for after {even.epochs:.2f} "
        f"passes over these rows, or {even.students:.2f} such students. This run "
        + (f"saves {readable_seconds(saved)}." if saved >= 0 else f"falls short of it by {readable_seconds(-saved)}.")
    )


def _batch_seconds(feed: Feed) -> tuple[float, float]:
    """Seconds that a batch takes, the first one left out, and the share of them in which its images are waited for."""
    feed.batch(0)
    started, before = time.perf_counter(), feed.wait_seconds
    for step in range(1, TIMED_STEPS + 1):
        feed.batch(min(step, feed.steps - 1))
    seconds = time.perf_counter() - started
    return seconds / TIMED_STEPS, (feed.wait_seconds - before) / seconds


def _step_seconds(trainer: Trainer, feed: Feed) -> float:
    """Seconds of a step, the first one left out: the fastest of a few, because others may use this machine."""
    times = []
    for step in range(min(TIMED_STEPS + 1, feed.steps)):
        batch = feed.batch(step)
        started = time.perf_counter()
        trainer.train_step(feed, batch)
        trainer.watch.settle()
        times.append(time.perf_counter() - started)
    return min(times[1:] or times)


def _row(trainer: Trainer, feed: Feed, step: float, batch: float, wait_share: float) -> dict[str, Any]:
    plan, parameters = feed.plan(feed.steps - 1), list(trainer.student.parameters())
    moments = [value for state in trainer.optimisation.optimiser.state.values() for value in state.values()]
    state_bytes = sum(value.nbytes for value in [*parameters, *moments] if hasattr(value, "nbytes"))
    return {
        "model": trainer.job.name,
        "steps": feed.steps,
        "batch_size": plan.rows,
        "images": feed.steps * plan.rows,
        "seconds": feed.steps * (step + batch),
        "images_per_s": plan.rows / (step + batch),
        "data_wait": wait_share * batch / (step + batch),
        "parameters": sum(parameter.numel() for parameter in trainer.student.backbone.parameters()),
        "state_mib": state_bytes / 2**20,
    }
