"""What are the labels worth that `tcs suggest` asks for, beside those of images drawn at random? Heads of the frozen teacher.

    python benchmarks/suggest.py table STORES/cifar10-simclr STORES/flowers5 --out benchmarks/results/suggest/results.csv
    python benchmarks/suggest.py table STORES/flowers5 --development --out development.csv
    python benchmarks/suggest.py speed --rows 100000

`table`: STORES/flowers5 stands for STORES/flowers5-train.store and -test.store. Rounds of labelling up to 10, 40 and 160 images
in all: `suggest` chooses each round's by the labels of the rounds before, `random` draws them. Then the ridge and the
transductive probe (without its check, which costs four times as much) of the labelled images, in the first 128 principal
coordinates of the pool, are scored on all test images; a class that no labelled image shows is always wrong. `--development`
scores on a quarter of the training images, kept out of the pool, at seeds from 100 on: choices were made there. Reruns go on where the
CSV ends. `speed`: random rows, in seconds and memory.
Legend: N rows of the pool, M labelled rows, T rows that score, K coordinates, D features.
"""

import argparse
import pathlib
import resource
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

import cache
from tcs.coordinates.build import fit_coordinates
from tcs.labelling.choice import choose_rows
from tcs.labelling.points import points_of
from tcs.labelling.suggest import NO_LABELS
from tcs.plain_files import load_table, save_table
from tcs.pool_labels.options import RIDGE, PoolLabelOptions
from tcs.pool_labels.spread import spread_labels
from tcs.runtime import environment, seed_for
from tcs.splits.label_file import GivenLabels
from tcs.splits.pool import pool_rows

COMPONENTS, MOST_ROWS, SCORED_SHARE = 128, 5000, 0.25

BUDGETS = (10, 40, 160)

CHOOSERS = ("random", "suggest")

HEADS = {"ridge_top1": RIDGE, "transductive_top1": PoolLabelOptions().estimator}

F32 = NDArray[np.float32]

Ints = NDArray[np.int64]


