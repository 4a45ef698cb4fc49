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

Legend: n rows of this run, m labelled rows, S student width.
"""

import dataclasses
import io
import pathlib
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import cache
from tcs.checkpoint import CONFIG, FOLDED, LAST, RESUME, SEEN, SUMMARY, load_json, save_json, save_table, save_weights
from tcs.config.extract import as_json
from tcs.config.train import TrainConfig
from tcs.errors import ArtefactError, ConfigError
from tcs.grid.pixel_trainer import TEMPERATURE, Outcome, PixelTrainer, train_pixels
from tcs.methods.named import Method
from tcs.probes.ridge import fit_ridge
from tcs.runtime import environment, pick_device, progress_bar, say
from tcs.splits.pool import pool_rows
from tcs.splits.shots import Split
from tcs.students.backbone import StudentSpec, parse_student
from tcs.students.student import StudentPlan, build_student, normalisation
from tcs.training.data import Source, find_split
from tcs.training.jobs import image_size
from tcs.training.recipe import Recipe, make_recipe
from tcs.training.record import as_plain

SEMANTICS = 2  # raised by hand, when the same settings would give other weights
KEPT_SEMANTICS = (1,)  # of finished students that stay as they are: other random views, from the same distributions

METHOD = Method(
    head="linear", loss="nt-xent", about="SimCLR on the pixels of the pool, then a ridge probe of the labels"
)

LEAST_IMAGES = 2

# Options of the cells that this training does not have: with one of them it would be no equal of theirs.
NOT_FOLLOWED = ("layer_decay", "clip_mode", "grad_accum_steps", "amp", "torchcompile", "model_ema", "freeze", "sync_bn")


@dataclasses.dataclass(frozen=True, kw_only=True)
class PixelRun:
    """One student of the reference: rows_n (int64, sorted) are those whose pixels it sees, `split` those with a label."""

    config: TrainConfig
    source: Source
    spec: StudentSpec
    recipe: Recipe
    split: Split
    rows_n: NDArray[np.int64]
    size: int
    folder: pathlib.Path

    @property
    def identity(self) -> dict[str, Any]:
        """All that decides the weights, as JSON."""
        recipe: dict[str, Any] = as_plain(as_json(self.recipe))
        nested = [recipe.pop(part) for part in ("optimiser", "augment")]
        recipe.pop("method")
        return {**recipe, **nested[0], **nested[1]} | {
            "reference": "same-pixels",
            "semantics": _semantics_of(self.folder),
            "temperature": TEMPERATURE,
            "model": self.spec.text,
            "image_size": self.size,
            "unlabelled": self.config.unlabelled,
            "store_identity": self.source.store.identity,
            "split_digest": self.split.digest,
        }


def train_same_pixels(config: TrainConfig, source: Source) -> pathlib.Path:
    """Train the one student of `config` and return its folder, which holds what `tcs train` leaves there.

    Reads the pixels of the pool and the labels of the split; no feature, coordinate or hash bit. `method`, `loss`, `targets`
    and what goes with them are not looked at. A finished student is left alone, an unfinished one resumes; on CPU with the
    same thread count the result is the same bit for bit. ConfigError without a pool, or where a step has one image.
    """
    run = _plan(config, source)
    if _is_finished(run):
        say(f"{run.folder} is finished; nothing to do.")
        return run.folder
    trainer = _make_trainer(run)
    run.folder.mkdir(parents=True, exist_ok=True)
    save_json(run.folder / CONFIG, {"state": "training", "identity": run.identity})
    say(
        f"{run.spec.text}: {METHOD.about}; {run.recipe.steps:,} steps of {trainer.images} images in two views "
        f"({len(run.rows_n):,} rows, {len(run.split.rows_n):,} labelled for the probe)."
    )
    with progress_bar(run.recipe.steps, run.spec.name, "steps") as bar:
        outcome = train_pixels(trainer, bar, run.folder, cache.digest_of_json(run.identity), config.checkpoint_every)
    _install_probe(run, trainer)
    _save(run, trainer, outcome)
    return run.folder


def _plan(config: TrainConfig, source: Source) -> PixelRun:
    spec, split = parse_student(config.models[0]), find_split(source.store, config)
    split_seed = config.seed if config.split_seed is None else config.split_seed
    rows_n = pool_rows(source.store.keys, split.rows_n, config.unlabelled, split_seed)
    if config.unlabelled == "none" or len(rows_n) == len(split.rows_n):
        raise ConfigError(
            f"same-pixels has no pool (unlabelled is {config.unlabelled}, {len(split.rows_n)} labelled rows); it compares "
            "with methods that see unlabelled pixels: give them, or leave it out of `references`."
        )
    _refuse_options(config)
    size = config.img_size or image_size(spec)
    recipe = make_recipe(dataclasses.replace(config, epochs=None), METHOD, 0, len(rows_n))
    if config.epochs is not None:  # of the pool, which every batch comes from
        steps = config.epochs * len(rows_n) // min(recipe.batch_size, len(rows_n))
        recipe = dataclasses.replace(recipe, steps=max(1, steps))
    if min(recipe.batch_size, len(rows_n)) < 2 * LEAST_IMAGES:
        raise ConfigError(
            f"same-pixels has a batch of {min(recipe.batch_size, len(rows_n))}; it shows half as many images, twice each, and "
            "tells them apart: use a --batch-size of 4 or more."
        )
    return PixelRun(
        config=config,
        source=source,
        spec=spec,
        recipe=recipe,
        split=split,
        rows_n=rows_n,
        size=size,
        folder=pathlib.Path(config.out) / spec.folder,
    )


def _refuse_options(config: TrainConfig) -> None:
    """Raise ConfigError for an option of the other cells that would not be followed here."""
    defaults = {field.name: field.default for field in dataclasses.fields(config)}
    for name in NOT_FOLLOWED:
        value = getattr(config, name)
        if value != defaults[name]:
            raise ConfigError(
                f"same-pixels does not follow --{name.replace('_', '-')} (now {value}), and would not be trained as the other "
                "cells are; leave it out of `references`, or the option out of `options`."
            )


def _semantics_of(folder: pathlib.Path) -> int:
    """The number of this release, or that of the finished student of an earlier one in `folder`."""
    found = load_json(folder / CONFIG) if (folder / CONFIG).exists() else {}
    recorded = found.get("identity", {}).get("semantics")
    return int(recorded) if found.get("state") == "finished" and recorded in KEPT_SEMANTICS else SEMANTICS


def _is_finished(run: PixelRun) -> bool:
    """Whether the folder holds this very run, finished. ArtefactError where it holds another one."""
    if not (run.folder / CONFIG).exists():
        return False
    found = load_json(run.folder / CONFIG)
    for key, value in run.identity.items():
        if found["identity"].get(key) != value:
            there = str(found["identity"].get(key))[:80]
            raise ArtefactError(
                f"{run.folder} was made with {key} {there}, this run has {str(value)[:80]}; use another --out."
            )
    return bool(found["state"] == "finished")


def _make_trainer(run: PixelRun) -> PixelTrainer:
    """The student at the start that every cell gives it, and the pixels of the pool; no label."""
    plan = StudentPlan(
        spec=run.spec,
        n_classes=len(run.source.store.classes),
        components=None,
        reads_coordinates=False,
        image_size=run.size,
        pretrained=run.config.pretrained,
        seed=run.config.seed,
    )
    images_n3HW = run.source.resident(run.rows_n, run.size)
    return PixelTrainer(build_student(plan), images_n3HW, run.recipe, run.spec.text, pick_device(run.config.device))


def _install_probe(run: PixelRun, trainer: PixelTrainer) -> None:
    """Ridge regression of the split's labels on the frozen student's features becomes its classifier."""
    rows_m = np.sort(run.split.rows_n)
    features_mS = trainer.clean_features(torch.from_numpy(np.searchsorted(run.rows_n, rows_m)))
    store = run.source.store
    ridge = fit_ridge(features_mS, store.labels_N[rows_m], len(store.classes))
    classifier = trainer.student.classifier
    assert classifier is not None
    with torch.no_grad():
        classifier.weight.copy_(torch.as_tensor(ridge.weight_CK))
        classifier.bias.copy_(torch.as_tensor(ridge.bias_C))


def _save(run: PixelRun, trainer: PixelTrainer, outcome: Outcome) -> None:
    """Write the weights, then the configuration that calls the folder finished, then drop the resume file."""
    save_weights(run.folder / LAST, trainer.student.state_dict())
    save_weights(run.folder / FOLDED, trainer.student.folded_state())
    save_table(run.folder / SUMMARY, outcome.summary)
    _save_seen(run.folder / SEEN, run.source.store.hashes_N16[run.rows_n])
    save_json(run.folder / CONFIG, _record(run, trainer, outcome))
    (run.folder / RESUME).unlink(missing_ok=True)


def _save_seen(path: pathlib.Path, hashes_n16: NDArray[np.uint8]) -> None:
    """Content hashes of every image trained on."""
    buffer = io.BytesIO()
    np.save(buffer, np.unique(hashes_n16, axis=0), allow_pickle=False)
    cache.atomic_write_bytes(path, buffer.getvalue())


def _record(run: PixelRun, trainer: PixelTrainer, outcome: Outcome) -> dict[str, Any]:
    """What config.json holds of a finished student: the same as of every other."""
    mean, std = normalisation(trainer.student.backbone)
    parameters = sum(parameter.numel() for parameter in trainer.student.backbone.parameters())
    return {
        "state": "finished",
        "identity": run.identity,
        "config": as_json(run.config) | {"method": "same-pixels"},
        "method": dataclasses.asdict(METHOD),
        "classes": list(run.source.store.classes),
        "stores_read": [str(run.source.store.path)],
        "student": {
            "name": run.spec.name,
            "kwargs": dict(run.spec.kwargs),
            "image_size": run.size,
            "mean": list(mean),
            "std": list(std),
            "parameters": parameters,
        },
        "rows": {"labelled": len(run.split.rows_n), "all": len(run.rows_n)},
        "recipe": {key: value for key, value in as_json(run.recipe).items() if key != "method"},
        "cost": {key: value for key, value in as_json(outcome).items() if key != "summary"},
        "environment": environment(),
    }
