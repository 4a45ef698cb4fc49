"""The stage `tcs predict`: images -> their likeliest classes by one student."""

import dataclasses
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from tcs.config.inference import PredictConfig
from tcs.images.stored import cores
from tcs.images.told import PixelCounts
from tcs.inference.model import UsableModel
from tcs.inference.opening import open_model
from tcs.inference.predictions import (
    Row,
    columns,
    predictions_of,
    require_free,
    require_table,
    row_of,
    save_predictions,
)
from tcs.inference.sources import NamedImage, named_images
from tcs.inference.stream import Flow, score_images
from tcs.runtime import pick_device, progress_bar, say

MOST_NAMED = 20  # broken images that are told one by one
PROBE = "fit a probe of its features with tcs eval MODEL TEST.store --probe X.store, or train with labels"

Tell = Callable[[Sequence[Row], Sequence[str] | None], None]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Predictions:
    """`rows`, one an image, as `tcs.inference.predictions` has them; `broken` are (path, reason) of images without a row.

    `classes` are the student's, `topk` how many of them a row names, `temperature` what its logits were divided by (None: the
    probabilities are not calibrated).
    """

    rows: tuple[Row, ...]
    broken: tuple[tuple[str, str], ...]
    model: str
    classes: tuple[str, ...]
    topk: int
    temperature: float | None

    def facts(self) -> dict[str, Any]:
        """All but the rows, for a file."""
        broken = [{"path": path, "reason": reason} for path, reason in self.broken]
        return {"model": self.model, "temperature": self.temperature, "classes": list(self.classes), "broken": broken}


def predict(config: PredictConfig, tell: Tell | None = None) -> Predictions:
    """The likeliest classes of the images that `config.paths` name, written to `config.out` where that is given: `Predictions`.

    A row is a mapping: `path`, `class`, `probability` (0 to 1), `class2`, `probability2`, ... with the likeliest first.

    `tell` is given the rows of each batch as soon as they are there, which are then not kept, so that there may be any number; the
    first time the columns as well. An image that cannot be read or decoded is named on stderr and has no row. Pixels are those by
    which `tcs eval` scores the student; what was done to make them is told on stderr, as `tcs extract` tells it. ArtefactError for a model
    that cannot be used, and for an `out` that exists; DataError for paths that name no images.
    """
    out = None if config.out is None else pathlib.Path(config.out)
    if out is not None:
        require_free(out, "--out", overwrite=config.overwrite)
        require_table(out)
    model = open_model(config.model, config.student, pick_device(config.device))
    model.require_classifier(PROBE)
    images = named_images(config.paths)
    temperature = choose_temperature(model, config.temperature)
    rows: list[Row] = []
    broken: list[tuple[str, str]] = []
    topk = min(config.topk, len(model.card.classes))
    header: Sequence[str] | None = columns(topk)
    told = PixelCounts()
    for found, wrong in _batches(images, model, config, topk, temperature, told):
        broken += wrong
        if tell is None:
            rows += found
        else:
            tell(found, header)
            header = None
    result = Predictions(
        rows=tuple(rows),
        broken=tuple(broken),
        model=str(model.path),
        classes=model.card.classes,
        topk=topk,
        temperature=temperature,
    )
    if out is not None:
        save_predictions(out, rows, result.facts(), topk)
    for sentence in told.sentences(model.card.rules):
        say(sentence)
    _say_broken(broken, len(images))
    return result


def choose_temperature(model: UsableModel, asked: float | None) -> float | None:
    """The temperature that is asked for, else the student's own; says on stderr which, or that there is none."""
    temperature = asked if asked is not None else model.card.temperature
    if temperature is None:
        say(
            f"{model.path} has no temperature, so its probabilities are not calibrated (tcs train fits one on 100 or more labelled "
            "images that --held-out keeps out, tcs eval tells one for any labelled images: give it with --temperature)."
        )
    else:
        origin = "as --temperature asks" if asked is not None else "fitted on labelled images held out of training"
        say(f"Probabilities are at temperature {temperature:g}, {origin}.")
    return temperature


def _batches(
    images: Sequence[NamedImage],
    model: UsableModel,
    config: PredictConfig,
    topk: int,
    temperature: float | None,
    told: PixelCounts,
) -> Iterator[tuple[list[Row], list[tuple[str, str]]]]:
    """Rows and broken images, batch by batch; `told` counts what was done to make pixels."""
    flow = Flow(batch_size=config.batch_size, workers=config.workers or cores())
    with progress_bar(len(images), "predicting", "images") as bar:
        for batch in score_images(images, model.network, model.pixels(), flow):
            broken = [(images[place].path, reason) for place, reason in batch.broken]
            paths = [images[place].path for place in batch.places_b]
            told.add(zip(paths, batch.done_b, strict=True))
            found = predictions_of(paths, batch.logits_bC, model.card.classes, topk, temperature) if paths else []
            yield [row_of(each) for each in found], broken
            bar.advance(batch.images)


def _say_broken(broken: Sequence[tuple[str, str]], total: int) -> None:
    """Name images without a prediction, the first ones where there are many."""
    for path, reason in broken[:MOST_NAMED]:
        say(f"{path}: {reason}")
    more = f" ({len(broken) - MOST_NAMED:,} more are not named here)" if len(broken) > MOST_NAMED else ""
    if broken:
        say(f"{len(broken):,} of {total:,} images have no prediction{more}.")
