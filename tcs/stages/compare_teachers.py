"""`tcs.compare_teachers`, as it is called. Written by scripts/make_stages.py; not to be edited."""

from typing import Any, overload

from tcs.config.plain import AnyPath, Several
from tcs.config.stage import takes
from tcs.config.teachers import CompareConfig
from tcs.evaluation.teachers import compare_teachers as run
from tcs.reporting.teachers import TeacherComparison

# fmt: off

@overload
def compare_teachers(
    config: CompareConfig, /
) -> TeacherComparison: ...
@overload
def compare_teachers(
    stores: Several[AnyPath], *, tests: Several[AnyPath], readouts: Several[str] = (), shots: Several[int] = (1, 4),
    seeds: Several[int] = (0, 1, 2, 3, 4), device: str = "cpu", out: AnyPath | None = None, overwrite: bool = False
) -> TeacherComparison: ...
@takes(run, CompareConfig)
def compare_teachers(*given: Any, **named: Any) -> Any:
    """Compare the teachers of `stores`; returns a `TeacherComparison`.

    Table, rows and figure are written into `out` where that is named; the results of the same options there are read instead.

    Raises what `tcs.probe` raises for a pair of stores; SchemaError or IdentityError, naming both stores, where images, labels or
    classes of two teachers differ; ConfigError where matplotlib is missing (the tables are written before).

    Takes the options below, which are those of tcs.CompareConfig, or one such configuration as its only argument. A
    path is a text or any os.PathLike, and a list may stand for a tuple. TypeError for a name that is no option,
    ConfigError for a value that makes no sense.

    Args:
        stores (tuple of paths): Stores of the same images, one a teacher.
        tests (tuple of paths): Stores to score on, in the order of `stores`.
        readouts (tuple of str): One for all stores, or one a store; needed where they hold several. A map is averaged.
            Default: ().
        shots (tuple of int): Labelled rows a class, of each part of the comparison. Default: (1, 4).
        seeds (tuple of int): Seed of projections and splits. Default: (0, 1, 2, 3, 4).
        device (str): Where scores are computed. Default: "cpu".
        out (path or None): Folder for the table (.csv, .md) and the figure. Default: None.
        overwrite (bool): Replace the results of other options in `out`. Default: False.
    """
