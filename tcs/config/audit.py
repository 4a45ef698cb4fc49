"""Options of `tcs audit`, and of leaving out what it found. Pure standard library."""

import dataclasses
import pathlib

from tcs.config.plain import PathText, require_file_name, take_plain
from tcs.errors import require, require_choice

KINDS = ("label-error", "duplicate", "near-duplicate", "leak", "conflict", "outlier")
DEFAULT_KINDS = ("duplicate", "leak", "conflict")  # what is left out unasked: none of it is a matter of opinion
OUT_SUFFIXES = (".csv", ".html")
NEAR_COSINE = 0.85  # benchmarks/audit.py copies: what it finds, and what else it names


@dataclasses.dataclass(frozen=True, kw_only=True)
class AuditConfig:
    """`tcs audit`: what is wrong with the data of a store, by what its teacher sees.

    `test` are stores of test images, which the images of `store` may not be copies of. `near` is the cosine, in principal
    coordinates, from which two images count as near copies. `out` takes a table (.csv), a page (.html) or both.
    """

    store: PathText = dataclasses.field(kw_only=False)
    test: tuple[PathText, ...] = ()
    out: tuple[PathText, ...] = ()
    readout: str | None = None
    near: float = NEAR_COSINE
    top: int = 20
    overwrite: bool = False

    def __post_init__(self) -> None:
        take_plain(self)
        for path in self.out:
            require_file_name(path, "--out")
            require(
                pathlib.Path(path).suffix.lower() in OUT_SUFFIXES,
                f"--out is '{path}'; its name must end in one of {', '.join(OUT_SUFFIXES)}.",
            )
        require(0 < self.near <= 1, f"--near is {self.near:g}; it must be above 0 and at most 1.")
        require(self.top >= 1, f"--top is {self.top}; it must be 1 or more.")
        places = [pathlib.Path(path).resolve() for path in self.out]
        require(len(set(places)) == len(places), "--out names the same place twice; give each a name of its own.")
        stores = [pathlib.Path(path).resolve() for path in (self.store, *self.test)]
        require(len(set(stores)) == len(stores), "a store is given twice; --test is a store of other images.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExclusionConfig:
    """Which lines of a table of `tcs audit` name images to leave out: those of `kinds`, of label errors the `top` first."""

    exclude: str
    kinds: tuple[str, ...] = DEFAULT_KINDS
    top: int | None = None

    def __post_init__(self) -> None:
        take_plain(self)
        for kind in self.kinds:
            require_choice(kind, KINDS, "--exclude-kind")
        if "label-error" in self.kinds:
            require(
                self.top is not None and self.top >= 1,
                "--exclude-kind label-error needs --exclude-top N (1 or more): every labelled image stands in the table once, "
                "the likeliest error first.",
            )
        else:
            require(self.top is None, "--exclude-top has no effect without --exclude-kind label-error.")
