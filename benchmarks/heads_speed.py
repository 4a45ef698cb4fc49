"""Seconds and memory of coordinates and of spread labels, of random rows of any number: `python -m benchmarks.heads speed`.

Legend: N rows of the pool, M labelled rows, D teacher dims, K coordinates, B rows of a batch.
"""

import argparse
import contextlib
import resource
import time
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from tcs.coordinates.build import fit_coordinates
from tcs.pool_labels.options import PoolLabelOptions
from tcs.pool_labels.spread import PoolLabels, spread_labels
from tcs.training.head_rows import SoftLabels, linear_rows

BLOCK_ROWS = 8192

STEP_ROWS = 128

STEPS = 50


def measure_speed(arguments: argparse.Namespace) -> Iterator[str]:
    """A line for the coordinates of random rows, and one for each estimator: seconds of wall and of processors, and memory so far.

    A batch's soft labels are what a training step computes from coordinates where soft labels of all rows are not held.
    """
    rows, classes = arguments.rows, arguments.classes
    features_ND, labelled_M = random_features(rows, arguments.dims), np.arange(4 * classes)
    with timed() as seconds:
        system = fit_coordinates(features_ND, components=arguments.components)
        z_NK = np.empty((rows, arguments.components), np.float32)
        for start in range(0, rows, BLOCK_ROWS):
            z_NK[start : start + BLOCK_ROWS] = system.transform(features_ND[start : start + BLOCK_ROWS])
    place = f"{rows:,} x {arguments.dims} -> K={arguments.components}, {classes} classes"
    yield f"{place}: wall (processor) seconds of coordinates {seconds[0]}; {memory()}"
    for name in arguments.estimators:
        options = PoolLabelOptions(estimator=name, safety=not arguments.unchecked)
        with timed() as seconds:
            labels = spread_labels(z_NK, labelled_M, labelled_M % classes, classes, options)
        yield (
            f"{place}, {name}{' unchecked' * arguments.unchecked}: labels {seconds[0]}, soft labels of a batch of {STEP_ROWS}: "
            f"{batch_milliseconds(labels, z_NK):.2f} ms; {memory()}; {labels.reason or 'spread'}"
        )


@contextlib.contextmanager
def timed() -> Iterator[list[str]]:
    """A list that holds `wall (processor)` seconds of the block once that is done."""
    wall, processor, found = time.perf_counter(), time.process_time(), list[str]()
    yield found
    found.append(f"{time.perf_counter() - wall:.1f} ({time.process_time() - processor:.1f})")


def memory() -> str:
    """The most memory that this process has had."""
    peak_gib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return f"most memory {peak_gib:.2f} GiB; {torch.get_num_threads()} threads"


def batch_milliseconds(labels: PoolLabels, z_NK: NDArray[np.float32]) -> float:
    """Processor milliseconds of one batch's soft labels, the mean of STEPS batches of drawn rows."""
    unlabelled_N, linear = torch.full((len(z_NK),), -1), linear_rows(labels, torch.from_numpy(z_NK))
    soft = SoftLabels(heads=(linear,), labels_n=unlabelled_N)
    places = torch.randint(len(z_NK), (1 + STEPS, STEP_ROWS), generator=torch.Generator().manual_seed(0))
    soft.at(places[0], None)
    started = time.process_time()
    for place_B in places[1:]:
        soft.at(place_B, None)
    return 1000 * (time.process_time() - started) / STEPS


def random_features(rows: int, dims: int) -> NDArray[np.float16]:
    """Gaussian rows (N, D), float16, drawn block by block."""
    generator = np.random.default_rng(0)
    features_ND = np.empty((rows, dims), np.float16)
    for start in range(0, rows, BLOCK_ROWS):
        part_BD = features_ND[start : start + BLOCK_ROWS]
        part_BD[:] = generator.standard_normal(part_BD.shape, np.float32)
    return features_ND
