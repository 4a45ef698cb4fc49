"""The folder of `tcs probe`: compression.csv, compression.md and compression.png, and probe.json, which says of what.

probe.json holds the recipe and the rows, so that the same command reads instead of measuring, and another is refused.
"""

import csv
import io
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from cache import atomic_write_bytes
from tcs.artefact import is_finished, plain_json
from tcs.errors import ArtefactError

RECORD, TABLE, PAGE, FIGURE = "probe.json", "compression.csv", "compression.md", "compression.png"


def load_finished(out: str | None, recipe: Mapping[str, Any], overwrite: bool) -> dict[str, Any] | None:
    """`rows` and `environment` of an earlier run of the same recipe in the folder `out`; None where there is nothing.

    ArtefactError where `out` is a file, holds files of something else, or results of another recipe without `overwrite`.
    """
    folder = pathlib.Path(out) if out is not None else None
    if folder is None or not folder.exists():
        return None
    if not folder.is_dir():
        raise ArtefactError(f"--out {folder} is a file; the results need a folder. Give another --out.")
    if not (folder / RECORD).exists():
        if any(folder.iterdir()):
            raise ArtefactError(f"--out {folder} holds files that no tcs probe made; give an empty or new folder.")
        return None
    if overwrite:
        return None
    record = _read(folder / RECORD)
    is_finished(folder, record["recipe"], recipe)
    return record


def _read(path: pathlib.Path) -> dict[str, Any]:
    try:
        record = json.loads(path.read_bytes())
        return {key: record[key] for key in ("recipe", "rows", "environment")}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtefactError(f"{path} cannot be read ({error}); pass --overwrite to measure again.") from error


def write_tables(folder: pathlib.Path, record: Mapping[str, Any], page: str) -> None:
    """Write all but the figure; probe.json first, since a rerun makes the rest of it."""
    folder.mkdir(parents=True, exist_ok=True)
    atomic_write_bytes(folder / RECORD, (json.dumps(plain_json(record), indent=1) + "\n").encode())
    atomic_write_bytes(folder / TABLE, _csv(record["rows"]).encode())
    atomic_write_bytes(folder / PAGE, page.encode())


def _csv(rows: Sequence[Mapping[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
