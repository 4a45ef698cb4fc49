"""`tcs fewshot --engine submitit`: a SLURM array of `--jobs` parts of a grid. Each part is `tcs fewshot --cells i/n` on its node.

Nothing is waited for: `tcs report` tells what is there, and the same command submits what is left. A job that SLURM preempts, or that
comes to the end of its time, is queued again and goes on where it stopped.
"""

import dataclasses
import importlib
import pathlib
import shutil
from collections.abc import Callable
from typing import Any

from tcs.config.evaluate import LOCAL, FewshotConfig
from tcs.errors import ConfigError, listed
from tcs.grid.jobs import LOGS
from tcs.runtime import say

# Options that submitit names alike on every kind of cluster; all others of --slurm are those of sbatch.
SHARED = ("name", "timeout_min", "mem_gb", "nodes", "cpus_per_task", "gpus_per_node", "tasks_per_node")
MINUTES = 240  # of a job where --slurm says nothing; submitit's own 5 end most grids in the middle
REQUEUES = 100  # of one job at the end of its time: a part resumes, so only one that never gets on would use them up


@dataclasses.dataclass(frozen=True)
class Part:
    """A part of a grid as a job that submitit may stop: told that the job ends, it has the same part queued again. Without `checkpoint`
    submitit would raise in the middle of a cell, and the cell would count as failed."""

    run: Callable[[FewshotConfig], int]

    def __call__(self, config: FewshotConfig) -> int:
        """What the job does: the number of cells that failed."""
        return self.run(config)

    def checkpoint(self, config: FewshotConfig) -> Any:
        """What submitit queues in place of a job that ends before it is done."""
        return _submitit().helpers.DelayedSubmission(self, config)


def run_array(config: FewshotConfig, part: Callable[[FewshotConfig], int], cluster: str | None = None) -> list[Any]:
    """Submit an array of jobs that do `part` of the grid each, and return them, as submitit has them. ConfigError without submitit, or
    for an option that it or SLURM refuses, or where there is no SLURM.

    `cluster` is what submitit takes for it: None for SLURM where it is found, "local" for processes of this machine.
    """
    submitit = _submitit()
    if cluster is None and shutil.which("sbatch") is None:  # submitit would start processes of this machine instead
        raise ConfigError(
            "--engine submitit finds no sbatch on this machine; run it where SLURM jobs are submitted, or use --jobs N."
        )
    folder = pathlib.Path(config.out) / LOGS / "slurm"
    parts = [
        dataclasses.replace(config, engine=LOCAL, jobs=1, slurm=(), cells=f"{number}/{config.jobs}")
        for number in range(1, config.jobs + 1)
    ]
    try:
        executor = submitit.AutoExecutor(folder=folder, cluster=cluster, slurm_max_num_timeout=REQUEUES)
        executor.update_parameters(**{"name": "tcs-fewshot", **_options(config, cluster)})
        jobs: list[Any] = executor.map_array(Part(part), parts)
    except (
        AssertionError,
        NameError,
        RuntimeError,
        TypeError,
        ValueError,
    ) as error:  # FailedJobError is a RuntimeError
        reason = " ".join(str(error).split())[:200]
        raise ConfigError(f"--engine submitit cannot submit with --slurm {listed(config.slurm)}: {reason}") from error
    say(f"{len(jobs)} parts are submitted as job {jobs[0].job_id.partition('_')[0]}; their logs are in {folder}.")
    return jobs


def _options(config: FewshotConfig, cluster: str | None) -> dict[str, Any]:
    """The options of --slurm as AutoExecutor takes them."""
    pairs = (option.partition("=")[::2] for option in config.slurm)
    usual: dict[str, Any] = {"array_parallelism": config.jobs, "timeout_min": MINUTES} if cluster is None else {}
    given = usual | {name: int(value) if value.isdecimal() else value for name, value in pairs}
    return {name if name in SHARED else f"slurm_{name}": value for name, value in given.items()}


def _submitit() -> Any:
    try:
        return importlib.import_module("submitit")
    except ImportError as error:
        raise ConfigError(
            f'--engine submitit needs the package submitit ({error}); pip install "tcs-distill[submitit]", or use --engine local.'
        ) from error
