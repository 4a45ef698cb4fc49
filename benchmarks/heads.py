"""How far do few labels go when they are spread over a pool? Heads of the frozen teacher, no student.

    python -m benchmarks.heads table STORES/digits STORES/flowers5 ... --out benchmarks/results/heads/results.csv
    python -m benchmarks.heads table STORES/digits ... --development --out development.csv
    python -m benchmarks.heads speed --rows 1281167 --classes 1000

`table`: STORES/digits stands for STORES/digits-train.store and -test.store. A row is one estimator on one split: coordinates
(principal, the first 128) are fitted on the pool, labels of k images a class are spread over it, and the head is scored on all
test images, beside the ridge probe of the same k images in the same coordinates. `--development` scores on a quarter of the
training images, kept out of the pool, and takes splits from seed 100 on: settings are chosen there. Reruns go on where the CSV
ends. Pools: `full`; `long-tail`, whose rarest class keeps 1 of 12; `unknown`, where 4 of 10 classes have no label (and are not
scored); `absent`, where one labelled class has no other image; `two`, of two classes alone. `speed`: random rows, wall time and memory,
an estimator a line.
Legend: N rows of the pool, M labelled rows, T rows that score, D teacher dims, K coordinates, C classes.
"""

import argparse
import dataclasses
import itertools
import pathlib
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

import cache
from benchmarks.heads_speed import measure_speed
from benchmarks.tables import Done, append_rows
from tcs.artefact import teacher_name_of
from tcs.coordinates.build import fit_coordinates
from tcs.pool_labels.options import ESTIMATORS, RIDGE, PoolLabelOptions
from tcs.pool_labels.spread import PoolLabels, spread_labels
from tcs.runtime import seed_for
from tcs.splits.pool import pool_rows
from tcs.splits.shots import k_shot_split

COMPONENTS = 128

POOLS = ("full", "long-tail", "unknown", "absent", "two")

TAIL = 12

UNKNOWN_SHARE, SCORED_SHARE = 0.4, 0.25

SHOTS = (1, 2, 4, 8, 16)

KEY = ("dataset", "pool", "estimator", "balance", "shots", "seed")

F32 = NDArray[np.float32]

