"""The head of spread labels as a file: computed once, then read by ranks, resumed runs, students and grid cells.

A safetensors file named for its identity, PoolLabels' arrays and, in its metadata, format, version, identity and the rest. What
was spread is held as a head of K x C numbers, never as N x C shares. Legend: M labelled rows, K coordinates, C classes.
"""

import json
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

import cache
from tcs.errors import ArtefactError
from tcs.ordinary import require_ordinary
from tcs.pool_labels.spread import PoolLabels

FORMAT, FORMAT_VERSION = "tcs-pool-labels", 1
SUFFIX = ".safetensors"
ARRAYS = {"weight_CK": "float64", "bias_C": "float64", "labelled_M": "int64", "labels_M": "int64"}

Identity = Mapping[str, Any]


def pool_labels_path(folder: pathlib.Path, identity: Identity) -> pathlib.Path:
    """Where the labels of this identity lie in `folder`."""
    return folder / f"{cache.digest_of_json(dict(identity))[:16]}{SUFFIX}"


def save_pool_labels(path: pathlib.Path, labels: PoolLabels, identity: Identity) -> None:
    """Write `labels` with what they were made of (JSON types), whole or not at all; the folder is made."""
    facts = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "identity": dict(identity),
        "sharpness": labels.sharpness,
        "estimator": labels.estimator,
        "reason": labels.reason,
    }
    metadata = {
        "facts": json.dumps(facts, sort_keys=True)
    }  # one entry: several have no order, and the bytes would differ
    arrays = {name: np.ascontiguousarray(getattr(labels, name), dtype) for name, dtype in ARRAYS.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    cache.atomic_write_bytes(path, safetensors.numpy.save(arrays, metadata))


def load_pool_labels(path: pathlib.Path, identity: Identity) -> PoolLabels:
    """Read what `save_pool_labels` wrote for this identity; ArtefactError for anything else, by name."""
    try:
        require_ordinary(path)
        with safetensors.safe_open(str(path), framework="numpy") as file:
            facts = json.loads((file.metadata() or {}).get("facts", "{}"))
            _check_format(facts, path)
            arrays = {name: file.get_tensor(name) for name in ARRAYS}
        _check_identity(facts["identity"], identity, path)
        return PoolLabels(
            **arrays, sharpness=float(facts["sharpness"]), estimator=facts["estimator"], reason=facts["reason"]
        )
    except FileNotFoundError as error:
        raise ArtefactError(
            f"there are no pool labels at {path}; all processes of a run must see one folder --out."
        ) from error
    except (OSError, KeyError, TypeError, ValueError, AttributeError, safetensors.SafetensorError) as error:
        raise ArtefactError(
            f"{path} is damaged or no file of pool labels ({str(error)[:80]}); delete it, and it is made again."
        ) from error


def _check_format(facts: Mapping[str, Any], path: pathlib.Path) -> None:
    found, version = facts.get("format", "unknown"), facts.get("format_version", "none")
    if found != FORMAT:
        raise ArtefactError(f"{path} is no file of pool labels (format '{found}'); delete it, and it is made again.")
    if version != FORMAT_VERSION:
        raise ArtefactError(
            f"{path} has format version {version}, this release reads {FORMAT_VERSION}; delete it, and it is made again, or use "
            "the release that wrote it."
        )


def _check_identity(found: Identity, wanted: Identity, path: pathlib.Path) -> None:
    for key in sorted(found.keys() | wanted.keys()):
        if found.get(key) != wanted.get(key):
            raise ArtefactError(
                f"{path} was made with {key} {str(found.get(key))[:80]}, this run has {str(wanted.get(key))[:80]}; delete it, and it "
                "is made again."
            )
