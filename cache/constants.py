"""Arrays that features were made with (a projection, its origin), kept inside the plan so that they cannot be lost."""

import base64
import binascii
import dataclasses
import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from cache.fields import require, require_all, take

CONSTANT_PATTERN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+/-]*")
DTYPES = ("<f4", "<f8")
MAX_BYTES = 64 << 20


@dataclasses.dataclass(frozen=True, kw_only=True)
class Constant:
    """One array by value: numpy dtype string (`<f4` or `<f8`), shape, and the bytes in C order."""

    dtype: str
    shape: tuple[int, ...]
    data: bytes = dataclasses.field(repr=False)

    def __post_init__(self) -> None:
        require(self.dtype in DTYPES, f"a constant has dtype {self.dtype!r}; it must be one of {', '.join(DTYPES)}")
        require(len(self.shape) <= 4 and all(side >= 1 for side in self.shape), f"a constant has shape {self.shape}")
        size = math.prod(self.shape) * np.dtype(self.dtype).itemsize
        require(
            size == len(self.data), f"a constant of {self.dtype} {self.shape} has {len(self.data)} bytes, not {size}"
        )
        require(size <= MAX_BYTES, f"a constant has {size} bytes; at most {MAX_BYTES} fit into a manifest")
        require(bool(np.isfinite(self.array()).all()), "a constant holds values that are not finite")

    @classmethod
    def of(cls, values: npt.NDArray[np.floating[Any]]) -> "Constant":
        """The constant holding float32 or float64 `values`; raises SchemaError for another dtype or values not finite."""
        ordered = np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("<"))
        return cls(dtype=ordered.dtype.str, shape=ordered.shape, data=ordered.tobytes())

    def array(self) -> npt.NDArray[np.floating[Any]]:
        """The values, read-only."""
        return np.frombuffer(self.data, dtype=self.dtype).reshape(self.shape)


def constants_to_json(constants: Mapping[str, Constant]) -> dict[str, Any]:
    """The constants by name, each as {dtype, shape, base64}."""
    return {
        name: {"dtype": item.dtype, "shape": list(item.shape), "base64": base64.b64encode(item.data).decode("ascii")}
        for name, item in constants.items()
    }


def constants_from_json(value: Mapping[str, Any]) -> dict[str, Constant]:
    """The constants in a JSON object; raises SchemaError naming what is wrong."""
    return {name: _from_json(name, entry) for name, entry in value.items()}


def _from_json(name: str, value: Any) -> Constant:
    require(CONSTANT_PATTERN.fullmatch(name) is not None, f"constant {name!r} must be of letters, digits and _ . + / -")
    fields = take(value, f"plan.constants.{name}", {"dtype": str, "shape": list, "base64": str})
    require_all(fields["shape"], int, f"plan.constants.{name}.shape")
    try:
        data = base64.b64decode(fields["base64"], validate=True)
    except (binascii.Error, ValueError) as error:
        require(False, f"plan.constants.{name} is no base64 text ({error})")
        raise AssertionError from error
    return Constant(dtype=fields["dtype"], shape=tuple(fields["shape"]), data=data)
