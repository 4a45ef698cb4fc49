"""A sample of a store's rows computed again by its teacher, and how far the stored features are from that.

The very batches of the plan that hold the sampled rows go through the teacher, so that on the same hardware with the same
versions the difference is exactly 0.

Legend: B sampled rows, D numbers of a row.
"""

import collections
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

import cache
from tcs.config.extract import ExtractConfig, RecomputeConfig
from tcs.errors import ArtefactError, ConfigError, DataError
from tcs.extraction.decoding import DecodedImage, ImagePositions, cut, inputs_maker
from tcs.extraction.extract import batch_features
from tcs.extraction.plan import Extraction
from tcs.extraction.projections import projected
from tcs.images.listing import ImageList
from tcs.images.recorded import is_there, recorded_config, require_path
from tcs.images.sources import open_images
from tcs.images.stored import rules_of
from tcs.runtime import progress_bar, say, seed_for
from tcs.teacher.model import Teacher, load_teacher
from tcs.teacher.projection import stored_projection
from tcs.teacher.source import teacher_to_run


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReadoutError:
    """Stored against recomputed features of one readout, both in the stored dtype.

    `max_abs` and `mean_abs` are of single values; `max_rel` and `mean_rel` of rows, the norm of the difference by the norm
    of the recomputed row; `differing` is the share of values that are not equal.
    """

    rows: int
    max_abs: float
    mean_abs: float
    max_rel: float
    mean_rel: float
    differing: float

    def describe(self, name: str) -> str:
        """One line."""
        return (
            f"readout {name}: {self.rows} rows computed again; error of a value {self.max_abs:.3g} at most, {self.mean_abs:.3g} "
            f"in the mean; of a row, relative, {self.max_rel:.3g} at most, {self.mean_rel:.3g} in the mean; "
            f"{self.differing:.3%} of values differ."
        )


class _StoredFiles:
    """The original images that a store keeps, as a source of images."""

    def __init__(self, store: cache.Store) -> None:
        self._store, self._rows = store, {key: row for row, key in enumerate(store.keys)}

    def read(self, key: str) -> bytes:
        """The stored bytes; OSError for an input that has no row."""
        if key not in self._rows:
            raise OSError("not in the store")
        return self._store.image_bytes(self._rows[key])

    def size(self, key: str) -> int:
        """The length of the stored bytes."""
        return len(self.read(key)) if key in self._rows else 0


def recompute(config: RecomputeConfig) -> dict[str, ReadoutError]:
    """Compute `config.sample` rows again and compare; returns one error by readout, each of both in the stored dtype.

    An error has the `rows` compared; `max_abs` and `mean_abs` of single values, in the units of the features; `max_rel` and `mean_rel`
    of rows, the norm of the difference by that of the recomputed row; `differing`, the share (0 to 1) of values that are not equal. On
    the same hardware and versions all are exactly 0.

    Raises ArtefactError where the teacher is not the recorded one, naming the field; ConfigError where images or weights
    are not to be found; DataError naming images that have changed.
    """
    store = cache.open(config.store)
    options = _options(config, store)
    plan = store.manifest.plan
    teacher = load_teacher(options)
    require_same_teacher(store, teacher)
    _require_readouts(store, teacher)
    found = {name: stored_projection(plan.constants, name) for name in teacher.readouts}
    teacher = projected(teacher, {name: made for name, made in found.items() if made is not None})
    images = _images(options, store, config.data is not None)
    make_inputs = inputs_maker(options, teacher.transform, teacher.preprocessing)
    positions = ImagePositions(images, make_inputs, "none", rules_of(store))
    extraction = Extraction(config=options, images=images, teacher=teacher, plan=plan, positions=positions)
    generator = np.random.default_rng(seed_for(config.seed, "recompute"))
    rows_B = np.sort(generator.choice(len(store), min(config.sample, len(store)), replace=False))
    computed = _computed(extraction, store, {int(store.positions_N[row]): int(row) for row in rows_B})
    return {name: _error(store, name, rows_B, [computed[int(row)][name] for row in rows_B]) for name in store.readouts}


def _options(config: RecomputeConfig, store: cache.Store) -> ExtractConfig:
    changes = {
        "data": config.data,
        "teacher_checkpoint": config.teacher_checkpoint,
        "device": config.device,
        "workers": config.workers,
    }
    options = recorded_config(store.path, store.manifest.provenance, changes)
    require_path(options.teacher_checkpoint, "--teacher-checkpoint", store.path)
    return dataclasses.replace(options, teacher=teacher_to_run(options.teacher, config.teacher))


