"""What the caller tells of a shard while its store is open, in a small file beside it, so that the run that closes the store knows of every
shard what the run that wrote it knew. Notes are of no store that is closed, and of no identity.
"""

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from cache.fields import json_object
from cache.files import atomic_write_bytes, open_ordinary, remove_file
from cache.schema import Plan, shard_name

NOTE_PATTERN = re.compile(r"shard-[0-9]{5}\.note")
MAX_NOTE_BYTES = 16 << 20


def write_note(folder: Path, plan: Plan, index: int, note: Mapping[str, Any] | None) -> None:
    """Put down the note of shard `index`, before the shard itself; None takes away what an earlier one left.

    Raises SchemaError for what JSON cannot hold, StoreWriteError when the system refuses the write.
    """
    path = _path(folder, index)
    if note is not None:
        content = {"plan_identity": plan.plan_identity, "note": json_object(note, "note")}
        atomic_write_bytes(path, json.dumps(content).encode())
    elif path.exists():
        remove_file(path)


def read_notes(folder: Path, plan: Plan, indexes: Iterable[int]) -> dict[int, dict[str, Any]]:
    """The notes of these shards; those that are not there, damaged or of another plan are missing, which is no error."""
    found = {index: _read(_path(folder, index), plan) for index in indexes}
    return {index: note for index, note in found.items() if note is not None}


def remove_notes(folder: Path) -> None:
    """Delete all notes in `folder`; raises StoreWriteError when the system refuses."""
    for path in sorted(folder.iterdir()):
        if NOTE_PATTERN.fullmatch(path.name):
            remove_file(path)


def _path(folder: Path, index: int) -> Path:
    return (folder / shard_name(index)).with_suffix(".note")


def _read(path: Path, plan: Plan) -> dict[str, Any] | None:
    try:
        with open_ordinary(path) as file:
            content = json.loads(file.read(MAX_NOTE_BYTES))
    except (OSError, ValueError, RecursionError):
        return None
    is_ours = isinstance(content, dict) and content.get("plan_identity") == plan.plan_identity
    note = content.get("note") if is_ours else None
    return note if isinstance(note, dict) else None
