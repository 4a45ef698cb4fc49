"""Options of `tcs pretrain`. Pure standard library."""

import dataclasses
import math
import pathlib
from collections.abc import Mapping
from typing import Any

from tcs.config.optimiser import require_rate
from tcs.config.pixels import require_side
from tcs.config.plain import PathText, require_file_name, take_plain
from tcs.errors import require, require_choice

VIEWS = (
    "natural",
    "glyphs",
)  # kinds of images: photographs; signs, which no mirror and no small crop leaves what they are
WEIGHTS, CARD, RESUME = ".safetensors", ".json", ".resume.pt"  # how the names of its files end


@dataclasses.dataclass(frozen=True, kw_only=True)
class SimclrConfig:
    """What one pretraining depends on. Batch size is global; a share of a last, smaller batch is not trained on."""

    model: str = "resnet18"
    model_kwargs: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    views: str = "natural"
    img_size: int = 224
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    epochs: int = 100
    batch_size: int = 256
    lr: float = 1e-3
    opt: str = "adamw"
    weight_decay: float = 0.05
    warmup_share: float = 0.05
    temperature: float = 0.2
    projection_dims: int = 128
    amp: bool = False
    seed: int = 42

    def __post_init__(self) -> None:
        take_plain(self)
        require_choice(self.views, VIEWS, "--views")
        require_side(self.img_size, least=8)
        require(self.epochs >= 1, f"--epochs is {self.epochs}; it must be 1 or more.")
        require(
            self.batch_size >= 2,
            f"--batch-size is {self.batch_size}; an image needs others to differ from: use 2 or more.",
        )
        require_rate(self.lr)
        require(self.temperature > 0, f"--temperature is {self.temperature}; it must be a positive number.")
        require(0 <= self.warmup_share < 1, f"--warmup-share is {self.warmup_share}; it must lie from 0 to below 1.")
        require(self.projection_dims >= 1, f"--projection-dims is {self.projection_dims}; it must be 1 or more.")
        require(
            all(math.isfinite(value) and value > 0 for value in self.std),
            f"--std is {self.std}; it must be three positive numbers.",
        )

    def identity(self) -> dict[str, Any]:
        """Its fields alone, without those of a configuration that has more."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(SimclrConfig)}


@dataclasses.dataclass(frozen=True, kw_only=True)
class PretrainConfig(SimclrConfig):
    """`tcs pretrain`: a teacher from the images of `data` alone, by SimCLR. Labels are not read for it.

    `test` are images with the classes of `data`, to score the finished teacher on and for nothing else. `out` is the file of its weights
    (.safetensors); the card lies beside it, under the same name with .json.
    """

    data: PathText = dataclasses.field(kw_only=False)
    out: PathText
    test: PathText | None = None
    device: str = "cpu"
    workers: int = 1
    checkpoint_every: int = 200
    overwrite: bool = False
    dry_run: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        require_file_name(self.out, "--out")
        require(
            pathlib.PurePath(self.out).suffix == WEIGHTS,
            f"--out is '{self.out}'; its name must end in {WEIGHTS}, as my_teacher{WEIGHTS}.",
        )
        require(self.workers >= 0, f"--workers is {self.workers}; it must be 0 or more.")
        require(self.checkpoint_every >= 1, f"--checkpoint-every is {self.checkpoint_every}; it must be 1 or more.")

    @property
    def card(self) -> pathlib.Path:
        """Where the card goes."""
        return pathlib.Path(self.out).with_suffix(CARD)

    @property
    def resume(self) -> pathlib.Path:
        """The state of an unfinished pretraining."""
        return pathlib.Path(self.out).with_suffix(RESUME)
