"""docs/reference/formats.md, made of the types that check the files (tcs.schemas).

    python scripts/formats_page.py [--json] > docs/reference/formats.md

`--json` prints the JSON schemas themselves, one object by file.
"""

import json
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
import msgspec.json

from tcs.schemas.table import SCHEMAS

HEAD = """# Files and what they hold

Every file that `tcs` writes is checked by the types below when it is read: an ordinary file, UTF-8 where it is text, the fields with their
types and bounds, then shapes and identities. An error names the file, the place, the value and the rule. Fields that are not
listed are left alone: other releases may have them. `tcs verify PATH` checks a file or folder by the same rules. Feature stores have a
description of their own, `cache/FORMAT.md`; results.csv and label files are tables, described in
[The report](../how-to/benchmark-report.md) and [Which images to label](../how-to/labelling.md).

This page is made from the types: `python scripts/formats_page.py > docs/reference/formats.md`, with `--json` JSON schemas.
"""
BOUNDS = {
    "minimum": "≥ {}",
    "exclusiveMinimum": "> {}",
    "maximum": "≤ {}",
}


def schemas() -> dict[str, Any]:
    """File -> its JSON schema."""
    return {place: msgspec.json.schema(kind) for place, kind in SCHEMAS.items()}


def page() -> str:
    """The text of docs/reference/formats.md."""
    return HEAD + "".join(f"\n{part}" for place in SCHEMAS for part in _section(place))


def _section(place: str) -> Iterator[str]:
    schema = msgspec.json.schema(SCHEMAS[place])
    definitions = schema["$defs"]
    root = _named(schema)
    about = " ".join((SCHEMAS[place].__doc__ or "").split())
    yield f"## {place}\n\n{about}\n"
    rows = ["| field | type | needed |", "|---|---|---|", *_rows(definitions[root], definitions, "")]
    yield "\n".join(rows) + "\n"


def _named(schema: Mapping[str, Any]) -> str:
    return str(schema["$ref"]).rpartition("/")[2]


def _rows(of: Mapping[str, Any], definitions: Mapping[str, Any], under: str) -> Iterator[str]:
    """One line a field, those of an object inside below it."""
    for name, field in of["properties"].items():
        needed = "yes" if name in of.get("required", ()) else ""
        yield f"| `{under}{name}` | {_words(field)} | {needed} |"
        for inner, suffix in _objects(field):
            yield from _rows(definitions[inner], definitions, f"{under}{name}{suffix}.")


def _objects(field: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(definition, what comes behind the name) of the objects that a field holds, alone or as entries."""
    if "$ref" in field:
        yield _named(field), ""
    for part in field.get("anyOf", ()):
        yield from _objects(part)
    for key, suffix in (("items", "[]"), ("additionalProperties", ".NAME")):
        if isinstance(field.get(key), dict):
            yield from ((name, suffix + more) for name, more in _objects(field[key]))


def _words(field: Mapping[str, Any]) -> str:
    """The type of a field with its bounds."""
    if "$ref" in field:
        return "object"
    if "anyOf" in field:
        words = dict.fromkeys(_words(part) for part in field["anyOf"])
        return " or ".join(sorted(words, key="null".__eq__))  # null last, wherever msgspec's release has it
    if "enum" in field:
        return " or ".join(f"`{json.dumps(value)}`" for value in field["enum"])
    kind = field.get("type", "anything")
    kind = " or ".join(kind) if isinstance(kind, list) else kind
    bounds = ", ".join(words.format(_short(field[name])) for name, words in BOUNDS.items() if name in field)
    inner = field.get("items") if kind == "array" else field.get("additionalProperties")
    of = f" of {_words(inner)}" if isinstance(inner, dict) and inner else ""
    if kind == "array":
        return f"array{f' ({_entries(field)})' if _entries(field) else ''}{of}"
    return f"{kind}{' ' if bounds else ''}{bounds}{of}"


def _entries(field: Mapping[str, Any]) -> str:
    least, most = field.get("minItems"), field.get("maxItems")
    return f"{least} entries" if least == most and least else f"{least} or more entries" if least else ""


def _short(number: float) -> str:
    return f"{number:g}".replace("e+0", "e").replace("e+", "e")


if __name__ == "__main__":
    sys.stdout.write(json.dumps(schemas(), indent=1) + "\n" if "--json" in sys.argv[1:] else page())
