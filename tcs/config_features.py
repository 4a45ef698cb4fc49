"""Options of what `tcs extract` reads from each image: readouts and projections. Pure standard library, like `tcs.config`."""

import dataclasses
from collections.abc import Mapping

from tcs.errors import require, require_choice

PROJECTIONS = ("orthogonal", "pca")


@dataclasses.dataclass(frozen=True, kw_only=True)
class FeatureConfig:
    """Readouts of one pass, and how maps are made smaller; `map_size` None keeps them as they are. `seed` is of projections."""

    readouts: tuple[str, ...] = ("avg",)
    map_size: tuple[int, int] | None = None
    project: Mapping[str, int] = dataclasses.field(default_factory=dict)
    projection: str = "orthogonal"
    projection_images: int = 512
    projection_from: str | None = None
    seed: int = 42

    def __post_init__(self) -> None:
        require(len(self.readouts) > 0, "--readout is missing; name at least one, for example --readout avg.")
        require(
            len(set(self.readouts)) == len(self.readouts),
            f"--readout names {', '.join(self.readouts)}; each may stand there once.",
        )
        require(
            self.map_size is None or min(self.map_size) >= 1,
            f"--map-size is {self.map_size}; it must be HEIGHTxWIDTH, 1 or more each.",
        )
        require_choice(self.projection, PROJECTIONS, "--projection")
        require(self.projection_images >= 2, f"--projection-images is {self.projection_images}; it must be 2 or more.")
        require(
            self.projection_from is None or not self.project,
            "--project and --projection-from exclude each other; give one of them.",
        )
