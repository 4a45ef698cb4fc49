"""`tcs.fewshot`, as it is called. Written by scripts/make_stages.py; not to be edited."""

from typing import Any, overload

from tcs.config.evaluate import FewshotConfig
from tcs.config.plain import AnyPath, Several
from tcs.config.stage import takes
from tcs.grid.run import fewshot as run

# fmt: off

@overload
def fewshot(
    config: FewshotConfig, /
) -> int: ...
@overload
def fewshot(
    recipe: AnyPath, *, out: AnyPath, cells: str | None = None, jobs: int = 1, engine: str = "local",
    slurm: Several[str] = (), dry_run: bool = False, device: str = "cpu"
) -> int: ...
@takes(run, FewshotConfig)
def fewshot(*given: Any, **named: Any) -> Any:
    """Run the cells that results.csv lacks and return how many failed. One failed cell does not stop the others.

    Writes recipe.yaml, ledger.json, cells.jsonl, splits/ (`class key` lines), runs/ and, with several jobs, logs/ beside results.csv.
    With `dry_run` it writes nothing, and returns how many things of the recipe would fail, each told in a line. Raises ConfigError
    for a bad recipe, ModelError for a student that timm does not know, ArtefactError for a folder of another recipe or of other
    stores.

    Takes the options below, which are those of tcs.FewshotConfig, or one such configuration as its only argument. A
    path is a text or any os.PathLike, and a list may stand for a tuple. TypeError for a name that is no option,
    ConfigError for a value that makes no sense.

    Args:
        recipe (path): The recipe, a YAML file.
        out (path): Folder for results.csv, splits and runs.
        cells (str or None): Only the i-th of n parts of the grid, as 1/4, for a job array whose disks share no locks.
            Default: None.
        jobs (int): Processes, or tasks at once, or parts of an array. Default: 1.
        engine (str): What runs them: local, ray or submitit. Default: "local".
        slurm (tuple of str): Of `engine` submitit, as partition=gpu; repeatable. Default: ().
        dry_run (bool): Check all that the grid needs, print plan, time and disk, and stop. Default: False.
        device (str): cpu, cuda, cuda:1 ... Default: "cpu".
    """
