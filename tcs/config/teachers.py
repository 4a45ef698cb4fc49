"""Options of `tcs probe` with several stores. Pure standard library."""

import dataclasses
import pathlib

from tcs.config.plain import PathText, take_plain
from tcs.errors import listed, require


@dataclasses.dataclass(frozen=True, kw_only=True)
class CompareConfig:
    """`tcs probe A B ...`: teachers of the same images, by their training stores and, in the same order, test stores.

    `readouts` names one for all teachers, or one for each. A split of each of `shots` is drawn by every seed, the same for all teachers.
    """

    stores: tuple[PathText, ...] = dataclasses.field(kw_only=False)
    tests: tuple[PathText, ...]
    readouts: tuple[str, ...] = ()
    shots: tuple[int, ...] = (1, 4)
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    device: str = "cpu"
    out: PathText | None = None
    overwrite: bool = False

    def __post_init__(self) -> None:
        take_plain(self)
        require(len(self.stores) >= 2, f"stores are {listed(self.stores)}; teachers are compared from two stores on.")
        require(
            len(self.tests) == len(self.stores),
            f"--test is given {len(self.tests)} times, and STORE {len(self.stores)} times; name the test store of each teacher, in the "
            "same order.",
        )
        require(
            len(self.readouts) in (0, 1, len(self.stores)),
            f"--readout is given {len(self.readouts)} times; give it once for all teachers, or once for each of the {len(self.stores)}.",
        )
        places = [pathlib.Path(path).resolve() for path in (*self.stores, *self.tests)]
        require(len(set(places)) == len(places), "a store is given twice; each teacher has two of its own.")
        for option, values in (("--shots", self.shots), ("--seed", self.seeds)):
            require(len(values) > 0, f"{option} is missing; give at least one.")
            require(len(set(values)) == len(values), f"{option} names {listed(values)}; each may stand there once.")
        for count in self.shots:
            require(count >= 1, f"--shots is {count}; it must be 1 or more.")

    def readout_of(self, number: int) -> str | None:
        """The readout of the teacher at this place; None for the only one of its store."""
        return self.readouts[number % len(self.readouts)] if self.readouts else None
