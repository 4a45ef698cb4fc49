"""One shard: from rows to the bytes of its HDF5 file.

Legend: N rows of the shard, V views, P parameters of a view; a row of a readout has the plan's row_shape. All datasets
are contiguous and uncompressed, and start at a multiple of 64 bytes, so a reader maps them into memory without HDF5. The
same rows give the same bytes (same h5py release).
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from cache.errors import FeatureValueError, SchemaError
from cache.fields import require, shortened
from cache.fingerprint import DIGEST_BYTES, new_digest
from cache.layout import FilePieces, Joined, Values, buffers, file_pieces
from cache.manifest import Quarantined
from cache.schema import Plan, Readout

QUARANTINED_BYTES = 65_536  # of JSON for one input in quarantine: a key and a reason
FLOAT16_MAX = float(np.finfo(np.float16).max)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ShardRows:
    """What one shard is made of; positions ascend, and with the quarantined ones are exactly the shard's positions.

    positions_N int64, hashes_N16 uint8 (N, 16), features readout name -> floating (N, *plan.row_shape), images one bytes a
    row or None where the plan keeps none, quarantine the inputs without a row, views_NVP float32 or None. `note` is what
    `StoreWriter.notes` shall tell of the shard until the store is closed, as JSON types; no part of the shard.
    """

    positions_N: npt.NDArray[np.int64]
    hashes_N16: npt.NDArray[np.uint8]
    features: Mapping[str, npt.NDArray[np.floating[Any]]]
    images: Sequence[bytes] | None = None
    quarantine: Sequence[Quarantined] = ()
    views_NVP: npt.NDArray[np.floating[Any]] | None = None
    note: Mapping[str, Any] | None = None


def shard_datasets(plan: Plan, index: int, rows: ShardRows) -> dict[str, Values]:
    """The datasets of a shard by path, in file order. Raises SchemaError or FeatureValueError for unfit rows."""
    positions_N = np.asarray(rows.positions_N)
    require_covered(plan, index, positions_N, rows.quarantine)
    keys = [plan.keys[position] for position in positions_N.tolist()]
    hashes_N16 = np.asarray(rows.hashes_N16)
    require(
        hashes_N16.dtype == np.uint8 and hashes_N16.shape == (len(keys), DIGEST_BYTES),
        f"hashes_N16 is {hashes_N16.dtype} {hashes_N16.shape}; it must be uint8 ({len(keys)}, {DIGEST_BYTES})",
    )
    names = [readout.name for readout in plan.readouts]
    require(set(rows.features) == set(names), f"features hold {sorted(rows.features)}; the plan has {sorted(names)}")
    return {
        "keys": key_bytes(keys),
        "positions": positions_N.astype("<i8"),
        "labels": np.array([plan.labels[position] for position in positions_N.tolist()], dtype="<i8"),
        "hashes": np.ascontiguousarray(hashes_N16),
        **{
            f"features/{item.name}": _stored_features(item, plan.row_shape(item), rows.features[item.name], keys)
            for item in plan.readouts
        },
        **_view_datasets(plan, rows.views_NVP, len(keys)),
        **_image_datasets(plan, rows.images, keys),
        "quarantine": quarantine_bytes(rows.quarantine),
    }


def shard_pieces(plan: Plan, index: int, rows: ShardRows) -> FilePieces:
    """The HDF5 file of shard `index` in pieces, one after the other; features and images in them are not copied."""
    datasets = shard_datasets(plan, index, rows)
    attributes = {
        "format_version": np.int64(plan.format_version),
        "plan_identity": np.bytes_(plan.plan_identity),
        "shard": np.int64(index),
        "content_digest": np.bytes_(content_digest(plan, index, datasets)),
    }
    return file_pieces(attributes, datasets)


def content_digest(plan: Plan, index: int, datasets: Mapping[str, Values]) -> str:
    """The digest of a shard's place and of name, dtype, shape and bytes of each dataset, in file order."""
    digest = new_digest()
    digest.update(json.dumps([plan.format_version, plan.plan_identity, index]).encode())
    for name, values in datasets.items():
        digest.update(json.dumps([name, values.dtype.str, list(values.shape)]).encode())
        for piece in buffers(values):
            digest.update(piece)
    return digest.hexdigest()


def key_bytes(keys: Sequence[str]) -> npt.NDArray[np.bytes_]:
    """Keys as UTF-8 strings of one length, that of the longest, filled up with NUL."""
    encoded = "\0".join(keys).encode().split(b"\0") if keys else []  # at once: no key holds a NUL
    width = max(map(len, encoded), default=1)
    return np.array(encoded, dtype=f"S{width}")


