"""A student ready for use: what it is, how bytes become its pixels, and its forward pass."""

import dataclasses
import pathlib
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from tcs.config.pixels import PixelRules
from tcs.errors import ArtefactError
from tcs.images.decode import Square, square_told
from tcs.inference.card import Card
from tcs.inference.network import Network, TorchNetwork
from tcs.inference.runs import FinishedStudent
from tcs.metrics import known_hashes
from tcs.plain_files import SEEN

# The bytes of an image file -> its pixels, and what was done to make them; BadImageError for what is no image.
Pixels = Callable[[bytes], Square]
PixelsByRules = Callable[[bytes, PixelRules], Square]


@dataclasses.dataclass(frozen=True, kw_only=True)
class UsableModel:
    """A student opened from a run, an exported folder or an ONNX file. `student` is there where it comes from a run; `parameters`
    is None where they cannot be counted."""

    name: str
    path: pathlib.Path
    card: Card
    network: Network
    make_pixels: PixelsByRules
    parameters: int | None = None
    student: FinishedStudent | None = None

    def pixels(self, rules: PixelRules | None = None) -> Pixels:
        """How files become its pixels: by its own rules, or, for the images of a store, by those of the store.

        Whether large JPEGs are decoded at a fraction is the student's own affair always.
        """
        own = self.card.rules if rules is None else rules.scaled_if(self.card.rules.scaled)
        return lambda data: self.make_pixels(data, own)

    @property
    def known_n16(self) -> NDArray[np.uint8] | None:
        """Content hashes (n, 16) of the images that it was trained or fitted on; None where only its run would know."""
        return None if self.student is None else known_hashes(self.student.folder / SEEN)

    def require_classifier(self, remedy: str) -> None:
        """ArtefactError, with the `remedy`, for a student that was trained without labels."""
        if not self.card.classes:
            raise ArtefactError(f"student {self.path} was trained without labels and has no classifier; {remedy}.")


def of_module(
    name: str,
    path: pathlib.Path,
    module: nn.Module,
    card: Card,
    device: torch.device,
    *,
    make_pixels: PixelsByRules | None = None,
    student: FinishedStudent | None = None,
) -> UsableModel:
    """A timm model on `device`; without `make_pixels` they are those that training scores students on."""
    return UsableModel(
        name=name,
        path=path,
        card=card,
        network=TorchNetwork(module, card.mean, card.std, device),
        make_pixels=make_pixels or square_pixels(card.size),
        parameters=sum(parameter.numel() for parameter in module.parameters()),
        student=student,
    )


def square_pixels(size: int) -> PixelsByRules:
    """The pixels that training scores students on: shorter side resized, centre cropped (`square_told`)."""
    return lambda data, rules: square_told(data, size, rules)
