"""What an export is made from: the students of a run, the store behind them, real images.

Legend: N images, S image side in pixels.
"""

import dataclasses
import json
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

import cache
from tcs.config.export import ExportConfig
from tcs.config.extract import DataConfig
from tcs.config.names import finder
from tcs.config.pixels import PixelRules
from tcs.errors import ArtefactError, DataError
from tcs.export.check import CHECKED_IMAGES
from tcs.images.decode import BadImageError, decode_square
from tcs.images.sources import open_images
from tcs.images.stored import decode_rows, find_images, is_store, rules_of
from tcs.inference.runs import FinishedStudent, find_students, load_student
from tcs.plain_files import CONFIG
from tcs.runtime import progress_bar

TEXTS = ("licence", "licence_terms", "licence_according_to", "origin_url", "source")
TEACHER_FACTS = (*TEXTS, "paper_ids")
Read = Callable[[int], bytes]


def find_finished(config: ExportConfig) -> list[FinishedStudent]:
    """The students of a run, all or those that are named; of the folder of one student, that one. ArtefactError as of `load_student`."""
    folder = pathlib.Path(config.run)
    if (folder / CONFIG).is_file() and not config.models:
        return [load_student(folder)]
    return [load_student(path) for path in find_students(folder, config.models)]


def open_store(config: ExportConfig, student: FinishedStudent) -> cache.Store:
    """The store to compare on: the one that is given, or the run's own. ArtefactError where that has gone."""
    recorded = (student.record.get("stores_read") or ["?"])[0]
    path = pathlib.Path(recorded if config.store is None else config.store)
    if config.store is None and not path.exists():
        raise ArtefactError(
            f"the store {recorded} of {student.folder} is not here, and an export is compared with its run on real images; say "
            "where it is, or name another one, with --store."
        )
    return cache.open(path)


def teacher_facts(student: FinishedStudent, store: cache.Store) -> dict[str, Any]:
    """What the store that the student was trained on says of its teacher; nothing where `store` is another one."""
    if store.identity != student.record["identity"].get("store_identity"):
        return {}
    identity, provenance = store.manifest.plan.identity, store.manifest.provenance
    told = provenance.get("teacher") if isinstance(provenance, Mapping) else None
    told = told if isinstance(told, Mapping) else {}
    facts = {name: told[name] for name in TEACHER_FACTS if name in told and _is_told(name, told[name])}
    named = {name: _text(identity.get(of)) for name, of in (("name", "teacher"), ("weights", "teacher_weights"))}
    return named | {"preprocessing": identity.get("preprocessing"), "readouts": list(store.readouts)} | facts


def _is_told(name: str, value: Any) -> bool:
    """Whether it is what tcs extract records of a teacher; a store that other code wrote may have anything there."""
    texts = [value] if name in TEXTS else value
    return isinstance(texts, list | tuple) and all(isinstance(text, str) for text in texts)


def _text(value: Any) -> str | None:
    """What an identity names, as a text: of a store that other code wrote it may be any JSON."""
    return value if value is None or isinstance(value, str) else json.dumps(value, sort_keys=True)


def sample(store: cache.Store, size: int, data: str | None) -> Tensor:
    """Up to 16 images of a store, evenly spread, as uint8 (N, 3, S, S); at least two, for two batches."""
    count = min(CHECKED_IMAGES, len(store))
    if count == 0:
        raise DataError(
            f"store {store.path} has no rows, and an export is compared on real images; name another --store."
        )
    rows_N = np.linspace(0, len(store) - 1, max(2, count)).round().astype(np.int64)
    return decode_rows(store, rows_N, size, find_images(store, data))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pictures:
    """Images of `name` by number, with class numbers of the student (-1: none, or a class that it does not know).

    `identity` tells these images from others: that of a store, of other sources a digest of names and labels.
    """

    name: str
    identity: str
    keys: Sequence[str]
    read: Read
    rules: PixelRules
    labels_N: NDArray[np.int64]

    def pixels(self, numbers_n: NDArray[np.int64], size: int) -> NDArray[np.uint8]:
        """uint8 (n, 3, S, S). DataError names one that cannot be decoded."""
        images_n3SS = np.empty((len(numbers_n), 3, size, size), np.uint8)
        with progress_bar(len(numbers_n), "decoding", "images") as bar:
            for at, number in enumerate(numbers_n):
                images_n3SS[at] = self._decode(int(number), size).transpose(2, 0, 1)
                bar.advance(1)
        return images_n3SS

    def _decode(self, number: int, size: int) -> NDArray[np.uint8]:
        try:
            return decode_square(self.read(number), size, self.rules)
        except (BadImageError, OSError) as error:
            raise DataError(
                f"image '{self.keys[number]}' of {self.name} cannot be decoded: {error}; remove it, or mend it."
            ) from error


def open_pictures(data: str, classes: Sequence[str], rules: PixelRules) -> Pictures:
    """The images of a store, a folder, a tar or a table, whichever `data` names, with labels matched to `classes` by name.

    `rules` are for images that are in no store, which has its own; whether they are `scaled` counts for both."""
    if is_store(pathlib.Path(data)):
        store = cache.open(pathlib.Path(data))
        keys, names, labels, read = list(store.keys), store.classes, store.labels_N, find_images(store, None)
        identity, rules = store.labelled_identity, rules_of(store).scaled_if(rules.scaled)
    else:
        images = open_images(DataConfig(data=data))
        keys, names, labels = list(images.keys), images.classes, np.array(images.labels, np.int64)
        identity = cache.digest_of_json([keys, list(images.labels), list(names)])

        def read(row: int) -> bytes:
            return images.read(keys[row])

    numbers: dict[str | None, int] = {name: number for number, name in enumerate(classes)} | {None: -1}
    find = finder(classes)
    known = np.array([*(numbers[find(name)] for name in names), -1], np.int64)
    numbers_N = known[np.asarray(labels, np.int64)]
    return Pictures(name=data, identity=identity, keys=keys, read=read, rules=rules, labels_N=numbers_N)
