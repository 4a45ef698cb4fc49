"""The stage `tcs eval`: students of a run on the images of another store, as plain timm models.

Legend: N rows, m rows of a probe, S student width, B batch rows, C classes.
"""

import dataclasses
import pathlib
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

import cache
from tcs.augmentation.pixels import normalise
from tcs.checkpoint import CONFIG, FOLDED, SEEN, load_record, load_weights, require_parts, train_anew
from tcs.config.evaluate import EvalConfig
from tcs.config.plain import require_config, with_tuples
from tcs.errors import ArtefactError, DataError
from tcs.images.stored import decode_quietly, find_images
from tcs.methods.named import name_of
from tcs.metrics import accuracy, count_known, known_hashes, match_classes
from tcs.probes.ridge import RidgeProbe, fit_ridge
from tcs.runtime import pick_device, progress_bar
from tcs.splits.shots import all_labelled
from tcs.students.backbone import StudentSpec, create_backbone, parse_student, pre_logits

TURN_BYTES = 256 << 20  # of decoded images

FINISHED: Mapping[str, Any] = {  # what building a student takes from its record
    "identity": {"model": str},
    "student": {"name": str, "kwargs": dict},
    "classes": list,
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class FinishedStudent:
    """A trained student, read back from its folder: the plain timm model with the folded weights, and its record. A student
    that was trained without labels has no `classes` in it, and the model has num_classes=0."""

    folder: pathlib.Path
    model: nn.Module
    record: dict[str, Any]


def load_student(folder: str | pathlib.Path) -> FinishedStudent:
    """Read RUN/<student>/. ArtefactError where it is missing, failed, unfinished or broken."""
    folder = pathlib.Path(folder)
    record = load_record(folder)
    if record.get("state") == "failed":
        raise ArtefactError(
            f"student {folder} failed in training ({record.get('error')}); name the others with --model to evaluate them."
        )
    if record.get("state") != "finished":
        raise ArtefactError(f"student {folder} is not finished; run the same tcs train command again to resume it.")
    require_parts(folder / CONFIG, record, FINISHED, train_anew(folder))
    student = record["student"]
    spec = StudentSpec(text=record["identity"]["model"], name=student["name"], kwargs=with_tuples(student["kwargs"]))
    model = create_backbone(spec, len(record["classes"]))
    model.load_state_dict(load_weights(folder / FOLDED))
    return FinishedStudent(folder=folder, model=model.eval(), record=record)


def find_students(run: pathlib.Path, models: Sequence[str]) -> list[pathlib.Path]:
    """The student folders of a run, all or those of `models`. ArtefactError where there is none, or not that one."""
    found = sorted(path.parent for path in run.glob(f"*/{CONFIG}")) if run.is_dir() else []
    if not found:
        raise ArtefactError(f"run {run} holds no student; give the --out folder of a tcs train command.")
    wanted = [parse_student(model).folder for model in models]
    for name in wanted:
        if name not in {path.name for path in found}:
            raise ArtefactError(f"run {run} has no student '{name}'; it has {', '.join(path.name for path in found)}.")
    return [path for path in found if not wanted or path.name in wanted]


def evaluate(config: EvalConfig) -> list[dict[str, Any]]:
    """One row of metrics per student (percent, 4 decimals), with `seen` rows counted by content hash.

    With `config.probe`, a ridge probe of each student's frozen features, fitted on the labelled rows of that store, stands for
    its classifier. Raises ArtefactError for a missing or unfinished run and for a student without a classifier where no probe
    is asked for, DataError for a store without labels or with classes that the student or the probe does not know, or without
    images where `config.data` names none.
    """
    require_config(config, EvalConfig)
    folders = find_students(pathlib.Path(config.run), config.models)
    store = cache.open(pathlib.Path(config.store))
    students = [load_student(folder) for folder in folders]
    if config.probe is not None:
        return [probe_student(student, store, cache.open(pathlib.Path(config.probe)), config) for student in students]
    for student in students:
        _require_classifier(student, config)
    return [evaluate_student(student, store, config) for student in students]


def _require_classifier(student: FinishedStudent, config: EvalConfig) -> None:
    if not student.record["classes"]:
        raise ArtefactError(
            f"student {student.folder} was trained without labels and has no classifier; fit a probe of its features on a "
            f"store with labels: tcs eval {config.run} {config.store} --probe X.store."
        )


def evaluate_student(student: FinishedStudent, store: cache.Store, config: EvalConfig) -> dict[str, Any]:
    """The metrics of one student on every labelled row of `store`."""
    labels_N = match_classes(store, student.record["classes"])
    return _row(student, student.model, store, labels_N, config, known_hashes(student.folder / SEEN))


def probe_student(
    student: FinishedStudent, store: cache.Store, probe_store: cache.Store, config: EvalConfig
) -> dict[str, Any]:
    """The metrics on `store` of a ridge probe of the student's frozen features, fitted on every labelled row of `probe_store`.

    DataError where that store has no labels, or one class. Its images count as `seen` too.
    """
    if not probe_store.is_labelled:
        raise DataError(
            f"--probe {probe_store.path} has no labels, so no probe can be fitted; give a store with labels."
        )
    labels_N = match_classes(store, probe_store.classes, f"that {probe_store.path} does not have")
    rows_m = np.sort(all_labelled(probe_store.keys, probe_store.labels_N, probe_store.classes).rows_n)
    frozen = dataclasses.replace(student, model=_Features(student.model))
    features_mS, _ = predict_rows(frozen, probe_store, rows_m, dataclasses.replace(config, data=None))
    ridge = fit_ridge(features_mS, probe_store.labels_N[rows_m], len(probe_store.classes))
    known_n16 = np.concatenate([known_hashes(student.folder / SEEN), probe_store.hashes_N16[rows_m]])
    row = _row(student, _Probed(student.model, ridge), store, labels_N, config, known_n16)
    return row | {"probe": str(probe_store.path), "probe_rows": len(rows_m)}


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


def _row(
    student: FinishedStudent,
    model: nn.Module,
    store: cache.Store,
    labels_N: NDArray[np.int64],
    config: EvalConfig,
    known_n16: NDArray[np.uint8],
) -> dict[str, Any]:
    """The metrics of `model`, made of `student`, on the rows of `store` whose `labels_N` are not -1."""
    rows_N = np.flatnonzero(labels_N >= 0)
    details = student.record["student"]
    logits_NC, seconds = predict_rows(dataclasses.replace(student, model=model), store, rows_N, config)
    return {
        "model": student.record["identity"]["model"],
        "method": student.record["config"]["method"] or name_of(student.record["method"]),
        "store": str(store.path),
        "rows": len(rows_N),
        **accuracy(logits_NC, labels_N[rows_N]),
        "seen": count_known(store.hashes_N16[rows_N], known_n16),
        "param_count": round(details["parameters"] / 1e6, 4),
        "img_size": details["image_size"],
        "infer_samples_per_sec": round(len(rows_N) / seconds, 1),
        "cache_id": store.labelled_identity,
    }


def predict_rows(
    student: FinishedStudent, store: cache.Store, rows_N: NDArray[np.int64], config: EvalConfig
) -> tuple[NDArray[np.float32], float]:
    """Logits (N, C) float32 of rows of a store, and the seconds that the model took.

    Images are decoded and scored in turns, so that their number does not matter for memory. A turn is whole batches: the
    logits are those of all images at once.
    """
    details, read = student.record["student"], find_images(store, config.data)
    size, device = details["image_size"], pick_device(config.device)
    turn = config.batch_size * max(1, TURN_BYTES // (3 * size * size * config.batch_size))
    logits, seconds = [], 0.0
    with progress_bar(len(rows_N), "scoring", "images") as bar:
        for start in range(0, len(rows_N), turn):
            part_n = rows_N[start : start + turn]
            images_n3HW = decode_quietly(store, part_n, size, read, lambda _: None)
            started = time.perf_counter()
            logits.append(
                predict(student.model, images_n3HW, details["mean"], details["std"], device, config.batch_size)
            )
            seconds += time.perf_counter() - started
            bar.advance(len(part_n))
    return np.concatenate(logits), seconds


@torch.no_grad()
def predict(
    model: nn.Module,
    images_N3HW: Tensor,
    mean: Sequence[float],
    std: Sequence[float],
    device: torch.device,
    batch_size: int,
) -> NDArray[np.float32]:
    """Logits (N, C) float32 of uint8 images, in evaluation mode."""
    model = model.to(device=device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
    mean_311, std_311 = (torch.tensor(values, device=device).view(3, 1, 1) for values in (mean, std))
    logits = []
    for part in torch.split(images_N3HW, batch_size):
        inputs = normalise(part.to(device), mean_311, std_311).contiguous(memory_format=torch.channels_last)
        logits.append(model(inputs).float().cpu().numpy())
    return np.concatenate(logits)
