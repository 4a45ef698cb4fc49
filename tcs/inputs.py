"""What the teacher is given for an image: its clean centre view, or V augmented ones with their parameters.

Letters: V views, P parameters of a view, H W height and width.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from tcs.config import ExtractConfig
from tcs.views import ViewPolicy, replay


@dataclasses.dataclass(frozen=True, kw_only=True)
class Inputs:
    """`pixels_V3HW` float32, normalised; `views_VP` float32, None for the clean view."""

    pixels_V3HW: torch.Tensor
    views_VP: NDArray[np.float32] | None = None


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
