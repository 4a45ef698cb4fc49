"""Which method distils spread labels best? Small students on development rows; no test store is opened.

    OMP_NUM_THREADS=1 python -m benchmarks.pool_methods STORES/digits STORES/flowers5 --out benchmarks/results/pool-methods-dev/results.csv

STORES/digits stands for STORES/digits-train.store. A row is one method on one split (seeds from 100 on): k labelled images a class,
all other rows the pool, but for a quarter of the store (1,000 rows at most) that is held out of the run, and whose labels score the
student after the last step. Of a store of more than --most rows the pool is a draw. The axes are fitted to all rows, without labels.
`teacher` and `teacher-spread` are the ridge probe of the k shots' coordinates, and the spread head, on the same rows. Reruns go on
where the CSV ends. Legend: N rows that score.
"""

import argparse
import pathlib
import tempfile
import time
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from benchmarks.tables import Done, append_rows
from tcs.config.evaluate import EvalConfig
from tcs.config.train import TrainConfig
from tcs.evaluation.students import predict_rows
from tcs.inference.runs import load_student
from tcs.training.data import POOL_LABELS, RunData, open_data
from tcs.training.jobs import plan_jobs
from tcs.training.soft_labels import fit_pool_labels, options_of
from tcs.training.train import train_opened

STUDENT = "resnet18,layers=(1,1,1,1),channels=(16,32,48,64)"
SIZES = {"flowers5": 64, "pbc8": 64}  # pixels a side; 32 for the others
SCORED_SHARE, MOST_SCORED = 0.25, 1000
FIRST_SEED = 100
KEY = ("dataset", "method", "shots", "seed", "steps", "lr")

# name -> options of tcs train
METHODS: Mapping[str, Mapping[str, Any]] = {
    "labels": {"method": "labels"},
    "kd": {"loss": "kd", "probe_head": "logistic"},
    "kd, ridge probe": {"loss": "kd", "probe_head": "ridge"},
    "kd-transductive": {"loss": "kd", "probe_head": "transductive"},
    "tcs-probe": {"method": "tcs-probe"},
    "pool": {"head": "linear", "loss": "pool"},
    "pool + l2": {"head": "linear", "loss": "pool + 1.0*l2"},
    "pool + l2, tcs head": {"head": "tcs", "loss": "pool + 1.0*l2"},
    "pool + l2, a quarter labelled": {
        "head": "linear",
        "loss": "pool + 1.0*l2 + 0.000001*ce",
    },  # of each batch, as kd has it
    "ce + l2": {"head": "linear", "loss": "ce + 1.0*l2"},
    "ce + 0.3 l2": {"head": "linear", "loss": "ce + 0.3*l2"},
    "ce + kd, ridge probe": {"loss": "ce + 1.0*kd", "probe_head": "ridge"},
    "ce + 3 kd, ridge probe": {"loss": "ce + 3.0*kd", "probe_head": "ridge"},
    "ce + 0.2 kd, ridge probe": {"loss": "ce + 0.2*kd", "probe_head": "ridge"},
    "tcs": {"method": "tcs"},
    "ce + 2 dist, ridge probe": {"loss": "ce + 2.0*dist", "probe_head": "ridge"},
}


def main(given: list[str] | None = None) -> None:
    """Append the rows that the CSV lacks, one at a time."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("stores", nargs="+", type=pathlib.Path)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--shots", nargs="+", type=int, default=[1, 4], help="0: every label of the pool is given")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--most", type=int, default=4000)
    arguments = parser.parse_args(given)
    append_rows(
        arguments.out, KEY, lambda done: (row for path in arguments.stores for row in rows_of(path, arguments, done))
    )


def rows_of(path: pathlib.Path, arguments: argparse.Namespace, done: Done) -> Iterator[dict[str, Any]]:
    """The rows of one data set that are not done yet, seed by seed."""
    data = open_data(str(path.with_name(f"{path.name}-train.store")), None)
    with tempfile.TemporaryDirectory() as folder:
        data.pool_labels_folder = pathlib.Path(folder) / POOL_LABELS
        for seed in range(FIRST_SEED, FIRST_SEED + arguments.seeds):
            for shots in arguments.shots:
                for name in arguments.methods:
                    key = (path.name, name, str(shots), str(seed), str(arguments.steps), str(arguments.lr))
                    if key not in done:
                        config = config_of(data, path.name, METHODS[name], arguments, shots, seed, folder)
                        yield dict(zip(KEY, key, strict=True)) | measure(data, config)


def config_of(
    data: RunData,
    dataset: str,
    options: Mapping[str, Any],
    arguments: argparse.Namespace,
    shots: int,
    seed: int,
    folder: str,
) -> TrainConfig:
    """The run of one method on one split; an --out for each."""
    size, rows = SIZES.get(dataset, 32), len(data.store)
    return TrainConfig.from_options(
        {
            "store": str(data.store.path),
            "out": tempfile.mkdtemp(dir=folder),
            "models": (STUDENT,),
            "shots": shots or None,
            "seed": seed,
            "held_out": min(MOST_SCORED, round(SCORED_SHARE * rows)),
            "held_out_every": arguments.steps,
            "unlabelled": str(arguments.most) if rows > arguments.most and shots else "all",
            "steps": arguments.steps,
            "lr": arguments.lr,
            "img_size": size,
            "hflip": 0.0 if dataset == "digits" else 0.5,
        }
        | dict(options)
    )


def measure(data: RunData, config: TrainConfig) -> dict[str, Any]:
    """Top-1 in percent on the held-out rows: of the student, the teacher's ridge probe and the spread head."""
    (job,) = plan_jobs(config, data)
    scored_N = job.rows.held_out.rows_N
    assert not np.isin(scored_N, job.rows.rows_n).any()
    truth_N = data.store.labels_N[scored_N]
    heads = {name: fit_pool_labels(job, data, options_of(job, data, name)) for name in ("ridge", "average")}
    z_NK = data.coordinates(config.readout).first_coordinates(scored_N)
    tops = {name: 100 * float((head.scores(z_NK).argmax(1) == truth_N).mean()) for name, head in heads.items()}
    started = time.process_time()
    (folder,) = train_opened(config, data)
    seconds = time.process_time() - started
    student = load_student(folder)
    scoring = EvalConfig(run=str(folder.parent), store=config.store)
    logits_NC, _ = predict_rows(student, data.store, scored_N, scoring)
    return {
        "student_top1": round(100 * float((logits_NC.argmax(1) == truth_N).mean()), 2),
        "teacher_top1": round(tops["ridge"], 2),
        "teacher_spread_top1": round(tops["average"], 2),
        "pool_n": len(job.rows.rows_n),
        "scored_n": len(scored_N),
        "parameters": student.record["student"]["parameters"],
        "processor_seconds": round(seconds, 1),
    }


if __name__ == "__main__":
    main()
