"""Reading what tcs wrote: an ordinary file of a bounded size, UTF-8, JSON of the shape that its type says. All else is one line."""

import pathlib
import re
from collections.abc import Sequence
from typing import Any

import msgspec

from tcs.errors import ArtefactError, shown
from tcs.plain_files import load_mapping

PLACE = re.compile(
    r"`\$((?:\.\w+|\[\d+\])*)`\Z"
)  # as msgspec tells it; of lists and mappings it may say [...], which has no value

STEP = re.compile(r"[^.\[\]]+")


def load_checked(path: pathlib.Path, kind: type[msgspec.Struct], remedy: str) -> dict[str, Any]:
    """The JSON object in `path`, as it stands there, checked by `kind`. ArtefactError where it is missing, broken or otherwise."""
    content = load_mapping(path, {}, remedy)
    require_schema(path, content, kind, remedy)
    return content


def require_schema(path: pathlib.Path | str, content: Any, kind: type[msgspec.Struct], remedy: str) -> None:
    """ArtefactError, with the place, the rule and the value, where `content`, read from `path`, is not as `kind` says."""
    broken = _broken(content, kind)
    if broken is not None:
        rule, value = broken
        found = "" if value is None else f", found {value}"
        raise ArtefactError(f"file {path} is not as any release wrote it ({rule}){found}; {remedy}.")


def broken_rule(content: Any, kind: type[msgspec.Struct]) -> str | None:
    """The first rule of `kind` that `content` breaks, with the place and the value there; None where it breaks none."""
    broken = _broken(content, kind)
    return None if broken is None else broken[0] if broken[1] is None else f"{broken[0]}, found {broken[1]}"


def _broken(content: Any, kind: type[msgspec.Struct]) -> tuple[str, str | None] | None:
    """(rule and place as msgspec tells them, value there); None where nothing is broken."""
    try:
        msgspec.convert(content, kind)
    except msgspec.ValidationError as error:
        told = str(error)
        place = PLACE.search(told)
        if place is None or "missing required field" in told:
            return told, None
        return told, shown(_value_at(content, STEP.findall(place[1])))
    except (RecursionError, OverflowError) as error:
        return f"it cannot be read: {error}", None
    return None


def _value_at(content: Any, steps: Sequence[str]) -> Any:
    for step in steps:
        content = content[int(step)] if isinstance(content, list | tuple) else content[step]
    return content
