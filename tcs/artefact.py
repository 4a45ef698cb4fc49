"""What a stage does when its output is already there: nothing, a refusal by name, or (asked for) an overwrite."""

import json
import pathlib
from collections.abc import Mapping
from typing import Any

from tcs.errors import ArtefactError


def plain_json(value: Any) -> Any:
    """`value` as JSON gives it back: tuples become lists, so that a stored and a new configuration compare equal."""
    return json.loads(json.dumps(value))


def differences(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """`name is X there and Y here` for every entry in which the two differ."""
    names = sorted(set(found) | set(wanted))
    pairs = [(name, found.get(name), wanted.get(name)) for name in names]
    return [f"{name} is {there} there and {here} here" for name, there, here in pairs if there != here]


def is_finished(path: pathlib.Path, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """True where the output at `path` was made with the wanted recipe; ArtefactError naming what differs otherwise."""
    different = differences(plain_json(found), plain_json(wanted))
    if different:
        raise ArtefactError(
            f"{path} exists and was made otherwise: {'; '.join(different)};"
            " name another --out, or pass --overwrite to replace it."
        )
    return True
