"""Arithmetic that mixed precision must not touch: losses run in at least float32, with autocast off, and float64 stays float64."""

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar, cast

import torch
from torch import Tensor

Args = ParamSpec("Args")

Result = TypeVar("Result")


def full_precision(function: Callable[Args, Result]) -> Callable[Args, Result]:
    """`function` with its floating tensors brought to one dtype, the widest among them and float32, and autocast switched off.

    Integers, flags and packed bits pass unchanged, so a float16 cache row meets a bfloat16 student in float32.
    """
    wide = cast(Callable[..., Result], function)

    @functools.wraps(function)
    def call(*args: Args.args, **kwargs: Args.kwargs) -> Result:
        floats = [v for v in (*args, *kwargs.values()) if isinstance(v, Tensor) and v.is_floating_point()]
        if not floats:  # `args` may hold tensors inside other objects, whose owner widens them
            return wide(*args, **kwargs)
        dtype = functools.reduce(torch.promote_types, (v.dtype for v in floats), torch.float32)
        widened = [_widen(v, dtype) for v in args]
        named = {name: _widen(v, dtype) for name, v in kwargs.items()}
        with torch.autocast(device_type=floats[0].device.type, enabled=False):
            return wide(*widened, **named)

    return call


def _widen(value: object, dtype: torch.dtype) -> object:
    return value.to(dtype) if isinstance(value, Tensor) and value.is_floating_point() else value
