"""Features in a parquet file, read for a new store. Needs pyarrow (the extra `data`).

Legend: N rows, R rows of a row group, D numbers of a row.
"""

import contextlib
import json
import math
import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tcs.config.exchange import ImportConfig
from tcs.errors import DataError, did_you_mean
from tcs.exchange.arrays import FeatureTable, FolderImages, load_array, names_of, row_numbers

METADATA = b"tcs"
HASH_COLUMN, INDEX_COLUMN = "hash", "label_index"


def read_parquet(config: ImportConfig) -> FeatureTable:
    """The columns of the parquet file `config.source`: key, label, image, and lists of floating numbers as features.

    `config.readouts` names the feature columns; without it all lists of floating numbers are. Feature and image columns are
    read a row group at a time. Files that `config` names win over columns. DataError.
    """
    path = str(config.source)
    if not pathlib.Path(path).is_file():
        raise DataError(f"{path} is no file; name a parquet file.")
    with as_data_error(path):
        file = load_pyarrow().parquet.ParquetFile(path, memory_map=True)
        schema = file.schema_arrow
        about = told_by(schema)
        features = {name: _FeatureColumn(file, name, about) for name in _feature_columns(config, schema)}
        keys = _texts(config, file, config.key_column)
        names = _texts(config, file, config.label_column)
        hashes = _texts(config, file, HASH_COLUMN) if HASH_COLUMN in schema.names and about else None
    rows = file.metadata.num_rows
    row_keys = names_of(config.keys) if config.keys else (row_numbers(rows) if keys is None else keys)
    images: Any = None
    if config.images_dir is not None:
        images = FolderImages(config.images_dir, row_keys)
    elif config.image_column in schema.names:
        images = _ImageColumn(file, config.image_column)
    return FeatureTable(
        features=features,
        keys=row_keys,
        labels=names_of(config.labels) if config.labels else names,
        classes=names_of(config.classes) if config.classes else about.get("classes"),
        hashes=_hashes(path, hashes) if config.hashes is None else load_array(config.hashes),
        images=images,
        made_from=about.get("made_from", {}),
        provenance={"exported": about.get("provenance", {})} if about else {},
    )


class _FeatureColumn:
    """A column of number lists as an array (N, D), or as shaped as the file's metadata say, read a row group at a time."""

    def __init__(self, file: Any, name: str, about: dict[str, Any]) -> None:
        self._file, self._name = file, name
        groups = [file.metadata.row_group(index).num_rows for index in range(file.num_row_groups)]
        self._starts = np.cumsum([0, *groups]).tolist()
        first = next((self._group(index) for index, rows in enumerate(groups) if rows), None)
        if first is None:
            raise DataError(f"column '{name}' has no rows; nothing to import.")
        self.dtype, self.shape = first.dtype, (self._starts[-1], *_row_shape(about, name, first.shape[1]))
        self._held: tuple[int, NDArray[Any]] = (-1, first)

    def __getitem__(self, index: slice) -> NDArray[Any]:
        """The rows of a slice with step 1."""
        start, stop, _ = index.indices(self.shape[0])
        found = np.empty((max(stop - start, 0), *self.shape[1:]), self.dtype)
        for group, (first, last) in enumerate(zip(self._starts, self._starts[1:], strict=False)):
            low, high = max(start, first), min(stop, last)
            if low < high:
                if self._held[0] != group:
                    self._held = (group, self._group(group))
                rows = self._held[1][low - first : high - first]
                found[low - start : high - start] = rows.reshape(-1, *self.shape[1:])
        return found

    def _group(self, index: int) -> NDArray[Any]:
        """(R, D) of one row group; DataError where lists are missing or of different lengths."""
        with as_data_error(self._name):
            column = self._file.read_row_group(index, columns=[self._name]).column(self._name).combine_chunks()
            lengths = set(column.value_lengths().to_pylist())
            values = column.flatten()
            if len(lengths) > 1 or None in lengths or values.null_count:
                raise DataError(
                    f"column '{self._name}' has empty or missing lists, or lists of {len(lengths)} lengths, in row group "
                    f"{index}; every row needs as many numbers."
                )
            return np.asarray(values.to_numpy(zero_copy_only=False)).reshape(len(column), -1)


