"""`tcs.fit_targets`, as it is called. Written by scripts/make_stages.py; not to be edited."""

import pathlib
from typing import Any, overload

from tcs.config.coordinates import TargetsConfig
from tcs.config.plain import AnyPath, Several
from tcs.config.stage import takes
from tcs.coordinates.targets import fit_targets as run

# fmt: off

@overload
def fit_targets(
    config: TargetsConfig, /
) -> pathlib.Path: ...
@overload
def fit_targets(
    store: AnyPath, coordinates: AnyPath | None = None, *, out: AnyPath, from_targets: AnyPath | None = None,
    also: Several[AnyPath] = (), bits: int = 1024, sample_rows: int = 65536, seed: int = 42, overwrite: bool = False
) -> pathlib.Path: ...
@takes(run, TargetsConfig)
def fit_targets(*given: Any, **named: Any) -> Any:
    """Hash every row of a store (every view of it), write `out`, and return its path.

    Bits are the signs of rotated coordinates, at their medians, of TCS (Zhou, Zhu and Wu 2024, arXiv 2412.09388).
    With `from_targets`, targets of an earlier state of the store, the rows that they have are taken over bit for bit, and the others
    are hashed by the same axes and thresholds. The same command on the same parents finds its output and does nothing.
    ArtefactError where `out` holds something else, or where the store is of another teacher than the coordinate system
    (both identities are named).

    Takes the options below, which are those of tcs.TargetsConfig, or one such configuration as its only argument. A
    path is a text or any os.PathLike, and a list may stand for a tuple. TypeError for a name that is no option,
    ConfigError for a value that makes no sense.

    Args:
        store (path): A feature store, as `tcs.extract` made it.
        coordinates (path or None): What `tcs.fit` wrote; not with `from_targets`. Default: None.
        out (path): Targets file (.h5).
        from_targets (path or None): Instead of `coordinates`: targets of `store` before an update, to be extended to
            its new rows. Default: None.
        also (tuple of paths): A store that tcs fit had beside `store`. Default: ().
        bits (int): Hash bits: a multiple of 8, at most 8192. Default: 1024.
        sample_rows (int): Rows that the thresholds are medians of. Default: 65536.
        seed (int): Seed of the rotation and of the sample. Default: 42.
        overwrite (bool): Replace a targets file made otherwise. Default: False.
    """
