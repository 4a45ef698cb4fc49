"""Targets: the coordinates of every row and their hash bits, in one file. Only `fit_targets` loads faiss.

The stored bits (tcs.coordinates.hash_bits) are authoritative: another encoder may differ where a projection lies within 1e-5 of the bit's
spread of its threshold. Of a store with V cached views every view of every row has coordinates and bits of its own. Such a file
has format version 2, all others stay at 1.

Legend: N rows, n chosen rows, V views, D teacher dims, K coordinates, H hash bits, P = H / 8 bytes.
"""

import dataclasses
import functools
import io
import json
import pathlib
from collections.abc import Mapping
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

import cache
from tcs.artefact import is_finished
from tcs.config.coordinates import TargetsConfig
from tcs.config.extract import as_json
from tcs.config.plain import require_config
from tcs.coordinates.hash_bits import ENCODE_ROWS, hash_coordinates
from tcs.coordinates.stores import check_same_store, open_stores
from tcs.coordinates.system import ARRAY_SHAPES, CoordinateSystem, load_coordinates
from tcs.coordinates.vectors import EveryVector, require_vectors
from tcs.errors import ArtefactError
from tcs.runtime import environment, progress_bar, say

FORMAT, FORMAT_VERSION, VIEWS_VERSION = "tcs-targets", 1, 2  # a file with views has the latter
SYSTEM_PREFIX = "system/"

ARRAYS: Mapping[str, tuple[str, str]] = {
    "coordinates": ("float32", "NK"),
    "bits": ("uint8", "NP"),
    "rotation": ("float32", "HK"),
    "thresholds": ("float32", "H"),
    "rms": ("float32", "H"),
    "hashes": ("uint8", "NX"),
}

JOINED_HINT = ", and name the same stores in the same order with --also in both commands"

