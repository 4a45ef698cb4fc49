"""Every command that writes, small enough to be stopped thousands of times: what `door_signals.py` stops, and what of its files may differ
between two runs that nobody stopped."""

import csv
import dataclasses
import io
import json
import pathlib
import struct
from collections.abc import Mapping
from typing import Any

from door_table import STUDENT, TEACHER, TRAIN

# Fields that say when, where and how fast a command ran, or how often it was begun
OF_THE_RUN = frozenset(
    {
        *(
            "wall_seconds",
            "step_seconds",
            "share_seconds",
            "wait_share",
            "peak_mib",
            "seconds",
            "at",
            "where",
            "attempt",
        ),
        *(
            "images_per_s",
            "data_wait",
            "wall_s",
            "peak_mem_mb",
            "online_teacher_s",
            "latency_ms",
            "digest",
            "provenance",
        ),
        *(
            "infer_samples_per_sec",
            "infer_step_time",
            "extracted_at",
            "environment",
            "gmacs_seconds",
            "cost",
            "commit",
            "made_with",
            "fit_s",
        ),
    }
)
NOT_RESULTS = (".lock", ".cells", "logs", "args.yaml", "stderr.txt", "told")


@dataclasses.dataclass(frozen=True)
class Writer:
    """A command, and the files and folders that it writes, relative to the folder of `doors.prepare`; `changes` are of these some that
    are there before."""

    arguments: tuple[str, ...]
    outputs: tuple[str, ...]
    changes: tuple[str, ...] = ()


WRITERS: Mapping[str, Writer] = {
    "extract": Writer(("extract", "few", "--out", "new.store", *TEACHER, "--rows-per-shard", "4", "-b", "4"), ("new.store",)),
    "fit": Writer(("fit", "train.store", "--components", "4", "--ceiling-shots", "2", "--out", "new.safetensors"), ("new.safetensors",)),
    "targets": Writer(("targets", "train.store", "c.safetensors", "--bits", "32", "--out", "new.h5"), ("new.h5",)),
    "train": Writer(("train", "train.store", "--targets", "t.h5", "--out", "new", *TRAIN), ("new",)),
    "fewshot": Writer(("fewshot", "recipe.yaml", "--out", "new"), ("new",)),
    "eval": Writer(("eval", "run", "test.store", "--out", "new.csv", "--overwrite"), ("new.csv",)),
    "predict": Writer(("predict", "run", "few", "--out", "new.csv", "--overwrite"), ("new.csv",)),
    "export": Writer(("export", "run", "--to", "timm", "--out", "new"), ("new",)),
    "suggest": Writer(("suggest", "train.store", "--n", "4", "--out", "new.csv"), ("new.csv",)),
    "audit": Writer(("audit", "train.store", "--out", "new.csv"), ("new.csv",)),
    "look": Writer(("look", "train.store", "--out", "new.html"), ("new.html",)),
    "report": Writer(("report", "grid", "--out", "new.html"), ("new.html",)),
    "probe": Writer(
        ("probe", "train.store", "--test", "test.store", "--dims", "4", "--shots", "2", "--seed", "0", "--out", "new"), ("new",)
    ),
    "cache label": Writer(("cache", "label", "train.store", "--label-file", "labels.csv"), ("train.store",), ("train.store",)),
    "cache pack": Writer(("cache", "pack", "train.store", "--out", "new.h5"), ("new.h5",)),
    "cache unpack": Writer(("cache", "unpack", "packed.h5", "--out", "new.store"), ("new.store",)),
    "cache merge": Writer(("cache", "merge", "train.store", "test.store", "--out", "new.store"), ("new.store",)),
    "cache subset": Writer(("cache", "subset", "train.store", "--keys", "keys.txt", "--out", "new.store"), ("new.store",)),
    "cache export": Writer(("cache", "export", "train.store", "--out", "new"), ("new",)),
    "cache import": Writer(("cache", "import", "plain", "--out", "new.store"), ("new.store",)),
    "cache update": Writer(("cache", "update", "grown.store"), ("grown.store", "grown.store.old"), ("grown.store",)),
    "distill": Writer(
        ("distill", "few", "--labels", "folder", "--out", "new", *TEACHER, "--test", "images", "--model", STUDENT, "--steps", "2",
         "--student-batch-size", "4", "--student-img-size", "16", "--method", "labels", "--shots", "1"),
        ("new",),
    ),
    "suggest pictures": Writer(
        ("suggest", "train.store", "--n", "4", "--out", "new.csv", "--sheet", "new.png", "--folder", "new"),
        ("new.csv", "new.png", "new"),
    ),
}  # fmt: skip


def state_of(folder: pathlib.Path, outputs: tuple[str, ...]) -> dict[str, Any]:
    """What of the outputs must be equal however often the command was stopped: every file by its name, without fields OF_THE_RUN."""
    found: dict[str, Any] = {}
    for output in outputs:
        place = folder / output
        for path in sorted(place.rglob("*")) if place.is_dir() else [place]:
            name = path.relative_to(folder).as_posix()
            if path.is_file() and not any(part in NOT_RESULTS for part in path.parts) and path.suffix != ".partial":
                found[name] = lasting(path)
    return found


def lasting(path: pathlib.Path) -> Any:
    """The content of a file without fields OF_THE_RUN; bytes where it has none."""
    data = path.read_bytes()
    if path.suffix == ".json":
        return _plain(json.loads(data))
    if path.name == "cells.jsonl":  # of a cell that was begun twice the last line counts, and cells come in any order
        lines = [json.loads(line) for line in data.splitlines()]
        return {line["cell"]: _plain(line) for line in lines}
    if path.suffix == ".jsonl":
        return [_plain(json.loads(line)) for line in data.splitlines()]
    if path.suffix == ".csv":
        rows = list(csv.DictReader(io.StringIO(data.decode(errors="replace"), newline="")))
        return sorted((_plain(row) for row in rows), key=str)
    if path.suffix == ".safetensors":
        return _tensors(data)
    if path.suffix == ".h5" and data.startswith(b"\x89HDF"):
        return _datasets(data)
    return data


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(name): _plain(part) for name, part in value.items() if name not in OF_THE_RUN}
    return [_plain(part) for part in value] if isinstance(value, list) else value


def _tensors(data: bytes) -> tuple[Any, bytes]:
    """Header and values of a .safetensors file; texts of the header that are JSON without what is of the run."""
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    told = {name: _text(text) for name, text in header.pop("__metadata__", {}).items()}
    return (told, header), data[8 + length :]


def _text(text: str) -> Any:
    try:
        return _plain(json.loads(text))
    except ValueError:
        return text


def _datasets(data: bytes) -> dict[str, Any]:
    """Every data set of an HDF5 file; the header of targets without what is of the run."""
    import h5py

    found: dict[str, Any] = {}

    def take(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            raw = item[...].tobytes()
            found[name] = _plain(json.loads(raw)) if name == "facts" else raw

    with h5py.File(io.BytesIO(data), "r") as file:
        file.visititems(take)
    return found
