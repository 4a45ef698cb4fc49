"""The stage `tcs eval`: students on labelled images, of a store or as they lie in a folder, tar or table, as plain timm models.

Legend: N rows, m rows of a probe, S student width, B batch rows, C classes.
"""

import dataclasses
import pathlib
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

import cache
from tcs.artefact import tell_other_rules
from tcs.config.evaluate import EvalConfig
from tcs.config.pixels import other_rules, student_rules_in
from tcs.errors import ConfigError, DataError
from tcs.evaluation.images import Labelled, judge_images, judge_rows, open_labelled
from tcs.evaluation.judged import Judged
from tcs.evaluation.mistakes import Mistakes, require_sheets, write_mistakes
from tcs.evaluation.scores import score
from tcs.evaluation.tables import save_rows
from tcs.images.stored import decode_quietly, find_images, is_store, rules_of
from tcs.inference.model import UsableModel
from tcs.inference.network import logits_of
from tcs.inference.opening import find_models, usable
from tcs.inference.predictions import require_free
from tcs.inference.runs import FinishedStudent
from tcs.methods.named import name_of
from tcs.metrics import count_known, known_hashes, match_classes
from tcs.plain_files import SEEN
from tcs.probes.ridge import RidgeProbe, fit_ridge
from tcs.runtime import pick_device, progress_bar, say
from tcs.splits.shots import all_labelled
from tcs.students.backbone import pre_logits

TURN_BYTES = 256 << 20  # of decoded images


def evaluate(config: EvalConfig) -> list[dict[str, Any]]:
    """One row of metrics per student, a mapping: accuracies in percent with 4 decimals, with the ends of 95 % intervals.

    `model`, `method`, `store` and how many `rows` were scored; `top1` and `top5` (Wilson 1927), `balanced` (mean recall of the classes
    that have images; bootstrap), `ece` at its temperature (Guo et al. 2017) and the `best_temperature` for these images (None without
    probabilities); `classes`, a mapping each, and `confusion`, counts (C, C), the true class first; `seen` images, by content hash,
    None where only the student's run could tell, and `broken` ones left out; `param_count` in millions, `img_size` in pixels.

    `config.store` is a store, or images as they lie. With `config.probe`, a ridge probe of each student's frozen features, fitted
    on the labelled rows of that store, stands for its classifier. `config.out` and `config.errors` are written as well. Raises
    ArtefactError for a missing or unfinished run and for a student without a classifier where no probe is asked for, DataError for
    images without labels or with classes that the student or the probe does not know, or for a store without images where
    `config.data` names none.
    """
    openers = find_models(config.run, config.models)
    _require_outputs(config)
    data = _open_data(config)
    device = pick_device(config.device)
    models = [opener(device) for opener in openers]
    for model in models:  # all of them, before the first is scored
        _require_scorable(model, config)
    for line in dict.fromkeys(
        line for model in models for line in (_other_rules(model, data), _told_scaled(model, data))
    ):
        if line is not None:
            say(line)
    judged = [(model, _judge(model, data, config)) for model in models]
    for sentence in dict.fromkeys(sentence for _, found in judged for sentence in found.notes):
        say(sentence)
    rows = [_row(model, found, config) for model, found in judged]
    if config.errors is not None:
        mistakes = [
            Mistakes(name=model.name, judged=found, temperature=config.temperature or model.card.temperature)
            for model, found in judged
        ]
        write_mistakes(pathlib.Path(config.errors), mistakes, overwrite=config.overwrite)
    if config.out is not None:
        save_rows(pathlib.Path(config.out), rows)
    return rows


def _require_outputs(config: EvalConfig) -> None:
    """ArtefactError for outputs that are there and not to be replaced, before anything is scored."""
    if config.out is not None:
        require_free(pathlib.Path(config.out), "--out", overwrite=config.overwrite)
    if config.errors is not None:
        require_sheets(pathlib.Path(config.errors), overwrite=config.overwrite)


