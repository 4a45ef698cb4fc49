"""Write the rows of a store as plain arrays and text files, for programs that know nothing of stores.

Legend: N rows.
"""

import contextlib
import io
import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from cache.derivation import DerivedFrom
from cache.errors import ForeignFolderError, IdentityError, SchemaError
from cache.files import StreamedFile, atomic_write_bytes, remove_file, write_error
from cache.partials import is_partial
from cache.reader import Store
from cache.reader import open as open_store
from cache.schema import READOUT_PATTERN

EXPORT_FORMAT = "tcs-feature-export"
ABOUT, KEYS, CLASSES, LABELS, HASHES = "store.json", "keys.txt", "classes.txt", "labels.npy", "hashes.npy"


def export(
    path: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    overwrite: bool = False,
    progress: Callable[[int], None] | None = None,
) -> Path:
    """Write the rows of the store `path` into the folder `out`; returns `out`.

    `<readout>.npy` (N, ...) for each readout, `hashes.npy` uint8 (N, 16), `labels.npy` int64 (N,) that index the lines of
    `classes.txt` (-1 for none), one line a row in `keys.txt`; `store.json` says what the features are, and `"state":
    "closed"` once all is there. Images, parameters of views and the quarantine stay behind. Every byte is checked on the
    way, memory does not grow with the store. The same call finishes what was cut short, and leaves a finished export as it
    is. Raises what `cache.open` raises, SchemaError for a name that no line can hold, or a readout called `labels` or `hashes`,
    IdentityError for an export of another store (unless `overwrite`), ForeignFolderError for anything else at `out`,
    CorruptStoreError, LockedStoreError, StoreWriteError.
    """
    store, folder = open_store(path), Path(out)
    _require_names(store)
    facts = about(store)
    if os.path.lexists(folder) and _is_done(folder, facts, overwrite):
        return folder
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise write_error(folder, error) from error
    _write_about(folder, facts, "open")
    _write_arrays(store, folder, progress)
    for name, lines in ((KEYS, store.keys), (CLASSES, store.classes)):
        atomic_write_bytes(folder / name, "".join(f"{line}\n" for line in lines).encode())
    _write_about(folder, facts, "closed")
    return folder


def about(store: Store) -> dict[str, Any]:
    """What an export says of the store it came from, as JSON types."""
    plan, later = store.manifest.plan, store.manifest.later_labels
    return {
        "format": EXPORT_FORMAT,
        "identity": store.identity,
        **({} if later is None else {"labels": later.identity}),  # given after the identity, and written with the rows
        "content_digests": list(store.content_digests),
        "made_from": dict(plan.identity),
        "readouts": {item.name: {"shape": list(plan.row_shape(item)), "dtype": item.dtype} for item in plan.readouts},
        "provenance": dict(store.manifest.provenance),
    }


def _require_names(store: Store) -> None:
    """Raise SchemaError for names that text files and file names cannot hold."""
    for name in (*store.keys, *store.classes):
        if name.splitlines() != [name] or name.startswith("\ufeff"):
            raise SchemaError(
                f"{name!r} holds a line break or a byte order mark, which a text file of names cannot; export to a .parquet "
                "file."
            )
    for name in store.readouts:
        if f"{name}.npy" in (LABELS, HASHES):
            raise SchemaError(f"readout {name!r} would be written over {name}.npy; export to a .parquet file.")


def _is_done(folder: Path, facts: dict[str, Any], overwrite: bool) -> bool:
    """Whether `folder` is this very export; raises where it is something else that must not be written into."""
    there: dict[str, Any] = {}
    with contextlib.suppress(OSError, ValueError, RecursionError):
        found = json.loads((folder / ABOUT).read_bytes()) if (folder / ABOUT).is_file() else {}
        there = found if isinstance(found, dict) else {}
    if there.get("format") != EXPORT_FORMAT:
        if folder.is_dir() and all(is_partial(path, ABOUT) for path in folder.iterdir()):
            return False  # empty, or what was killed while it wrote its first file
        raise ForeignFolderError(f"{folder} is there and no export of a store; move it away, or name another --out.")
    if overwrite:
        readouts = there.get("readouts")
        for name in readouts if isinstance(readouts, dict) else ():
            if READOUT_PATTERN.fullmatch(name):
                remove_file(folder / f"{name}.npy")
        return False
    if there | {"state": None, "provenance": None} != facts | {"state": None, "provenance": None}:
        raise IdentityError(
            f"{folder} was exported from the store {there.get('identity')}, or another content of it, not from "
            f"{facts['identity']}; use another --out or --overwrite."
        )
    return there.get("state") == "closed"


def _write_about(folder: Path, facts: dict[str, Any], state: str) -> None:
    atomic_write_bytes(folder / ABOUT, (json.dumps({**facts, "state": state}, indent=1) + "\n").encode("ascii"))


def _write_arrays(store: Store, folder: Path, progress: Callable[[int], None] | None) -> None:
    """All .npy files, side by side, a verified shard at a time."""
    source = DerivedFrom(store)
    arrays: dict[str, Any] = {LABELS: store.labels_N, HASHES: store.hashes_N16}
    arrays |= {f"{name}.npy": source.features(name) for name in store.readouts}
    with contextlib.ExitStack() as stack:
        files = []
        for name, values in arrays.items():
            header = _npy_header(values.dtype, values.shape)
            size_bytes = math.prod(values.shape) * values.dtype.itemsize
            file = stack.enter_context(StreamedFile(folder / name, len(header) + size_bytes))
            file.write(0, header)
            files.append((file, values, len(header)))
        for rows in source.blocks():
            for file, values, start in files:
                block = np.ascontiguousarray(values[rows])
                file.write(start + rows.start * math.prod(block.shape[1:]) * block.itemsize, block)
            if progress is not None:
                progress(rows.stop - rows.start)
        for file, _, _ in files:
            file.commit()


def _npy_header(dtype: np.dtype[Any], shape: tuple[int, ...]) -> bytes:
    """What stands in a .npy file before the values."""
    header = io.BytesIO()
    content = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(header, content)
    return header.getvalue()
