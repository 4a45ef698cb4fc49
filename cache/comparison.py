"""What differs between the plan of a store on disk and the plan of the command at hand, in words for an error line."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cache.errors import IdentityError, SchemaError
from cache.fields import shortened
from cache.fingerprint import digest_of_bytes
from cache.schema import Plan

_ABSENT = object()
_NAMED_AT_MOST = 3


def require_same_plan(folder: Path, stored: Plan, wanted: Plan) -> None:
    """Raise IdentityError naming the fields that differ; `batch_size` is not compared, the stored one is used.

    A store of an earlier format version is the same where that version can say all that is wanted.
    """
    wanted = _in_version(wanted, stored.format_version)
    if stored.plan_identity == wanted.plan_identity:
        return
    differing = list(_differences(stored, wanted))
    named = "; ".join(differing[:_NAMED_AT_MOST])
    is_label = all(text.startswith(("classes[", "the label of ")) for text in differing)
    is_data = all(text.startswith(("classes[", "keys[")) for text in differing)
    cheaper = ", or let the store follow its data: tcs cache update" if is_data else ""
    cheaper = ", or give the store labels without a new pass: tcs cache label" if is_label else cheaper
    more = f"; {len(differing) - _NAMED_AT_MOST} more fields differ" if len(differing) > _NAMED_AT_MOST else ""
    raise IdentityError(f"{folder}: {named}{more}; use another --out or --overwrite{cheaper}.")


def _in_version(plan: Plan, format_version: int) -> Plan:
    """The plan in another format version; as it is where that version cannot hold it."""
    try:
        return dataclasses.replace(plan, format_version=format_version)
    except SchemaError:
        return plan


def differing_fields(stored: Plan, wanted: Plan) -> Iterator[tuple[str, str, str]]:
    """Each field that is short enough to be shown and differs: its dotted name, and both values in words."""
    stored_fields, wanted_fields = _scalars(stored), _scalars(wanted)
    for name in dict.fromkeys([*stored_fields, *wanted_fields]):
        old, new = stored_fields.get(name, _ABSENT), wanted_fields.get(name, _ABSENT)
        if old is _ABSENT or new is _ABSENT or old != new or type(old) is not type(new):
            yield name, _shown(old), _shown(new)


def _differences(stored: Plan, wanted: Plan) -> Iterator[str]:
    for name, stored_text, wanted_text in differing_fields(stored, wanted):
        yield f"{name} is {stored_text} in the store and {wanted_text} in this command"
    yield from _first_difference("classes", stored.classes, wanted.classes)
    yield from _first_difference("keys", stored.keys, wanted.keys)
    if stored.keys == wanted.keys and stored.labels != wanted.labels:
        pairs = zip(stored.keys, stored.labels, wanted.labels, strict=True)
        key, old, new = next(pair for pair in pairs if pair[1] != pair[2])
        yield f"the label of {shortened(key)} is {old} in the store and {new} in this command"


def _first_difference(name: str, stored: tuple[str, ...], wanted: tuple[str, ...]) -> Iterator[str]:
    """One sentence on two lists of names: the first place where they part, and their lengths."""
    if stored == wanted:
        return
    shared = min(len(stored), len(wanted))
    place = next((i for i in range(shared) if stored[i] != wanted[i]), shared)
    old, new = ((names[place] if place < len(names) else _ABSENT) for names in (stored, wanted))
    yield (
        f"{name}[{place}] is {_shown(old)} in the store ({len(stored)} {name}) and {_shown(new)} in this command "
        f"({len(wanted)})"
    )


def _scalars(plan: Plan) -> dict[str, Any]:
    """The fields of a plan that are short enough to be shown, the identity's by their dotted names."""
    readouts = [f"{item.name} ({' x '.join(map(str, plan.row_shape(item)))} {item.dtype})" for item in plan.readouts]
    return {
        **_flattened(plan.identity, ""),
        "readouts": ", ".join(readouts),
        "views": None if plan.views is None else f"{plan.views.count} ({', '.join(plan.views.parameters)})",
        **{
            f"constant {name}": f"{item.dtype} {list(item.shape)} {digest_of_bytes(item.data)}"
            for name, item in plan.constants.items()
        },
        "images": plan.images,
        "rows_per_shard": plan.rows_per_shard,
        "format_version": plan.format_version,
    }


def _flattened(value: Any, name: str) -> dict[str, Any]:
    if not isinstance(value, dict) or not value:
        return {name: value}
    fields = {}
    for key, inner in value.items():
        fields.update(_flattened(inner, f"{name}.{key}" if name else key))
    return fields


def _shown(value: Any) -> str:
    return "absent" if value is _ABSENT else shortened(value)
