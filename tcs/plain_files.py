"""Files of plain values in run folders and results, each written whole: JSON, tables, config.json. Nothing here needs torch."""

import csv
import io
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from cache import atomic_write_bytes
from tcs.errors import ArtefactError, first_line, shown
from tcs.ordinary import open_ordinary, read_ordinary, require_ordinary

ARGS = "args.yaml"  # of a run; the others are those of each of its students
CONFIG, SUMMARY, LAST, FOLDED, RESUME, SEEN = (
    "config.json",
    "summary.csv",
    "last.safetensors",
    "folded.safetensors",
    "resume.pt",
    "seen.npy",
)

MOST_JSON_BYTES = 256 << 20  # far above any record; a file may claim to hold a terabyte, and be empty

RETRAIN = "train again with --overwrite"

FORMAT = 1  # of config.json and resume.pt; those that do not tell their format are of the first


def save_record(folder: pathlib.Path, record: Mapping[str, Any]) -> None:
    """Write what is told of a student in `folder` as its config.json, with its format."""
    save_json(folder / CONFIG, {"format": FORMAT, **record})


def load_record(folder: pathlib.Path) -> dict[str, Any]:
    """Read the config.json of a student; ArtefactError where it is missing, broken, or of a format of a later release."""
    record = load_mapping(folder / CONFIG, {}, train_anew(folder))
    check_format(folder / CONFIG, record)
    return record


def train_anew(folder: pathlib.Path) -> str:
    """The remedy for a student's folder that is broken, for a command with --overwrite and for one without."""
    return f"remove {folder} to train this student again"


def check_format(path: pathlib.Path, content: Mapping[str, Any]) -> None:
    """ArtefactError where `content`, read from `path`, is of a format of a later release."""
    found = content.get("format", FORMAT)
    if not isinstance(found, int) or not 1 <= found <= FORMAT:
        raise ArtefactError(
            f"{path} is of format {found}, and this release reads no later one than {FORMAT}; use the release that wrote it, or "
            "another --out."
        )


def save_json(path: pathlib.Path, value: Any) -> None:
    """Write JSON, indented, whole or not at all."""
    atomic_write_bytes(path, (json.dumps(value, indent=1, sort_keys=True) + "\n").encode())


def load_json(path: pathlib.Path, remedy: str = RETRAIN) -> Any:
    """Read JSON; ArtefactError where it is missing or broken, with the `remedy` of the caller. Infinities and NaN, for which JSON
    has no words, become null."""
    require_ordinary(path)
    try:
        return json.loads(read_ordinary(path, MOST_JSON_BYTES), parse_constant=lambda _: None)
    except FileNotFoundError as error:
        raise ArtefactError(f"file {path} is missing; is {path.parent} a finished run?") from error
    except (OSError, ValueError, RecursionError) as error:
        raise ArtefactError(f"file {path} cannot be read ({first_line(error)}); {remedy}.") from error


def load_mapping(path: pathlib.Path, parts: Mapping[str, Any], remedy: str) -> dict[str, Any]:
    """Read a JSON object that holds `parts` (as in `require_parts`); ArtefactError where it is missing, broken or holds others."""
    content = load_json(path, remedy)
    if not isinstance(content, dict):
        raise ArtefactError(f"file {path} holds {shown(content)} and must hold a JSON object; {remedy}.")
    require_parts(path, content, parts, remedy)
    return content


def require_parts(path: pathlib.Path, content: Any, parts: Mapping[str, Any], remedy: str, under: str = "") -> None:
    """ArtefactError, naming the first, where `content` lacks one of `parts` or has another type there.

    `parts` gives a type for each name, or such a mapping again for an object; `under` is the name of what holds them.
    """
    for name, kind in parts.items():
        found, is_object = content.get(name), isinstance(kind, Mapping)
        if not isinstance(found, dict if is_object else kind):
            lacks = f"has {shown(found)} for" if name in content else "lacks"
            raise ArtefactError(f"file {path} {lacks} '{under}{name}', and no release wrote it so; {remedy}.")
        if is_object:
            require_parts(path, found, kind, remedy, f"{under}{name}.")


def save_table(path: pathlib.Path, rows: Sequence[Mapping[str, Any]], columns: Sequence[str] = ()) -> None:
    """Write rows as CSV, whole or not at all; without `columns` they are the union of keys in order of appearance."""
    columns = columns or list(dict.fromkeys(key for row in rows for key in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    atomic_write_bytes(path, text.getvalue().encode())


def load_table(path: pathlib.Path) -> list[dict[str, Any]]:
    """The rows that `save_table` wrote, values as strings; none where there is no file."""
    if not path.exists():
        return []
    with io.TextIOWrapper(open_ordinary(path), encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))