def require_covered(plan: Plan, index: int, positions_N: npt.NDArray[Any], quarantine: Sequence[Quarantined]) -> None:
    """Raise SchemaError unless rows and quarantined inputs are each position of the shard exactly once."""
    is_row = positions_N.ndim == 1 and (positions_N.dtype.kind in "iu" or positions_N.size == 0)
    require(
        is_row and bool((np.diff(positions_N.astype(np.int64)) > 0).all()),
        f"positions of shard {index} must be one ascending row of whole numbers",
    )
    for entry in quarantine:
        known = 0 <= entry.position < len(plan.keys) and plan.keys[entry.position] == entry.key
        require(known, f"quarantined key {entry.key!r} does not stand at position {entry.position} of the plan")
    wanted = plan.positions(index)
    if not quarantine and np.array_equal(positions_N, wanted):
        return
    given = sorted(positions_N.tolist() + [entry.position for entry in quarantine])
    if given != list(wanted):
        wrong = sorted(set(given).symmetric_difference(wanted)) or given
        raise SchemaError(
            f"shard {index} must cover the positions {wanted.start} to {wanted.stop - 1} once each, as a row or "
            f"quarantined; {shortened(wrong)} are missing, doubled or of another shard."
        )


def _stored_features(
    readout: Readout, row_shape: tuple[int, ...], given: npt.NDArray[Any], keys: Sequence[str]
) -> npt.NDArray[Any]:
    """`given` in the readout's stored dtype, little-endian, C order; raises before a value is lost to overflow."""
    features = np.asarray(given)
    require(
        features.dtype.kind == "f" and features.shape == (len(keys), *row_shape),
        f"features of readout {readout.name} are {features.dtype} {features.shape}; they must be floating, of "
        f"shape {(len(keys), *row_shape)}",
    )
    if not _all_fit(features, readout):
        row, *place = np.argwhere(~(np.abs(features) <= np.finfo(readout.dtype).max))[0].tolist()
        raise _feature_error(readout, keys[row], place, float(features[row, *place]))
    return features.astype(np.dtype(readout.dtype).newbyteorder("<"), order="C", copy=False)


def _all_fit(features: npt.NDArray[Any], readout: Readout) -> bool:
    """Whether every value is finite and within the readout's dtype; numpy has no fast comparison for float16."""
    if features.size == 0:
        return True
    if features.dtype == np.float16:  # little- or big-endian; all exponent bits set means infinite or NaN
        bits = features.astype(np.float16, copy=False).view(np.uint16)
        return int((bits & 0x7C00).max()) < 0x7C00
    limit = float(np.finfo(readout.dtype).max)
    return bool(-limit <= features.min() and features.max() <= limit)  # False where one is NaN


def _view_datasets(
    plan: Plan, views_NVP: npt.NDArray[np.floating[Any]] | None, rows: int
) -> dict[str, npt.NDArray[Any]]:
    """The parameters of the views, where the plan has views."""
    if plan.views is None:
        require(views_NVP is None, "view parameters are given, but the plan has no views")
        return {}
    shape = (rows, plan.views.count, len(plan.views.parameters))
    given = np.asarray([] if views_NVP is None else views_NVP)
    is_fit = given.dtype.kind == "f" and given.shape == shape and bool(np.isfinite(given).all())
    require(is_fit, f"view parameters are {given.dtype} {given.shape}; they must be floating, finite, of shape {shape}")
    return {"views": given.astype("<f4", order="C")}


def _feature_error(readout: Readout, key: str, place: list[int], value: float) -> FeatureValueError:
    what = f"feature {', '.join(map(str, place))} of readout {readout.name} for {key!r} is {value:g}"
    if np.isfinite(value) and readout.dtype == "float16":
        return FeatureValueError(f"{what}, beyond the {FLOAT16_MAX:g} of float16; extract with --dtype float32.")
    if np.isfinite(value):
        return FeatureValueError(f"{what}, beyond what float32 can hold; scale the features down.")
    return FeatureValueError(
        f"{what}; features must be finite, so check the teacher's weights and its compute dtype for overflow."
    )


def _image_datasets(plan: Plan, images: Sequence[bytes] | None, keys: Sequence[str]) -> dict[str, Values]:
    if plan.images == "none":
        require(images is None, "images are given, but the plan keeps none (images: none)")
        return {}
    require(
        images is not None and len(images) == len(keys),
        f"{0 if images is None else len(images)} images for {len(keys)} rows; the plan keeps one each",
    )
    assert images is not None
    for key, image in zip(keys, images, strict=True):
        require(isinstance(image, bytes) and len(image) > 0, f"the image of {key!r} must be bytes, and not empty")
    sizes = [len(image) for image in images]
    return {
        "images/bytes": Joined(pieces=images),
        "images/offsets": np.cumsum([0, *sizes], dtype="<i8"),
    }


def quarantine_limit(inputs: int) -> int:
    """The most bytes that the quarantine of a shard takes for so many inputs."""
    return 2 + inputs * QUARANTINED_BYTES


def quarantine_bytes(quarantine: Sequence[Quarantined]) -> npt.NDArray[np.uint8]:
    """The quarantined inputs, ascending, as the UTF-8 bytes of a JSON list."""
    entries = [dataclasses.asdict(entry) for entry in sorted(quarantine, key=lambda entry: entry.position)]
    data = json.dumps(entries).encode()
    require(
        len(data) <= quarantine_limit(len(entries)),
        f"the keys and reasons of {len(entries)} quarantined inputs take {len(data)} bytes of JSON; at most "
        f"{QUARANTINED_BYTES} each are allowed",
    )
    return np.frombuffer(data, dtype=np.uint8)
