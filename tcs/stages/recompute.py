"""`tcs.recompute`, as it is called. Written by scripts/make_stages.py; not to be edited."""

from typing import Any, overload

from tcs.config.extract import RecomputeConfig
from tcs.config.plain import AnyPath
from tcs.config.stage import takes
from tcs.maintenance.recompute import ReadoutError
from tcs.maintenance.recompute import recompute as run

# fmt: off

@overload
def recompute(
    config: RecomputeConfig, /
) -> dict[str, ReadoutError]: ...
@overload
def recompute(
    store: AnyPath, *, teacher: str | None = None, sample: int = 64, seed: int = 42, data: AnyPath | None = None,
    teacher_checkpoint: AnyPath | None = None, device: str | None = None, workers: int | None = None
) -> dict[str, ReadoutError]: ...
@takes(run, RecomputeConfig)
def recompute(*given: Any, **named: Any) -> Any:
    """Compute `sample` rows again and compare; returns one error by readout, each of both in the stored dtype.

    An error has the `rows` compared; `max_abs` and `mean_abs` of single values, in the units of the features; `max_rel` and `mean_rel`
    of rows, the norm of the difference by that of the recomputed row; `differing`, the share (0 to 1) of values that are not equal. On
    the same hardware and versions all are exactly 0.

    Raises ArtefactError where the teacher is not the recorded one, naming the field; ConfigError where images or weights
    are not to be found; DataError naming images that have changed.

    Takes the options below, which are those of tcs.RecomputeConfig, or one such configuration as its only argument. A
    path is a text or any os.PathLike, and a list may stand for a tuple. TypeError for a name that is no option,
    ConfigError for a value that makes no sense.

    Args:
        store (path): A feature store, as `tcs.extract` made it.
        teacher (str or None): The recorded teacher, named by you: asked for where it is Python code. Default: None.
        sample (int): Rows to compute again. Default: 64.
        seed (int): Of the sample. Default: 42.
        data (path or None): Where the images are now. Default: as recorded in `store`.
        teacher_checkpoint (path or None): Where the weights are now. Default: as recorded.
        device (str or None): cpu, cuda, cuda:1 ... Default: as recorded.
        workers (int or None): Decoding processes. Default: as recorded.
    """
