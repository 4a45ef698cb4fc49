"""Files of one student's run folder, each written whole: safetensors weights, the resume file, summary.csv, config.json.

No pickle is loaded: the resume file is read with weights_only=True.
"""

import csv
import io
import json
import pathlib
import pickle
from collections.abc import Mapping, Sequence
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from cache import atomic_write_bytes
from tcs.errors import ArtefactError

CONFIG, SUMMARY, LAST, FOLDED, RESUME, SEEN = (
    "config.json",
    "summary.csv",
    "last.safetensors",
    "folded.safetensors",
    "resume.pt",
    "seen.npy",
)


def save_weights(path: pathlib.Path, state: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Write a state dict as safetensors, whole or not at all."""
    tensors = {key: value.detach().cpu().contiguous().clone() for key, value in state.items()}
    atomic_write_bytes(path, safetensors.torch.save(tensors, dict(metadata or {})))


def load_weights(path: pathlib.Path) -> dict[str, Tensor]:
    """Read a safetensors state dict; ArtefactError where it is missing or broken."""
    try:
        return dict(safetensors.torch.load_file(path))
    except (OSError, safetensors.SafetensorError) as error:
        raise ArtefactError(
            f"weights {path} cannot be read ({error}); train the student again with --overwrite."
        ) from error


def save_resume(path: pathlib.Path, state: Mapping[str, Any]) -> None:
    """Write the resume state (tensors and plain values), whole or not at all."""
    buffer = io.BytesIO()
    torch.save(dict(state), buffer)
    atomic_write_bytes(path, buffer.getvalue())


def load_resume(path: pathlib.Path) -> dict[str, Any]:
    """Read the resume state with weights_only=True; ArtefactError where it is broken."""
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError) as error:
        raise ArtefactError(f"resume file {path} cannot be read; delete it to start this student again.") from error
    return state


def save_json(path: pathlib.Path, value: Any) -> None:
    """Write JSON, indented, whole or not at all."""
    atomic_write_bytes(path, (json.dumps(value, indent=1, sort_keys=True) + "\n").encode())


def load_json(path: pathlib.Path) -> Any:
    """Read JSON; ArtefactError where it is missing or broken."""
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise ArtefactError(f"file {path} is missing; is {path.parent} a finished run?") from error
    except (OSError, ValueError) as error:
        raise ArtefactError(f"file {path} cannot be read ({error}); train again with --overwrite.") from error


def save_table(path: pathlib.Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows as CSV, whole or not at all; columns are the union of keys in order of appearance."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    atomic_write_bytes(path, text.getvalue().encode())


ARGS = "args.yaml"
