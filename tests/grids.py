"""A tiny grid on made-up stores, for the tests of how grids are run."""

import csv
import pathlib
from typing import Any

import numpy as np
import yaml
from artefacts import make_store, make_targets
from numpy.typing import NDArray

import cache
from tcs.grid.references import answer_transductive
from tcs.metrics import match_classes

STUDENT = "resnet18,layers=(1,1,1,1),channels=(4,4,8,8)"
CIFAR = "cifar_resnet8"
CANNOT_BE_BUILT = "levit_128s,img_size=16"

# What the clock and the memory say: no two runs agree in it.
MEASURED = ("wall_s", "images_per_s", "peak_mem_mb", "latency_ms", "stream_students", "commit")


def make_stores(folder: pathlib.Path) -> pathlib.Path:
    """Stores and targets in `folder`."""
    make_store(folder / "train.store")
    make_store(folder / "test.store", seed=9, rows=30)
    make_targets(folder)
    return folder


def write_recipe(folder: pathlib.Path, **changes: Any) -> pathlib.Path:
    """A recipe of one split: two students by two methods, and the teacher's probe; keys that are None are left out."""
    recipe = {
        "train": str(folder / "train.store"),
        "test": str(folder / "test.store"),
        "targets": str(folder / "pca.h5"),
        "students": [STUDENT, CIFAR],
        "methods": ["labels", "tcs-probe"],
        "shots": [4],
        "seeds": [0],
        "unlabelled": [20],
        "references": ["teacher-probe"],
        "options": {"img_size": 16, "steps": 3, "batch_size": 16},
    } | changes
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump({key: value for key, value in recipe.items() if value is not None}))
    return path


def rows_of(out: pathlib.Path) -> list[dict[str, str]]:
    """The rows of a grid's folder."""
    with (out / "results.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def results(out: pathlib.Path) -> list[tuple[tuple[str, str], ...]]:
    """The rows in no order, without what the clock and the memory say."""
    rows = [{name: value for name, value in row.items() if name not in MEASURED} for row in rows_of(out)]
    return sorted(tuple(sorted(row.items())) for row in rows)


def score_transductive(
    train: cache.Store, test: cache.Store, rows_N: NDArray[np.int64], pool_P: NDArray[np.int64], *rest: Any
) -> dict[str, float]:
    """top1, top1_err and top5 of `answer_transductive` in percent."""
    truth_M = match_classes(test, train.classes)[test.labels_N >= 0]
    return answer_transductive(train, test, rows_N, pool_P, *rest).accuracies(truth_M)
