"""Options of `tcs look`. Pure standard library."""

import dataclasses
import pathlib

from tcs.config.plain import PathText, require_file_name, take_plain
from tcs.errors import require, require_choice

MAPS = ("tsne", "pca")
OUT_SUFFIXES = (".html", ".htm")


@dataclasses.dataclass(frozen=True, kw_only=True)
class LookConfig:
    """`tcs look`: what a store looks like to its teacher, as one page.

    `coordinates` and `targets` are files of `tcs fit` and `tcs targets`; what is not given is fitted to the store. `data` are the
    images of a store that holds none. `map` `tsne` draws a t-SNE map beside the principal one.
    """

    store: PathText = dataclasses.field(kw_only=False)
    out: PathText = "look.html"
    coordinates: PathText | None = None
    targets: PathText | None = None
    readout: str | None = None
    data: PathText | None = None
    map: str = "tsne"
    seed: int = 42
    overwrite: bool = False

    def __post_init__(self) -> None:
        take_plain(self)
        require_file_name(self.out, "--out")
        require(
            pathlib.Path(self.out).suffix.lower() in OUT_SUFFIXES,
            f"--out is '{self.out}'; its name must end in one of {', '.join(OUT_SUFFIXES)}.",
        )
        require_choice(self.map, MAPS, "--map")
        require(self.seed >= 0, f"--seed is {self.seed}; it must be 0 or more.")
