"""What do several teachers' caches of the same images say together? Heads of the frozen teachers, no student.

    python -m benchmarks.several_teachers STORES/cifar10-simclr STORES/cifar10-lite2 --out results.csv
    python -m benchmarks.several_teachers ... --development --shots 1 4 16 --out development.csv

STORES/a stands for STORES/a-train.store and -test.store, as in benchmarks/heads.py. A row is one split: labels of k images a class are
spread over the pool in the coordinates (principal, the first 128) of each teacher, in their joined ones, and `averaged`, whose soft labels
are the mean of those by each teacher. Scored on all test images, or with `--development` on a quarter of the training images, kept out of
the pool, with splits from seed 100 on: the default of `tcs train --pool-teachers` was chosen there. Reruns go on where the CSV ends.

Legend: T rows that score, C classes.
"""

import argparse
import itertools
import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from benchmarks.heads import Case, Data, accuracy, make_case, open_data, spread
from tcs.plain_files import load_table, save_table
from tcs.pool_labels.options import RIDGE, PoolLabelOptions
from tcs.runtime import environment

AVERAGED = "averaged"

KEY = ("teachers", "shots", "seed")


def main(given: list[str] | None = None) -> None:
    """Append the rows that the CSV lacks, a split at a time."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("stores", nargs="+", type=pathlib.Path)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--development", action="store_true")
    parser.add_argument("--shots", nargs="+", type=int, default=[1, 4])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--most", type=int, default=20_000, help="rows of a pool at most; a seeded draw")
    arguments = parser.parse_args(given)
    found = load_table(arguments.out)
    done, commit = {tuple(row[name] for name in KEY) for row in found}, environment()["commit"]
    data = [open_data(path, arguments) for path in arguments.stores]
    data.append(open_data(arguments.stores[0], arguments, arguments.stores[1:]))
    first = 100 if arguments.development else 0
    for shots, seed in itertools.product(arguments.shots, range(first, first + arguments.seeds)):
        if (AVERAGED, str(shots), str(seed)) in done:
            continue
        rows = [row | {"shots": shots, "seed": seed, "commit": commit} for row in rows_of(data, shots, seed)]
        found.extend(rows)
        save_table(arguments.out, found)
        print("\n".join(" ".join(f"{value}" for value in row.values()) for row in rows), flush=True)


def rows_of(data: list[Data], shots: int, seed: int) -> Iterator[dict[str, Any]]:
    """A row for each of the teachers, then the joined one, then the averaged one, all of one split."""
    soft = []
    for each in data:
        case = make_case(each, "full", shots, seed)
        labels = spread(case, PoolLabelOptions(seed=seed))
        soft.append(labels.soft_labels(case.z_TK))
        probe = spread(case, PoolLabelOptions(estimator=RIDGE))
        yield _sizes(case) | {
            "teachers": each.name,
            "ridge_top1": accuracy(probe, case),
            "top1": accuracy(labels, case),
            "fell_back": labels.fell_back,
        }
    mean_TC = np.mean(soft[:-1], axis=0)
    top1 = round(100 * float((mean_TC.argmax(1) == case.truth_T).mean()), 2)
    yield _sizes(case) | {"teachers": AVERAGED, "ridge_top1": "", "top1": top1, "fell_back": ""}


def _sizes(case: Case) -> dict[str, Any]:
    return {"pool_n": len(case.z_NK), "test_n": len(case.z_TK)}


if __name__ == "__main__":
    main()
