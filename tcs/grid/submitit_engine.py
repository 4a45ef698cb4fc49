"""`tcs fewshot --engine submitit`: a SLURM array of `--jobs` parts of a grid. Each part is `tcs fewshot --cells i/n` on its node.

Nothing is waited for: run the same command again to submit what is left, and `tcs report` for what is there.
"""

import dataclasses
import importlib
import pathlib
from collections.abc import Callable
from typing import Any

from tcs.config.evaluate import LOCAL, FewshotConfig
from tcs.errors import ConfigError, listed
from tcs.grid.jobs import LOGS
from tcs.runtime import say

# Options that submitit names alike on every kind of cluster; all others of --slurm are those of sbatch.
SHARED = ("name", "timeout_min", "mem_gb", "nodes", "cpus_per_task", "gpus_per_node", "tasks_per_node")


def run_array(config: FewshotConfig, part: Callable[[FewshotConfig], int], cluster: str | None = None) -> list[Any]:
    """Submit an array of jobs that do `part` of the grid each, and return them, as submitit has them. ConfigError without submitit, or
    for an option that it refuses.

    `cluster` is what submitit takes for it: None for SLURM where it is found, "local" for processes of this machine.
    """
    folder = pathlib.Path(config.out) / LOGS / "slurm"
    try:
        executor = _submitit().AutoExecutor(folder=folder, cluster=cluster)
        executor.update_parameters(**{"name": "tcs-fewshot", **_options(config, cluster)})
    except (AssertionError, NameError, RuntimeError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ConfigError(f"--engine submitit cannot submit with --slurm {listed(config.slurm)}: {reason}") from error
    parts = [
        dataclasses.replace(config, engine=LOCAL, jobs=1, slurm=(), cells=f"{number}/{config.jobs}")
        for number in range(1, config.jobs + 1)
    ]
    jobs: list[Any] = executor.map_array(part, parts)
    say(f"{len(jobs)} parts are submitted as job {jobs[0].job_id.partition('_')[0]}; their logs are in {folder}.")
    return jobs


def _options(config: FewshotConfig, cluster: str | None) -> dict[str, Any]:
    """The options of --slurm as AutoExecutor takes them."""
    pairs = (option.partition("=")[::2] for option in config.slurm)
    given = {name: int(value) if value.isdecimal() else value for name, value in pairs}
    if cluster is None:
        given.setdefault("array_parallelism", config.jobs)
    return {name if name in SHARED else f"slurm_{name}": value for name, value in given.items()}


def _submitit() -> Any:
    try:
        return importlib.import_module("submitit")
    except ImportError as error:
        raise ConfigError(
            f'--engine submitit needs the package submitit ({error}); pip install "tcs-distill[submitit]", or use --engine local.'
        ) from error
