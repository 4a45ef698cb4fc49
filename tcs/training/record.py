"""The files of a run and of each of its students: found there, begun, finished, or left by a student that failed."""

import dataclasses
import io
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import yaml
from numpy.typing import NDArray

import cache
from tcs.artefact import plain_json
from tcs.checkpoint import save_weights
from tcs.config.train import TrainConfig
from tcs.coordinates.lineage import grown_since
from tcs.coordinates.stores import open_stores
from tcs.errors import ArtefactError, shown
from tcs.images.stored import rules_of
from tcs.plain_files import CONFIG, FOLDED, LAST, RESUME, SEEN, load_record, require_parts, save_record, train_anew
from tcs.runtime import environment
from tcs.students.student import Student, normalisation
from tcs.training.calibration import calibration_of
from tcs.training.data import RunData, reads_coordinates
from tcs.training.feed import Feed
from tcs.training.finite import NotFiniteError
from tcs.training.jobs import Job
from tcs.training.log import delete_log
from tcs.training.loop import Cost
from tcs.training.trainer import Trainer

AVERAGED, DIVERGED = "averaged.safetensors", "diverged.safetensors"
TRAINING, FINISHED, FAILED = "training", "finished", "failed"

# Asked for each time, never by a file that a run left behind: one deletes, the other keeps the run from happening.
LEFT_OUT = ("overwrite", "dry_run")


def save_args(path: pathlib.Path, options: Mapping[str, Any]) -> None:
    """Write all options of a run, as timm writes its args.yaml, in their order, whole or not at all.

    `tcs train -c PATH` then makes an equal configuration, but for `overwrite` and `dry_run`, which are left out. Options
    that hold a mapping have no form in it and are refused by an assertion.
    """
    kept = {name: value for name, value in plain_json(dict(options)).items() if name not in LEFT_OUT}
    assert not any(isinstance(value, dict) for value in kept.values()), "options of a file are texts and lists of texts"
    # As PyYAML writes floats, 1.0e-05 and not 1e-05, other readers of YAML see a number too. No line is folded.
    text = yaml.safe_dump(kept, sort_keys=False, allow_unicode=True, width=float("inf"))
    head = f"# All options of this run, resolved. To repeat it: tcs train -c {path.name}\n"
    cache.atomic_write_bytes(path, (head + text).encode())


def is_finished(job: Job) -> bool:
    """Whether the folder holds this very run, finished, and is to be kept. ArtefactError where it holds another one."""
    if job.config.overwrite or not (job.folder / CONFIG).exists():
        return False
    found = load_record(job.folder)
    require_parts(job.folder / CONFIG, found, {"state": str, "identity": dict}, train_anew(job.folder))
    known, ours = found["identity"], plain_json(dict(job.identity))
    # What tells most first; options that came later are in an identity only where they are not at their defaults.
    for key in dict.fromkeys(["store_identity", "excluded", *ours, *known]):
        if known.get(key) != ours.get(key):
            there, here = (shown(identity.get(key), 80) for identity in (known, ours))
            grown = _grown(job, key, known.get(key))
            raise ArtefactError(
                f"{job.folder} was made with {key} {there}, this command has {here}{grown}; use another --out or --overwrite."
            )
    if found["state"] == FINISHED and not (job.folder / FOLDED).is_file():
        raise ArtefactError(
            f"{job.folder} says that it is finished, and its {FOLDED} is gone; put it back, or train it again with --overwrite."
        )
    return bool(found["state"] == FINISHED)


def _grown(job: Job, key: str, found: Any) -> str:
    """What to say where the store was another one: that it has grown since."""
    told = grown_since(open_stores(job.config.store, job.config.also), str(found)) if key == "store_identity" else None
    return "" if told is None else f": the student was {told}, so train it anew"


def begin(job: Job) -> None:
    """Make the student's folder, marked as in training; --overwrite clears it of what a run writes, and of nothing else."""
    job.folder.mkdir(parents=True, exist_ok=True)
    # The record first, so that the folder stays ours if killed here.
    save_record(job.folder, {"state": TRAINING, "identity": job.identity})
    if job.config.overwrite:
        for name in (LAST, FOLDED, AVERAGED, RESUME, SEEN, DIVERGED):
            (job.folder / name).unlink(missing_ok=True)
        delete_log(job.folder)


def save_student(trainer: Trainer, data: RunData, cost: Cost) -> None:
    """Write the weights, then the configuration that calls the folder finished, then drop what an unfinished run leaves."""
    job, folder = trainer.job, trainer.job.folder
    save_weights(folder / LAST, trainer.student.state_dict())
    if trainer.averaged is not None:
        save_weights(folder / AVERAGED, trainer.final.state_dict())
    save_weights(folder / FOLDED, trainer.final.folded_state())
    fitted = data.store.hashes_N16 if reads_coordinates(job.method, job.config) else None
    fitted = fitted if data.targets is None else data.targets.hashes_N16
    save_seen(folder / SEEN, data.store.hashes_N16[job.rows.rows_n], fitted)
    weights = "last" if trainer.averaged is None else "averaged"
    record = run_record(job, data, trainer.student, dataclasses.asdict(cost), weights, _coordinates_of(job, data))
    save_record(folder, record | {"calibration": calibration_of(trainer, data)})
    (folder / RESUME).unlink(missing_ok=True)
    (folder / DIVERGED).unlink(missing_ok=True)


