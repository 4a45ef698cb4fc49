"""Single files: coordinates, targets, weights, resume states, logs, splits, results, exports.

Legend: K coordinates, H hash bits.
"""

import csv
import itertools
import json
import math
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import safetensors
import yaml

from tcs.checkpoint import START_AGAIN, load_resume
from tcs.config.train import TrainConfig
from tcs.coordinates.system import load_coordinates
from tcs.coordinates.targets import open_targets
from tcs.errors import ArtefactError, first_line
from tcs.grid.recipe_file import load_grid
from tcs.metrics import known_hashes
from tcs.ordinary import open_ordinary, read_ordinary, read_text, require_ordinary
from tcs.reporting.predicted import load_arrays
from tcs.reporting.rows import load_rows
from tcs.schemas.check import broken_rule, load_checked, require_schema
from tcs.schemas.grids import CellLine
from tcs.schemas.probes import ProbeRecord, TeachersRecord
from tcs.schemas.runs import PretrainState, ResumeState
from tcs.splits.label_file import read_label_lines
from tcs.training.metrics import load_metrics
from tcs.verifying.outcome import Notes

MEASURE_AGAIN = "run tcs probe again with --overwrite"


def check_coordinates(path: pathlib.Path, notes: Notes) -> None:
    """Header, shapes, identity, and values that are finite."""
    system = None
    with notes.part("header, shapes and identity"):
        system = load_coordinates(path)
    if system is not None:
        with notes.part(f"{system.components} of {system.dims} axes, all finite"):
            _require_finite(path, system.arrays(), "tcs fit")


def check_targets(path: pathlib.Path, notes: Notes) -> None:
    """Header, shapes, identity, and finite values."""
    targets = None
    with notes.part("header, shapes and identity"):
        targets = open_targets(path)
    if targets is not None:
        rows, bits = len(targets.z_NK), len(targets.thresholds_H)
        values = {"coordinates": targets.z_NK, "rotation": targets.rotation_HK, "thresholds": targets.thresholds_H}
        with notes.part(f"{rows:,} rows of {targets.z_NK.shape[-1]} coordinates and {bits} bits, all finite"):
            _require_finite(path, values | {"rms": targets.rms_H}, "tcs targets")


def check_weights(path: pathlib.Path, notes: Notes) -> None:
    """Every tensor of a .safetensors file can be read; floating ones are finite."""
    with notes.part("tensors, all finite"):
        require_ordinary(path)
        try:
            with safetensors.safe_open(str(path), framework="pt") as file:
                for name in file.keys():  # noqa: SIM118 (a handle, no mapping)
                    tensor = file.get_tensor(name)
                    if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
                        raise ArtefactError(f"{path}: '{name}' holds values that are not finite; make it again.")
        except safetensors.SafetensorError as error:
            raise ArtefactError(f"{path} cannot be read ({first_line(error)}); fetch or make it again.") from error


def check_resume(path: pathlib.Path, notes: Notes) -> None:
    """The plain part of a resume state."""
    with notes.part("state"):
        require_schema(path, load_resume(path), ResumeState, START_AGAIN)


def check_pretraining(path: pathlib.Path, notes: Notes) -> None:
    """The plain part of the state of an unfinished teacher."""
    with notes.part("state"):
        again = "delete it to start this teacher again"
        require_schema(path, load_resume(path, again), PretrainState, again)


def check_seen(path: pathlib.Path, notes: Notes) -> None:
    """Content hashes of images that were trained on."""
    with notes.part("content hashes"):
        known_hashes(path)


def check_metrics(path: pathlib.Path, notes: Notes) -> None:
    """Every line is a row, and their steps rise."""
    with notes.part("rows of the log"):
        steps = [row["step"] for row in load_metrics(path)]
        if any(later < earlier for earlier, later in itertools.pairwise(steps)):
            raise ArtefactError(f"metrics {path} go back in steps; train again with --overwrite.")


def check_cells(path: pathlib.Path, notes: Notes) -> None:
    """Every line of cells.jsonl is a record; one that a kill cut short at the end is none."""
    with notes.part("records of cells"):
        *lines, _ = read_ordinary(path).split(b"\n")
        for number, line in enumerate(lines, 1):
            try:
                told = broken_rule(json.loads(line), CellLine)
            except (ValueError, RecursionError) as error:
                told = first_line(error)
            if told is not None:
                raise ArtefactError(f"{path} line {number} is no record of a cell ({told}); delete that line.")


def check_split(path: pathlib.Path, notes: Notes) -> None:
    """A split or label file: every line gives a key a class."""
    with notes.part("lines"):
        lines = read_label_lines(path)
        if not lines:
            raise ArtefactError(f"{path} labels nothing; write one image a line.")


def check_results(path: pathlib.Path, notes: Notes) -> None:
    """results.csv of a grid, line by line."""
    with notes.part("rows"):
        load_rows(path)


def check_table(path: pathlib.Path, notes: Notes) -> None:
    """summary.csv: as many values as columns in every line."""
    with notes.part("table"), open_ordinary(path) as file:
        try:
            lines = list(csv.reader(file.read().decode().splitlines(), strict=True))
        except (csv.Error, UnicodeDecodeError) as error:
            raise ArtefactError(f"{path} is no table ({error}); train again with --overwrite.") from error
        if len({len(line) for line in lines}) > 1:
            raise ArtefactError(f"{path} has lines of different lengths; train again with --overwrite.")


def check_probe(path: pathlib.Path, notes: Notes) -> None:
    """probe.json."""
    with notes.part("record"):
        load_checked(path, ProbeRecord, MEASURE_AGAIN)


def check_teachers(path: pathlib.Path, notes: Notes) -> None:
    """teachers.json."""
    with notes.part("record"):
        load_checked(path, TeachersRecord, MEASURE_AGAIN)


def check_args(path: pathlib.Path, notes: Notes) -> None:
    """args.yaml of a run: a mapping of options that make a configuration."""
    with notes.part("options"):
        try:
            options = yaml.safe_load(read_text(path))
            TrainConfig.from_options(options)
        except (yaml.YAMLError, ValueError, TypeError, AttributeError, RecursionError) as error:
            raise ArtefactError(f"{path} holds no options of tcs train ({first_line(error)}); train again.") from error


def check_recipe(path: pathlib.Path, notes: Notes) -> None:
    """A recipe of tcs fewshot, without the stores that it names."""
    with notes.part("recipe"):
        load_grid(path)


def check_predictions(folder: pathlib.Path, notes: Notes) -> None:
    """Arrays of every file in predictions/."""
    for path in sorted(folder.glob("*.npz")):
        with notes.part(f"{path.parent.name}/{path.name}"):
            load_arrays(path)


def _require_finite(path: pathlib.Path, arrays: Mapping[str, Any], maker: str) -> None:
    for name, array in arrays.items():
        if not math.isfinite(float(np.abs(array).max(initial=0))):
            raise ArtefactError(f"{path}: '{name}' holds values that are not finite; make it again with {maker}.")
