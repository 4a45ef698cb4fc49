"""A student on images: those of a folder, tar or table with their classes, or, for an exported student, the rows of a store.

Legend: N labelled images, n known ones, b images of a batch, C classes.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

import cache
from tcs.config.evaluate import EvalConfig
from tcs.config.extract import DataConfig
from tcs.config.pixels import PixelRules
from tcs.errors import DataError
from tcs.evaluation.judged import Judged, match_names
from tcs.images.listing import ImageList
from tcs.images.sources import open_images
from tcs.images.stored import ReadRow, cores, find_images, rules_of
from tcs.images.told import PixelCounts
from tcs.inference.model import UsableModel
from tcs.inference.sources import NamedImage
from tcs.inference.stream import Flow, Scored, score_images
from tcs.metrics import count_known, match_classes
from tcs.runtime import progress_bar, say


@dataclasses.dataclass(frozen=True, kw_only=True)
class Labelled:
    """Images of DATA, each with the name of its class."""

    images: tuple[NamedImage, ...]
    names: tuple[str, ...]
    where: str


def open_labelled(config: EvalConfig) -> Labelled:
    """The labelled images of `config.store`, which is DATA and no store. DataError where none has a class."""
    data = DataConfig(
        data=config.store,
        labels=config.labels,
        split=config.split,
        data_dir=config.data_dir,
        input_key=config.input_key,
        target_key=config.target_key,
    )
    listing = open_images(data)
    for note in listing.notes:
        say(note)
    pairs = [(key, listing.classes[label]) for key, label in _labelled(listing)]
    if not pairs:
        raise DataError(
            f"{config.store} has no labels, so nothing can be scored; give one sub-folder per class, or a table with a column "
            "label."
        )
    images = tuple(NamedImage(key, listing.files, key) for key, _ in pairs)
    return Labelled(images=images, names=tuple(name for _, name in pairs), where=config.store)


def _labelled(listing: ImageList) -> list[tuple[str, int]]:
    return [(key, label) for key, label in zip(listing.keys, listing.labels, strict=True) if label >= 0]


def judge_images(model: UsableModel, data: Labelled, config: EvalConfig) -> Judged:
    """What `model` says of the images of DATA. DataError for a class that it does not know, or where every image is broken."""
    numbers = match_names(list(dict.fromkeys(data.names)), model.card.classes, data.where)
    labels_N = np.array([numbers[name] for name in data.names], np.int64)
    return _judged(model, data.images, labels_N, data.where, model.card.rules, config)


def judge_rows(model: UsableModel, store: cache.Store, config: EvalConfig) -> Judged:
    """What an exported `model` says of the labelled rows of a store."""
    labels_N = match_classes(store, model.card.classes)
    rows = np.flatnonzero(labels_N >= 0)
    files = RowFiles(find_images(store, config.data))
    images = [NamedImage(store.keys[row], files, str(row)) for row in rows]
    judged = _judged(model, images, labels_N[rows], str(store.path), rules_of(store), config)
    facts = judged.facts | {"cache_id": store.labelled_identity}
    return dataclasses.replace(judged, facts=facts, notes=())  # the extraction has told them


@dataclasses.dataclass(frozen=True)
class RowFiles:
    """The images of a store, by row."""

    read_row: ReadRow

    def read(self, key: str) -> bytes:
        """The bytes of a row's image."""
        return self.read_row(int(key))

    def size(self, _key: str) -> int:
        """Not known without reading."""
        return 0


def _judged(
    model: UsableModel,
    images: Sequence[NamedImage],
    labels_N: NDArray[np.int64],
    where: str,
    rules: PixelRules,
    config: EvalConfig,
) -> Judged:
    known_n16 = model.known_n16
    flow = Flow(batch_size=config.batch_size, workers=config.workers or cores(), hashes=known_n16 is not None)
    batches: list[Scored] = []
    told = PixelCounts()
    with progress_bar(len(images), "scoring", "images") as bar:
        for batch in score_images(images, model.network, model.pixels(rules), flow):
            batches.append(batch)
            told.add(zip((images[place].path for place in batch.places_b), batch.done_b, strict=True))
            bar.advance(batch.images)
    broken = tuple((images[place].path, reason) for batch in batches for place, reason in batch.broken)
    if len(broken) == len(images):
        path, reason = broken[0]
        raise DataError(f"no image of {where} can be read; the first is {path}: {reason}.")
    whole = [batch for batch in batches if len(batch.places_b)]
    places_N = np.concatenate([batch.places_b for batch in whole])
    hashes = [batch.hashes_b16 for batch in whole if batch.hashes_b16 is not None]
    return Judged(
        classes=model.card.classes,
        paths=[images[place].path for place in places_N],
        labels_N=labels_N[places_N],
        logits_NC=np.concatenate([batch.logits_bC for batch in whole]),
        read=lambda number: images[places_N[number]].read(),
        rules=rules,
        known=None if known_n16 is None else count_known(np.concatenate(hashes), known_n16),
        broken=broken,
        notes=tuple(told.sentences(rules)),
        facts={"store": where, "infer_samples_per_sec": _rate(whole)},
    )


def _rate(batches: Sequence[Scored]) -> float:
    """Images a second of the forward pass, while others are decoded beside it."""
    return round(sum(len(batch.places_b) for batch in batches) / max(1e-9, sum(batch.seconds for batch in batches)), 1)
