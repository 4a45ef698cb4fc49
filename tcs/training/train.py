"""The stage `tcs train`: store (and targets) -> RUN/<student>/. Loads no teacher and no faiss."""

import contextlib
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

import cache
from tcs.config.train import TrainConfig, may_score_labels
from tcs.distributed.collectives import Collectives
from tcs.distributed.ranks import joined_ranks
from tcs.errors import DivergedError
from tcs.methods.named import resolve_method
from tcs.plain_files import ARGS
from tcs.runtime import pick_device
from tcs.splits.shots import Split
from tcs.training.data import RunData, open_data
from tcs.training.exclusion import without_excluded
from tcs.training.forecast import forecast as time_students
from tcs.training.forecast import say_forecast
from tcs.training.jobs import Job, plan_jobs
from tcs.training.memory import naming_memory
from tcs.training.progress import ShowSteps, show_steps
from tcs.training.record import save_args
from tcs.training.stream import Stream, open_streams


def train(config: TrainConfig) -> list[pathlib.Path]:
    """Train every student of `config` and return their folders RUN/<student>/.

    Students of one image size share one stream of decoded, augmented batches; each ends up with the weights that it would
    have alone. A folder holds last.safetensors (unfolded), folded.safetensors (a plain timm state dict), metrics.jsonl,
    summary.csv, config.json and seen.npy (content hashes of the images trained or fitted on). Finished students are left
    alone; unfinished ones resume. With `dry_run` the folders are those that would be: a few steps are timed, as `forecast` does,
    and nothing is written.

    Raises TcsError or CacheError for whatever a user can cause: unknown students, missing labels or targets, another
    configuration in the same folder, or another command that trains there now; DivergedError after the others are done, where a
    student's loss was not finite.
    """
    return train_opened(config)


def train_opened(
    config: TrainConfig, data: RunData | None = None, split: Split | None = None, show: ShowSteps = show_steps
) -> list[pathlib.Path]:
    """`train` where something is at hand already: `data` shares an open store and its decoded images between calls, `split` is the one
    that the configuration names, drawn before; `show` shows the steps of a stream as they are made."""
    with _streams(config, data, split) as (jobs, streams, ranks):
        if config.dry_run:
            say_forecast(streams)
            return [job.folder for job in jobs]
        with _alone(pathlib.Path(config.out), jobs, writes=bool(streams) and ranks.leads):
            if streams and ranks.leads:
                save_args(pathlib.Path(config.out) / ARGS, config.options())
                for stream in streams:
                    stream.begin()
            ranks.barrier()  # no process takes up a state that --overwrite is about to delete
            failures = [failure for stream in streams for failure in stream.train(show)]
    if failures:
        raise DivergedError(" ".join(failures))
    return [job.folder for job in jobs]


def forecast(config: TrainConfig) -> list[dict[str, Any]]:
    """What `train` would take, by a few timed steps of each unfinished student; nothing is written.

    Returns a mapping a student (steps, seconds, images_per_s, data_wait, parameters, ...), and tells it with the break-even
    of the extraction. Raises the TcsError or CacheError that `train` raises before the first step.
    """
    with _streams(config, None, None) as (_, streams, _):
        return say_forecast(streams)


def timed(config: TrainConfig, data: RunData | None = None, split: Split | None = None) -> list[dict[str, Any]]:
    """What `forecast` tells, as mappings alone; `data` and `split` as in `train_opened`."""
    with _streams(config, data, split) as (_, streams, _):
        return time_students(streams)


@contextlib.contextmanager
def _streams(
    config: TrainConfig, data: RunData | None, split: Split | None
) -> Iterator[tuple[list[Job], list[Stream], Collectives]]:
    """All students, and streams of the unfinished ones, ready to train, among the processes that torchrun started."""
    with joined_ranks(config.device) as joined:
        data = without_excluded(data or _open(config), config)
        jobs = plan_jobs(config, data, split)
        device = pick_device(config.device)
        ranks = Collectives(joined, device)
        with naming_memory(config):
            yield jobs, open_streams(jobs, data, device, ranks), ranks


@contextlib.contextmanager
def _alone(out: pathlib.Path, jobs: Sequence[Job], *, writes: bool) -> Iterator[None]:
    """The folder of a run, made if need be, under a lock that the system drops with the process. LockedStoreError where another
    command trains in it: both would write the same files."""
    if not writes:
        yield
        return
    out.mkdir(parents=True, exist_ok=True)
    lock = cache.FolderLock(out)
    try:
        for folder in (out, *(job.folder for job in jobs)):
            cache.remove_partials(folder)
        yield
    finally:
        lock.release()


def _open(config: TrainConfig) -> RunData:
    """What the command names. A split file says which classes there are, unless no label is read: that is refused by name later."""
    method = resolve_method(config.method, config.head, config.loss, not may_score_labels(config))
    split_file = config.split_file if method.reads_labels else None
    return open_data(config.store, config.targets, config.data, split_file, config.also)
