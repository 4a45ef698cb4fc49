"""The reference `same-pixels` of a few-shot grid: a student that sees the pixels of the pool methods, and no teacher.

Without it a gain over `labels` may be the pool's rather than the teacher's. The student is trained by SimCLR (Chen et al.
2020, arXiv 2002.05709) on exactly the rows whose pixels a pool method reads (the labelled and the unlabelled ones), without
a label. Then a ridge probe is fitted on its frozen pre-logits of the split's labelled rows (clean view), and folded into
its timm classifier: what is scored is a plain student. (`teacher-probe` fits the same ridge on features of unit length;
a length of its own for every row would not fold.)

Equal to the cells: the student and its random start, steps, batch, optimiser, schedule, decay, clipping. Images seen are
forward passes of the student in training. A step of b forwards (b is the batch, or the pool where that is smaller, made even)
shows b / 2 images, two views each: steps and forwards are those of `tcs-probe`, whose batch comes from the pool as a whole;
the distinct images of a step are halved. The probe's one clean pass over the labelled rows is not counted.

Published and not tuned: views by appendix B.9 (tcs.simclr; the mirror image as the recipe's `hflip` says), temperature
0.5 (B.9, and the authors' command for CIFAR-10), two-layer projection head (section 4.2). Not the published optimiser
(LARS), nor its length.

Legend: n rows of this run, m labelled rows, S student width, C classes.
"""

import dataclasses
import pathlib
from typing import Any

import numpy as np
import torch

from tcs.artefact import plain_json
from tcs.checkpoint import save_weights
from tcs.config.optimiser import OptimiserConfig
from tcs.config.train import TrainConfig, without_later
from tcs.errors import ConfigError, option_name
from tcs.grid.pixel_trainer import TEMPERATURE, PixelRun, PixelTrainer, train_pixels
from tcs.methods.named import Method
from tcs.plain_files import FOLDED, LAST, RESUME, SEEN, SUMMARY, save_record, save_table
from tcs.probes.ridge import fit_ridge
from tcs.runtime import pick_device, say
from tcs.splits.held_out import nothing_held_out
from tcs.splits.pool import pool_of
from tcs.splits.shots import Split, split_of, split_seed_of
from tcs.students.backbone import StudentSpec, parse_student
from tcs.training.data import RunData
from tcs.training.jobs import Job, RunRows, image_size
from tcs.training.phases import DEFAULT_STEPS
from tcs.training.progress import ShowSteps, show_steps
from tcs.training.record import begin, is_finished, numbers_of, run_record, save_seen

SEMANTICS = 2  # raised by hand, when the same settings would give other weights

METHOD = Method(
    head="linear",
    loss="nt-xent",
    about="SimCLR on the pixels of the pool, then a ridge probe of the labels",
)

LEAST_IMAGES = 2

# Options of the cells that this training does not have: with one of them it would be no equal of theirs.
NOT_FOLLOWED = ("layer_decay", "clip_mode", "grad_accum_steps", "amp", "torchcompile", "model_ema", "freeze", "sync_bn")


def train_same_pixels(
    config: TrainConfig, data: RunData, split: Split | None = None, show: ShowSteps = show_steps
) -> pathlib.Path:
    """Train the one student of `config` and return its folder, which holds what `tcs train` leaves there.

    Reads the pixels of the pool and the labels of the split (of `split`, where it is drawn already); no feature, coordinate or
    hash bit. `show` shows its steps. `method`, `loss`, `targets` and what goes with them are not looked at. A finished student is left
    alone, an unfinished one resumes; on CPU with the same thread count the result is the same bit for bit. ConfigError without a
    pool, or where a step has one image.
    """
    job = plan_same_pixels(config, data, split)
    if is_finished(job):
        say(f"{job.folder} is finished; nothing to do.")
        return job.folder
    images_n3HW = data.resident(job.rows.rows_n, job.size, scaled=config.augment.scaled_decoding)
    trainer = PixelTrainer(job, images_n3HW, pick_device(config.device))
    begin(job)
    say(
        f"{job.name}: {METHOD.about}; {job.steps:,} steps of {trainer.images} images in two views "
        f"({len(job.rows.rows_n):,} rows, {len(job.rows.split.rows_n):,} labelled for the probe)."
    )
    with show(job.steps, job.spec.name, 2 * trainer.images) as bar:
        run = train_pixels(trainer, bar, job.folder)
    _install_probe(trainer, data)
    _save(trainer, data, run)
    return job.folder


