"""SimCLR (Chen et al. 2020, arXiv 2002.05709): pretraining of a teacher from images alone; no label is ever read.

Letters: B images in a batch, D encoder dims, S image side, V = 2 views.
Randomness: every draw is a pure function of (seed, purpose, step), so a resumed run equals an uninterrupted one.
"""

import contextlib
import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

from tcs.errors import ModelError, require, require_choice
from tcs.functional.contrast import PROJECTION_DIMS, projection_head
from tcs.images.decode import BadImageError, decode_image
from tcs.images.listing import ImageList
from tcs.runtime import seed_for
from tcs.students.backbone import StudentSpec, create_backbone


def natural_views(size: int) -> v2.Transform:
    """Crop, flip, colour, grey: for photographs (the recipe of the paper, blur left out as it is for small images)."""
    return v2.Compose(
        [
            v2.RandomResizedCrop(size, scale=(0.2, 1.0), antialias=True),
            v2.RandomHorizontalFlip(),
            v2.RandomApply([v2.ColorJitter(0.4, 0.4, 0.4, 0.1)], p=0.8),
            v2.RandomGrayscale(0.2),
        ]
    )


def glyph_views(size: int) -> v2.Transform:
    """Affine map, erasing, contrast: for handwriting, where a mirror image is another sign and a crop cuts strokes off."""
    return v2.Compose(
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


VIEWS: Mapping[str, Callable[[int], v2.Transform]] = {"natural": natural_views, "glyphs": glyph_views}


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

    torchvision draws one random set for a whole batched tensor, hence one image at a time. An unreadable image gives its
    reason as text: an exception would cross the worker boundary as a page of traceback.
    """

    def __init__(self, images: ImageList, transform: v2.Transform) -> None:
        self._images, self._transform = images, transform

    def __getitem__(self, item: tuple[int, int]) -> Tensor | str:
        row, seed = item
        key = self._images.keys[row]
        try:
            image_HWC = functional.pil_to_tensor(decode_image(self._images.read(key)))
        except (BadImageError, OSError) as error:
            return f"{key}: {error}"
        with seeded(seed):
            return torch.stack([self._transform(image_HWC), self._transform(image_HWC)])


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
            epoch, batch = divmod(step, self.steps_per_epoch)
            shuffle = torch.Generator().manual_seed(seed_for(self.seed, "order", epoch))
            rows_B = torch.randperm(self.rows, generator=shuffle)[batch * self.batch_size :][: self.batch_size]
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
