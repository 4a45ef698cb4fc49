"""Make a store from arrays that somebody holds already: features, keys, and what else is known of the rows.

Legend: N rows, D dims, H W grid.
"""

import operator
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from cache.errors import SchemaError
from cache.fields import require, shortened
from cache.fingerprint import DIGEST_BYTES, content_hash, new_digest
from cache.schema import Plan, Readout
from cache.shard import ShardRows
from cache.writer import StoreWriter

ROWS_PER_SHARD = 8192
MAX_NUMBERED_CLASSES = 1 << 20  # a number gone astray must not make names until the memory is full
UNKNOWN = "unknown"

TEACHER, FEATURES = (
    "teacher",
    "features",
)  # fields of the identity: what made the features, and the digest of each array

KEYS_ONLY = "of keys only"  # what the identity says of hashes that no image stands behind


class Rows(Protocol):
    """An array, in memory or not, of which rows are read block by block: numpy arrays and memory maps are such."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the values."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, D) or (N, H, W, D)."""

    def __getitem__(self, index: slice, /) -> npt.NDArray[Any]:
        """A block of rows."""


class Images(Protocol):
    """The encoded images by row number, each read when it is needed: a list of bytes is such."""

    def __len__(self) -> int:
        """N."""

    def __getitem__(self, row: int, /) -> bytes:
        """The bytes of one image file."""


def create(
    path: str | os.PathLike[str],
    features: Mapping[str, Rows],
    *,
    keys: Sequence[str] | npt.NDArray[Any],
    labels: Sequence[Any] | npt.NDArray[Any] | None = None,
    classes: Sequence[str] | None = None,
    images: Images | None = None,
    hashes: npt.NDArray[np.uint8] | None = None,
    identity: Mapping[str, Any] | None = None,
    dtype: str | None = None,
    rows_per_shard: int = ROWS_PER_SHARD,
    provenance: Mapping[str, Any] | None = None,
    overwrite: bool = False,
    progress: Callable[[int], None] | None = None,
) -> Path:
    """Write a closed store from arrays; returns `path`. The same call resumes, and leaves a finished store as it is.

    `features` maps readout names to floating arrays (N, D) or (N, H, W, D), read in blocks. `labels` are class names (None
    or "" for no label) or whole numbers that index `classes` (-1 for none; without `classes` these are named by number).
    `dtype` is float16 or float32; by default float16 stays and others become float32. `images` are stored and hashed; else
    `hashes` (uint8, (N, 16)) are the content hashes of the images; with neither, keys are hashed and the identity says so.
    `identity` says what the features are (teacher, preprocessing ...); what it leaves out is "unknown". It is completed by
    the digest of each array as it is stored, so that other features are another store.

    Raises SchemaError for lengths, shapes, dtypes or labels that do not fit, FeatureValueError naming the key of a value
    that is not finite or too large, and what StoreWriter raises.
    """
    keys = keys.tolist() if isinstance(keys, np.ndarray) else keys
    _require_shapes(features, keys)
    label_of_N, class_names = _indexed(labels, classes, len(keys))
    require(
        images is None or len(images) == len(keys), f"{len(images or ())} images for {len(keys)} keys; give one each"
    )
    if hashes is not None:
        is_fit = hashes.dtype == np.uint8 and hashes.shape == (len(keys), DIGEST_BYTES)
        wanted = f"uint8 ({len(keys)}, {DIGEST_BYTES})"
        require(is_fit, f"hashes are {hashes.dtype} {hashes.shape}; they must be {wanted}")
    stored = {TEACHER: UNKNOWN, "preprocessing": UNKNOWN, **(identity or {})}
    readouts = tuple(_readout(name, rows, dtype) for name, rows in features.items())
    stored[FEATURES] = {item.name: _digest(features[item.name], item.dtype) for item in readouts}
    if images is None and hashes is None:
        stored["hashes"] = KEYS_ONLY
    plan = Plan(
        identity=stored,
        readouts=readouts,
        keys=tuple(keys),
        labels=label_of_N,
        classes=class_names,
        images="none" if images is None else "original",
        rows_per_shard=rows_per_shard,
        batch_size=rows_per_shard,
    )
    with StoreWriter(path, plan, provenance=provenance or {}, overwrite=overwrite) as writer:
        for index in writer.pending():
            positions = plan.positions(index)
            writer.write_shard(index, _shard_rows(plan, positions, features, images, hashes))
            if progress is not None:
                progress(len(positions))
        writer.close()
    return Path(path)


