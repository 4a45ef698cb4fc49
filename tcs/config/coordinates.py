"""Options of `tcs fit` and `tcs targets`. Pure standard library."""

import dataclasses

from tcs.config.plain import PathText, require_file_name, take_plain
from tcs.errors import refuse_idle, require, require_choice

SELECTIONS = ("ridge", "pool")  # by the labelled rows of the split, or by their labels spread over all rows
COORDINATE_METHODS = ("pca", "random", "jl", "autoencoder", "identity", "cospress")


@dataclasses.dataclass(frozen=True, kw_only=True)
class FitConfig:
    """`tcs fit`: a coordinate system from a store, and from those of other teachers of the same images (`also`) side by side.
    `components` None means min(256, D)."""

    store: PathText = dataclasses.field(kw_only=False)
    out: PathText
    also: tuple[PathText, ...] = ()
    method: str = "pca"
    components: int | None = None
    power: float = 0.0
    readout: str | None = None
    shots: int | None = None
    split_seed: int | None = None
    split_file: PathText | None = None
    selection: str = "ridge"
    ceiling_shots: tuple[int, ...] = (4, 16)
    ceiling_test: PathText | None = None
    ceiling_test_also: tuple[PathText, ...] = ()
    seed: int = 42
    overwrite: bool = False

    def __post_init__(self) -> None:
        take_plain(self)
        require_file_name(self.out, "--out")
        require_choice(self.method, COORDINATE_METHODS, "--method")
        require(
            self.components is None or self.components >= 1,
            f"--components is {self.components}; it must be 1 or more.",
        )
        require(
            0 <= self.power <= 1,
            f"--power is {self.power}; it must lie between 0 (no scaling) and 1 (full whitening).",
        )
        require(self.shots is None or self.shots >= 1, f"--shots is {self.shots}; it must be 1 or more.")
        require(
            self.shots is None or self.split_file is None,
            "--shots and --split-file exclude each other; give one of them.",
        )
        require_choice(self.selection, SELECTIONS, "--selection")
        require(
            self.selection == "ridge" or self.shots is not None or self.split_file is not None,
            f"--selection is {self.selection}, and no row is named that has a label; give --shots or --split-file.",
        )
        require(
            self.ceiling_test is None or len(self.ceiling_test_also) == len(self.also),
            f"--ceiling-test has {len(self.ceiling_test_also)} --ceiling-test-also beside it, and STORE {len(self.also)} --also; name "
            "the test store of each teacher, in the same order.",
        )
        require(
            self.ceiling_test is not None or not self.ceiling_test_also,
            "--ceiling-test-also has no effect without --ceiling-test; leave it out.",
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class TargetsConfig:
    """`tcs targets`: coordinates and hash bits of every row of a store; `also` as in the fit of the coordinates.

    `from_targets` in place of `coordinates`: targets of the store before an update, which are extended to its new rows.
    """

    store: PathText = dataclasses.field(kw_only=False)
    out: PathText
    coordinates: PathText | None = dataclasses.field(default=None, kw_only=False)
    from_targets: PathText | None = None
    also: tuple[PathText, ...] = ()
    bits: int = 1024
    sample_rows: int = 65536
    seed: int = 42
    overwrite: bool = False

    def __post_init__(self) -> None:
        take_plain(self)
        require_file_name(self.out, "--out")
        require(
            self.coordinates is not None or self.from_targets is not None,
            "there are no coordinates; name the file that tcs fit made, or targets to be extended with --from.",
        )
        require(
            self.coordinates is None or self.from_targets is None,
            "coordinates that tcs fit made and --from, targets to be extended, exclude each other; give one of them.",
        )
        refuse_idle(
            self,
            (
                (
                    ("bits", "sample_rows", "seed"),
                    self.from_targets is None,
                    "coordinates: targets that are extended keep theirs",
                ),
            ),
        )
        require(
            8 <= self.bits <= 8192 and self.bits % 8 == 0,
            f"--bits is {self.bits}; "
            "it must be a multiple of 8 from 8 to 8192 (faiss packs 8 bits a byte and factors a bits x bits matrix).",
        )
        require(self.sample_rows >= 1, f"--sample-rows is {self.sample_rows}; it must be 1 or more.")
