"""A store's manifest.json: the plan, the state, and, once the store is closed, what came of the plan."""

import dataclasses
import json
import os
import re
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cache.errors import CorruptStoreError, FormatVersionError, IncompleteStoreError, SchemaError, StoreNotFoundError
from cache.fields import json_object, require, require_type, shortened, take
from cache.files import atomic_write_bytes, open_ordinary
from cache.labels import LaterLabels
from cache.schema import FORMAT, LABELS_VERSION, Plan, require_format, shard_name

MANIFEST_NAME = "manifest.json"
_LOST_REMEDY = "delete this file and rerun the command that made the store: it takes over the shards that are whole"
MAX_MANIFEST_BYTES = 4 << 30  # 14 million keys of 60 letters take a quarter of that
SHARD_PATTERN = re.compile(r"shard-[0-9]{5}\.h5")
DIGEST_PATTERN = re.compile(r"[0-9a-f]{32}")
STATES = ("open", "closed")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Quarantined:
    """An input that got no row, with its place in the plan and the reason."""

    position: int
    key: str
    reason: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class ShardEntry:
    """A finished shard file: its rows, its size, and the digest of all its bytes."""

    file: str
    rows: int
    bytes: int
    digest: str

    def __post_init__(self) -> None:
        require(
            SHARD_PATTERN.fullmatch(self.file) is not None,
            f"shard file {self.file!r} must be named shard-00000.h5 and so on, without any folder",
        )
        require(self.rows >= 0, f"shard {self.file} has {self.rows} rows; it must be 0 or more")
        require(self.bytes >= 1, f"shard {self.file} has {self.bytes} bytes; it must be 1 or more")
        _require_digest(self.digest, f"the digest of shard {self.file}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Manifest:
    """A store's manifest.json. `identity` is None while the state is open; building one raises SchemaError.

    `later_labels` are there where labels were given after the plan, and count in place of those of the plan.
    """

    plan: Plan
    state: str
    identity: str | None = None
    shards: tuple[ShardEntry, ...] = ()
    quarantine: tuple[Quarantined, ...] = ()
    provenance: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    gate: Mapping[str, Any] | None = None
    later_labels: LaterLabels | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "provenance", json_object(self.provenance, "provenance"))
        object.__setattr__(self, "gate", None if self.gate is None else json_object(self.gate, "gate"))
        require(self.state in STATES, f"state is {self.state!r}; it must be open or closed")
        require(
            len(self.labels) == len(self.plan.keys),
            f"there are {len(self.labels)} later labels for {len(self.plan.keys)} keys; give one each, -1 for none",
        )
        if self.state == "open":
            _require_nothing_yet(self)
        else:
            _require_result(self)

    @property
    def labels(self) -> tuple[int, ...]:
        """The label of each input, an index into `classes` or -1: the latest that it was given."""
        return self.plan.labels if self.later_labels is None else self.later_labels.labels

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes that `labels` index."""
        return self.plan.classes if self.later_labels is None else self.later_labels.classes

    @property
    def format_version(self) -> int:
        """The version of the manifest: that of the plan and the shards, or a later one with labels that came after them."""
        return self.plan.format_version if self.later_labels is None else LABELS_VERSION

    @property
    def rows(self) -> int:
        """How many rows the shards hold; 0 while the store is open."""
        return sum(entry.rows for entry in self.shards)

    def to_json(self) -> dict[str, Any]:
        """The manifest as JSON types."""
        return {
            "format": FORMAT,
            "format_version": self.format_version,
            "state": self.state,
            "identity": self.identity,
            "plan_identity": self.plan.plan_identity,
            "shards": [dataclasses.asdict(entry) for entry in self.shards],
            "quarantine": [dataclasses.asdict(entry) for entry in self.quarantine],
            "gate": self.gate,
            "provenance": self.provenance,
            **_labels_json(self),
            "plan": self.plan.to_json(),
        }

    @classmethod
    def from_json(cls, value: Any) -> "Manifest":
        """The manifest in a JSON object; raises SchemaError or FormatVersionError naming the field that is wrong."""
        require_format(value)
        is_relabelled = value["format_version"] == LABELS_VERSION
        fields = take(value, "manifest", {**_MANIFEST_FIELDS, **({"labels": dict} if is_relabelled else {})})
        later = LaterLabels.from_json(fields["labels"]) if is_relabelled else None
        version = fields["labels"]["plan_version"] if is_relabelled else fields["format_version"]
        plan = Plan.from_json(fields["plan"], version)
        require(
            plan.plan_identity == fields["plan_identity"],
            f"plan_identity is {fields['plan_identity']!r} but the plan beside it gives {plan.plan_identity}",
        )
        return cls(
            plan=plan,
            state=fields["state"],
            identity=_optional(fields["identity"], str, "identity"),
            shards=tuple(
                ShardEntry(**take(entry, f"shards[{i}]", _ENTRY_FIELDS)) for i, entry in enumerate(fields["shards"])
            ),
            quarantine=quarantine_from_json(fields["quarantine"]),
            provenance=fields["provenance"],
            gate=_optional(fields["gate"], dict, "gate"),
            later_labels=later,
        )


_ENTRY_FIELDS: Mapping[str, type] = {"file": str, "rows": int, "bytes": int, "digest": str}
_QUARANTINED_FIELDS: Mapping[str, type] = {"position": int, "key": str, "reason": str}

_MANIFEST_FIELDS: Mapping[str, type | None] = {
    "format": str,
    "format_version": int,
    "state": str,
    "identity": None,
    "plan_identity": str,
    "shards": list,
    "quarantine": list,
    "gate": None,
    "provenance": dict,
    "plan": dict,
}


def _labels_json(manifest: Manifest) -> dict[str, Any]:
    """The field of labels that came after the plan, where there are some."""
    later = manifest.later_labels
    return {} if later is None else {"labels": later.to_json(manifest.plan.format_version)}


def quarantine_from_json(value: Sequence[Any]) -> tuple[Quarantined, ...]:
    """The quarantined inputs in a JSON list; raises SchemaError."""
    return tuple(Quarantined(**take(entry, f"quarantine[{i}]", _QUARANTINED_FIELDS)) for i, entry in enumerate(value))


def _optional(value: Any, kind: type, where: str) -> Any:
    if value is not None:
        require_type(value, kind, where)
    return value


def read_manifest(folder: str | os.PathLike[str]) -> Manifest:
    """The manifest in `folder`; raises CorruptStoreError for what is no JSON, SchemaError for what breaks the format.

    FileNotFoundError and other OSErrors of the read pass through.
    """
    return parsed_manifest(manifest_bytes(Path(folder)), Path(folder) / MANIFEST_NAME, _LOST_REMEDY)


def parsed_manifest(data: bytes, path: Path, remedy: str) -> Manifest:
    """The manifest whose JSON text stands in `path`; raises CorruptStoreError, SchemaError or FormatVersionError."""
    try:
        return Manifest.from_json(json.loads(data))
    except (ValueError, RecursionError) as error:
        raise CorruptStoreError(f"{path} is not readable as JSON ({error}); {remedy}.") from error
    except (SchemaError, FormatVersionError) as error:
        if_damaged = f" If it was damaged, {remedy}." if isinstance(error, SchemaError) else ""
        raise type(error)(f"{path}: {error}{if_damaged}") from error


def manifest_bytes(folder: Path) -> bytes:
    """The bytes of the manifest in `folder`; OSError where it cannot be read, CorruptStoreError where it is too long."""
    path = folder / MANIFEST_NAME
    with open_ordinary(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > MAX_MANIFEST_BYTES:
            raise CorruptStoreError(f"{path} has {size:,} bytes; no manifest has more than {MAX_MANIFEST_BYTES:,}.")
        return file.read()


def stored_manifest(path: str | os.PathLike[str]) -> Manifest | None:
    """The manifest of the store in the folder `path`, finished or not; None where none is begun. Raises as `read_manifest`."""
    folder = Path(path)
    return read_manifest(folder) if (folder / MANIFEST_NAME).is_file() else None


def stored_plan(path: str | os.PathLike[str]) -> Plan | None:
    """The plan of that store."""
    found = stored_manifest(path)
    return None if found is None else found.plan


def manifest_text(manifest: Manifest) -> bytes:
    """The manifest as ASCII JSON text: one top-level field a line, the long plan last."""
    lines = (f"{json.dumps(name)}: {json.dumps(value, allow_nan=False)}" for name, value in manifest.to_json().items())
    return ("{\n" + ",\n".join(lines) + "\n}\n").encode("ascii")


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Replace the manifest in `folder` atomically."""
    atomic_write_bytes(folder / MANIFEST_NAME, manifest_text(manifest))


