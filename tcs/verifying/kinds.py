"""What a file or folder is, by its own marks: names decide only where nothing in the file does."""

import dataclasses
import importlib
import json
import pathlib
from collections.abc import Callable

import h5py

from tcs.config.pretrain import RESUME
from tcs.images.stored import is_store
from tcs.ordinary import open_ordinary, require_ordinary
from tcs.verifying.outcome import Notes

HEAD_BYTES = 1 << 16
HDF5, PICKLED, ZIPPED = b"\x89HDF\r\n\x1a\n", b"\x80", b"PK\x03\x04"
FILES, FOLDERS, STORES = "tcs.verifying.files", "tcs.verifying.folders", "tcs.verifying.stores"


@dataclasses.dataclass(frozen=True)
class Kind:
    """`name` in words; `check` is a function of `module`, which is imported when it is asked for."""

    name: str
    module: str
    check: str

    def run(self, path: pathlib.Path, notes: Notes) -> None:
        """Look through `path`."""
        function: Callable[[pathlib.Path, Notes], None] = getattr(importlib.import_module(self.module), self.check)
        function(path, notes)


STORE = Kind("a feature store", STORES, "check_store")
COORDINATES = Kind("a coordinate system", FILES, "check_coordinates")
TARGETS = Kind("targets", FILES, "check_targets")
STUDENT = Kind("a student of a run", FOLDERS, "check_student")
RUN = Kind("a run of tcs train", FOLDERS, "check_run")
GRID = Kind("a grid of tcs fewshot", FOLDERS, "check_grid")
EXPORT = Kind("an exported student", FOLDERS, "check_export")
PROBE = Kind("results of tcs probe", FOLDERS, "check_probe_folder")
SEVERAL = Kind("a folder of several", FOLDERS, "check_several")
WEIGHTS = Kind("weights", FILES, "check_weights")
SPLIT = Kind("a split or label file", FILES, "check_split")

BY_NAME = {  # of files that are called so wherever they lie
    "resume.pt": Kind("the state of a stopped student", FILES, "check_resume"),
    "seen.npy": Kind("content hashes of images that were seen", FILES, "check_seen"),
    "metrics.jsonl": Kind("the log of a student", FILES, "check_metrics"),
    "cells.jsonl": Kind("the ledger of a grid's cells", FILES, "check_cells"),
    "results.csv": Kind("rows of a grid", FILES, "check_results"),
    "summary.csv": Kind("the summary of a log", FILES, "check_table"),
    "probe.json": Kind("results of tcs probe", FILES, "check_probe"),
    "teachers.json": Kind("results of tcs probe of several stores", FILES, "check_teachers"),
    "args.yaml": Kind("options of a run", FILES, "check_args"),
}
UNFINISHED_TEACHER = Kind("the state of an unfinished teacher", FILES, "check_pretraining")
RECIPE = Kind("a recipe of tcs fewshot", FILES, "check_recipe")


def kind_of(path: pathlib.Path) -> Kind | None:
    """The kind of `path`, which exists; None for what tcs did not write. OSError where it cannot be read."""
    return _of_folder(path) if path.is_dir() else _of_file(path)


def _of_folder(folder: pathlib.Path) -> Kind | None:
    for kind, marks in (
        (STORE, ("manifest.json",)),
        (GRID, ("ledger.json", "results.csv")),
        (PROBE, ("probe.json", "teachers.json")),
        (EXPORT, ("tcs.json",)),
        (RUN, ("args.yaml",)),
    ):
        if any((folder / mark).exists() for mark in marks):
            return kind
    if (folder / "config.json").exists():
        return EXPORT if _is_timms(folder / "config.json") else STUDENT
    if is_store(folder) or any(folder.glob("shard-*.h5")):
        return STORE
    if any(folder.glob("*/manifest.json")) or any(folder.glob("*/args.yaml")):
        return SEVERAL
    return RUN if any(folder.glob("*/config.json")) else None


def _is_timms(path: pathlib.Path) -> bool:
    """Whether a config.json is of timm, which names an architecture at its top."""
    with open_ordinary(path) as file:
        try:
            content = json.loads(file.read(HEAD_BYTES))
        except (ValueError, RecursionError):
            return False
    return isinstance(content, dict) and "architecture" in content


def _holds_facts(path: pathlib.Path, head: bytes) -> bool:
    """Whether an HDF5 file is of targets, which hold `facts`; by its first bytes where it cannot be opened."""
    try:
        require_ordinary(path)
        with h5py.File(path, "r") as file:
            return "facts" in file
    except Exception:  # libhdf5's errors come as any
        return b"facts" in head


def _of_file(path: pathlib.Path) -> Kind | None:
    with open_ordinary(path) as file:
        head = file.read(HEAD_BYTES)
    if path.name in BY_NAME:
        return BY_NAME[path.name]
    if path.name.endswith(RESUME):
        return UNFINISHED_TEACHER
    if head.startswith(HDF5):
        return TARGETS if _holds_facts(path, head) else STORE
    if path.suffix == ".safetensors":
        return COORDINATES if b"tcs-coordinates" in head else WEIGHTS
    if path.suffix in (".yaml", ".yml"):
        return RECIPE
    if path.suffix == ".onnx":
        return EXPORT
    is_text = not head.startswith((PICKLED, ZIPPED)) and path.suffix in (".txt", ".csv", ".json", ".tsv", "")
    return SPLIT if is_text else None
