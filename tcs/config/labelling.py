"""Options of `tcs suggest` and `tcs cache label`. Pure standard library."""

import dataclasses
import pathlib

from tcs.config.plain import PathText, require_file_name, take_plain
from tcs.errors import require

SHEET_SUFFIXES = (".png", ".jpg", ".jpeg")


@dataclasses.dataclass(frozen=True, kw_only=True)
class LabelConfig:
    """`tcs cache label`: labels for images of a closed store, from a split file or a table as `tcs suggest` writes it. Images that
    `remove_file` names lose theirs: keys or paths, one a line, or a table with such a column."""

    store: PathText = dataclasses.field(kw_only=False)
    label_file: PathText | None = None
    remove_file: PathText | None = None

    def __post_init__(self) -> None:
        take_plain(self)
        require(
            self.label_file is not None or self.remove_file is not None,
            "nothing says which labels to give; pass --label-file FILE, or --remove-file FILE to take labels away.",
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class SuggestConfig:
    """`tcs suggest`: the `n` images of a store to label next, as a table with an empty column `class` for people to fill in.

    `labelled` is a split file, or such a table: what has a class there is labelled already. `sheet` is a picture of thumbnails,
    `folder` gets copies of the images. `also` are stores of the same images by other teachers, read beside; `data` are the images of
    a store that holds none.
    """

    store: PathText = dataclasses.field(kw_only=False)
    n: int
    out: PathText
    labelled: PathText | None = None
    readout: str | None = None
    sheet: PathText | None = None
    folder: PathText | None = None
    also: tuple[PathText, ...] = ()
    data: PathText | None = None
    seed: int = 42
    overwrite: bool = False

    def __post_init__(self) -> None:
        take_plain(self)
        require_file_name(self.out, "--out")
        if self.sheet is not None:
            require_file_name(self.sheet, "--sheet")
        require(self.n >= 1, f"--n is {self.n}; it must be 1 or more.")
        require(
            self.sheet is None or pathlib.Path(self.sheet).suffix.lower() in SHEET_SUFFIXES,
            f"--sheet is '{self.sheet}'; its name must end in one of {', '.join(SHEET_SUFFIXES)}.",
        )
        require(
            self.data is None or self.sheet is not None or self.folder is not None,
            "--data has no effect without --sheet or --folder, which need images.",
        )
        outputs = [pathlib.Path(path).resolve() for path in (self.out, self.sheet, self.folder) if path is not None]
        require(
            len(set(outputs)) == len(outputs),
            "--out, --sheet and --folder name the same place; give each a name of its own.",
        )
        require(
            self.labelled is None or pathlib.Path(self.labelled).resolve() not in outputs,
            f"--labelled {self.labelled} would be written over; name another output.",
        )
