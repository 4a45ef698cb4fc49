"""Which K coordinates of a frozen teacher say most: the first K principal axes, or those that the pool's soft labels keep?

    python -m benchmarks.pool_selection STORES/digits STORES/flowers5 ... --out benchmarks/results/heads/selection.csv

STORES/digits stands for STORES/digits-train.store. Development splits alone: seeds from 100 on, scored on a quarter of the training
images, kept out of the pool; no test store is opened. Of each split the first 256 principal axes of the pool are fitted, the labels of k
images a class are spread over it, and sets of 16, 32 and 64 axes are taken: the first ones, those kept by the k labelled rows alone, and
those kept by the soft labels of the whole pool. `pool_top1` is the head that the soft labels fit on the set (what a
student learns in `pool-head`), `shots_top1` the ridge probe of the k labelled rows on it. `chosen` rows have the size that
`--selection pool` picks. Reruns go on where the CSV ends. Legend: K coordinates, A active ones, as in heads.py.
"""

import argparse
import itertools
import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.heads import Case, Data, make_case, open_data
from tcs.coordinates.pool_selection import LabelledPool, select_from_pool, soft_gram
from tcs.coordinates.selection import rank_coordinates, rank_from_gram
from tcs.plain_files import load_table, save_table
from tcs.pool_labels.options import PoolLabelOptions
from tcs.probes.gram import Gram
from tcs.probes.ridge import fit_ridge
from tcs.runtime import environment

COMPONENTS = 256
SIZES = (16, 32, 64)
FIRST_SEED = 100
KEY = ("dataset", "shots", "seed")
Ints = NDArray[np.int64]


def main(given: list[str] | None = None) -> None:
    """Append the splits that the CSV lacks, one at a time, and print the table of means."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("stores", nargs="+", type=pathlib.Path)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--shots", nargs="+", type=int, default=[1, 4])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--most", type=int, default=3000, help="rows of a pool at most; a seeded draw")
    arguments = parser.parse_args(given)
    arguments.development = True
    found, commit = load_table(arguments.out), environment()["commit"]
    done = {tuple(row[name] for name in KEY) for row in found}
    for path in arguments.stores:
        data = open_data(path, arguments)
        seeds = range(FIRST_SEED, FIRST_SEED + arguments.seeds)
        for shots, seed in itertools.product(arguments.shots, seeds):
            if (data.name, str(shots), str(seed)) in done:
                continue
            found += [row | {"commit": commit} for row in rows_of(data, shots, seed)]
            save_table(arguments.out, found)
    print("\n".join(table_of(found)))


def rows_of(data: Data, shots: int, seed: int) -> Iterator[dict[str, Any]]:
    """The rows of one split: all coordinates, the three kinds of sets at each size, and the set of the chosen size."""
    case = make_case(data, "full", shots, seed, COMPONENTS)
    pool = LabelledPool(z_NK=case.z_NK, labelled_M=case.labelled_M, labels_M=case.labels_M, n_classes=case.n_classes)
    options = PoolLabelOptions(seed=seed)
    gram = soft_gram(pool, pool.spread(options))
    about = {"dataset": data.name, "shots": shots, "seed": seed, "pool_n": len(case.z_NK), "test_n": len(case.z_TK)}
    for kind, active_A in sets_of(case, pool, gram, options):
        scores = {"pool_top1": pool_accuracy(gram, active_A, case), "shots_top1": shots_accuracy(active_A, case)}
        yield about | {"set": kind, "size": len(active_A)} | scores


def sets_of(case: Case, pool: LabelledPool, gram: Gram, options: PoolLabelOptions) -> Iterator[tuple[str, Ints]]:
    """Pairs (kind, coordinates)."""
    width = case.z_NK.shape[1]
    sizes = [size for size in SIZES if size < width]
    yield "all", np.arange(width)
    by_shots = rank_coordinates(case.z_NK[case.labelled_M], case.labels_M, case.n_classes, sizes)
    by_pool = rank_from_gram(gram, sizes)
    for size in sizes:
        yield "first", np.arange(size)
        yield "shots", by_shots[size]
        yield "pool", by_pool[size]
    chosen_A = select_from_pool(pool, options, "").active_k
    yield "chosen", chosen_A
    yield "first, as many", np.arange(len(chosen_A))


def pool_accuracy(gram: Gram, active_A: Ints, case: Case) -> float:
    """Top-1 in percent of the ridge head of the soft labels."""
    weight_CA, bias_C, _ = gram.kept(active_A).ridge()
    return round(100 * float(((case.z_TK[:, active_A] @ weight_CA.T + bias_C).argmax(1) == case.truth_T).mean()), 2)


def shots_accuracy(active_A: Ints, case: Case) -> float:
    """Top-1 in percent of the ridge probe of the labelled rows."""
    probe = fit_ridge(case.z_NK[case.labelled_M][:, active_A], case.labels_M, case.n_classes)
    return round(probe.accuracy(case.z_TK[:, active_A], case.truth_T), 2)


def table_of(rows: list[dict[str, Any]]) -> list[str]:
    """Markdown: a line for each data set and shots, means over the seeds, `first -> pool` at each size and at the chosen one."""
    sizes = list(dict.fromkeys(str(row["size"]) for row in rows if row["set"] == "pool"))
    lines = [
        f"| | all | {' | '.join(f'K = {size}' for size in sizes)} | chosen K |",
        "|---|" + "---|" * (len(sizes) + 2),
    ]
    for dataset, shots in dict.fromkeys((row["dataset"], str(row["shots"])) for row in rows):
        own = [row for row in rows if (row["dataset"], str(row["shots"])) == (dataset, shots)]
        cells = [f"{_mean(own, 'all'):.1f}"]
        cells += [f"{_mean(own, 'first', size):.1f} -> {_mean(own, 'pool', size):.1f}" for size in sizes]
        chosen = [int(row["size"]) for row in own if row["set"] == "chosen"]
        cells.append(
            f"{_mean(own, 'first, as many'):.1f} -> {_mean(own, 'chosen'):.1f} (K {min(chosen)} to {max(chosen)})"
        )
        lines.append(f"| {dataset}, {shots} | {' | '.join(cells)} |")
    return lines


def _mean(rows: list[dict[str, Any]], kind: str, size: str | None = None) -> float:
    values = [
        float(row["pool_top1"]) for row in rows if row["set"] == kind and (size is None or str(row["size"]) == size)
    ]
    return float(np.mean(values)) if values else float("nan")


if __name__ == "__main__":
    main()