Ints = NDArray[np.int64]


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Rows:
    """Features (N, D) of images with their keys and labels."""

    x_ND: F32
    keys: list[str]
    labels_N: Ints

    def kept(self, places: Ints) -> "Rows":
        """These rows alone."""
        return Rows(x_ND=self.x_ND[places], keys=[self.keys[place] for place in places], labels_N=self.labels_N[places])


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Data:
    """The rows that may be in a pool, the rows that score, and what they are."""

    name: str
    teacher: str
    classes: tuple[str, ...]
    train: Rows
    scored: Rows
    widths: tuple[int, ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Case:
    """Coordinates of one pool with its labelled rows, and of the rows that score, classes numbered 0..C-1."""

    z_NK: F32
    labelled_M: Ints
    labels_M: Ints
    z_TK: F32
    truth_T: Ints
    n_classes: int


def main(given: list[str] | None = None) -> None:
    """Run one part."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parts = parser.add_subparsers(dest="part", required=True)
    table = parts.add_parser("table")
    table.add_argument("stores", nargs="+", type=pathlib.Path)
    table.add_argument("--out", type=pathlib.Path, required=True)
    table.add_argument("--development", action="store_true")
    table.add_argument("--pools", nargs="+", choices=POOLS, default=["full"])
    table.add_argument("--estimators", nargs="+", choices=ESTIMATORS, default=list(ESTIMATORS))
    table.add_argument("--balances", nargs="+", default=[PoolLabelOptions().balance])
    table.add_argument("--shots", nargs="+", type=int, default=list(SHOTS))
    table.add_argument("--seeds", type=int, default=5)
    table.add_argument(
        "--unchecked", action="store_true", help="leave the estimators' safety check out: five times as fast"
    )
    table.add_argument("--most", type=int, default=5000, help="rows of a pool at most; a seeded draw")
    speed = parts.add_parser("speed")
    speed.add_argument("--rows", type=int, default=10_000)
    speed.add_argument("--dims", type=int, default=768)
    speed.add_argument("--components", type=int, default=256)
    speed.add_argument("--classes", type=int, default=10)
    speed.add_argument("--estimators", nargs="+", choices=ESTIMATORS, default=[PoolLabelOptions().estimator])
    speed.add_argument("--unchecked", action="store_true")
    arguments = parser.parse_args(given)
    if arguments.part == "speed":
        for line in measure_speed(arguments):
            print(line, flush=True)
    else:
        append_rows(
            arguments.out,
            KEY,
            lambda done: (
                row for path in arguments.stores for row in rows_of(open_data(path, arguments), arguments, done)
            ),
        )


def open_data(path: pathlib.Path, arguments: argparse.Namespace, also: Sequence[pathlib.Path] = ()) -> Data:
    """Train and test rows; in development a quarter of the train rows score, and the test store stays closed. The vectors of `also`,
    other teachers' of the same images, stand beside those of `path`."""
    paths = (path, *also)
    store = joined(paths, "train")
    train = rows_in(store)
    if arguments.development:
        order = np.random.default_rng(seed_for(0, "rows that score in development")).permutation(len(train.keys))
        cut = round(SCORED_SHARE * len(order))
        train, scored = train.kept(np.sort(order[cut:])), train.kept(np.sort(order[:cut]))
    else:
        test = joined(paths, "test")
        assert test.classes == store.classes
        scored = rows_in(test)
    kept = pool_rows(train.keys, np.empty(0, np.int64), str(min(arguments.most, len(train.keys))), 0)
    return Data(
        name="+".join(each.name for each in paths),
        teacher=teacher_name_of(store),
        classes=tuple(store.classes),
        train=train.kept(kept),
        scored=scored,
        widths=store.widths(next(iter(store.readouts))),
    )


def joined(paths: Sequence[pathlib.Path], part: str) -> cache.Store:
    """The stores PATH-PART.store, read as one."""
    stores = [cache.open(path.with_name(f"{path.name}-{part}.store")) for path in paths]
    return cache.join(stores[0], stores[1:])


def rows_in(store: cache.Store) -> Rows:
    """Every labelled row of a store, float32."""
    features_ND = store.features(next(iter(store.readouts)), resident_bytes=0)[:].astype(np.float32)
    return Rows(x_ND=features_ND, keys=list(store.keys), labels_N=store.labels_N.astype(np.int64))


def rows_of(data: Data, arguments: argparse.Namespace, done: Done) -> Iterator[dict[str, Any]]:
    """The rows of one data set that are not done yet."""
    first = 100 if arguments.development else 0
    for pool, shots, seed in itertools.product(arguments.pools, arguments.shots, range(first, first + arguments.seeds)):
        plan = itertools.product(arguments.estimators, arguments.balances)
        todo = [
            (estimator, balance)
            for estimator, balance in plan
            if (data.name, pool, estimator, balance, str(shots), str(seed)) not in done
        ]
        if not todo:
            continue
        case = make_case(data, pool, shots, seed)
        probe = spread(case, PoolLabelOptions(estimator=RIDGE))
        for estimator, balance in todo:
            options = PoolLabelOptions(estimator=estimator, balance=balance, seed=seed, safety=not arguments.unchecked)
            yield {
                "dataset": data.name,
                "teacher": data.teacher,
                "pool": pool,
                "pool_n": len(case.z_NK),
                "test_n": len(case.z_TK),
                "estimator": estimator,
                "balance": balance,
                "shots": shots,
                "seed": seed,
            } | measure(case, options, probe)


def make_case(data: Data, pool: str, shots: int, seed: int, components: int = COMPONENTS) -> Case:
    """The pool of one split: labelled rows of the known classes, and those of the other rows that the kind of pool keeps."""
    split = k_shot_split(data.train.keys, data.train.labels_N, data.classes, shots, seed)
    generator = np.random.default_rng(seed_for(seed, f"pool {pool}"))
    order_C = generator.permutation(len(data.classes))
    first = {"unknown": round(UNKNOWN_SHARE * len(order_C)), "two": len(order_C) - 2}.get(pool, 0)
    known_C = np.sort(order_C[first:])
    labelled = split.rows_n[np.isin(data.train.labels_N[split.rows_n], known_C)]
    others = np.setdiff1d(np.arange(len(data.train.keys)), labelled)
    if pool == "two":
        others = others[np.isin(data.train.labels_N[others], known_C)]
    if pool == "absent":
        others = others[data.train.labels_N[others] != order_C[0]]
    if pool == "long-tail":
        keep_C = TAIL ** (-np.argsort(order_C) / (len(order_C) - 1))
        others = others[generator.random(len(others)) < keep_C[data.train.labels_N[others]]]
    members = np.sort(np.concatenate([labelled, others]))
    scored = np.flatnonzero(np.isin(data.scored.labels_N, known_C))
    x_PD = data.train.x_ND[members]
    system = fit_coordinates(x_PD, components=min(components, x_PD.shape[1]), widths=data.widths)
    return Case(
        z_NK=system.transform(x_PD),
        labelled_M=np.searchsorted(members, labelled),
        labels_M=np.searchsorted(known_C, data.train.labels_N[labelled]),
        z_TK=system.transform(data.scored.x_ND[scored]),
        truth_T=np.searchsorted(known_C, data.scored.labels_N[scored]),
        n_classes=len(known_C),
    )


def spread(case: Case, options: PoolLabelOptions) -> PoolLabels:
    """The labels of one case."""
    return spread_labels(case.z_NK, case.labelled_M, case.labels_M, case.n_classes, options)


def measure(case: Case, options: PoolLabelOptions, probe: PoolLabels) -> dict[str, Any]:
    """Accuracies of one estimator as it is used, and without its check (`unchecked_top1`), beside those of the ridge probe."""
    started = time.perf_counter()
    labels = spread(case, options)
    seconds = time.perf_counter() - started
    bare = spread(case, dataclasses.replace(options, safety=False)) if labels.fell_back else labels
    return {
        "top1": accuracy(labels, case),
        "class_mean_top1": class_mean(labels, case),
        "ridge_top1": accuracy(probe, case),
        "ridge_class_mean_top1": class_mean(probe, case),
        "unchecked_top1": accuracy(bare, case),
        "checked": options.safety,
        "fell_back": labels.fell_back,
        "seconds": round(seconds, 2),
    }


def accuracy(labels: PoolLabels, case: Case) -> float:
    """Top-1 in percent on the rows that score."""
    return round(100 * float((labels.scores(case.z_TK).argmax(1) == case.truth_T).mean()), 2)


def class_mean(labels: PoolLabels, case: Case) -> float:
    """The mean over classes of their top-1 in percent."""
    right_T = labels.scores(case.z_TK).argmax(1) == case.truth_T
    parts = [right_T[case.truth_T == label].mean() for label in range(case.n_classes)]
    return round(100 * float(np.mean(parts)), 2)


if __name__ == "__main__":
    main()
