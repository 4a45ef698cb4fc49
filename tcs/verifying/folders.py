"""Folders: runs and their students, grids, exports, probes, and what holds several of them."""

import pathlib

import torch

from tcs.errors import ArtefactError
from tcs.inference.opening import find_models
from tcs.inference.runs import load_student
from tcs.plain_files import ARGS, CONFIG, FOLDED, LAST, RESUME, SEEN, SUMMARY, load_record, train_anew
from tcs.reporting.folder import open_grid
from tcs.reporting.rows import CELLS, LEDGER, PREDICTIONS, RECIPE, RESULTS
from tcs.verifying.files import (
    check_args,
    check_cells,
    check_metrics,
    check_predictions,
    check_probe,
    check_recipe,
    check_results,
    check_resume,
    check_seen,
    check_split,
    check_table,
    check_teachers,
    check_weights,
)
from tcs.verifying.kinds import kind_of
from tcs.verifying.outcome import Notes

OWN_SUFFIXES = (".store", ".h5", ".safetensors", ".onnx")
FINISHED, FAILED = "finished", "failed"
STUDENT_FILES = {SEEN: check_seen, SUMMARY: check_table, "metrics.jsonl": check_metrics}
GRID_FILES = {RESULTS: check_results, RECIPE: check_recipe, CELLS: check_cells}


def check_student(folder: pathlib.Path, notes: Notes) -> None:
    """RUN/STUDENT: the record, the weights against it, the log, and the images that were seen."""
    state = None
    with notes.part(f"{folder.name}/{CONFIG}"):
        state = load_record(folder).get("state")
        if state == FAILED:
            raise ArtefactError(f"student {folder} failed in training; {train_anew(folder)}.")
        if state != FINISHED:
            raise ArtefactError(f"student {folder} is not finished; run the same tcs train command again to resume it.")
    if state == FINISHED:
        with notes.part(f"{folder.name}: weights of the architecture that its {CONFIG} names"):
            load_student(folder)
        for name in (SEEN, FOLDED, LAST):
            if not (folder / name).exists():
                notes.problems.append(f"{folder / name} is missing; put it back, or {train_anew(folder)}.")
    for path in sorted(folder.glob("*.safetensors")):
        check_weights(path, notes)
    for name, check in STUDENT_FILES.items():
        if (folder / name).exists():
            check(folder / name, notes)
    if (folder / RESUME).exists():
        check_resume(folder / RESUME, notes)


def check_run(folder: pathlib.Path, notes: Notes) -> None:
    """The --out of tcs train: its options and every student."""
    if (folder / ARGS).exists():
        check_args(folder / ARGS, notes)
    students = sorted(path.parent for path in folder.glob(f"*/{CONFIG}"))
    if not students:
        notes.problems.append(f"{folder} holds no student; run the same tcs train command again.")
    for student in students:
        check_student(student, notes)


def check_grid(folder: pathlib.Path, notes: Notes) -> None:
    """The --out of tcs fewshot: rows, recipe, ledger, cells, splits, predictions, and every run that it kept."""
    for name, check in GRID_FILES.items():
        if (folder / name).exists():
            check(folder / name, notes)
    with notes.part(f"{LEDGER}, and rows, recipe and predictions together"):
        found = open_grid(folder)
        if found.coverage.failed or found.coverage.begun:
            count = len(found.coverage.failed) + len(found.coverage.begun)
            raise ArtefactError(
                f"{folder}: {count} cells failed or were begun and not finished; run tcs fewshot again."
            )
    check_predictions(folder / PREDICTIONS, notes)
    for path in sorted((folder / "splits").rglob("*")):
        if path.is_file() and not path.name.startswith("."):
            check_split(path, notes)
    for record in sorted((folder / "runs").glob(f"**/{CONFIG}")):
        check_student(record.parent, notes)


def check_export(path: pathlib.Path, notes: Notes) -> None:
    """A folder or .onnx file of tcs export: opened as tcs predict opens it."""
    with notes.part("card, and weights of the architecture that it names"):
        (opened,) = find_models(str(path))
        opened(torch.device("cpu"))
    weights = path / "model.safetensors"
    if path.is_dir() and weights.exists():
        check_weights(weights, notes)


def check_several(folder: pathlib.Path, notes: Notes) -> None:
    """What tcs distill makes, and any folder of stores and runs: each thing by its kind. Other files and folders are passed over."""
    for place in sorted(folder.iterdir()):
        is_own = place.suffix in OWN_SUFFIXES or (place.is_dir() and not place.name.startswith("."))
        kind = kind_of(place) if is_own else None
        if kind is not None:
            inner = Notes()
            kind.run(place, inner)
            notes.checked += [f"{place.name}: {what}" for what in inner.checked]
            notes.problems += inner.problems


def check_probe_folder(folder: pathlib.Path, notes: Notes) -> None:
    """The --out of tcs probe, of one store or of several."""
    for name, check in (("probe.json", check_probe), ("teachers.json", check_teachers)):
        if (folder / name).exists():
            check(folder / name, notes)
