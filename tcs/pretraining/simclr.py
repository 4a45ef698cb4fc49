"""What a teacher is pretrained from: pairs of views of image files, their order, and networks drawn from the seed.

The step and the views of photographs are tcs.simclr. Every draw is a pure function of (seed, purpose, step).

Legend: B images in a batch, D encoder dims, S image side, V = 2 views.
"""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping

import torch
from PIL import Image, ImageOps
from torch import Tensor, nn
from torch.utils.data import Dataset
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

from tcs.config.pixels import PixelRules
from tcs.config.pretrain import SimclrConfig
from tcs.errors import ModelError
from tcs.functional.contrast import projection_head
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


def build_encoder(config: SimclrConfig) -> nn.Module:
    """The timm model without classifier, at a start drawn from the seed; ModelError where timm cannot build it."""
    with seeded(seed_for(config.seed, "encoder")):
        return create_backbone(StudentSpec(text=config.model, name=config.model, kwargs=config.model_kwargs), 0)


def build_projector(config: SimclrConfig, dims: int) -> nn.Module:
    """The projection head on top of the encoder, at a start drawn from the seed."""
    with seeded(seed_for(config.seed, "projector")):
        return projection_head(dims, config.projection_dims)


def encoder_dims(encoder: nn.Module, config: SimclrConfig) -> int:
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