VIEW_ARRAYS = {**ARRAYS, "coordinates": ("float32", "NVK"), "bits": ("uint8", "NVP")}
FACTS: Mapping[str, type] = {"store_identity": str, "identity": str, "config": dict, "system": dict}


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Targets:
    """Everything a mimic loss reads: z_NK float32, bits_NP uint8 (little bit order), rotation_HK, thresholds_H, rms_H float32.

    Of a store with views z_NK is (N, V, K) and bits_NP (N, V, P). `coordinates` is the system that made z; `hashes_N16` are the
    content hashes of the store's images.
    """

    z_NK: NDArray[np.float32]
    bits_NP: NDArray[np.uint8]
    rotation_HK: NDArray[np.float32]
    thresholds_H: NDArray[np.float32]
    rms_H: NDArray[np.float32]
    hashes_N16: NDArray[np.uint8]
    coordinates: CoordinateSystem
    store_identity: str
    config: Mapping[str, Any]

    @functools.cached_property
    def identity(self) -> str:
        """Digest of everything that a loss reads."""
        arrays = (self.z_NK, self.bits_NP, self.rotation_HK, self.thresholds_H, self.rms_H)
        digests = [cache.digest_of_bytes(np.ascontiguousarray(array).tobytes()) for array in arrays]
        return cache.digest_of_json(
            {"arrays": digests, "store": self.store_identity, "system": self.coordinates.identity}
        )

    def coordinates_rows(self, rows_n: NDArray[np.int64]) -> NDArray[np.float32]:
        """z of the store's rows `rows_n`: (n, K) float32; (n, V, K) of a store with views."""
        return self.z_NK[rows_n]

    def first_coordinates(self, rows_n: NDArray[np.int64]) -> NDArray[np.float32]:
        """z of the rows, of the first view where there are several: (n, K) float32."""
        z_nK = self.z_NK[rows_n]
        return z_nK if z_nK.ndim == 2 else z_nK[:, 0]

    def bits_rows(self, rows_n: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Packed bits of the store's rows `rows_n`: (n, P) uint8; (n, V, P) of a store with views."""
        return self.bits_NP[rows_n]


def fit_targets(config: TargetsConfig) -> pathlib.Path:
    """Hash every row of a store (every view of it), write `config.out`, and return its path.

    The same command on the same parents finds its output and does nothing. ArtefactError where `config.out` holds
    something else, or where the store is of another teacher than the coordinate system (both identities are named).
    """
    require_config(config, TargetsConfig)
    store, system = open_stores(config.store, config.also), load_coordinates(config.coordinates)
    check_same_store(system, store)
    require_vectors(store, system.readout)
    recipe = {
        "store": store.identity,
        "system": system.identity,
        "bits": config.bits,
        "sample_rows": config.sample_rows,
        "seed": config.seed,
    }
    out = pathlib.Path(config.out)
    if out.exists():
        _require_targets_file(out)
        if not config.overwrite and is_finished(out, open_targets(out).config, recipe):
            say(f"{out} is already there, made with the same options; nothing to do.")
            return out
    z_MK = _all_coordinates(store, system)
    hashed = hash_coordinates(z_MK, config.bits, config.sample_rows, config.seed)
    shape = store.features(system.readout).shape[:-1]  # (N,) or (N, V)
    system = dataclasses.replace(system, ceiling=None, selection=None)
    targets = Targets(
        z_NK=z_MK.reshape(*shape, -1),
        bits_NP=hashed.bits_MP.reshape(*shape, -1),
        rotation_HK=hashed.rotation_HK,
        thresholds_H=hashed.thresholds_H,
        rms_H=hashed.rms_H,
        hashes_N16=store.hashes_N16,
        coordinates=system,
        store_identity=store.identity,
        config=recipe,
    )
    cache.atomic_write_bytes(out, _file_bytes(targets, environment() | {"options": as_json(config)}))
    return out


def _all_coordinates(store: cache.Store, system: CoordinateSystem) -> NDArray[np.float32]:
    """z of all vectors, one row after another, the views of a row together."""
    vectors = EveryVector(store.features(system.readout))
    z_MK = np.empty((len(vectors), system.components), np.float32)
    with progress_bar(len(vectors), "coordinates", "rows") as bar:
        for start, block_BD in vectors.blocks(ENCODE_ROWS):
            z_MK[start : start + len(block_BD)] = system.transform(block_BD)
            bar.advance(len(block_BD))
    return z_MK


def _file_bytes(targets: Targets, provenance: Mapping[str, Any]) -> bytes:
    """The file, built in memory: HDF5 itself never meets a disk that is full."""
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        facts = {
            "format": FORMAT,
            "format_version": FORMAT_VERSION if targets.z_NK.ndim == 2 else VIEWS_VERSION,
            "store_identity": targets.store_identity,
            "identity": targets.identity,
            "config": dict(targets.config),
            "system": targets.coordinates.to_json(),
            "provenance": dict(provenance),
        }
        file["facts"] = np.frombuffer(json.dumps(facts, sort_keys=True).encode(), np.uint8)
        for name, array in _arrays(targets).items():
            file[name] = array
        for name, array in targets.coordinates.arrays().items():
            file[SYSTEM_PREFIX + name] = array
    return buffer.getvalue()


def _arrays(targets: Targets) -> dict[str, NDArray[Any]]:
    return {
        "coordinates": targets.z_NK,
        "bits": targets.bits_NP,
        "rotation": targets.rotation_HK,
        "thresholds": targets.thresholds_H,
        "rms": targets.rms_H,
        "hashes": targets.hashes_N16,
    }


def open_targets(path: str | pathlib.Path, store_identity: str | None = None) -> Targets:
    """Read a targets file, without faiss. ArtefactError where it is missing, foreign, damaged, or not of `store_identity`."""
    try:
        with h5py.File(path, "r") as file:
            facts = _facts(file, path)
            arrays = {name: _read(file, name, path) for name in ARRAYS}
            system_arrays = {name: _read(file, SYSTEM_PREFIX + name, path) for name in ARRAY_SHAPES}
    except FileNotFoundError as error:
        raise ArtefactError(f"there are no targets at {path}; make them with tcs targets.") from error
    except (
        OSError,
        KeyError,
        ValueError,
        RuntimeError,
        RecursionError,
    ) as error:  # libhdf5's errors come as any of these
        raise ArtefactError(
            f"{path} is no targets file ({str(error)[:80]}); name a file that tcs targets wrote."
        ) from error
    _check_shapes(arrays, ARRAYS if facts["format_version"] == FORMAT_VERSION else VIEW_ARRAYS, path)
    targets = Targets(
        z_NK=arrays["coordinates"],
        bits_NP=arrays["bits"],
        rotation_HK=arrays["rotation"],
        thresholds_H=arrays["thresholds"],
        rms_H=arrays["rms"],
        hashes_N16=arrays["hashes"],
        coordinates=CoordinateSystem.from_parts(facts["system"], system_arrays, str(path)),
        store_identity=facts["store_identity"],
        config=facts["config"],
    )
    if targets.identity != facts["identity"]:
        raise ArtefactError(
            f"{path} is damaged: its content is not what its header says; make it again with tcs targets."
        )
    if store_identity is not None and targets.store_identity != store_identity:
        raise ArtefactError(
            f"{path} holds targets of store {targets.store_identity}, this store is {store_identity}; run tcs targets on this "
            f"store{JOINED_HINT if cache.JOINED_BY in targets.store_identity + store_identity else ''}."
        )
    return targets


def _facts(file: Any, path: str | pathlib.Path) -> Mapping[str, Any]:
    facts: Any = json.loads(_read(file, "facts", path).tobytes()) if "facts" in file else {}
    facts = facts if isinstance(facts, dict) else {}
    if facts.get("format") != FORMAT:
        raise ArtefactError(
            f"{path} is no targets file (format '{facts.get('format', 'unknown')}'); name a file that tcs targets wrote."
        )
    version = facts.get("format_version")
    if version not in (FORMAT_VERSION, VIEWS_VERSION):
        raise ArtefactError(
            f"{path} has format version {version}, this release reads {FORMAT_VERSION} and {VIEWS_VERSION}; make it again "
            "with tcs targets."
        )
    damaged = [name for name, kind in FACTS.items() if not isinstance(facts.get(name), kind)]
    if damaged:
        raise ArtefactError(f"{path} has a damaged header (no {damaged[0]}); make it again with tcs targets.")
    checked: Mapping[str, Any] = facts
    return checked


def _require_targets_file(path: pathlib.Path) -> None:
    """ArtefactError where `path` is no targets file of any version, so that nothing foreign is ever replaced."""
    try:
        with h5py.File(path, "r") as file:
            ours = json.loads(_read(file, "facts", path).tobytes()).get("format") == FORMAT
    except (OSError, KeyError, ValueError, RuntimeError, AttributeError, ArtefactError):
        ours = False
    if not ours:
        raise ArtefactError(f"{path} exists and is no targets file; name another --out.")


def _read(file: Any, name: str, path: str | pathlib.Path) -> NDArray[Any]:
    """A plain dataset of this very file: links to elsewhere, virtual and object data sets are refused."""
    link = file.get(name, getlink=True)
    dataset = file[name] if isinstance(link, h5py.HardLink) else None
    if not isinstance(dataset, h5py.Dataset) or dataset.dtype.hasobject or dataset.is_virtual or dataset.external:
        raise ArtefactError(f"{path}: '{name}' is no plain data set; name a file that tcs targets wrote.")
    if dataset.id.get_storage_size() != dataset.nbytes:  # what a file claims to hold may be any number
        raise ArtefactError(
            f"{path}: '{name}' claims {dataset.nbytes:,} bytes and does not hold them; make it again with tcs targets."
        )
    array: NDArray[Any] = dataset[...]
    return array


def _check_shapes(
    arrays: Mapping[str, NDArray[Any]], expected: Mapping[str, tuple[str, str]], path: str | pathlib.Path
) -> None:
    sizes: dict[str, int] = {"X": 16}
    for name, (dtype, letters) in expected.items():
        array = arrays[name]
        fits = array.dtype == dtype and array.ndim == len(letters)
        fits = fits and all(
            sizes.setdefault(letter, size) == size for letter, size in zip(letters, array.shape, strict=True)
        )
        if not fits:
            raise ArtefactError(
                f"{path}: {name} is {array.dtype} {array.shape}, and must be {dtype} ({letters}); make it again."
            )
    if sizes["H"] != 8 * sizes["P"]:
        raise ArtefactError(
            f"{path}: {sizes['H']} thresholds do not fit {sizes['P']} bytes of bits a row; make it again."
        )
