"""Options of `tcs cache import`. Pure standard library."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from tcs.config.plain import PathText, take_plain
from tcs.errors import require, require_choice

DTYPES = ("float16", "float32")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImportConfig:
    """`tcs cache import`: arrays for a new store.

    `source` is an .npy or .parquet file or the folder of an export; `features` are more .npy files. `keys`, `labels`, `classes` and
    `hashes` are files, `images_dir` is the folder that keys are relative to. The columns are those of a parquet file; `readouts` names
    its feature columns, or the one readout of an .npy `source`.
    """

    out: PathText
    source: PathText | None = dataclasses.field(default=None, kw_only=False)
    features: Mapping[str, PathText] = dataclasses.field(default_factory=dict)
    readouts: tuple[str, ...] = ()
    keys: PathText | None = None
    labels: PathText | None = None
    classes: PathText | None = None
    hashes: PathText | None = None
    images_dir: PathText | None = None
    key_column: str = "key"
    label_column: str = "label"
    image_column: str = "image"
    teacher: str | None = None
    notes: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    dtype: str | None = None
    rows_per_shard: int = 8192
    overwrite: bool = False

    def __post_init__(self) -> None:
        take_plain(self)
        require(
            self.source is not None or len(self.features) > 0,
            "there are no features; name a file (.npy, .parquet), the folder of an export, or --features NAME=FILE.npy.",
        )
        require(
            self.source is None or not self.features, "FEATURES and --features exclude each other; give one of them."
        )
        if self.dtype is not None:
            require_choice(self.dtype, DTYPES, "--dtype")
