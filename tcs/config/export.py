"""Options of `tcs export`. Pure standard library."""

import dataclasses

from tcs.config.plain import PathText, take_plain
from tcs.errors import refuse_idle, require, require_choice

FOLDERS = ("timm", "hf")
ENDINGS = {"onnx": ".onnx", "torch-export": ".pt2"}  # formats that are one file, and how its name ends
FORMATS = (*FOLDERS, *ENDINGS)
MAX_DROP_POINTS = 1.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExportConfig:
    """`tcs export`: finished students in a form that others load.

    `run` is a run or the folder of one of its students; `out` a folder, or a file for one student as `onnx` or `torch-export`.
    `store` has the images that the exports are compared with the run on (None: the run's own), `data` the images of a store that
    holds none, `test` a store to score for the card, `int8` images to calibrate with.
    """

    run: PathText = dataclasses.field(kw_only=False)
    to: str
    out: PathText
    models: tuple[str, ...] = ()
    store: PathText | None = None
    data: PathText | None = None
    test: PathText | None = None
    with_preprocess: bool = False
    int8: PathText | None = None
    max_drop: float = MAX_DROP_POINTS  # points of top-1, or of agreement
    overwrite: bool = False

    def __post_init__(self) -> None:
        take_plain(self)
        require_choice(self.to, FORMATS, "--to")
        require(self.out != "", "--out is empty; name where the export goes.")
        require(0 <= self.max_drop <= 100, f"--max-drop is {self.max_drop:g}; it must be 0 to 100 percentage points.")
        refuse_idle(
            self,
            (
                (("with_preprocess",), self.to in ENDINGS, "--to onnx or --to torch-export"),
                (("int8",), self.to == "onnx", "--to onnx"),
                (("max_drop",), self.int8 is not None, "--int8"),
                (("test",), self.to == "hf", "--to hf, whose card tells the scores"),
            ),
        )
