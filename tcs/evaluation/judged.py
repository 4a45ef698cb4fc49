"""Labelled images with what a student says of them, wherever they lie. Legend: N images, n known ones, C classes."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tcs.config.names import finder
from tcs.config.pixels import PixelRules
from tcs.errors import DataError, listed
from tcs.runtime import say


@dataclasses.dataclass(frozen=True, kw_only=True)
class Judged:
    """`paths` and `labels_N` (which index `classes`) of N images and the logits of one student; `read` gives the bytes of the n-th,
    which become pixels by `rules`.

    `known` counts the images that it was trained or fitted on, None where that cannot be known. `broken` are (path, reason) of
    images that are left out, `notes` sentences on how files became pixels, of images as they lie. `facts` are columns of its row. Scores
    of a ridge probe are no logits, so give no probabilities.
    """

    classes: Sequence[str]
    paths: Sequence[str]
    labels_N: NDArray[np.int64]
    logits_NC: NDArray[np.float32]
    read: Callable[[int], bytes]
    rules: PixelRules
    known: int | None
    facts: dict[str, Any]
    broken: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()
    has_probabilities: bool = True


def match_names(names: Sequence[str], classes: Sequence[str], data: str) -> dict[str, int]:
    """Class name of the data -> the student's number of it. DataError for one that it was not trained on; says which of its
    classes have no image."""
    numbers, find = {name: number for number, name in enumerate(classes)}, finder(classes)
    found = {name: find(name) for name in names}
    strangers = [name for name in names if found[name] is None]
    if strangers:
        raise DataError(
            f"{data} has classes that the student was not trained on: {listed(strangers, 5)}; it knows {listed(classes, 5)}."
        )
    missing = [name for name in classes if name not in set(found.values())]
    if missing:
        say(f"{data} has no images of {len(missing)} of the {len(classes)} classes: {listed(missing, 5)}.")
    return {name: numbers[known] for name, known in found.items() if known is not None}
