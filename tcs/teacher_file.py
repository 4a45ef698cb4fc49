"""Reading a file of weights: tensors only. Nothing that a pickle could run is ever run, and no network is used."""

import argparse
import contextlib
import pathlib
import warnings
from typing import Any

import torch
from safetensors.torch import load_file

from tcs.errors import ModelError

SAFETENSORS = ".safetensors"


def read_file(path: pathlib.Path) -> Any:
    """What a .safetensors or torch file holds, on the CPU. ModelError where it is absent, damaged or has objects in it."""
    if not path.is_file():
        raise ModelError(f"--teacher-checkpoint {path} is not a file; give a .safetensors or .pth file.")
    try:
        return load_file(str(path)) if path.suffix == SAFETENSORS else _read_torch(path)
    except Exception as error:  # a damaged file, a pickle with code in it, a file of another kind
        raise ModelError(_refusal(path, error)) from error


def _read_torch(path: pathlib.Path) -> Any:
    # Training scripts save their options beside the weights. A Namespace is a bag of attributes: building one runs
    # nothing but its own empty constructor, and whatever lies in it is under the same rule.
    with torch.serialization.safe_globals([argparse.Namespace]), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of pickle protocols; what cannot be read is refused below
        return torch.load(path, map_location="cpu", weights_only=True)


def _refusal(path: pathlib.Path, error: Exception) -> str:
    objects = _objects_in(path)
    if objects:
        return (
            f"--teacher-checkpoint {path} holds Python objects besides tensors ({', '.join(objects[:3])}), and loading"
            " those could run code; if you trust the file, save its tensors alone: docs/teachers.md has the three lines."
        )
    return (
        f"--teacher-checkpoint {path} cannot be read ({first_line(error).partition('. ')[0]}); it must be a"
        " safetensors file, or a torch file of tensors only."
    )


def _objects_in(path: pathlib.Path) -> list[str]:
    """The classes and functions that the file's pickle would call, read without calling them; none where unreadable."""
    with contextlib.suppress(Exception), torch.serialization.safe_globals([argparse.Namespace]):
        return sorted(torch.serialization.get_unsafe_globals_in_checkpoint(path))
    return []


def first_line(error: BaseException) -> str:
    """The first line of an error's text, shortened, for use inside a message of ours."""
    lines = str(error).strip().splitlines()
    return (lines[0] if lines else type(error).__name__)[:200]
