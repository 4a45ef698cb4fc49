"""Checks of JSON read from outside: the fields, their types, and the names that become paths or HDF5 strings."""

import collections
import json
from collections.abc import Mapping, Sequence
from typing import Any

from cache.errors import SchemaError

_JSON_NAMES = {str: "a string", int: "a whole number", dict: "an object", list: "a list"}


def require(condition: bool, message: str) -> None:
    """Raise SchemaError with `message` and a full stop unless `condition` holds."""
    if not condition:
        raise SchemaError(f"{message}.")


def require_type(value: Any, kind: type, where: str) -> None:
    """Raise SchemaError unless the JSON value `value` is of `kind`; true and false are no whole numbers."""
    if type(value) is not kind:
        raise SchemaError(f"{where} is {shortened(value)}; it must be {_JSON_NAMES[kind]}.")


def take(value: Any, where: str, kinds: Mapping[str, type | None]) -> dict[str, Any]:
    """The fields of the JSON object `value`: exactly those of `kinds`, each of its type (None: checked by the caller).

    Raises SchemaError naming the field that is missing, unknown or of another type.
    """
    require_type(value, dict, where)
    missing = [name for name in kinds if name not in value]
    unknown = [name for name in value if name not in kinds]
    require(not missing, f"{where} lacks the field {', '.join(missing)}")
    require(not unknown, f"{where} has the field {', '.join(unknown)}, which its format version does not know")
    for name, kind in kinds.items():
        if kind is not None:
            require_type(value[name], kind, f"{where}.{name}")
    return dict(value)


def require_all(values: Sequence[Any], kind: type, where: str) -> None:
    """Raise SchemaError naming the first of `values` that is not of `kind`."""
    if set(map(type, values)) <= {kind}:
        return
    for index, value in enumerate(values):
        if type(value) is not kind:
            require_type(value, kind, f"{where}[{index}]")


def json_object(value: Any, where: str) -> dict[str, Any]:
    """`value` as it comes back from a JSON file: tuples become lists. Raises SchemaError for what cannot go in."""
    try:
        copy = json.loads(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        raise SchemaError(f"{where} cannot be written as JSON: {error}.") from error
    require_type(copy, dict, where)
    return dict(copy)


def require_names(names: Sequence[str], kind: str) -> None:
    """Raise SchemaError unless `names` are distinct, non-empty, free of NUL, and writable as UTF-8."""
    require_all(names, str, kind)
    if len(set(names)) != len(names):
        twice = collections.Counter(names).most_common(1)[0][0]
        raise SchemaError(f"{kind} {twice!r} stands twice in the plan; each must be there once.")
    if all(names) and "\0" not in (joined := "".join(names)) and _is_text(joined):
        return  # a million names are seen through at once, and one by one only to name the first that is wrong
    for name in names:
        if not name or "\0" in name or not _is_text(name):
            raise SchemaError(f"{kind} {name!r} must be text, not empty, without NUL, and writable as UTF-8.")


def shortened(value: Any) -> str:
    """`repr(value)` cut to 60 characters, for error messages."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _is_text(name: str) -> bool:
    """Whether `name` is free of lone surrogates, which stand for file names that are not UTF-8."""
    try:
        return name.isascii() or bool(name.encode())
    except UnicodeEncodeError:
        return False
