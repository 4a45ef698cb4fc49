"""What a teacher is pretrained from: settings, pairs of views of image files, their order, and networks drawn from the seed.

The step and the views of photographs are tcs.simclr. Every draw is a pure function of (seed, purpose, step).

Legend: B images in a batch, D encoder dims, S image side, V = 2 views.
"""

import contextlib
import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from PIL import Image, ImageOps
from torch import Tensor, nn
from torch.utils.data import Dataset
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

from tcs.config.pixels import PixelRules
from tcs.errors import ModelError, require, require_choice
from tcs.functional.contrast import PROJECTION_DIMS, projection_head
from tcs.images.decode import BadImageError, decode_image
from tcs.images.listing import ImageList
from tcs.runtime import seed_for
from tcs.simclr import PAIR_VIEWS, view_pairs
from tcs.students.backbone import StudentSpec, create_backbone
from tcs.training.batches import draw

# Of photographs: boxes of a fifth of the area or more, from frames of at most so many times the side of a view.
NATURAL_VIEWS = dataclasses.replace(PAIR_VIEWS, scale=(0.2, 1.0))
FRAME_SIDES = 2
Views = Callable[[Image.Image, int], Tensor]  # (image, seed) -> uint8 (2, 3, S, S)


def natural_views(size: int) -> Views:
    """Crop, mirror, colour, grey, of the centre square: for photographs."""

    def views(image: Image.Image, seed: int) -> Tensor:
        side = min(*image.size, FRAME_SIDES * size)
        frame_3FF = functional.pil_to_tensor(ImageOps.fit(image, (side, side), Image.Resampling.BICUBIC))
        return view_pairs(frame_3FF[None], NATURAL_VIEWS, size, torch.Generator().manual_seed(seed))

    return views


def glyph_views(size: int) -> Views:
    """Affine map, erasing, contrast: for handwriting, where a mirror image is another sign and a crop cuts strokes off."""
    transform = v2.Compose(
        [
            v2.Resize((size, size), antialias=True),
            v2.RandomAffine(
                degrees=20,
                translate=(0.12, 0.12),
                scale=(0.75, 1.2),
                shear=15,
                interpolation=v2.InterpolationMode.BILINEAR,
            ),
            v2.RandomErasing(0.5, scale=(0.02, 0.2)),
            v2.ColorJitter(brightness=0.4, contrast=0.4),
        ]
    )

    def views(image: Image.Image, seed: int) -> Tensor:
        image_3HW = functional.pil_to_tensor(image)
        with seeded(seed):  # torchvision draws from the global generator, one random set for a whole batch
            return torch.stack([transform(image_3HW), transform(image_3HW)])

    return views


VIEWS: Mapping[str, Callable[[int], Views]] = {"natural": natural_views, "glyphs": glyph_views}


@dataclasses.dataclass(frozen=True, kw_only=True)
class PretrainConfig:
    """What one pretraining depends on. Batch size is global; a share of a last, smaller batch is not trained on."""

    model: str = "resnet18"
    model_kwargs: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    views: str = "natural"
    img_size: int = 224
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    epochs: int = 100
    batch_size: int = 256
    lr: float = 1e-3
    opt: str = "adamw"
    weight_decay: float = 0.05
    warmup_share: float = 0.05
    temperature: float = 0.2
    projection_dims: int = PROJECTION_DIMS
    amp: bool = False
    seed: int = 42

    def __post_init__(self) -> None:
        require_choice(self.views, tuple(VIEWS), "--views")
        require(self.img_size >= 8, f"--img-size is {self.img_size}; it must be 8 or more.")
        require(self.epochs >= 1, f"--epochs is {self.epochs}; it must be 1 or more.")
        require(
            self.batch_size >= 2,
            f"--batch-size is {self.batch_size}; an image needs others to differ from: use 2 or more.",
        )
        require(math.isfinite(self.lr) and self.lr > 0, f"--lr is {self.lr}; it must be a positive number.")
        require(self.temperature > 0, f"--temperature is {self.temperature}; it must be a positive number.")
        require(0 <= self.warmup_share < 1, f"--warmup-share is {self.warmup_share}; it must lie from 0 to below 1.")
        require(self.projection_dims >= 1, f"--projection-dims is {self.projection_dims}; it must be 1 or more.")


class ViewPairs(Dataset[Tensor | str]):
    """(row, seed) -> uint8 (2, 3, S, S): two views of one image; a pure function of its arguments, in any worker.

    An unreadable image gives its reason as text: an exception would cross the worker boundary as a page of traceback.
    """

    def __init__(self, images: ImageList, views: Views) -> None:
        self._images, self._views = images, views

    def __getitem__(self, item: tuple[int, int]) -> Tensor | str:
        row, seed = item
        key = self._images.keys[row]
        try:
            return self._views(decode_image(self._images.read(key), PixelRules()), seed)
        except (BadImageError, OSError) as error:
            return f"{key}: {error}"


def collate(views: list[Tensor | str]) -> Tensor | str:
    """Stack views to (B, 2, 3, S, S); the first reason instead, where an image could not be read."""
    bad = [view for view in views if isinstance(view, str)]
    return bad[0] if bad else torch.stack([view for view in views if isinstance(view, Tensor)])


@dataclasses.dataclass(frozen=True)
class BatchOrder:
    """Step by step the (row, seed) pairs of a batch, from step `start` on; reshuffled each epoch, every row once an epoch."""

    rows: int
    batch_size: int
    epochs: int
    seed: int
    start: int = 0

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches in an epoch."""
        return self.rows // self.batch_size

    def __len__(self) -> int:
        return self.epochs * self.steps_per_epoch - self.start

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        for step in range(self.start, self.start + len(self)):
            rows_B = draw(self.rows, self.batch_size, self.seed, "pool", step)
            first = step * self.batch_size
            yield [(row, seed_for(self.seed, "views", first + place)) for place, row in enumerate(rows_B.tolist())]


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Run the block under `seed`, then give the global generator back as it was (transforms and dropout know no other)."""
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        yield


def build_encoder(config: PretrainConfig) -> nn.Module:
    """The timm model without classifier, at a start drawn from the seed; ModelError where timm cannot build it."""
    with seeded(seed_for(config.seed, "encoder")):
        return create_backbone(StudentSpec(text=config.model, name=config.model, kwargs=config.model_kwargs), 0)


def build_projector(config: PretrainConfig, dims: int) -> nn.Module:
    """The projection head on top of the encoder, at a start drawn from the seed."""
    with seeded(seed_for(config.seed, "projector")):
        return projection_head(dims, config.projection_dims)


def encoder_dims(encoder: nn.Module, config: PretrainConfig) -> int:
    """D, measured by one forward pass; ModelError where the model does not take `img_size` or gives no vector."""
    try:
        with torch.no_grad():
            shape = encoder.eval()(torch.zeros(1, 3, config.img_size, config.img_size)).shape
    except (RuntimeError, AssertionError, ValueError) as error:
        reason = (str(error).splitlines() or [""])[0]
        raise ModelError(f"'{config.model}' does not take images of {config.img_size} px: {reason}") from error
    if len(shape) != 2:
        raise ModelError(
            f"'{config.model}' gives features of shape {tuple(shape[1:])}; use a model with pooled features."
        )
    return int(shape[1])
