"""Tensors of one student's run folder, each file written whole: safetensors weights and the resume file.

No pickle is loaded: the resume file is read with weights_only=True.
"""

import contextlib
import io
import math
import pathlib
import pickle
import zipfile
from collections.abc import Iterator, Mapping
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from cache import atomic_write_bytes
from tcs.errors import ArtefactError, first_line
from tcs.ordinary import open_ordinary, require_ordinary
from tcs.plain_files import FORMAT, check_format

START_AGAIN = "delete it to start this student again"


def save_weights(path: pathlib.Path, state: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Write a state dict as safetensors, whole or not at all."""
    tensors = {key: value.detach().cpu().contiguous().clone() for key, value in state.items()}
    atomic_write_bytes(path, safetensors.torch.save(tensors, dict(metadata or {})))


def load_weights(path: pathlib.Path) -> dict[str, Tensor]:
    """Read a safetensors state dict; ArtefactError where it is missing or broken."""
    try:
        require_ordinary(path)
        return dict(safetensors.torch.load_file(path))
    except (OSError, safetensors.SafetensorError) as error:
        raise ArtefactError(
            f"weights {path} cannot be read ({error}); train the student again with --overwrite."
        ) from error


def count_values(path: pathlib.Path) -> int:
    """How many values a safetensors file holds, by its header alone, which the library holds against the size of the file. OSError or
    SafetensorError where it cannot be read."""
    require_ordinary(path)
    with safetensors.safe_open(str(path), framework="pt") as file:
        return sum(math.prod(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118 (a handle, no mapping)


def save_resume(path: pathlib.Path, state: Mapping[str, Any]) -> None:
    """Write the resume state (tensors and plain values) with its format, whole or not at all."""
    buffer = io.BytesIO()
    torch.save({"format": FORMAT, **state}, buffer)
    atomic_write_bytes(path, buffer.getvalue())


@contextlib.contextmanager
def fitting(path: pathlib.Path) -> Iterator[None]:
    """Taking up the state that was read from `path`: ArtefactError where it lacks something, or is of other shapes or types."""
    try:
        yield
    except (LookupError, TypeError, ValueError, RuntimeError, AttributeError, StopIteration) as error:
        raise ArtefactError(
            f"resume file {path} does not fit this student ({type(error).__name__}: {first_line(error)}); {START_AGAIN}."
        ) from error


def load_resume(path: pathlib.Path, remedy: str = START_AGAIN) -> dict[str, Any]:
    """Read the resume state with weights_only=True; ArtefactError where it is broken, with the `remedy` of the caller, or of a format of
    a later release."""
    try:
        require_ordinary(path)
        _require_held(path)
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError, zipfile.BadZipFile) as error:
        raise ArtefactError(f"resume file {path} cannot be read; {remedy}.") from error
    if not isinstance(state, dict):
        raise ArtefactError(f"resume file {path} holds no state; {remedy}.")
    check_format(path, state)
    return state


def _require_held(path: pathlib.Path) -> None:
    """ValueError unless the archive holds what it says it does: torch writes its parts as they are, never compressed."""
    with open_ordinary(path) as file, zipfile.ZipFile(file) as archive:
        claimed = sum(part.file_size for part in archive.infolist())
    if claimed > path.stat().st_size:
        raise ValueError(f"it claims {claimed:,} bytes and has {path.stat().st_size:,}")
