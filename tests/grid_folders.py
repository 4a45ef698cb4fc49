"""Folders of grids for the tests of reports: rows written as a grid writes them, with predictions and a ledger of cells."""

import csv
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tcs.reporting.results import load_runs
from tcs.reporting.rows import PREDICTIONS, cell_digest

COLUMNS = (
    *(
        "dataset",
        "model",
        "method",
        "shots",
        "seed",
        "split_id",
        "unlabelled",
        "status",
        "error",
        "top1",
        "top1_err",
        "top5",
    ),
    *(
        "balanced_acc",
        "nll",
        "ece",
        "params_m",
        "steps",
        "images_seen",
        "wall_s",
        "images_per_s",
        "peak_mem_mb",
        "gmacs",
    ),
    *("latency_ms", "online_teacher_s", "overlap", "near_overlap", "top1_clean"),
    *("teacher", "cache_id", "test_id", "targets_id", "recipe_id", "semantics", "commit"),
)
SHAPES = {"labels": 40.0, "kd": 50.0, "tcs-pool": 55.0}  # method -> accuracy at 1 shot


def grid_row(
    model: str, method: str, shots: int, seed: int, top1: Any, unlabelled: str = "none", **more: Any
) -> dict[str, Any]:
    """A row that is whole but for what `more` changes."""
    base = {"status": "ok", "teacher": "resnet18", "cache_id": "c1", "test_id": "t1", "commit": "f00d", "semantics": 1}
    cell = {"dataset": "", "model": model, "method": method, "shots": shots, "seed": seed, "unlabelled": unlabelled}
    return {**base, **cell, "split_id": f"{shots}-{seed}", "top1": top1, **more}


def write_rows(
    folder: pathlib.Path, rows: Sequence[Mapping[str, Any]], recipe: str = "", columns: Sequence[str] = COLUMNS
) -> pathlib.Path:
    """The folder with results.csv and, where it is given, recipe.yaml."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "results.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, restval="")
        writer.writeheader()
        writer.writerows(rows)
    if recipe:
        (folder / "recipe.yaml").write_text(recipe)
    return folder


def usual_rows(
    seeds: int = 5, datasets: Sequence[str] = ("",), models: Sequence[str] = ("vit",)
) -> list[dict[str, Any]]:
    """Methods of SHAPES and a reference at 1 and 4 shots: 10 points more at 4, and a seed's own whole points."""
    return [
        grid_row(
            model,
            method,
            shots,
            seed,
            base + 10 * (shots > 1) + seed % 3,
            dataset=dataset,
            wall_s=10.0 + index,
            params_m=0.5,
        )
        for dataset in datasets
        for shots in (1, 4)
        for seed in range(seeds)
        for model in (*models, "teacher")
        for index, (method, base) in enumerate(({"teacher-probe": 60.0} if model == "teacher" else SHAPES).items())
    ]


def write_predictions(
    folder: pathlib.Path, images: int = 40, classes: Sequence[str] = ("ant", "bee", "cow", "doe")
) -> None:
    """Predictions of every finished row of the folder: right on as many of the first images as its top-1 says, the next class beyond."""
    out = folder / PREDICTIONS
    out.mkdir(exist_ok=True)
    labels_N = np.arange(images) % len(classes)
    keys = np.array([f"{classes[label]}/{index}.png" for index, label in enumerate(labels_N)])
    np.savez(out / "test-t1.npz", keys=keys, labels=labels_N.astype(np.int16), classes=np.array(classes))
    for run in load_runs(folder):
        if run.top1 is not None:
            right_N = np.arange(images) < round(run.top1 / 100 * images)
            top1_N = np.where(right_N, labels_N, (labels_N + 1) % len(classes)).astype(np.int16)
            nll_N = np.linspace(0, 3, images).astype(np.float16)
            np.savez(out / f"{cell_digest(run.key)}.npz", top1_N=top1_N, nll_N=nll_N, test=np.array("t1"))


def write_states(folder: pathlib.Path, states: Sequence[tuple[Sequence[str], str]], torn: str = "") -> None:
    """cells.jsonl of (key, state) lines, with `torn` behind them."""
    lines = [json.dumps({"key": list(key), "state": state}) for key, state in states]
    (folder / "cells.jsonl").write_text("\n".join(lines) + "\n" + torn)