def plan_same_pixels(config: TrainConfig, data: RunData, split: Split | None = None) -> Job:
    """The student at the start that every cell gives it, on the rows of a method that uses the pool. ConfigError as in
    `train_same_pixels`."""
    spec, rows = parse_student(config.models[0]), _rows(config, data, split or split_of(data.store, config))
    pool, batch = len(rows.rows_n), min(config.batch_size, len(rows.rows_n))
    if config.unlabelled == "none" or pool == len(rows.split.rows_n):
        raise ConfigError(
            f"same-pixels has no pool (unlabelled is {config.unlabelled}, {len(rows.split.rows_n)} labelled rows); it compares "
            "with methods that see unlabelled pixels: give them, or leave it out of `references`."
        )
    _refuse_options(config.optimiser)
    if batch < 2 * LEAST_IMAGES:
        raise ConfigError(
            f"same-pixels has a batch of {batch}; it shows half as many images, twice each, and tells them apart: use a "
            "--batch-size of 4 or more."
        )
    size = config.img_size or image_size(spec)
    steps = config.steps or DEFAULT_STEPS if config.epochs is None else max(1, config.epochs * pool // batch)
    return Job(
        spec=spec,
        config=config,
        method=METHOD,
        rows=rows,
        steps=steps,
        size=size,
        classes=tuple(data.store.classes),
        identity=_identity(spec, config, steps, size, rows, data),
    )


def _rows(config: TrainConfig, data: RunData, split: Split) -> RunRows:
    """The labelled rows and the whole pool: nothing is watched, so nothing is kept out for it."""
    rows_n = pool_of(data.store, split.rows_n, config.unlabelled, split_seed_of(config))
    return RunRows(split=split, rows_n=rows_n, held_out=nothing_held_out("a reference is not watched."))


def _identity(
    spec: StudentSpec, config: TrainConfig, steps: int, size: int, rows: RunRows, data: RunData
) -> dict[str, Any]:
    """All that decides the weights, as JSON."""
    numbers = plain_json(numbers_of(config, steps, gates=None))
    parts = [numbers.pop(part) for part in ("optimiser", "augment")]
    return without_later({**numbers, **parts[0], **parts[1]}) | {
        "reference": "same-pixels",
        "semantics": SEMANTICS,
        "temperature": TEMPERATURE,
        "model": spec.text,
        "image_size": size,
        "unlabelled": config.unlabelled,
        "store_identity": data.store.labelled_identity,
        "split_digest": rows.split.digest,
    }


def _refuse_options(config: OptimiserConfig) -> None:
    """Raise ConfigError for an option of the other cells that would not be followed here."""
    defaults = {field.name: field.default for field in dataclasses.fields(config)}
    for name in NOT_FOLLOWED:
        value = getattr(config, name)
        if value != defaults[name]:
            raise ConfigError(
                f"same-pixels does not follow {option_name(name)} (now {value}), and would not be trained as the other cells "
                "are; leave it out of `references`, or the option out of `options`."
            )


def _install_probe(trainer: PixelTrainer, data: RunData) -> None:
    """Ridge regression of the split's labels on the frozen student's features becomes its classifier."""
    rows, store = trainer.job.rows, data.store
    rows_m = np.sort(rows.split.rows_n)
    features_mS = trainer.clean_features(torch.from_numpy(np.searchsorted(rows.rows_n, rows_m)))
    ridge = fit_ridge(features_mS, store.labels_N[rows_m], len(store.classes))
    classifier = trainer.student.classifier
    assert classifier is not None
    with torch.no_grad():
        classifier.weight.copy_(torch.as_tensor(ridge.weight_CK))
        classifier.bias.copy_(torch.as_tensor(ridge.bias_C))


def _save(trainer: PixelTrainer, data: RunData, run: PixelRun) -> None:
    """Write the weights, then the configuration that calls the folder finished, then drop the resume file."""
    job, cost = trainer.job, dataclasses.asdict(run)
    save_weights(job.folder / LAST, trainer.student.state_dict())
    save_weights(job.folder / FOLDED, trainer.student.folded_state())
    save_table(job.folder / SUMMARY, cost.pop("summary"))
    save_seen(job.folder / SEEN, data.store.hashes_N16[job.rows.rows_n])
    record = run_record(job, data, trainer.student, cost)
    save_record(job.folder, record | {"config": record["config"] | {"method": "same-pixels"}})
    (job.folder / RESUME).unlink(missing_ok=True)
