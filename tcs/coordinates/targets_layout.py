"""What stands where in a targets file: its arrays and header, read without trust in either.

Letters of shapes: N rows, V views, K coordinates, H hash bits, P = H / 8 bytes, X the bytes of a content hash.
"""

import json
import pathlib
from collections.abc import Mapping
from typing import Any

import h5py
from numpy.typing import NDArray

from tcs.errors import ArtefactError
from tcs.ordinary import require_ordinary
from tcs.schemas.check import broken_rule
from tcs.schemas.coordinates import TargetFacts

FORMAT, FORMAT_VERSION, VIEWS_VERSION = "tcs-targets", 1, 2  # a file with views has the latter
SYSTEM_PREFIX = "system/"
UNREADABLE = (OSError, KeyError, ValueError, RuntimeError, RecursionError)  # libhdf5's errors come as any of these

ARRAYS: Mapping[str, tuple[str, str]] = {
    "coordinates": ("float32", "NK"),
    "bits": ("uint8", "NP"),
    "rotation": ("float32", "HK"),
    "thresholds": ("float32", "H"),
    "rms": ("float32", "H"),
    "hashes": ("uint8", "NX"),
}

VIEW_ARRAYS = {**ARRAYS, "coordinates": ("float32", "NVK"), "bits": ("uint8", "NVP")}
FACTS: Mapping[str, type] = {"store_identity": str, "identity": str, "config": dict, "system": dict}


def read_facts(file: Any, path: str | pathlib.Path) -> Mapping[str, Any]:
    """The header; ArtefactError for a file of another kind or version, or a header that lacks something."""
    facts: Any = json.loads(read_array(file, "facts", path).tobytes()) if "facts" in file else {}
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
    told = broken_rule(facts, TargetFacts)
    if told is not None:
        raise ArtefactError(f"{path} has a damaged header ({told}); make it again with tcs targets.")
    checked: Mapping[str, Any] = facts
    return checked


def require_targets_file(path: pathlib.Path) -> None:
    """ArtefactError where `path` is no targets file of any version, so that nothing foreign is ever replaced."""
    try:
        require_ordinary(path)
        with h5py.File(path, "r") as file:
            ours = json.loads(read_array(file, "facts", path).tobytes()).get("format") == FORMAT
    except (OSError, KeyError, ValueError, RuntimeError, AttributeError, ArtefactError):
        ours = False
    if not ours:
        raise ArtefactError(f"{path} exists and is no targets file; name another --out.")


def read_array(file: Any, name: str, path: str | pathlib.Path) -> NDArray[Any]:
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


def check_shapes(
    arrays: Mapping[str, NDArray[Any]], expected: Mapping[str, tuple[str, str]], path: str | pathlib.Path
) -> None:
    """ArtefactError where an array is not of the dtype and shape `expected`, or shapes do not go together."""
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
