"""Features that somebody holds as .npy and text files, or in the folder of an export: read for a new store.

Legend: N rows, D dims.
"""

import dataclasses
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tcs.array_files import BROKEN
from tcs.config.exchange import ImportConfig
from tcs.errors import DataError
from tcs.ordinary import read_ordinary, require_ordinary

ABOUT = "store.json"


@dataclasses.dataclass(frozen=True, kw_only=True)
class FeatureTable:
    """What `cache.create` takes: floating (N, ...) arrays by readout, keys, and what else there is.

    `labels` are class names, or whole numbers that index `classes`; `hashes` uint8 (N, 16); `images` the encoded images by
    row; `made_from` what the source says of the features.
    """

    features: Mapping[str, Any]
    keys: Sequence[str]
    labels: Sequence[Any] | NDArray[Any] | None = None
    classes: Sequence[str] | None = None
    hashes: NDArray[np.uint8] | None = None
    images: Any = None
    made_from: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    provenance: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def read_arrays(config: ImportConfig) -> FeatureTable:
    """The .npy files of `config`, memory-mapped, with the files that go with them. Without keys, rows are numbered from 0.

    DataError for a file that cannot be read, that holds Python objects, or is of another kind than it should be.
    """
    features = {name: load_array(path) for name, path in _feature_paths(config).items()}
    rows = next(iter(features.values())).shape[0]
    keys = row_numbers(rows) if config.keys is None else names_of(config.keys)
    return FeatureTable(
        features=features,
        keys=keys,
        labels=None if config.labels is None else _labels(config.labels),
        classes=None if config.classes is None else names_of(config.classes),
        hashes=None if config.hashes is None else load_array(config.hashes),
        images=None if config.images_dir is None else FolderImages(config.images_dir, keys),
    )


def read_export(config: ImportConfig) -> FeatureTable:
    """The folder that `tcs cache export` wrote. DataError where it is none, or was not finished."""
    folder = pathlib.Path(str(config.source))
    try:
        about = json.loads(read_ordinary(folder / ABOUT))
        is_ours = about["format"] == "tcs-feature-export" and isinstance(about["readouts"], dict)
    except (OSError, ValueError, RecursionError, TypeError, KeyError):
        is_ours = False
    if not is_ours or about.get("state") != "closed":
        why = (
            "was not finished: run the export again"
            if is_ours
            else f"has no {ABOUT} of an export: name a .npy file in it"
        )
        raise DataError(f"{folder} {why}.")
    features = {name: str(folder / f"{pathlib.PurePath(name).name}.npy") for name in about["readouts"]}
    arrays = dataclasses.replace(
        config,
        source=None,
        features=features,
        keys=config.keys or str(folder / "keys.txt"),
        labels=config.labels or str(folder / "labels.npy"),
        classes=config.classes or str(folder / "classes.txt"),
        hashes=config.hashes or str(folder / "hashes.npy"),
    )
    table = read_arrays(arrays)
    made_from = about.get("made_from") if isinstance(about.get("made_from"), dict) else {}
    provenance = about.get("provenance") if isinstance(about.get("provenance"), dict) else {}
    return dataclasses.replace(table, made_from=made_from, provenance={"exported": provenance})


def load_array(path: str) -> NDArray[Any]:
    """The array of an .npy file, memory-mapped where it can be; DataError for anything else, Python objects above all."""
    try:
        require_ordinary(path)
        found = np.load(path, mmap_mode="r", allow_pickle=False)
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror or error}); name an .npy file.") from error
    except BROKEN as error:
        reason = str(error).splitlines()[0].partition("If you trust")[0].rstrip(" .")  # no advice to load pickles
        raise DataError(f"{path} is no .npy file of plain numbers ({reason}); save it again.") from error
    if not isinstance(found, np.ndarray) or found.ndim == 0:
        raise DataError(f"{path} is no .npy file of one array with rows; save it again with numpy.save.")
    return found


def names_of(path: str) -> list[str]:
    """The lines of a text file, or the strings of an .npy file. An empty line is an empty name. DataError."""
    if path.endswith(".npy"):
        found = load_array(path)
        if found.dtype.kind not in "US" or found.ndim != 1:
            raise DataError(f"{path} holds {found.dtype} {found.shape}; names must be one row of strings.")
        return _texts(path, found)
    try:
        text = read_ordinary(path).decode("utf-8-sig")
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); name a text file with one name a line.") from error
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path} is no UTF-8 text ({error.reason}); write one name a line, or name an .npy file."
        ) from error
    return [line.removesuffix("\r") for line in text.removesuffix("\n").split("\n")] if text else []


def _texts(path: str, names_N: NDArray[Any]) -> list[str]:
    """Strings, or bytes that are UTF-8; DataError for other bytes."""
    if names_N.dtype.kind == "U":
        return [str(name) for name in names_N.tolist()]
    try:
        return [name.decode() for name in names_N.tolist()]
    except UnicodeDecodeError as error:
        raise DataError(f"{path} holds bytes that are no UTF-8 ({error.reason}); save the names as strings.") from error


def row_numbers(rows: int) -> list[str]:
    """The keys of rows that have none of their own, as for data sets without paths."""
    return [f"{row:08d}" for row in range(rows)]


class FolderImages:
    """The files below a folder that keys name, as bytes by row number, each read when it is asked for."""

    def __init__(self, folder: str, keys: Sequence[str]) -> None:
        """DataError for a folder that is not there, and a key that leads out of it."""
        self._folder, self._keys = pathlib.Path(folder), keys
        if not self._folder.is_dir():
            raise DataError(f"--images-dir {folder} is no folder; name the one that the keys are relative to.")
        for key in keys:
            pure = pathlib.PurePath(key)
            if pure.is_absolute() or ".." in pure.parts:
                raise DataError(f"key '{key}' leads out of --images-dir {folder}; keys must be paths below it.")

    def __len__(self) -> int:
        return len(self._keys)

    def __getitem__(self, row: int) -> bytes:
        """The bytes of one file; DataError where it cannot be read."""
        path = self._folder / self._keys[row]
        try:
            return read_ordinary(path)
        except OSError as error:
            raise DataError(
                f"image {path} cannot be read ({error.strerror}); put it there, or go without images."
            ) from error


def _feature_paths(config: ImportConfig) -> dict[str, str]:
    if config.source is None:
        return dict(config.features)
    if len(config.readouts) > 1:
        raise DataError(f"{config.source} is one array and --readout names {len(config.readouts)}; give one name.")
    return {(config.readouts or (pathlib.Path(config.source).stem,))[0]: config.source}


def _labels(path: str) -> Sequence[Any] | NDArray[Any]:
    """Class names from a text file; whole numbers or names from an .npy file."""
    if not path.endswith(".npy"):
        return names_of(path)
    found = load_array(path)
    if found.ndim != 1 or found.dtype.kind not in "iuUS":
        raise DataError(f"{path} holds {found.dtype} {found.shape}; labels must be one row of whole numbers or names.")
    return names_of(path) if found.dtype.kind in "US" else np.asarray(found)
