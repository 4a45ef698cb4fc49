"""What the teacher is given for each image, its clean centre view or V augmented ones, made by worker processes in batches.

A batch is cut inside a shard at fixed positions and padded with zeros to full size, so whoever runs a shard, after any
kill, does the same arithmetic. A broken image is zeros at its own place, with a reason; nothing is ever substituted
(timm's ImageDataset would serve the next image).

Legend: B batch, n images in the batch, V views, P parameters of a view, H W height and width.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.utils.data import Dataset

from cache.fingerprint import content_hash
from tcs.augmentation.views import ViewPolicy, replay
from tcs.config.extract import ExtractConfig
from tcs.config.pixels import PixelRules
from tcs.extraction.seen import Seen, look_at
from tcs.images.decode import BadImageError, decode_told, shrink
from tcs.images.listing import ImageList


@dataclasses.dataclass(frozen=True, kw_only=True)
class Inputs:
    """`pixels_V3HW` float32, normalised; `views_VP` float32, None for the clean view."""

    pixels_V3HW: torch.Tensor
    views_VP: NDArray[np.float32] | None = None


FLOAT_BYTES = 4  # of a pixel that the teacher is given


class MakesInputs(Protocol):
    """What turns an RGB image and its key into inputs."""

    def __call__(self, key: str, image: Image.Image) -> Inputs:
        """The inputs of one image."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class CleanInputs:
    """The clean centre view, by the teacher's own transform."""

    transform: Callable[[Image.Image], torch.Tensor]

    def __call__(self, key: str, image: Image.Image) -> Inputs:  # noqa: ARG002
        """One view; the key plays no part."""
        return Inputs(pixels_V3HW=self.transform(image)[None])


@dataclasses.dataclass(frozen=True, kw_only=True)
class ViewInputs:
    """V augmented views at the teacher's size, with its interpolation, mean and std."""

    policy: ViewPolicy
    preprocessing: Mapping[str, Any]

    def __call__(self, key: str, image: Image.Image) -> Inputs:
        """The views of one image."""
        views_VP = self.policy.draw(key, image.size)
        _, height, width = self.preprocessing["input_size"]
        interpolation = self.preprocessing["interpolation"]
        shown = [replay(image, parameters, (height, width), interpolation) for parameters in views_VP]
        pixels = [self._normalised(view) for view in shown]
        return Inputs(pixels_V3HW=torch.stack(pixels), views_VP=views_VP)

    def _normalised(self, view: Image.Image) -> torch.Tensor:
        """float32 (3, H, W) by the same operations as timm's transform, which ends with them."""
        pixels_3HW = torch.from_numpy(np.array(view, np.uint8)).permute(2, 0, 1).contiguous().float().div(255)
        mean, std = (torch.tensor(self.preprocessing[name])[:, None, None] for name in ("mean", "std"))
        return pixels_3HW.sub(mean).div(std)


def view_policy(config: ExtractConfig) -> ViewPolicy | None:
    """The policy that --views asks for; None for the clean view."""
    if config.views is None:
        return None
    return ViewPolicy(
        count=config.views,
        scale=config.view_scale,
        ratio=config.view_ratio,
        hflip=config.hflip,
        jitter=config.color_jitter,
        grayscale=config.grayscale_prob,
        seed=config.seed,
    )


def inputs_maker(
    config: ExtractConfig, transform: Callable[[Image.Image], torch.Tensor], preprocessing: Mapping[str, Any]
) -> MakesInputs:
    """What `config` asks for, of a teacher with this transform and preprocessing."""
    policy = view_policy(config)
    return (
        CleanInputs(transform=transform) if policy is None else ViewInputs(policy=policy, preprocessing=preprocessing)
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class DecodedImage:
    """One image: its place, what the teacher is given or None, content hash, bytes to keep, what was wrong, what was done, and how it
    looked."""

    position: int
    inputs: Inputs | None
    content_hash: bytes
    kept: bytes | None
    reason: str | None
    done: frozenset[str] = frozenset()
    seen: Seen | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class DecodedBatch:
    """n images of one shard, in order: `images_VB3HW` float32 with zeros for bad images and for the n..B padding.

    `views` holds the parameters (V, P) of each image, None for a bad image and for the clean view.
    """

    images_VB3HW: torch.Tensor
    views: tuple[NDArray[np.float32] | None, ...]
    items: tuple[DecodedImage, ...]

    def without_images(self) -> "DecodedBatch":
        """The rest of the batch."""
        return dataclasses.replace(self, images_VB3HW=torch.empty(0))

    def with_images(self, images_VB3HW: torch.Tensor) -> "DecodedBatch":
        """The batch with these pixels."""
        return dataclasses.replace(self, images_VB3HW=images_VB3HW)


class ImagePositions(Dataset[DecodedImage]):
    """The images of a list by position, decoded and transformed; a bad one comes with its reason instead of pixels."""

    def __init__(self, images: ImageList, make_inputs: MakesInputs, policy: str, rules: PixelRules) -> None:
        self._images, self._make_inputs, self._rules = images, make_inputs, rules
        self._keep, _, pixels = policy.partition(":")
        self._shrink_to = int(pixels or 0)

    def __len__(self) -> int:
        return len(self._images.keys)

    def __getitem__(self, position: int) -> DecodedImage:
        """Read, hash, decode and transform the image at `position`."""
        data, key = b"", self._images.keys[position]
        try:
            data = _read(self._images, key)
            decoded = decode_told(data, self._rules)
            inputs = self._make_inputs(key, decoded.image)
            kept = self._kept(data, decoded.image)
        except BadImageError as error:
            return DecodedImage(
                position=position, inputs=None, content_hash=content_hash(data), kept=None, reason=str(error)
            )
        return DecodedImage(
            position=position,
            inputs=inputs,
            content_hash=content_hash(data),
            kept=kept,
            reason=None,
            done=decoded.done,
            seen=look_at(data, decoded.image),
        )

    def _kept(self, data: bytes, image: Image.Image) -> bytes | None:
        if self._keep == "none":
            return None
        return shrink(data, image, self._shrink_to) if self._keep == "resized" else data


def _read(images: ImageList, key: str) -> bytes:
    try:
        return images.read(key)
    except OSError as error:
        raise BadImageError(f"cannot be read ({error.strerror or error})") from error


class Collate:
    """Stacks decoded images into a batch of exactly `batch_size`; a class because workers receive it pickled by name."""

    def __init__(self, batch_size: int, shape: tuple[int, int, int], views: int = 1) -> None:
        self._shape = (views, batch_size, *shape)

    @property
    def batch_bytes(self) -> int:
        """What the pixels of a batch take."""
        return FLOAT_BYTES * math.prod(self._shape)

    def __call__(self, items: Sequence[DecodedImage]) -> DecodedBatch:
        """The batch of `items`, each without its own copy of the pixels."""
        images_VB3HW = torch.zeros(*self._shape)
        for row, item in enumerate(items):
            if item.inputs is not None:
                images_VB3HW[:, row] = item.inputs.pixels_V3HW
        views = tuple(None if item.inputs is None else item.inputs.views_VP for item in items)
        bare = tuple(dataclasses.replace(item, inputs=None) for item in items)
        return DecodedBatch(images_VB3HW=images_VB3HW, views=views, items=bare)


def cut(positions: Sequence[int], batch_size: int) -> list[Sequence[int]]:
    """The batches of a shard: its positions in runs of `batch_size`, the last one shorter."""
    return [positions[start : start + batch_size] for start in range(0, len(positions), batch_size)]
