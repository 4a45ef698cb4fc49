"""What the ceiling curve of `tcs fit` costs, by the number of classes: processor seconds and every accuracy, for one checkout.

    OMP_NUM_THREADS=1 python benchmarks/many_classes.py --classes 10 1000 --out after.json
    OMP_NUM_THREADS=1 PYTHONPATH=EARLIER_CHECKOUT python benchmarks/many_classes.py --classes 10 1000 --out before.json
    python benchmarks/many_classes.py compare before.json after.json

Random rows with class structure. `compare` prints the ratio of processor times and the largest difference of any cell.
Legend: N rows, D features.
"""

import argparse
import json
import pathlib
import time
from typing import Any

import numpy as np

from tcs.coordinates.ceiling import LabelledFeatures, ceiling_curve

SEED = 0


def main(given: list[str] | None = None) -> None:
    """Measure, or compare two measurements."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("compare", nargs="*", help="compare BEFORE AFTER")
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--dims", type=int, default=256)
    parser.add_argument("--classes", type=int, nargs="+", default=[10, 1000])
    parser.add_argument("--shots", type=int, nargs="+", default=[4, 16, 0], help="0: all labels")
    parser.add_argument("--splits", type=int, default=5)
    parser.add_argument("--out", type=pathlib.Path)
    arguments = parser.parse_args(given)
    if arguments.compare:
        compare(*(json.loads(pathlib.Path(path).read_text()) for path in arguments.compare[1:]))
        return
    found = [measure(count, arguments) for count in arguments.classes]
    if arguments.out:
        arguments.out.write_text(json.dumps(found, indent=1))


def measure(classes: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """Processor seconds and the cells of one ceiling curve."""
    generator = np.random.default_rng(SEED)
    labels_N = np.arange(arguments.rows) % classes
    spread_D = np.linspace(2, 0.2, arguments.dims)
    centres = generator.normal(size=(classes, arguments.dims)) * spread_D
    features_ND = centres[labels_N] + 1.5 * spread_D * generator.normal(size=(arguments.rows, arguments.dims))
    rows = LabelledFeatures(
        features=features_ND.astype(np.float32),
        keys=[f"row-{index}" for index in range(arguments.rows)],
        labels_N=labels_N,
        classes=[f"class-{index}" for index in range(classes)],
    )
    started = time.process_time()
    cells = ceiling_curve(
        rows,
        features_ND.mean(0),
        np.cov(features_ND.T),
        shots=[count or None for count in arguments.shots],
        split_seeds=range(100, 100 + arguments.splits),
    )
    seconds = time.process_time() - started
    print(
        f"{arguments.rows} x {arguments.dims}, {classes} classes: {seconds:.1f} processor seconds, {len(cells)} cells"
    )
    return {"classes": classes, "rows": arguments.rows, "dims": arguments.dims, "seconds": seconds, "cells": cells}


def compare(before: list[dict[str, Any]], after: list[dict[str, Any]]) -> None:
    """One line for each number of classes."""
    for old, new in zip(before, after, strict=True):
        assert [_name(cell) for cell in old["cells"]] == [_name(cell) for cell in new["cells"]]
        most = max(abs(a["accuracy"] - b["accuracy"]) for a, b in zip(old["cells"], new["cells"], strict=True))
        print(
            f"{new['rows']} x {new['dims']}, {new['classes']} classes: {old['seconds']:.1f} -> {new['seconds']:.1f} s, "
            f"{old['seconds'] / new['seconds']:.1f} x; largest difference of {len(new['cells'])} accuracies {most:.4f} points"
        )


def _name(cell: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(cell[key] for key in ("shots", "axes", "power", "components", "n"))


if __name__ == "__main__":
    main()