def _require_shapes(features: Mapping[str, Rows], keys: Sequence[str]) -> None:
    is_mapping = isinstance(features, Mapping)
    require(
        is_mapping, f"features are {type(features).__name__}; they must be arrays by readout: {{'avg': features_ND}}"
    )
    require(len(features) > 0, "there are no features; give one array or more")
    for name, rows in features.items():
        is_array = hasattr(rows, "dtype") and hasattr(rows, "shape")
        require(is_array, f"features {name} are {type(rows).__name__}; they must be an array, so use numpy.asarray")
        require(rows.dtype.kind == "f", f"features {name} are of {rows.dtype}; they must be floating numbers")
        require(
            len(rows.shape) in (2, 4),
            f"features {name} have shape {rows.shape}; they must be (N, D), or (N, H, W, D) for a map",
        )
        require(
            rows.shape[0] == len(keys),
            f"features {name} have {rows.shape[0]} rows and there are {len(keys)} keys; give one key a row",
        )


def _indexed(
    labels: Sequence[Any] | npt.NDArray[Any] | None, classes: Sequence[str] | None, rows: int
) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """Labels as indexes into classes, and the names of these."""
    if labels is None:
        return (-1,) * rows, tuple(classes or ())
    require(
        isinstance(labels, Iterable) and not isinstance(labels, str),
        f"labels are {labels!r}; give a list of one a key",
    )
    values = labels.tolist() if isinstance(labels, np.ndarray) else list(labels)
    require(
        len(values) == rows,
        f"there are {len(values)} labels and {rows} keys; give one each, -1 or an empty name for none",
    )
    if all(value is None or isinstance(value, str) for value in values):
        return _by_name(values, classes)
    try:
        indexes = tuple(operator.index(value) for value in values)
    except TypeError:
        raise SchemaError("labels are neither all class names nor all whole numbers; give one or the other.") from None
    if classes is not None:
        return indexes, tuple(classes)
    largest = max(indexes)
    require(
        largest < MAX_NUMBERED_CLASSES,
        f"label {largest} counts more than {MAX_NUMBERED_CLASSES:,} classes without names; give their names, or other labels",
    )
    return indexes, tuple(str(number) for number in range(largest + 1))


def _by_name(values: list[str | None], classes: Sequence[str] | None) -> tuple[tuple[int, ...], tuple[str, ...]]:
    names = tuple(sorted({value for value in values if value}) if classes is None else classes)
    place = {name: label for label, name in enumerate(names)}
    unknown = next((value for value in values if value and value not in place), None)
    require(unknown is None, f"label {unknown!r} is none of the {len(names)} classes ({shortened(list(names))})")
    return tuple(place[value] if value else -1 for value in values), names


def _readout(name: str, rows: Rows, dtype: str | None) -> Readout:
    stored = dtype or ("float16" if rows.dtype == np.float16 else "float32")
    grid = (rows.shape[1], rows.shape[2]) if len(rows.shape) == 4 else None
    return Readout(name=name, dims=rows.shape[-1], dtype=stored, grid=grid)


def _digest(rows: Rows, dtype: str) -> str:
    """The digest of shape and values as they will be stored, whatever their byte order, layout and dtype now."""
    digest = new_digest()
    little = np.dtype(dtype).newbyteorder("<")
    digest.update(f"{little.str} {list(rows.shape)}".encode())
    for start in range(0, rows.shape[0], ROWS_PER_SHARD):
        with np.errstate(over="ignore"):  # values too large become infinite here, and are refused when they are written
            block = np.ascontiguousarray(rows[start : start + ROWS_PER_SHARD], dtype=little)
        digest.update(block.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def _shard_rows(
    plan: Plan,
    positions: range,
    features: Mapping[str, Rows],
    images: Images | None,
    hashes: npt.NDArray[np.uint8] | None,
) -> ShardRows:
    blobs = None if images is None else [images[position] for position in positions]
    found_N16 = None if hashes is None else hashes[positions.start : positions.stop]
    if blobs is not None or found_N16 is None:
        sources = [plan.keys[position].encode() for position in positions] if blobs is None else blobs
        made_N16 = np.frombuffer(b"".join(map(content_hash, sources)), dtype=np.uint8).reshape(-1, DIGEST_BYTES)
        if found_N16 is not None and not np.array_equal(found_N16, made_N16):
            place = int(np.argmax((found_N16 != made_N16).any(axis=1)))
            raise SchemaError(
                f"the image of {plan.keys[positions[place]]!r} has another hash than the one given for it."
            )
        found_N16 = made_N16
    return ShardRows(
        positions_N=np.arange(positions.start, positions.stop),
        hashes_N16=found_N16,
        features={name: np.asarray(rows[positions.start : positions.stop]) for name, rows in features.items()},
        images=blobs,
    )
