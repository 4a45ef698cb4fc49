"""`tcs.repair`, as it is called. Written by scripts/make_stages.py; not to be edited."""

from typing import Any, overload

from cache import Verification
from tcs.config.extract import RepairConfig
from tcs.config.plain import AnyPath
from tcs.config.stage import takes
from tcs.maintenance.repair import repair as run

# fmt: off

@overload
def repair(
    config: RepairConfig, /
) -> Verification: ...
@overload
def repair(
    store: AnyPath, *, data: AnyPath | None = None, teacher: str | None = None,
    teacher_checkpoint: AnyPath | None = None, device: str | None = None, workers: int | None = None
) -> Verification: ...
@takes(run, RepairConfig)
def repair(*given: Any, **named: Any) -> Any:
    """Verify the store, extract its bad and missing shards again, and verify it once more; returns that result.

    Before anything is discarded, the recorded teacher must be the one the store was made with, and the images those
    whose hashes give the store's identity. A sound store is left as it is. Raises TcsError or CacheError; a repair that
    was cut short is taken up by the next call.

    Takes the options below, which are those of tcs.RepairConfig, or one such configuration as its only argument. A path
    is a text or any os.PathLike, and a list may stand for a tuple. TypeError for a name that is no option, ConfigError
    for a value that makes no sense.

    Args:
        store (path): A feature store, as `tcs.extract` made it.
        data (path or None): Where the images are now. Default: as recorded in `store`.
        teacher (str or None): The recorded teacher, named by you: asked for where it is Python code. Default: None.
        teacher_checkpoint (path or None): Where the weights are now. Default: as recorded.
        device (str or None): cpu, cuda, cuda:1 ... Default: as recorded.
        workers (int or None): Decoding processes. Default: as recorded.
    """