def main(given: list[str] | None = None) -> None:
    """Run one part."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parts = parser.add_subparsers(dest="part", required=True)
    table = parts.add_parser("table")
    table.add_argument("stores", nargs="+", type=pathlib.Path)
    table.add_argument("--out", type=pathlib.Path, required=True)
    table.add_argument("--development", action="store_true")
    table.add_argument("--seeds", type=int, default=3)
    table.add_argument("--budgets", nargs="+", type=int, default=list(BUDGETS))
    speed = parts.add_parser("speed")
    speed.add_argument("--rows", type=int, default=100_000)
    speed.add_argument("--dims", type=int, default=768)
    speed.add_argument("--n", type=int, default=100)
    speed.add_argument("--classes", type=int, default=10)
    arguments = parser.parse_args(given)
    if arguments.part == "speed":
        print(measure_speed(arguments))
    else:
        write_table(arguments)


def write_table(arguments: argparse.Namespace) -> None:
    """Append the rows that the CSV lacks, one at a time."""
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    found = load_table(arguments.out)
    done = {(row["dataset"], row["chooser"], row["seed"]) for row in found}
    commit, first = environment()["commit"], 100 if arguments.development else 0
    for path in arguments.stores:
        pool, scored = open_data(path, arguments.development)
        for seed in range(first, first + arguments.seeds):
            for chooser in CHOOSERS:
                if (path.name, chooser, str(seed)) in done:
                    continue
                for row in rounds(pool, scored, chooser, arguments.budgets, seed):
                    found.append({"dataset": path.name, **row, "commit": commit})
                    print(" ".join(f"{value}" for value in found[-1].values()), flush=True)
                save_table(arguments.out, found)


def open_data(path: pathlib.Path, is_development: bool) -> tuple[tuple[F32, Ints], tuple[F32, Ints]]:
    """Features and labels of the pool (a seeded draw of MOST_ROWS) and of the rows that score."""
    store = cache.open(path.with_name(f"{path.name}-train.store"))
    x_ND, labels_N = rows_in(store)
    keys, scored = list(store.keys), None
    if is_development:
        order = np.random.default_rng(seed_for(0, "rows that score in development")).permutation(len(keys))
        cut = round(SCORED_SHARE * len(order))
        inside, outside = np.sort(order[cut:]), np.sort(order[:cut])
        scored = (x_ND[outside], labels_N[outside])
        x_ND, labels_N, keys = x_ND[inside], labels_N[inside], [keys[row] for row in inside]
    kept = pool_rows(keys, np.empty(0, np.int64), str(min(MOST_ROWS, len(keys))), 0)
    return (x_ND[kept], labels_N[kept]), scored or rows_in(cache.open(path.with_name(f"{path.name}-test.store")))


def rows_in(store: cache.Store) -> tuple[F32, Ints]:
    """Every row of a store, float32, and its label."""
    features_ND = store.features(next(iter(store.readouts)), resident_bytes=0)[:].astype(np.float32)
    return features_ND, store.labels_N


def rounds(
    pool: tuple[F32, Ints], scored: tuple[F32, Ints], chooser: str, budgets: list[int], seed: int
) -> Iterator[dict[str, Any]]:
    """A row for every budget: what the images cost to choose, how many classes they show, and what heads make of them."""
    x_ND, truth_N = pool
    points_NK = points_of(x_ND)
    system = fit_coordinates(x_ND, components=min(COMPONENTS, x_ND.shape[1]))
    z_NK, z_TK = system.transform(x_ND), system.transform(scored[0])
    labelled: list[int] = []
    for budget in budgets:
        started = time.process_time()
        labelled += choose(points_NK, labelled, truth_N, budget - len(labelled), chooser, seed)
        seconds = time.process_time() - started
        given = answers(labelled, truth_N)
        yield {
            "chooser": chooser,
            "n": budget,
            "seed": seed,
            "pool_n": len(x_ND),
            "test_n": len(z_TK),
            "classes": len(given.classes),
            **{name: accuracy(z_NK, given, z_TK, scored[1], head, seed) for name, head in HEADS.items()},
            "processor_seconds": round(seconds, 2),
        }


def choose(points_NK: F32, labelled: list[int], truth_N: Ints, n: int, chooser: str, seed: int) -> list[int]:
    """The rows of the next round."""
    if chooser == "random":
        order = np.random.default_rng(seed_for(seed, "images drawn at random")).permutation(len(points_NK))
        return [int(row) for row in order[len(labelled) : len(labelled) + n]]
    given = answers(labelled, truth_N) if labelled else NO_LABELS
    return [choice.row for choice in choose_rows(points_NK, n, given, seed)]


def answers(labelled: list[int], truth_N: Ints) -> GivenLabels:
    """What a person would say of these rows; class names are the numbers of classes that occur."""
    rows_M = np.array(sorted(labelled), np.int64)
    numbers, labels_M = np.unique(truth_N[rows_M], return_inverse=True)
    return GivenLabels(rows_M=rows_M, labels_M=labels_M, classes=tuple(str(number) for number in numbers))


def accuracy(z_NK: F32, given: GivenLabels, z_TK: F32, truth_T: Ints, estimator: str, seed: int) -> float:
    """Top-1 in percent on the rows that score."""
    options = PoolLabelOptions(estimator=estimator, seed=seed, safety=False)
    head = spread_labels(z_NK, given.rows_M, given.labels_M, len(given.classes), options)
    numbers = np.array([int(name) for name in given.classes])
    return round(100 * float((numbers[head.scores(z_TK).argmax(1)] == truth_T).mean()), 2)


def measure_speed(arguments: argparse.Namespace) -> str:
    """The first round and one more of random rows: processor and wall seconds, and the most memory that the process had."""
    generator = np.random.default_rng(0)
    x_ND = generator.standard_normal((arguments.rows, arguments.dims), np.float32)
    began = (time.perf_counter(), time.process_time())
    points_NK = points_of(x_ND)
    parts, labelled = [("points", began, (time.perf_counter(), time.process_time()))], list[int]()
    truth_N = generator.integers(0, arguments.classes, arguments.rows)
    for part in ("without labels", f"with {arguments.n} labels"):
        began = (time.perf_counter(), time.process_time())
        labelled += choose(points_NK, labelled, truth_N, arguments.n, "suggest", 0)
        parts.append((part, began, (time.perf_counter(), time.process_time())))
    times = "; ".join(f"{part} {end[0] - start[0]:.1f} s ({end[1] - start[1]:.1f} s)" for part, start, end in parts)
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return f"{arguments.rows} x {arguments.dims}, n={arguments.n}: {times} wall (processor); most memory {most:.2f} GiB"


if __name__ == "__main__":
    main()