def _open_data(config: EvalConfig) -> cache.Store | Labelled:
    """What is scored on. ConfigError for options that have no meaning for it."""
    if is_store(pathlib.Path(config.store)):
        config.refuse_source_options()
        return cache.open(pathlib.Path(config.store))
    if config.probe is not None or config.data is not None:
        option = "--probe" if config.probe is not None else "--data"
        raise ConfigError(
            f"{option} goes with a store, and {config.store} is none; leave it out, or extract the images."
        )
    return open_labelled(config)


def _require_scorable(model: UsableModel, config: EvalConfig) -> None:
    """Refuse a student that has no classifier, or of which none can be fitted."""
    if config.probe is None:
        model.require_classifier(
            f"fit a probe of its features on a store with labels: tcs eval {config.run} {config.store} --probe X.store"
        )
    elif model.student is None:
        raise ConfigError(f"--probe goes with students of a run, and {model.path} is none; give RUN or RUN/<student>.")


def _judge(model: UsableModel, data: cache.Store | Labelled, config: EvalConfig) -> Judged:
    if config.probe is not None and model.student is not None:
        assert isinstance(data, cache.Store)
        return probe_student(model.student, data, cache.open(pathlib.Path(config.probe)), config)
    if isinstance(data, Labelled):
        return judge_images(model, data, config)
    return judge_rows(model, data, config) if model.student is None else _judge_student(model.student, data, config)


def _other_rules(model: UsableModel, data: cache.Store | Labelled) -> str | None:
    """A line where a store shows its images otherwise than the student will see images in use."""
    if isinstance(data, Labelled):
        return None
    as_shown = rules_of(data).scaled_if(model.card.rules.scaled)
    return other_rules(as_shown, model.card.rules, str(data.path), str(model.path))


def _told_scaled(model: UsableModel, data: cache.Store | Labelled) -> str | None:
    """A line for a student that sees large JPEGs of a store at a fraction; images of other kinds are counted by what was done to them."""
    if not model.card.rules.scaled or isinstance(data, Labelled):
        return None
    return f"{model.path} was trained with --scaled-decoding, and is scored so: on large JPEGs at a half, a quarter or an eighth."


def _row(model: UsableModel, judged: Judged, config: EvalConfig) -> dict[str, Any]:
    """All columns of a student."""
    for path, reason in judged.broken:
        say(f"{path}: {reason}; left out")
    record = None if model.student is None else model.student.record
    run = model.card.run if record is None else record["config"]
    facts = {"infer_samples_per_sec": None, "cache_id": None} | judged.facts
    temperature = config.temperature or model.card.temperature
    return {
        "model": model.name if record is None else record["identity"]["model"],
        "method": run.get("method") or (name_of(record["method"]) if record else None),
        "store": facts.pop("store"),
        "rows": len(judged.labels_N),
        **score(
            judged.logits_NC, judged.labels_N, judged.classes, temperature, has_probabilities=judged.has_probabilities
        ),
        "seen": judged.known,
        "broken": len(judged.broken),
        "param_count": None if model.parameters is None else round(model.parameters / 1e6, 4),
        "img_size": model.card.size,
        **facts,
    }


def evaluate_student(student: FinishedStudent, store: cache.Store, config: EvalConfig) -> dict[str, Any]:
    """The row of one student of a run, as `evaluate` gives it, on every labelled row of `store`."""
    return _row(usable(student, pick_device(config.device)), _judge_student(student, store, config), config)


def _judge_student(student: FinishedStudent, store: cache.Store, config: EvalConfig) -> Judged:
    labels_N = match_classes(store, student.record["classes"])
    known_n16 = known_hashes(student.folder / SEEN)
    return _on_store(student, student.record["classes"], store, labels_N, config, known_n16)