def read_closed_manifest(folder: Path) -> Manifest:
    """The manifest of a store that is whole, as far as its state says.

    Raises StoreNotFoundError where there is no store, IncompleteStoreError while it is open, and what `read_manifest`
    raises.
    """
    try:
        manifest = read_manifest(folder)
    except OSError as error:
        if folder.is_file():
            raise StoreNotFoundError(
                f"{folder} is a file, not the folder of a store; a packed store is only read, so unpack it to change it."
            ) from error
        reason = error.strerror or type(error).__name__
        raise StoreNotFoundError(
            f"{folder} is no feature store: {MANIFEST_NAME} cannot be read ({reason}); name a folder "
            "that tcs extract DATA --out STORE made."
        ) from error
    if manifest.state == "open":
        count = manifest.plan.shard_count
        written = sum(_size_bytes(folder / shard_name(index)) is not None for index in range(count))
        raise IncompleteStoreError(
            f"{folder} is incomplete: {written} of {count} shards are written; rerun the command that began "
            "it, it resumes."
        )
    return manifest


def missing_shards(folder: Path, manifest: Manifest) -> list[str]:
    """The shard files of a closed store that are not there with the size the manifest gives."""
    return [entry.file for entry in manifest.shards if _size_bytes(folder / entry.file) != entry.bytes]