class _ImageColumn:
    """A column of encoded images, as bytes or as {bytes, path} (Hugging Face), by row number; one row group is held."""

    def __init__(self, file: Any, name: str) -> None:
        self._file, self._name = file, name
        groups = [file.metadata.row_group(index).num_rows for index in range(file.num_row_groups)]
        self._starts = np.cumsum([0, *groups])
        self._held: tuple[int, list[Any]] = (-1, [])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __getitem__(self, row: int) -> bytes:
        """The bytes of one image; DataError where there are none."""
        group = int(np.searchsorted(self._starts, row, side="right")) - 1
        if self._held[0] != group:
            with as_data_error(self._name):
                column = self._file.read_row_group(group, columns=[self._name]).column(0)
                self._held = (group, column.to_pylist())
        value = self._held[1][row - int(self._starts[group])]
        found = value.get("bytes") if isinstance(value, dict) else value
        if not isinstance(found, bytes):
            raise DataError(f"column '{self._name}' has no image bytes in row {row}; name another --image-column.")
        return found


def load_pyarrow() -> Any:
    """The package; DataError where it is not installed."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise DataError("parquet files need pyarrow: pip install tcs-distill[data]") from error
    return pyarrow


@contextlib.contextmanager
def as_data_error(what: str) -> Iterator[None]:
    """Turn what pyarrow raises into one line."""
    arrow = load_pyarrow()
    try:
        yield
    except (arrow.ArrowException, OSError) as error:
        raise DataError(f"{what} cannot be read as parquet ({str(error).splitlines()[0]}); write it again.") from error


def told_by(schema: Any) -> dict[str, Any]:
    """What `tcs.exchange.parquet_write` left in the metadata; nothing where another program wrote the file, or changed the text."""
    try:
        found = json.loads((schema.metadata or {})[METADATA])
    except (KeyError, ValueError, RecursionError):
        return {}
    is_ours = isinstance(found, dict) and isinstance(found.get("readouts"), dict)
    is_ours = is_ours and all(isinstance(found.get(name, {}), dict) for name in ("made_from", "provenance"))
    classes = found.get("classes", []) if is_ours else None
    is_ours = isinstance(classes, list) and all(isinstance(name, str) for name in classes)
    return found if is_ours else {}


def _row_shape(about: dict[str, Any], name: str, count: int) -> tuple[int, ...]:
    """The shape that the metadata give the `count` numbers of a row; one vector where they do not, or say nonsense."""
    item = about.get("readouts", {}).get(name)
    told = item.get("shape") if isinstance(item, dict) else None
    is_shape = isinstance(told, list) and all(type(side) is int and side > 0 for side in told)
    return tuple(told) if told and is_shape and math.prod(told) == count else (count,)


def _feature_columns(config: ImportConfig, schema: Any) -> list[str]:
    """The columns that hold lists of floating numbers, or those that --readout names. DataError where there are none."""
    types = load_pyarrow().types

    def is_vector(kind: Any) -> bool:
        is_list = types.is_fixed_size_list(kind) or types.is_list(kind) or types.is_large_list(kind)
        return bool(is_list and types.is_floating(kind.value_type))

    known = [field.name for field in schema if is_vector(field.type)]
    for name in config.readouts:
        if name not in known:
            raise DataError(
                f"{config.source} has no column '{name}' of number lists; it has {known}.{did_you_mean(name, known)}"
            )
    if not known:
        raise DataError(f"{config.source} has no column of lists of floating numbers; its columns: {schema.names}.")
    return list(config.readouts) or known


def _texts(config: ImportConfig, file: Any, name: str) -> list[Any] | None:
    """A column of texts, or of labels as whole numbers; None where the file has no such column."""
    schema = file.schema_arrow
    if name not in schema.names:
        return None
    types, kind = load_pyarrow().types, schema.field(name).type
    if types.is_dictionary(kind):
        kind = kind.value_type
    is_text = types.is_string(kind) or types.is_large_string(kind) or types.is_null(kind)
    if not is_text and not (name == config.label_column and types.is_integer(kind)):
        raise DataError(f"column '{name}' of {config.source} is {kind}; it must be text; name another one.")
    found: list[Any] = file.read(columns=[name]).column(name).to_pylist()
    if types.is_integer(kind):
        return [-1 if value is None else value for value in found]
    return found


def _hashes(path: str, texts: list[Any] | None) -> NDArray[np.uint8] | None:
    if texts is None:
        return None
    try:
        return np.frombuffer(bytes.fromhex("".join(texts)), dtype=np.uint8).reshape(len(texts), -1)
    except (ValueError, TypeError) as error:
        raise DataError(
            f"column '{HASH_COLUMN}' of {path} holds other things than 32 hexadecimal digits a row."
        ) from error
