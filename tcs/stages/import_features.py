"""`tcs.import_features`, as it is called. Written by scripts/make_stages.py; not to be edited."""

import pathlib
from collections.abc import Mapping
from typing import Any, overload

from tcs.config.exchange import ImportConfig
from tcs.config.plain import AnyPath, Several
from tcs.config.stage import takes
from tcs.exchange.features import import_features as run

# fmt: off

@overload
def import_features(
    config: ImportConfig, /
) -> pathlib.Path: ...
@overload
def import_features(
    source: AnyPath | None = None, *, out: AnyPath, features: Mapping[str, AnyPath] = ..., readouts: Several[str] = (),
    keys: AnyPath | None = None, labels: AnyPath | None = None, classes: AnyPath | None = None,
    hashes: AnyPath | None = None, images_dir: AnyPath | None = None, key_column: str = "key",
    label_column: str = "label", image_column: str = "image", teacher: str | None = None,
    notes: Mapping[str, Any] = ..., dtype: str | None = None, rows_per_shard: int = 8192, overwrite: bool = False
) -> pathlib.Path: ...
@takes(run, ImportConfig)
def import_features(*given: Any, **named: Any) -> Any:
    """Write the arrays that `config` names into a store; returns its path. The same call resumes.

    Raises DataError for files that cannot be read as what they should be, CacheError for contents that do not fit.

    Takes the options below, which are those of tcs.ImportConfig, or one such configuration as its only argument. A path
    is a text or any os.PathLike, and a list may stand for a tuple. TypeError for a name that is no option, ConfigError
    for a value that makes no sense.

    Args:
        source (path or None): `source`n .npy or .parquet file, or the folder of an export; not with `features`.
            Default: None.
        out (path): Folder of the store, NAME.store by custom.
        features (mapping of str to path): `source` readout from an .npy file, as {NAME: FILE}. Default: {}.
        readouts (tuple of str): Feature columns of a parquet file, or the name for an .npy file. Default: ().
        keys (path or None): One key a row: text lines, or .npy. Default: row numbers.
        labels (path or None): Class names as text lines, or .npy of names or numbers (-1: none). Default: None.
        classes (path or None): Class names in order, as text lines. Default: None.
        hashes (path or None): Content hashes of the images, .npy of uint8 (N, 16). Default: None.
        images_dir (path or None): Folder of the images, that keys are relative to; they are stored. Default: None.
        key_column (str): Of a parquet file. Default: "key".
        label_column (str): Of a parquet file. Default: "label".
        image_column (str): Of a parquet file; taken where it is there. Default: "image".
        teacher (str or None): What made the features. Default: unknown.
        notes (mapping of str to Any): More of what made them, as {K: V}. Default: {}.
        dtype (str or None): Of the stored features: float16 or float32. Default: float16 stays, others become float32.
        rows_per_shard (int): Rows per file of the store. Default: 8192.
        overwrite (bool): Delete the store that is there, and begin anew. Default: False.
    """
