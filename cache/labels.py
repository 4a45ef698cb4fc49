"""Labels that a closed store was given after its plan: they stand in the manifest beside it, and change no shard and no identity."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

from cache.errors import SchemaError
from cache.fields import json_object, require_all, require_names, shortened, take
from cache.fingerprint import digest_of_json
from cache.schema import Plan

FIELDS: Mapping[str, type] = {"plan_version": int, "classes": list, "labels": list, "history": list}


@dataclasses.dataclass(frozen=True, kw_only=True)
class LaterLabels:
    """What counts as the labels of a store, in place of those of its plan. Building one raises SchemaError.

    `labels` has one entry an input of the plan, an index into `classes` or -1. `history` has one JSON object for each time that
    labels were given, oldest first: what the caller told of it, and how many inputs were `added` and `changed`.
    """

    classes: tuple[str, ...]
    labels: tuple[int, ...]
    history: tuple[Mapping[str, Any], ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "history", tuple(json_object(entry, "labels.history") for entry in self.history))
        require_all(self.labels, int, "labels.labels")
        require_names(self.classes, "class")
        if self.labels and not -1 <= min(self.labels) <= max(self.labels) < len(self.classes):
            wrong = next(label for label in self.labels if not -1 <= label < len(self.classes))
            raise SchemaError(f"label {wrong} in labels must be -1 or index the {len(self.classes)} classes there.")

    @functools.cached_property
    def identity(self) -> str:
        """The digest of classes and labels, whatever their history."""
        return digest_of_json({"classes": list(self.classes), "labels": list(self.labels)})

    def to_json(self, plan_version: int) -> dict[str, Any]:
        """The field `labels` of a manifest, with the format version of plan and shards."""
        return {
            "plan_version": plan_version,
            "classes": list(self.classes),
            "labels": list(self.labels),
            "history": [dict(entry) for entry in self.history],
        }

    @classmethod
    def from_json(cls, value: Any) -> "LaterLabels":
        """The labels in a JSON object; raises SchemaError naming the field that is wrong."""
        fields = take(value, "labels", FIELDS)
        return cls(classes=tuple(fields["classes"]), labels=tuple(fields["labels"]), history=tuple(fields["history"]))


@dataclasses.dataclass(frozen=True, kw_only=True)
class LabelChanges:
    """How many inputs got a label that had none, another label than before, or the one they had, and how many lost theirs."""

    added: int
    changed: int
    same: int
    removed: int = 0


def with_names(
    plan: Plan, labels: Sequence[int], classes: Sequence[str], names: Mapping[str, str | None]
) -> tuple[tuple[str, ...], tuple[int, ...], LabelChanges]:
    """Classes, labels and what changed, once the inputs (keys) of `names` have these classes (None: none); the others keep theirs.

    Classes keep their order, new ones come after them by name, and one that has lost its last input is dropped. SchemaError
    for a key that the plan lacks.
    """
    position = {key: place for place, key in enumerate(plan.keys)}
    for key in names:
        if key not in position:
            raise SchemaError(f"key {shortened(key)} is none of the {len(position)} inputs of the store; correct it.")
    before = [classes[label] if label >= 0 else None for label in labels]
    after = list(before)
    for key, name in names.items():
        after[position[key]] = name
    pairs = [(before[position[key]], name) for key, name in names.items()]
    changes = LabelChanges(
        added=sum(old is None and new is not None for old, new in pairs),
        changed=sum(old is not None and new is not None and old != new for old, new in pairs),
        same=sum(old == new for old, new in pairs),
        removed=sum(old is not None and new is None for old, new in pairs),
    )
    lost = set(before) - set(after)
    kept = [name for name in classes if name not in lost]
    found = (*kept, *sorted({name for name in names.values() if name is not None} - set(kept)))
    number = {name: label for label, name in enumerate(found)}
    return found, tuple(-1 if name is None else number[name] for name in after), changes
