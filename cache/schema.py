"""The plan of a store: all that decides its content, settled before the first shard. FORMAT.md is the prose."""

import dataclasses
import functools
import operator
import re
from collections.abc import Mapping, Sequence
from typing import Any

from cache.errors import SchemaError
from cache.fields import json_object, require, require_all, require_names, take
from cache.fingerprint import digest_of_json

FORMAT = "tcs-feature-store"
FORMAT_VERSION = 1
MAX_SHARDS = 100_000
READOUT_PATTERN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*")
IMAGE_POLICY_PATTERN = re.compile(r"original|none|resized:[1-9][0-9]*")
DTYPES = ("float16", "float32")


def shard_name(index: int) -> str:
    """The file name of shard `index`."""
    return f"shard-{index:05d}.h5"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Readout:
    """One kind of feature: `dims` numbers of `dtype` for every row."""

    name: str
    dims: int
    dtype: str

    def __post_init__(self) -> None:
        require(
            READOUT_PATTERN.fullmatch(self.name) is not None,
            f"readout name {self.name!r} must be letters, digits and _ . + - only, and not start with a sign or dot",
        )
        require(self.dims >= 1, f"readout {self.name} has dims {self.dims}; it must be 1 or more")
        require(self.dtype in DTYPES, f"readout {self.name} has dtype {self.dtype!r}; it must be float16 or float32")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """What will be stored, in which order, cut how. Shard i holds the positions [i R, (i + 1) R), R = rows_per_shard.

    `identity` is a JSON object of the caller's (teacher, preprocessing, compute dtype, views, semantics ...). `labels`
    index `classes`, -1 meaning none. `images` is original, resized:PX or none. Building one raises SchemaError.
    """

    identity: Mapping[str, Any]
    readouts: tuple[Readout, ...]
    keys: tuple[str, ...]
    labels: tuple[int, ...]
    classes: tuple[str, ...]
    images: str
    rows_per_shard: int
    batch_size: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "identity", json_object(self.identity, "identity"))
        object.__setattr__(self, "readouts", tuple(self.readouts))
        object.__setattr__(self, "keys", tuple(self.keys))
        object.__setattr__(self, "labels", _whole_numbers(self.labels))
        object.__setattr__(self, "classes", tuple(self.classes))
        require_names(self.keys, "key")
        require_names(self.classes, "class")
        require_names([readout.name for readout in self.readouts], "readout")
        require(len(self.keys) > 0, "keys is empty; a plan needs at least one input")
        require(len(self.readouts) > 0, "readouts is empty; a plan needs at least one")
        _require_labels(self)
        require(
            IMAGE_POLICY_PATTERN.fullmatch(self.images) is not None,
            f"images is {self.images!r}; it must be original, none or resized:PX",
        )
        require(self.rows_per_shard >= 1, f"rows_per_shard is {self.rows_per_shard}; it must be 1 or more")
        require(self.batch_size >= 1, f"batch_size is {self.batch_size}; it must be 1 or more")
        require(
            self.shard_count <= MAX_SHARDS,
            f"rows_per_shard {self.rows_per_shard} cuts {len(self.keys)} keys into {self.shard_count} shards; at most "
            f"{MAX_SHARDS} are allowed, so raise rows_per_shard",
        )

    @functools.cached_property
    def plan_identity(self) -> str:
        """The digest of everything but `batch_size`, the format version included."""
        content = self.to_json()
        del content["batch_size"]
        return digest_of_json({"format": FORMAT, "format_version": FORMAT_VERSION, "plan": content})

    @property
    def shard_count(self) -> int:
        """How many shards the keys are cut into."""
        return -(-len(self.keys) // self.rows_per_shard)

    def positions(self, index: int) -> range:
        """The input positions of shard `index`."""
        if not 0 <= index < self.shard_count:
            raise SchemaError(f"shard {index} does not exist; the plan has {self.shard_count}, counted from 0.")
        start = index * self.rows_per_shard
        return range(start, min(start + self.rows_per_shard, len(self.keys)))

    def to_json(self) -> dict[str, Any]:
        """The plan as JSON types; labels, keys and classes as lists."""
        return {
            "identity": self.identity,
            "readouts": [dataclasses.asdict(readout) for readout in self.readouts],
            "keys": list(self.keys),
            "labels": list(self.labels),
            "classes": list(self.classes),
            "images": self.images,
            "rows_per_shard": self.rows_per_shard,
            "batch_size": self.batch_size,
        }

    @classmethod
    def from_json(cls, value: Any) -> "Plan":
        """The plan in a JSON object; raises SchemaError naming the field that is wrong."""
        fields = take(value, "plan", _PLAN_FIELDS)
        fields["readouts"] = [
            Readout(**take(readout, f"plan.readouts[{i}]", _READOUT_FIELDS))
            for i, readout in enumerate(fields["readouts"])
        ]
        require_all(fields["labels"], int, "plan.labels")
        return cls(**fields)


_READOUT_FIELDS: Mapping[str, type] = {"name": str, "dims": int, "dtype": str}
_PLAN_FIELDS: Mapping[str, type] = {
    "identity": dict,
    "readouts": list,
    "keys": list,
    "labels": list,
    "classes": list,
    "images": str,
    "rows_per_shard": int,
    "batch_size": int,
}


def _whole_numbers(labels: Sequence[int]) -> tuple[int, ...]:
    """The labels as Python ints; numpy's whole numbers are welcome."""
    try:
        return tuple(operator.index(label) for label in labels)
    except TypeError as error:
        raise SchemaError(f"labels must be whole numbers: {error}.") from error


def _require_labels(plan: Plan) -> None:
    require(
        len(plan.labels) == len(plan.keys),
        f"there are {len(plan.labels)} labels for {len(plan.keys)} keys; give one each, -1 for none",
    )
    for key, label in zip(plan.keys, plan.labels, strict=True):
        if not -1 <= label < len(plan.classes):
            raise SchemaError(f"label {label} of {key!r} must be -1 or index the {len(plan.classes)} classes.")
