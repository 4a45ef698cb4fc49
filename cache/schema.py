"""The plan of a store: all that decides its content, settled before the first shard. FORMAT.md is the prose.

Legend: V views, H W grid height and width, D dims, P parameters of a view.
"""

import dataclasses
import functools
import operator
import re
from collections.abc import Mapping, Sequence
from typing import Any

from cache.constants import Constant, constants_from_json, constants_to_json
from cache.errors import FormatVersionError, SchemaError
from cache.fields import json_object, require, require_all, require_names, require_type, shortened, take
from cache.fingerprint import digest_of_json

FORMAT = "tcs-feature-store"
FORMAT_VERSION = 2  # what is written
READABLE_VERSIONS = (1, 2)  # of plans and shards
LABELS_VERSION = 3  # of a manifest with labels that came after the plan, whose own version stays
READABLE_MANIFESTS = (*READABLE_VERSIONS, LABELS_VERSION)
MAX_SHARDS = 100_000
READOUT_PATTERN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*")
IMAGE_POLICY_PATTERN = re.compile(r"original|none|resized:[1-9][0-9]*")
DTYPES = ("float16", "float32")


def shard_name(index: int) -> str:
    """The file name of shard `index`."""
    return f"shard-{index:05d}.h5"


def require_format(value: Any) -> None:
    """Raise SchemaError or FormatVersionError unless the JSON value says that it is a manifest of a version we read."""
    require(isinstance(value, dict) and value.get("format") == FORMAT, f"there is no field format: {FORMAT}")
    version = value.get("format_version")
    if type(version) is not int or version not in READABLE_MANIFESTS:
        raise FormatVersionError(
            f"format version {shortened(version)}; this release reads {readable_versions()}; upgrade or re-extract."
        )


def readable_versions() -> str:
    """The versions of manifests that this release reads, in words."""
    *most, last = map(str, READABLE_MANIFESTS)
    return f"{', '.join(most)} and {last}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Readout:
    """One kind of feature: `dims` numbers of `dtype` for every row, or for each of `grid` (H, W) positions of every row."""

    name: str
    dims: int
    dtype: str
    grid: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        require(
            READOUT_PATTERN.fullmatch(self.name) is not None,
            f"readout name {self.name!r} must be letters, digits and _ . + - only, and not start with a sign or dot",
        )
        require(self.dims >= 1, f"readout {self.name} has dims {self.dims}; it must be 1 or more")
        require(self.dtype in DTYPES, f"readout {self.name} has dtype {self.dtype!r}; it must be float16 or float32")
        if self.grid is not None:
            object.__setattr__(self, "grid", tuple(self.grid))
            is_grid = len(self.grid) == 2 and all(type(side) is int and side >= 1 for side in self.grid)
            require(is_grid, f"readout {self.name} has grid {self.grid!r}; it must be height and width, 1 or more each")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Views:
    """`count` augmented views of every image, each replayable from the numbers called `parameters` (float32)."""

    count: int
    parameters: tuple[str, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "parameters", tuple(self.parameters))
        require(self.count >= 1, f"views.count is {self.count}; it must be 1 or more")
        require_names(self.parameters, "view parameter")
        require(len(self.parameters) > 0, "views.parameters is empty; a view needs at least one to be replayed")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """What will be stored, in which order, cut how. Shard i holds the positions [i R, (i + 1) R), R = rows_per_shard.

    `identity` is a JSON object of the caller's (teacher, preprocessing, compute dtype, views, semantics ...). `labels`
    index `classes`, -1 meaning none. `images` is original, resized:PX or none. `views` None means one view, the clean one.
    `constants` are arrays that the features were made with, such as a projection. Building one raises SchemaError.
    """

    identity: Mapping[str, Any]
    readouts: tuple[Readout, ...]
    keys: tuple[str, ...]
    labels: tuple[int, ...]
    classes: tuple[str, ...]
    images: str
    rows_per_shard: int
    batch_size: int
    views: Views | None = None
    constants: Mapping[str, Constant] = dataclasses.field(default_factory=dict)
    format_version: int = FORMAT_VERSION

    def __post_init__(self) -> None:
        object.__setattr__(self, "identity", json_object(self.identity, "identity"))
        object.__setattr__(self, "constants", dict(self.constants))
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
        _require_version(self)
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
        return digest_of_json({"format": FORMAT, "format_version": self.format_version, "plan": content})

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

    @property
    def has_framed_digests(self) -> bool:
        """Whether a shard's `digest` leaves out the values of large datasets, which its content digest covers."""
        return self.format_version > 1

    def row_shape(self, readout: Readout) -> tuple[int, ...]:
        """The shape of one row of `readout`: (D,), or with a grid (H, W, D), with V in front where there are views."""
        views = () if self.views is None else (self.views.count,)
        return (*views, *(readout.grid or ()), readout.dims)

    def to_json(self) -> dict[str, Any]:
        """The plan as JSON types; labels, keys and classes as lists. Version 1 knows no grids, views and constants."""
        plan = {
            "identity": self.identity,
            "readouts": [_readout_json(readout, self.format_version) for readout in self.readouts],
            "keys": list(self.keys),
            "labels": list(self.labels),
            "classes": list(self.classes),
            "images": self.images,
            "rows_per_shard": self.rows_per_shard,
            "batch_size": self.batch_size,
        }
        if self.format_version == 1:
            return plan
        views = None if self.views is None else {"count": self.views.count, "parameters": list(self.views.parameters)}
        return plan | {"views": views, "constants": constants_to_json(self.constants)}

    @classmethod
    def from_json(cls, value: Any, format_version: int = FORMAT_VERSION) -> "Plan":
        """The plan in a JSON object; raises SchemaError naming the field that is wrong."""
        is_first = format_version == 1
        fields = take(value, "plan", _PLAN_FIELDS if is_first else {**_PLAN_FIELDS, **_PLAN_FIELDS_2})
        kinds = _READOUT_FIELDS if is_first else {**_READOUT_FIELDS, "grid": None}
        fields["readouts"] = [
            _readout_from_json(take(readout, f"plan.readouts[{i}]", kinds))
            for i, readout in enumerate(fields["readouts"])
        ]
        require_all(fields["labels"], int, "plan.labels")
        if not is_first:
            fields["views"] = _views_from_json(fields["views"])
            fields["constants"] = constants_from_json(fields["constants"])
        return cls(**fields, format_version=format_version)


