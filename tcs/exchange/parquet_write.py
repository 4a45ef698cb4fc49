"""The rows of a store in one parquet file, for programs that know nothing of stores. Needs pyarrow (the extra `data`).

Legend: N rows, R rows of a row group.
"""

import io
import json
import math
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

import cache
from tcs.errors import DataError
from tcs.exchange.parquet_read import HASH_COLUMN, INDEX_COLUMN, METADATA, as_data_error, load_pyarrow, told_by


def export_parquet(
    path: str, out: str, *, overwrite: bool = False, progress: Callable[[int], None] | None = None
) -> pathlib.Path:
    """Write the rows of the store `path` into the parquet file `out`; returns `out`.

    Columns: key, label (the class name, or null), label_index (-1 for none), hash (hexadecimal), and a list of fixed size for
    each readout. A row group is a shard; every byte is checked on the way. The file appears whole or not at all; one of
    this very store is left as it is. Images stay behind. Raises DataError for anything else at `out` (another export:
    unless `overwrite`), CacheError.
    """
    store, target = cache.open(path), pathlib.Path(out)
    about = cache.about(store) | {"classes": list(store.classes)}
    if target.exists() and _is_done(target, about, overwrite):
        return target
    arrow = load_pyarrow()
    source = cache.DerivedFrom(store)
    readouts = store.manifest.plan.readouts
    taken = {"key", "label", INDEX_COLUMN, HASH_COLUMN}
    clash = next((item.name for item in readouts if item.name in taken), None)
    if clash is not None:
        raise DataError(f"readout '{clash}' has the name of another column; export to a folder.")
    names = [*store.classes, None]
    with cache.StreamedFile(target, 0) as file:
        with arrow.parquet.ParquetWriter(_Sink(file), _schema(store, about)) as writer:
            for rows in source.blocks():
                labels_R = store.labels_N[rows]
                columns = [
                    arrow.array(store.keys[rows], arrow.string()),
                    arrow.array([names[label] for label in labels_R.tolist()], arrow.string()),
                    arrow.array(labels_R),
                    arrow.array([row.tobytes().hex() for row in store.hashes_N16[rows]], arrow.string()),
                    *(_lists(source.features(item.name)[rows]) for item in readouts),
                ]
                writer.write_batch(arrow.record_batch(columns, schema=writer.schema))
                if progress is not None:
                    progress(rows.stop - rows.start)
        file.commit()
    return target


class _Sink(io.RawIOBase):
    """What pyarrow writes into: bytes one after the other into a file that appears when it is whole."""

    def __init__(self, file: cache.StreamedFile) -> None:
        super().__init__()
        self._file = file
        self._at = 0

    def writable(self) -> bool:
        """Yes."""
        return True

    def tell(self) -> int:
        """How many bytes there are."""
        return self._at

    def write(self, data: Any) -> int:
        """Append bytes; raises StoreWriteError."""
        piece = bytes(data)
        self._file.write(self._at, piece)
        self._at += len(piece)
        return len(piece)


def _schema(store: cache.Store, about: dict[str, Any]) -> Any:
    arrow = load_pyarrow()
    plan = store.manifest.plan
    fields = [
        ("key", arrow.string()),
        ("label", arrow.string()),
        (INDEX_COLUMN, arrow.int64()),
        (HASH_COLUMN, arrow.string()),
    ]
    for item in plan.readouts:
        kind = arrow.from_numpy_dtype(np.dtype(item.dtype))
        fields.append((item.name, arrow.list_(kind, math.prod(plan.row_shape(item)))))
    return arrow.schema(fields, metadata={METADATA: json.dumps(about)})


def _lists(rows: NDArray[Any]) -> Any:
    arrow = load_pyarrow()
    return arrow.FixedSizeListArray.from_arrays(arrow.array(rows.reshape(-1)), math.prod(rows.shape[1:]))


def _is_done(target: pathlib.Path, about: dict[str, Any], overwrite: bool) -> bool:
    """Whether `target` is this very export; DataError where it is something else that must not be replaced."""
    try:
        with as_data_error(str(target)):
            there = told_by(load_pyarrow().parquet.read_schema(target))
    except DataError:
        there = {}
    if not there:
        raise DataError(f"{target} is there and no export of a store; move it away, or name another --out.")
    if overwrite:
        return False
    if there | {"provenance": None} != about | {"provenance": None}:
        raise DataError(
            f"{target} was exported from the store {there.get('identity')}, or another content of it, not from "
            f"{about['identity']}; use another --out or --overwrite."
        )
    return True
