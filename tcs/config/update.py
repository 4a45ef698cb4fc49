"""Options of `tcs cache update`. Pure standard library."""

import dataclasses

from tcs.config.extract import RepairConfig
from tcs.config.plain import PathText
from tcs.errors import require


@dataclasses.dataclass(frozen=True, kw_only=True)
class UpdateConfig(RepairConfig):
    """`tcs cache update`: a store made to follow its data set, which has grown or changed. None means: as the store records it.

    Without `out` the new state takes the store's place, and the former one is kept beside it as `STORE.old`. `keep_gone` keeps rows
    whose images the data set has no more, `keep_labels` the labels that the store was given, without a look at the label file.
    """

    data: PathText | None = dataclasses.field(default=None, kw_only=False)
    out: PathText | None = None
    split: str | None = None
    data_dir: PathText | None = None
    class_map: PathText | None = None
    label_file: PathText | None = None
    unlabelled_data: tuple[PathText, ...] | None = None
    max_bad: int | None = None
    keep_gone: bool = False
    keep_labels: bool = False
    dry_run: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            not (self.keep_labels and self.label_file is not None),
            f"--keep-labels goes without --label-file {self.label_file}, which would not be read; leave out one of them.",
        )
        require(self.max_bad is None or self.max_bad >= 0, f"--max-bad is {self.max_bad}; it must be 0 or more.")