def _images(options: ExtractConfig, store: cache.Store, is_given: bool) -> ImageList:
    """The images by the store's own keys: from the data set, or from the store where that is gone."""
    plan = store.manifest.plan
    if is_given or is_there(options.data):
        return dataclasses.replace(open_images(options), keys=plan.keys, labels=plan.labels, classes=plan.classes)
    if plan.images != "original":
        raise ConfigError(
            f"{store.path} was extracted from {options.data}, which is not here, and keeps no original images (images: "
            f"{plan.images}); say with --data where they are."
        )
    say(f"{options.data} is not here; the images kept in {store.path} are used.")
    return ImageList(
        root=str(store.path), keys=plan.keys, labels=plan.labels, classes=plan.classes, files=_StoredFiles(store)
    )


def require_same_teacher(store: cache.Store, teacher: Teacher) -> None:
    """Raise ArtefactError naming the first field by which the teacher is another one."""
    stored = store.manifest.plan.identity
    for name, value in teacher.identity.items():
        was = stored.get(name)
        if isinstance(value, Mapping) and isinstance(was, Mapping):
            field = next((f for f in {**value, **was} if value.get(f) != was.get(f)), None)
            name, value, was = f"{name}.{field}", value.get(field), was.get(field)
            if field is None:
                continue
        if value != was:
            raise ArtefactError(
                f"{store.path}: {name} is {was!r} in the store and {value!r} for this teacher, so it is another one; give "
                "the weights that the store was made with, as --teacher-checkpoint FILE."
            )


def _require_readouts(store: cache.Store, teacher: Teacher) -> None:
    """Raise ArtefactError for a readout of the store that its recorded options do not compute."""
    for name in store.readouts:
        if name not in teacher.readouts:
            raise ArtefactError(f"{store.path}: the options it records do not compute its readout {name}.")


def _computed(
    extraction: Extraction, store: cache.Store, rows: Mapping[int, int]
) -> dict[int, dict[str, npt.NDArray[Any]]]:
    """The readouts of the sampled rows; `rows` maps positions to rows. Whole batches are computed for it."""
    plan, found, changed = extraction.plan, {}, []
    shards = collections.defaultdict(list)
    for position in rows:
        shards[position // plan.rows_per_shard].append(position)
    batches = [
        part
        for index, wanted in sorted(shards.items())
        for part in cut(plan.positions(index), plan.batch_size)
        if any(position in part for position in wanted)
    ]
    with progress_bar(sum(map(len, batches)), "recompute", "images") as bar:
        for batch, features in batch_features(extraction, plan, batches, bar):
            items = batch.items
            good = [item for item in items if item.reason is None]
            lost = [item for item in items if item.reason is not None and item.position in rows]
            changed += [plan.keys[item.position] for item in lost]
            for at, item in enumerate(good):
                if item.position in rows:
                    row = rows[item.position]
                    changed += _changed(store, plan, item, row)
                    found[row] = {name: values[at] for name, values in features.items()}
    if changed:
        raise DataError(
            f"{len(changed)} of {len(rows)} sampled images are not those that the store was made from (first: {changed[0]}); "
            "see tcs cache verify STORE --against DATA, or leave the data set away to use the stored ones."
        )
    return found


def _changed(store: cache.Store, plan: cache.Plan, item: DecodedImage, row: int) -> list[str]:
    return [] if item.content_hash == store.hashes_N16[row].tobytes() else [plan.keys[item.position]]


def _error(
    store: cache.Store, name: str, rows_B: npt.NDArray[Any], computed: Sequence[npt.NDArray[Any]]
) -> ReadoutError:
    stored = store.features(name, resident_bytes=0).gather(rows_B)
    again = np.stack(computed).astype(stored.dtype)
    if again.shape != stored.shape:
        raise ArtefactError(
            f"{store.path}: readout {name} has rows of {stored.shape[1:]} in the store and of {again.shape[1:]} from this "
            "teacher, so it is another one."
        )
    stored_BD, again_BD = (values.astype(np.float64).reshape(len(rows_B), -1) for values in (stored, again))
    error_BD = np.abs(stored_BD - again_BD)
    norms_B = np.maximum(np.linalg.norm(again_BD, axis=1), np.finfo(np.float64).tiny)
    relative_B = np.linalg.norm(error_BD, axis=1) / norms_B
    return ReadoutError(
        rows=len(rows_B),
        max_abs=float(error_BD.max()),
        mean_abs=float(error_BD.mean()),
        max_rel=float(relative_B.max()),
        mean_rel=float(relative_B.mean()),
        differing=float((error_BD != 0).mean()),
    )
