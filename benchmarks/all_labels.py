"""What mimicry before the labels (`tcs`) is worth where every image has a label: against the labels alone, on all test images.

    OMP_NUM_THREADS=1 python -m benchmarks.all_labels STORES/flowers5 STORES/pbc8 --seeds 3

STORES/flowers5 stands for STORES/flowers5-train.store and -test.store. The student, rate and steps are those of the tables of students
(benchmarks.students); nothing is held out, and the student after the last step is scored. `tcs` was ahead on development splits
(benchmarks/results/pool-methods-dev). Rows of `tcs-pool` are of a commit by which it became `tcs` there. Reruns go on where the CSV ends.
Legend: N test images, C classes.
"""

import argparse
import pathlib
import tempfile
from collections.abc import Iterator
from typing import Any

import numpy as np

import cache
from benchmarks.students import recipe_of
from benchmarks.tables import Done, append_rows
from tcs.config.evaluate import EvalConfig
from tcs.config.train import TrainConfig
from tcs.evaluation.students import predict_rows
from tcs.inference.runs import load_student
from tcs.training.data import open_data
from tcs.training.train import train_opened

METHODS = ("labels", "tcs")
KEY = ("dataset", "method", "seed")
OUT = pathlib.Path(__file__).parent / "results" / "all-labels" / "results.csv"


def main(given: list[str] | None = None) -> None:
    """Append the rows that the CSV lacks, one at a time."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("stores", nargs="+", type=pathlib.Path)
    parser.add_argument("--out", type=pathlib.Path, default=OUT)
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args(given)
    append_rows(
        arguments.out,
        KEY,
        lambda done: (row for path in arguments.stores for row in rows_of(path, arguments.seeds, done)),
    )


def rows_of(path: pathlib.Path, seeds: int, done: Done) -> Iterator[dict[str, Any]]:
    """The rows of one data set that are not done yet, seed by seed."""
    for seed in range(seeds):
        for method in METHODS:
            if (path.name, method, str(seed)) not in done:
                yield {"dataset": path.name, "method": method, "seed": seed} | measure(path, method, seed)


def measure(path: pathlib.Path, method: str, seed: int) -> dict[str, Any]:
    """Top-1 in percent on all test images, by what the run became and cost."""
    recipe, _ = recipe_of("methods", path.name)
    (model,) = recipe["students"]
    store, test = (str(path.with_name(f"{path.name}-{part}.store")) for part in ("train", "test"))
    with tempfile.TemporaryDirectory() as folder:
        options = {"store": store, "out": folder, "models": (model,), "method": method, "seed": seed, "held_out": 0}
        config = TrainConfig.from_options(options | recipe["options"])
        (run,) = train_opened(config, open_data(store, None))
        student, scored = load_student(run), cache.open(test)
        rows_N = np.flatnonzero(scored.labels_N >= 0)
        logits_NC, _ = predict_rows(student, scored, rows_N, EvalConfig(run=folder, store=test))
    right_N = logits_NC.argmax(1) == scored.labels_N[rows_N]
    return {
        "top1": round(100 * float(right_N.mean()), 2),
        "loss": student.record["method"]["loss"],
        "warm_up": student.record["method"]["warm_up"],
        "labelled_n": len(cache.open(store)),
        "test_n": len(rows_N),
        "steps": config.steps,
        "lr": config.optimiser.lr,
        "parameters": student.record["student"]["parameters"],
    }


if __name__ == "__main__":
    main()