def save_failure(job: Job, data: RunData, feed: Feed, failure: NotFiniteError, *, leads: bool = True) -> str:
    """Keep the batch on which a loss was not finite, and mark the folder; returns a sentence that names the file.

    All processes take part, the leading one writes.

    The file holds the images as shown (uint8), their positions in the run, rows in the store and labels (-1: none read).
    """
    batch = feed.batch(failure.step)
    shown_B3HW = feed.whole(batch)
    told = f"{failure} Its batch is in {job.folder / DIVERGED}."
    if not leads:
        return told
    rows_B = torch.from_numpy(job.rows.rows_n)[batch.positions_B]
    split = torch.isin(rows_B, torch.from_numpy(job.rows.split.rows_n))
    labels_B = torch.where(split, torch.from_numpy(np.asarray(data.store.labels_N, np.int64))[rows_B], -1)
    tensors = {"shown": shown_B3HW, "position": batch.positions_B, "row": rows_B, "label": labels_B}
    keys = "\n".join(data.store.keys[int(row)] for row in rows_B)
    save_weights(job.folder / DIVERGED, tensors, {"step": str(failure.step), "term": failure.term, "keys": keys})
    save_record(job.folder, {"state": FAILED, "identity": job.identity, "error": str(failure)})
    return told


def run_record(
    job: Job,
    data: RunData,
    student: Student,
    cost: Mapping[str, Any],
    weights: str = "last",
    coordinates: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """What config.json holds of a finished student: its options flat, as they are on the command line, and what they came to.

    `weights` says which of its weights are shipped, the last or the averaged ones; `coordinates` what those that it read are.
    """
    mean, std = normalisation(student.backbone)
    return {
        "state": FINISHED,
        "identity": job.identity,
        "config": job.config.options(),
        "method": dataclasses.asdict(job.method),
        "classes": list(job.classes),
        "coordinates": coordinates,
        "selection": None if job.selection is None else job.selection.to_json(),
        "stores_read": [str(store.path) for store in data.store.parts or (data.store,)],
        "student": {
            "name": job.spec.name,
            "kwargs": dict(job.spec.kwargs),
            "image_size": job.size,
            "mean": list(mean),
            "std": list(std),
            **rules_of(data.store).scaled_if(job.config.augment.scaled_decoding).entry,
            "parameters": sum(parameter.numel() for parameter in student.backbone.parameters()),
            "weights": weights,
        },
        "rows": {
            "labelled": len(job.rows.split.rows_n),
            "all": len(job.rows.rows_n),
            "held_out": len(job.rows.held_out.rows_N),
        },
        "recipe": numbers_of(job.config, job.steps, job.gates),
        "cost": dict(cost),
        "environment": environment(),
    }


def _coordinates_of(job: Job, data: RunData) -> dict[str, Any] | None:
    """What the coordinates of the run are, and where they come from; None where it reads none."""
    if not reads_coordinates(job.method, job.config):
        return None
    system = data.coordinates(job.config.readout).coordinates
    return {
        "from": "store" if data.targets is None else "targets",
        "method": system.method,
        "components": system.components,
        "power": system.power,
        "readout": system.readout,
        "rows_fitted": system.rows_fitted,
        "identity": system.identity,
    }


def numbers_of(config: TrainConfig, steps: int, gates: int | None) -> dict[str, Any]:
    """The numbers that a student's training followed, with those that are resolved: `steps`, and the `gates` that stay open."""
    return {
        "steps": steps,
        "batch_size": config.batch_size,
        "labelled_share": config.labelled_share,
        "mimic_view": config.mimic_view,
        "warmup_phase_share": config.warmup_phase_share,
        "pretrained": config.pretrained,
        "seed": config.seed,
        "gates": gates,
        "optimiser": dataclasses.asdict(config.optimiser),
        "augment": dataclasses.asdict(config.augment),
    }


def save_seen(path: pathlib.Path, trained_n16: NDArray[np.uint8], fitted_N16: NDArray[np.uint8] | None = None) -> None:
    """Content hashes (uint8, n x 16) of every image trained on or, through the coordinate system, fitted on."""
    hashes = trained_n16 if fitted_N16 is None else np.concatenate([trained_n16, fitted_N16])
    buffer = io.BytesIO()
    np.save(buffer, np.unique(hashes, axis=0), allow_pickle=False)
    cache.atomic_write_bytes(path, buffer.getvalue())