def _size_bytes(path: Path) -> int | None:
    """The size of an ordinary file; None for a link, a folder or nothing."""
    try:
        status = path.lstat()
    except OSError:
        return None
    return status.st_size if stat.S_ISREG(status.st_mode) else None


def _require_digest(value: str, what: str) -> None:
    require(DIGEST_PATTERN.fullmatch(value) is not None, f"{what} is {shortened(value)}; it must be 32 hex digits")


def _require_nothing_yet(manifest: Manifest) -> None:
    result = manifest.identity or manifest.shards or manifest.quarantine or manifest.gate
    require(not result, "state is open, so identity, shards, quarantine and gate must be empty")


def _require_result(manifest: Manifest) -> None:
    """Every shard is listed in order, and every input has a row or stands in quarantine under its own key."""
    plan = manifest.plan
    _require_digest(manifest.identity or "", "identity of a closed store")
    names = [shard_name(i) for i in range(plan.shard_count)]
    require([entry.file for entry in manifest.shards] == names, f"shards must list the plan's {len(names)} in order")
    previous = -1
    for entry in manifest.quarantine:
        require(
            previous < entry.position < len(plan.keys) and plan.keys[entry.position] == entry.key,
            f"quarantine names {shortened(entry.key)} at position {entry.position}, where the plan has another key",
        )
        previous = entry.position
    require(
        manifest.rows + len(manifest.quarantine) == len(plan.keys),
        f"{manifest.rows} rows and {len(manifest.quarantine)} quarantined do not make {len(plan.keys)} inputs",
    )
