"""The files of one student's folder in a run: found there, begun, finished, or left by a student that failed.

args.yaml: the resolved options of a run, as timm writes them; `-c args.yaml` repeats the run.
"""

import dataclasses
import io
import pathlib
from typing import Any

import numpy as np
import torch
import yaml

import cache
from cache import atomic_write_bytes
from tcs.checkpoint import CONFIG, FOLDED, LAST, RESUME, SEEN, load_json, save_json, save_weights
from tcs.config.extract import as_json
from tcs.errors import ArtefactError
from tcs.runtime import environment
from tcs.training.feed import Feed
from tcs.training.finite import NotFiniteError
from tcs.training.jobs import Job
from tcs.training.log import delete_log
from tcs.training.loop import Outcome
from tcs.training.trainer import Trainer

# Asked for each time, never by a file that a run left behind: one deletes, the other keeps the run from happening.
LEFT_OUT = ("overwrite", "dry_run")


def save_args(path: pathlib.Path, config: Any) -> None:
    """Write all options of `config`, a configuration of tcs.config.extract, in its order, whole or not at all.

    `tcs train -c PATH` then makes an equal configuration, but for `overwrite` and `dry_run`, which are left out. Options
    that hold a mapping have no form in it and are refused by an assertion.
    """
    options = {key: _plain(value) for key, value in as_json(config).items() if key not in LEFT_OUT}
    assert not any(isinstance(value, dict) for value in options.values()), (
        "options of a file are texts and lists of texts"
    )
    # As PyYAML writes floats, 1.0e-05 and not 1e-05, other readers of YAML see a number too. No line is folded.
    text = yaml.safe_dump(options, sort_keys=False, allow_unicode=True, width=float("inf"))
    head = f"# All options of this run, resolved. To repeat it: tcs train -c {path.name}\n"
    atomic_write_bytes(path, (head + text).encode())


def _plain(value: Any) -> Any:
    return [_plain(entry) for entry in value] if isinstance(value, tuple) else value


AVERAGED, DIVERGED = "averaged.safetensors", "diverged.safetensors"

TRAINING, FINISHED, FAILED = "training", "finished", "failed"


def is_finished(job: Job, identity: dict[str, Any]) -> bool:
    """Whether the folder holds this very run, finished, and is to be kept. ArtefactError where it holds another one."""
    if job.config.overwrite or not (job.folder / CONFIG).exists():
        return False
    found = load_json(job.folder / CONFIG)
    ours = as_plain(identity)
    for key, value in ours.items():
        if found["identity"].get(key) != value:
            there = str(found["identity"].get(key))[:80]
            raise ArtefactError(
                f"{job.folder} was made with {key} {there}, this command has {str(value)[:80]}; use another --out or --overwrite."
            )
    return bool(found["state"] == FINISHED)


def as_plain(value: Any) -> Any:
    """`value` as JSON gives it back: tuples become lists."""
    if isinstance(value, tuple | list):
        return [as_plain(item) for item in value]
    return {key: as_plain(item) for key, item in value.items()} if isinstance(value, dict) else value


def begin(job: Job, identity: dict[str, Any]) -> None:
    """Make the student's folder, marked as in training; --overwrite clears it of what a run writes, and of nothing else."""
    job.folder.mkdir(parents=True, exist_ok=True)
    # The record first, so that the folder stays ours if killed here.
    save_json(job.folder / CONFIG, {"state": TRAINING, "identity": identity})
    if job.config.overwrite:
        for name in (LAST, FOLDED, AVERAGED, RESUME, SEEN, DIVERGED):
            (job.folder / name).unlink(missing_ok=True)
        delete_log(job.folder)


def save_student(job: Job, trainer: Trainer, outcome: Outcome, identity: dict[str, Any]) -> None:
    """Write the weights, then the configuration that calls the folder finished, then drop what an unfinished run leaves."""
    save_weights(job.folder / LAST, trainer.student.state_dict())
    if trainer.averaged is not None:
        save_weights(job.folder / AVERAGED, trainer.final.state_dict())
    save_weights(job.folder / FOLDED, trainer.final.folded_state())
    _save_seen(job)
    save_json(job.folder / CONFIG, run_record(job, trainer, outcome, identity))
    (job.folder / RESUME).unlink(missing_ok=True)
    (job.folder / DIVERGED).unlink(missing_ok=True)


def save_failure(job: Job, feed: Feed, failure: NotFiniteError, identity: dict[str, Any], *, leads: bool = True) -> str:
    """Keep the batch on which a loss was not finite, and mark the folder; returns a sentence that names the file.

    All processes take part, the leading one writes.

    The file holds the images as shown (uint8), their positions in the run, rows in the store and labels (-1: none read).
    """
    batch = feed.batch(failure.step)
    shown_B3HW = feed.whole(batch)
    told = f"{failure} Its batch is in {job.folder / DIVERGED}."
    if not leads:
        return told
    rows_B = torch.from_numpy(job.rows_n)[batch.positions_B]
    split = torch.isin(rows_B, torch.from_numpy(job.split.rows_n))
    labels_B = torch.where(split, torch.from_numpy(np.asarray(job.source.store.labels_N, np.int64))[rows_B], -1)
    tensors = {"shown": shown_B3HW, "position": batch.positions_B, "row": rows_B, "label": labels_B}
    keys = "\n".join(job.source.store.keys[int(row)] for row in rows_B)
    save_weights(job.folder / DIVERGED, tensors, {"step": str(failure.step), "term": failure.term, "keys": keys})
    save_json(job.folder / CONFIG, {"state": FAILED, "identity": identity, "error": str(failure)})
    return told


def run_record(job: Job, trainer: Trainer, outcome: Outcome, identity: dict[str, Any]) -> dict[str, Any]:
    """What config.json holds of a finished student."""
    return {
        "state": FINISHED,
        "identity": identity,
        "config": as_json(job.config),
        "method": dataclasses.asdict(job.method),
        "classes": list(job.classes),
        "stores_read": [str(job.source.store.path)],
        "student": {
            "name": job.spec.name,
            "kwargs": dict(job.spec.kwargs),
            "image_size": job.size,
            "mean": list(trainer.around.mean),
            "std": list(trainer.around.std),
            "parameters": sum(parameter.numel() for parameter in trainer.student.backbone.parameters()),
            "weights": "last" if trainer.averaged is None else "averaged",
        },
        "rows": {"labelled": len(job.split.rows_n), "all": len(job.rows_n), "held_out": len(job.held_out.rows_N)},
        "recipe": {key: value for key, value in dataclasses.asdict(trainer.recipe).items() if key != "method"},
        "cost": dataclasses.asdict(outcome),
        "environment": environment(),
    }


def _save_seen(job: Job) -> None:
    """Content hashes (uint8, n x 16) of every image trained on or, through the coordinate system, fitted on."""
    trained = job.source.store.hashes_N16[job.rows_n]
    fitted = job.source.targets.hashes_N16 if job.source.targets is not None else trained[:0]
    buffer = io.BytesIO()
    np.save(buffer, np.unique(np.concatenate([trained, fitted]), axis=0), allow_pickle=False)
    cache.atomic_write_bytes(job.folder / SEEN, buffer.getvalue())