def probe_student(student: FinishedStudent, store: cache.Store, probe_store: cache.Store, config: EvalConfig) -> Judged:
    """What a ridge probe of the student's frozen features says of `store`, fitted on every labelled row of `probe_store`.

    DataError where that store has no labels, or one class. Its images count as `known` too.
    """
    if not probe_store.is_labelled:
        raise DataError(
            f"--probe {probe_store.path} has no labels, so no probe can be fitted; give a store with labels."
        )
    tell_other_rules(store, probe_store)
    labels_N = match_classes(store, probe_store.classes, f"that {probe_store.path} does not have")
    rows_m = np.sort(all_labelled(probe_store.keys, probe_store.labels_N, probe_store.classes).rows_n)
    frozen = dataclasses.replace(student, model=_Features(student.model))
    features_mS, _ = predict_rows(frozen, probe_store, rows_m, dataclasses.replace(config, data=None))
    ridge = fit_ridge(features_mS, probe_store.labels_N[rows_m], len(probe_store.classes))
    known_n16 = np.concatenate([known_hashes(student.folder / SEEN), probe_store.hashes_N16[rows_m]])
    probed = dataclasses.replace(student, model=_Probed(student.model, ridge))
    judged = _on_store(probed, probe_store.classes, store, labels_N, config, known_n16)
    facts = judged.facts | {"probe": str(probe_store.path), "probe_rows": len(rows_m)}
    return dataclasses.replace(judged, facts=facts, has_probabilities=False)


class _Features(nn.Module):
    """The pre-logits of a plain timm model."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images_B3HW: Tensor) -> Tensor:
        """(B, S), float32."""
        return pre_logits(self.model, images_B3HW).float()


class _Probed(nn.Module):
    """A ridge probe on the features of a frozen model, computed in float64, as it was fitted."""

    def __init__(self, model: nn.Module, ridge: RidgeProbe) -> None:
        super().__init__()
        self.features = _Features(model)
        self.ridge = ridge

    def forward(self, images_B3HW: Tensor) -> Tensor:
        """Scores (B, C)."""
        return torch.from_numpy(self.ridge.logits(self.features(images_B3HW).cpu().numpy()))


def _on_store(
    student: FinishedStudent,
    classes: Sequence[str],
    store: cache.Store,
    labels_N: NDArray[np.int64],
    config: EvalConfig,
    known_n16: NDArray[np.uint8],
) -> Judged:
    """What `student` says of the rows of `store` whose `labels_N`, which index `classes`, are not -1."""
    rows_N = np.flatnonzero(labels_N >= 0)
    logits_NC, seconds = predict_rows(student, store, rows_N, config)
    read = find_images(store, config.data)
    return Judged(
        classes=classes,
        paths=[store.keys[row] for row in rows_N],
        labels_N=labels_N[rows_N],
        logits_NC=logits_NC,
        read=lambda number: read(int(rows_N[number])),
        rules=rules_of(store),
        known=count_known(store.hashes_N16[rows_N], known_n16),
        facts={
            "store": str(store.path),
            "infer_samples_per_sec": round(len(rows_N) / seconds, 1),
            "cache_id": store.labelled_identity,
        },
    )


def predict_rows(
    student: FinishedStudent, store: cache.Store, rows_N: NDArray[np.int64], config: EvalConfig
) -> tuple[NDArray[np.float32], float]:
    """Logits (N, C) float32 of rows of a store, and the seconds that the model took.

    Images are decoded and scored in turns, so that their number does not matter for memory. A turn is whole batches: the
    logits are those of all images at once.
    """
    details, read = student.record["student"], find_images(store, config.data)
    size, device = details["image_size"], pick_device(config.device)
    scaled = student_rules_in(details, str(student.folder)).scaled
    turn = config.batch_size * max(1, TURN_BYTES // (3 * size * size * config.batch_size))
    logits, seconds = [], 0.0
    with progress_bar(len(rows_N), "scoring", "images") as bar:
        for start in range(0, len(rows_N), turn):
            part_n = rows_N[start : start + turn]
            images_n3HW = decode_quietly(store, part_n, size, read, lambda _: None, scaled=scaled)
            started = time.perf_counter()
            logits.append(
                logits_of(student.model, images_n3HW, details["mean"], details["std"], device, config.batch_size)
            )
            seconds += time.perf_counter() - started
            bar.advance(len(part_n))
    return np.concatenate(logits), seconds