def _readout_json(readout: Readout, format_version: int) -> dict[str, Any]:
    content = dataclasses.asdict(readout)
    content["grid"] = None if readout.grid is None else list(readout.grid)
    if format_version == 1:
        del content["grid"]
    return content


def _readout_from_json(fields: dict[str, Any]) -> Readout:
    grid = fields.get("grid")
    if grid is not None:
        require_type(grid, list, f"grid of readout {fields['name']}")
        fields["grid"] = tuple(grid)
    return Readout(**fields)


def _views_from_json(value: Any) -> Views | None:
    if value is None:
        return None
    fields = take(value, "plan.views", {"count": int, "parameters": list})
    return Views(count=fields["count"], parameters=tuple(fields["parameters"]))


_READOUT_FIELDS: Mapping[str, type | None] = {"name": str, "dims": int, "dtype": str}
_PLAN_FIELDS_2: Mapping[str, type | None] = {"views": None, "constants": dict}

_PLAN_FIELDS: Mapping[str, type | None] = {
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
        return tuple(map(operator.index, labels))
    except TypeError as error:
        raise SchemaError(f"labels must be whole numbers: {error}.") from error


def _require_version(plan: Plan) -> None:
    version = plan.format_version
    require(version in READABLE_VERSIONS, f"format_version is {version}; it must be one of {READABLE_VERSIONS}")
    is_plain = plan.views is None and not plan.constants and all(readout.grid is None for readout in plan.readouts)
    require(version > 1 or is_plain, "format version 1 knows no grids, views or constants; use version 2")


def _require_labels(plan: Plan) -> None:
    require(
        len(plan.labels) == len(plan.keys),
        f"there are {len(plan.labels)} labels for {len(plan.keys)} keys; give one each, -1 for none",
    )
    if min(plan.labels) >= -1 and max(plan.labels) < len(plan.classes):
        return
    for key, label in zip(plan.keys, plan.labels, strict=True):
        if not -1 <= label < len(plan.classes):
            raise SchemaError(f"label {label} of {key!r} must be -1 or index the {len(plan.classes)} classes.")
