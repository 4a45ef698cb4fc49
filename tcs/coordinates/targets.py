"""Targets: the coordinates of every row and their hash bits, in one file. Only `fit_targets` loads faiss.

The stored bits (tcs.coordinates.hash_bits) are authoritative: another encoder may differ where a projection lies within 1e-5 of the bit's
spread of its threshold. Of a store with V cached views every view has coordinates and bits of its own (format version 2, others 1).

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
from tcs.artefact import is_finished, made_once
from tcs.config.coordinates import TargetsConfig
from tcs.config.extract import as_json
from tcs.config.plain import AnyPath, given_path
from tcs.coordinates.extension import extended, rows_before
from tcs.coordinates.hash_bits import ENCODE_ROWS, HashBits, hash_coordinates
from tcs.coordinates.lineage import grown_since
from tcs.coordinates.stores import check_same_store, open_stores
from tcs.coordinates.system import ARRAY_SHAPES, CoordinateSystem, load_coordinates
from tcs.coordinates.targets_layout import (
    ARRAYS,
    FORMAT,
    FORMAT_VERSION,
    SYSTEM_PREFIX,
    UNREADABLE,
    VIEW_ARRAYS,
    VIEWS_VERSION,
    check_shapes,
    read_array,
    read_facts,
    require_targets_file,
)
from tcs.coordinates.vectors import EveryVector, require_vectors
from tcs.errors import ArtefactError
from tcs.ordinary import require_ordinary
from tcs.runtime import environment, progress_bar, say

JOINED_HINT = ", and name the same stores in the same order with --also in both commands"


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Targets:
    """Everything a mimic loss reads: z_NK float32, bits_NP uint8 (little bit order), rotation_HK, thresholds_H, rms_H float32.

    Of a store with views z_NK is (N, V, K) and bits_NP (N, V, P). `coordinates` is the system that made z; `hashes_N16` are the
    content hashes of the store's images. `only_n` int64 are the rows that are asked for by their places in it, None for all.
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
    only_n: NDArray[np.int64] | None = None

    @functools.cached_property
    def identity(self) -> str:
        """Digest of everything that a loss reads."""
        arrays = (self.z_NK, self.bits_NP, self.rotation_HK, self.thresholds_H, self.rms_H)
        digests = [cache.digest_of_bytes(np.ascontiguousarray(array).tobytes()) for array in arrays]
        return cache.digest_of_json(
            {"arrays": digests, "store": self.store_identity, "system": self.coordinates.identity}
        )

    @property
    def hashed(self) -> HashBits:
        """The bits of all vectors, flat, and what made them."""
        return HashBits(
            bits_MP=self.bits_NP.reshape(-1, self.bits_NP.shape[-1]),
            rotation_HK=self.rotation_HK,
            thresholds_H=self.thresholds_H,
            rms_H=self.rms_H,
        )

    def coordinates_rows(self, rows_n: NDArray[np.int64]) -> NDArray[np.float32]:
        """z of the store's rows `rows_n`: (n, K) float32; (n, V, K) of a store with views."""
        return self.z_NK[self._own(rows_n)]

    def first_coordinates(self, rows_n: NDArray[np.int64]) -> NDArray[np.float32]:
        """z of the rows, of the first view where there are several: (n, K) float32."""
        z_nK = self.coordinates_rows(rows_n)
        return z_nK if z_nK.ndim == 2 else z_nK[:, 0]

    def bits_rows(self, rows_n: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Packed bits of the store's rows `rows_n`: (n, P) uint8; (n, V, P) of a store with views."""
        return self.bits_NP[self._own(rows_n)]

    def _own(self, rows_n: NDArray[np.int64]) -> NDArray[np.int64]:
        return rows_n if self.only_n is None else self.only_n[rows_n]


def fit_targets(config: TargetsConfig) -> pathlib.Path:
    """Hash every row of a store (every view of it), write `config.out`, and return its path.

    Bits are the signs of rotated coordinates, at their medians, of TCS (Zhou, Zhu and Wu 2024, arXiv 2412.09388).
    With `from_targets`, targets of an earlier state of the store, the rows that they have are taken over bit for bit, and the others
    are hashed by the same axes and thresholds. The same command on the same parents finds its output and does nothing.
    ArtefactError where `config.out` holds something else, or where the store is of another teacher than the coordinate system
    (both identities are named).
    """
    store = open_stores(config.store, config.also)
    old = None if config.from_targets is None else open_targets(config.from_targets)
    system = load_coordinates(config.coordinates or "") if old is None else old.coordinates
    check_same_store(system, store)
    require_vectors(store, system.readout)
    _tell_growth(system, store, old, config)
    recipe = _recipe(config, store, system, old)
    out = pathlib.Path(config.out)
    return made_once(out, lambda: _kept(config, store, recipe), lambda: _written(config, store, system, old, recipe))


def _kept(config: TargetsConfig, store: cache.Store, recipe: Mapping[str, Any]) -> pathlib.Path | None:
    """`config.out` where these very targets are there, to be kept, which is said. ArtefactError where others are there."""
    out = pathlib.Path(config.out)
    if not out.exists():
        return None
    require_targets_file(out)
    if config.overwrite or not _is_there(out, store, recipe):
        return None
    say(f"{out} is already there, made with the same options; nothing to do.")
    return out


def _written(
    config: TargetsConfig, store: cache.Store, system: CoordinateSystem, old: Targets | None, recipe: dict[str, Any]
) -> pathlib.Path:
    """The targets, hashed or extended, in their file."""
    out = pathlib.Path(config.out)
    shape = store.features(system.readout).shape[:-1]  # (N,) or (N, V)
    z = _all_coordinates(store, system).reshape(*shape, -1)
    provenance = environment() | {"options": as_json(config)}
    if old is None:
        hashed = hash_coordinates(z.reshape(-1, z.shape[-1]), config.bits, config.sample_rows, config.seed)
    else:
        before_N = rows_before(z, store.hashes_N16, old.z_NK, old.hashes_N16)
        z, hashed = extended(z, old.z_NK, old.hashed, before_N)
        kept = int((before_N >= 0).sum())
        provenance["extended"] = {"kept_rows": kept, "new_rows": len(before_N) - kept}
        say(
            f"{out}: {kept:,} rows keep their coordinates and bits, {len(before_N) - kept:,} are hashed by the same thresholds."
        )
    targets = Targets(
        z_NK=z,
        bits_NP=hashed.bits_MP.reshape(*shape, -1),
        rotation_HK=hashed.rotation_HK,
        thresholds_H=hashed.thresholds_H,
        rms_H=hashed.rms_H,
        hashes_N16=store.hashes_N16,
        coordinates=dataclasses.replace(system, ceiling=None, selection=None),
        store_identity=store.identity,
        config=recipe,
    )
    cache.atomic_write_bytes(out, _file_bytes(targets, provenance))
    return out


def _is_there(out: pathlib.Path, store: cache.Store, recipe: Mapping[str, Any]) -> bool:
    """Whether the targets at `out` are those of the recipe; ArtefactError where they are others, and a line where the store has grown."""
    found = open_targets(out)
    if (told := grown_since(store, found.store_identity)) is not None:
        say(f"{out} was {told}; tcs targets {store.path} --from {out} --out NEW.h5 extends it.")
    return is_finished(out, found.config, recipe)


def _recipe(config: TargetsConfig, store: cache.Store, system: CoordinateSystem, old: Targets | None) -> dict[str, Any]:
    """What decides the content; of targets that extend others the options are theirs."""
    options = {name: getattr(config, name) for name in ("bits", "sample_rows", "seed")}
    if old is not None:
        extends = {"targets": old.identity, "store": old.store_identity}
        options = {name: old.config.get(name) for name in options} | {"extends": extends}
    return {"store": store.identity, "system": system.identity, **options}


def _tell_growth(system: CoordinateSystem, store: cache.Store, old: Targets | None, config: TargetsConfig) -> None:
    """Say of axes, and demand of targets that are to be extended, that they are of this store before an update."""
    told = grown_since(store, system.store_identity)
    if told is not None:
        say(f"The axes were {told}; they are not fitted again (tcs fit would).")
    if old is not None and old.store_identity != store.identity and grown_since(store, old.store_identity) is None:
        raise ArtefactError(
            f"--from {config.from_targets} holds targets of store {old.store_identity}, and {store.path} (store {store.identity}) is no "
            "update of that; run tcs targets on it with coordinates."
        )


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


def open_targets(path: AnyPath, store_identity: str | None = None) -> Targets:
    """The targets in a file of `tcs targets`, read without faiss.

    ArtefactError where it is missing, foreign, damaged, or not of `store_identity`.
    """
    path = given_path("path", path)
    try:
        require_ordinary(path)
        with h5py.File(path, "r") as file:
            facts = read_facts(file, path)
            arrays = {name: read_array(file, name, path) for name in ARRAYS}
            system_arrays = {name: read_array(file, SYSTEM_PREFIX + name, path) for name in ARRAY_SHAPES}
    except FileNotFoundError as error:
        raise ArtefactError(f"there are no targets at {path}; make them with tcs targets.") from error
    except UNREADABLE as error:
        raise ArtefactError(
            f"{path} is no targets file ({str(error)[:80]}); name a file that tcs targets wrote."
        ) from error
    check_shapes(arrays, ARRAYS if facts["format_version"] == FORMAT_VERSION else VIEW_ARRAYS, path)
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
        raise ArtefactError(f"{_of_another(path, targets, store_identity)}.")
    return targets


def targets_of(path: str | pathlib.Path, store: cache.Store) -> Targets:
    """`open_targets` of a store; ArtefactError says of targets of an earlier state of it what they lack, and how they are extended."""
    targets = open_targets(path)
    if targets.store_identity == store.identity:
        return targets
    told = grown_since(store, targets.store_identity)
    if told is None:
        raise ArtefactError(f"{_of_another(path, targets, store.identity)}.")
    also = "".join(f" --also {part.path}" for part in store.parts[1:])
    raise ArtefactError(
        f"{path} holds targets of store {targets.store_identity}, this store is {store.identity}: they were {told}; extend them with "
        f"tcs targets {store.path}{also} --from {path} --out NEW.h5, or run tcs targets on this store."
    )


def _of_another(path: str | pathlib.Path, targets: Targets, store_identity: str) -> str:
    hint = JOINED_HINT if cache.JOINED_BY in targets.store_identity + store_identity else ""
    return f"{path} holds targets of store {targets.store_identity}, this store is {store_identity}; run tcs targets on this store{hint}"
