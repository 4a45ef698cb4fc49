"""How large a model may grow while timm builds it: its arguments may come from a file of others, or from a slip of the finger.

Ten to the twelve layers keep timm at work until there is no memory; a width of 10^5 asks for all of it at once. So the arguments are
looked at, parts and tensors are counted as they are registered, before anything is written into them, and the model is first made on
torch's `meta` device, whose tensors have shapes and no memory, where that can be done: what is made on the way to a tensor is not
registered.
"""

import contextlib
import dataclasses
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import (
    register_module_buffer_registration_hook,
    register_module_module_registration_hook,
    register_module_parameter_registration_hook,
)

from tcs.errors import ModelError
from tcs.memory import group_limit, machine_bytes

FLOAT32_BYTES = 4
MOST_NUMBER = 100_000  # widths, depths and sides of the largest models stay far below
MOST_PARTS = 20_000  # modules; of 42 of timm's largest architectures none has 2,000
SLACK_BYTES = 64 << 20  # of tables that are made and not stored, as of positions

# What timm's constructors and torch make of arguments that do not fit, or of a folder that is not there.
BUILD_ERRORS = (
    TypeError,
    ValueError,
    RuntimeError,
    AssertionError,
    LookupError,
    AttributeError,
    ArithmeticError,
    OSError,
)


class TooLargeError(ValueError):
    """An architecture beyond a bound; its text says beyond which."""


@dataclasses.dataclass(frozen=True)
class Room:
    """How many bytes the tensors of a model may take, and why, in words."""

    bytes: int
    why: str


def room_of_machine() -> Room:
    """All of its memory, or all that its control group lets this process have: weights of any model are made there, whatever device it
    goes to."""
    limit_bytes, owner = group_limit(), "the control group of this process"
    if limit_bytes is None:
        limit_bytes, owner = machine_bytes(), "this machine"
    return Room(limit_bytes, f"{owner} has {limit_bytes / 2**30:,.1f} GiB")


def room_of_weights(values: int) -> Room:
    """What a model may take that is filled from so many values: twice their bytes in float32, of whatever type they are in the file."""
    held_bytes = FLOAT32_BYTES * values
    return Room(2 * held_bytes + SLACK_BYTES, f"its file has weights of {held_bytes / 2**20:,.1f} MiB in float32")


def values_of(weights: Mapping[str, Tensor]) -> int:
    """How many values these weights have."""
    return sum(tensor.numel() for tensor in weights.values())


def require_no_file(kwargs: Mapping[str, Any], given: str, option: str) -> None:
    """ModelError where arguments name a file to timm, which would open any unasked and unrecorded; `option` is ours for it."""
    if "checkpoint_path" in kwargs:
        raise ModelError(f"{given} gives checkpoint_path; use {option} FILE for weights.")


def built(build: Callable[[], nn.Module], kwargs: Mapping[str, Any], room: Room | None = None) -> nn.Module:
    """What `build` makes of `kwargs`; TooLargeError, before the memory is taken, where that is beyond a bound."""
    large = [value for value in numbers_in(kwargs) if isinstance(value, int) and abs(value) > MOST_NUMBER]
    if large:
        raise TooLargeError(f"it is given the number {large[0]:,}, and no architecture takes one above {MOST_NUMBER:,}")
    with _counted(room or room_of_machine()):
        return build()


def sketched(build: Callable[[], nn.Module], kwargs: Mapping[str, Any], room: Room | None = None) -> None:
    """TooLargeError where `built` would meet a bound, found without memory. What else may be wrong is left to `built`."""
    try:
        with torch.random.fork_rng(devices=[]), torch.device("meta"):
            built(build, kwargs, room)
    except TooLargeError:
        raise
    except BUILD_ERRORS:  # as of arguments that do not fit; or the model cannot be made in this way
        pass


def numbers_in(value: Any) -> Iterator[float]:
    """All numbers of nested lists and mappings."""
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list | tuple):
        for part in value:
            yield from numbers_in(part)
    elif isinstance(value, int | float):
        yield value


@contextlib.contextmanager
def _counted(room: Room) -> Iterator[None]:
    """TooLargeError in this thread as soon as there are more parts than MOST_PARTS, or tensors than there is room for."""
    owner, parts, size = threading.get_ident(), 0, 0

    def add_part(_model: nn.Module, _name: str, _part: nn.Module | None) -> None:
        nonlocal parts
        parts += threading.get_ident() == owner
        if parts > MOST_PARTS:
            raise TooLargeError(f"it has more than {MOST_PARTS:,} layers")

    def add_tensor(_model: nn.Module, _name: str, tensor: Tensor | None) -> None:
        nonlocal size
        if tensor is not None and threading.get_ident() == owner:
            size += tensor.nbytes
        if size > room.bytes:
            raise TooLargeError(f"it asks for more than {room.bytes / 2**20:,.0f} MiB, and {room.why}")

    with contextlib.ExitStack() as hooks:
        for hook in (
            register_module_module_registration_hook(add_part),
            register_module_parameter_registration_hook(add_tensor),
            register_module_buffer_registration_hook(add_tensor),
        ):
            hooks.callback(hook.remove)
        yield
