"""`tcs eval --errors DIR`: the images that a student has wrong, as a sheet to look at and as a table.

`STUDENT.jpg` shows the surest mistakes first, each with what it is taken for, how sure, and what it is; `STUDENT.csv` lists all.
Legend: w wrong images, C classes.
"""

import dataclasses
import functools
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

import cache
from tcs.calibration import probabilities
from tcs.errors import ArtefactError
from tcs.evaluation.judged import Judged
from tcs.images.decode import decode_image
from tcs.images.sheet import Cell, Line, write_cells
from tcs.plain_files import save_table
from tcs.runtime import say

MOST_SHOWN = 100
ENDS = (".jpg", ".csv")
COLUMNS = ("path", "class", "predicted", "probability")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mistakes:
    """What a student answered, and the temperature that its probabilities are told at."""

    name: str
    judged: Judged
    temperature: float | None


def require_sheets(folder: pathlib.Path, *, overwrite: bool) -> None:
    """ArtefactError where `folder` is a file, or holds anything and is not to be written into."""
    if folder.is_file():
        raise ArtefactError(f"--errors {folder} is a file; name a folder.")
    if folder.is_dir() and any(folder.iterdir()) and not overwrite:
        raise ArtefactError(
            f"--errors {folder} is not empty; name another folder, or pass --overwrite to replace sheets in it."
        )


def write_mistakes(folder: pathlib.Path, found: Sequence[Mistakes], *, overwrite: bool) -> None:
    """Sheet and table of each student. A new folder appears whole; with `overwrite` the files in one that is there are replaced one by
    one, and others in it stay."""
    if overwrite and folder.is_dir():
        told = [_write(folder, one) for one in found]
    else:
        with cache.Draft(folder) as draft:
            place = draft.begin()
            place.mkdir()
            told = [_write(place, one) for one in found]
            draft.commit()
    for one, shown in zip(found, told, strict=True):
        sheet, table = (folder / f"{one.name}{end}" for end in ENDS)
        if shown is None:
            say(f"{one.name} has no image wrong; there is nothing to show in {folder}.")
        else:
            say(
                f"{sheet} shows {shown[0]:,} of the {shown[1]:,} images that {one.name} has wrong; {table} lists them all."
            )


def _write(folder: pathlib.Path, one: Mistakes) -> tuple[int, int] | None:
    """(images on the sheet, images wrong); None without a mistake, of which there is a table without rows, and no sheet."""
    rows, places_w = _mistakes(one.judged, one.temperature)
    sheet, table = (folder / f"{one.name}{end}" for end in ENDS)
    save_table(table, rows, COLUMNS)
    if not rows:
        sheet.unlink(missing_ok=True)  # of an earlier run, with --overwrite
        return None
    shown = rows[:MOST_SHOWN]
    write_cells(sheet, [_cell(row, one.judged, place) for row, place in zip(shown, places_w, strict=False)])
    return len(shown), len(rows)


def _mistakes(judged: Judged, temperature: float | None) -> tuple[list[dict[str, Any]], list[int]]:
    """Rows of the table, the surest mistake first, and the places of their images."""
    shares_NC = probabilities(judged.logits_NC, temperature)
    taken_N = judged.logits_NC.argmax(axis=1)
    wrong_w = np.flatnonzero(taken_N != judged.labels_N)
    sure_w = shares_NC[wrong_w, taken_N[wrong_w]]
    order = [int(place) for place in wrong_w[np.argsort(-sure_w, kind="stable")]]
    rows = [
        {
            "path": judged.paths[place],
            "class": judged.classes[judged.labels_N[place]],
            "predicted": judged.classes[taken_N[place]],
            "probability": round(float(shares_NC[place, taken_N[place]]), 6) if judged.has_probabilities else None,
        }
        for place in order
    ]
    return rows, order


def _cell(row: dict[str, Any], judged: Judged, place: int) -> Cell:
    sure = "" if row["probability"] is None else f" {row['probability']:.0%}"
    said = Line("", f"{row['predicted']}{sure}, is {row['class']}")
    return Cell(functools.partial(_image, judged, place), (said, Line("", row["path"])))


def _image(judged: Judged, place: int) -> Image.Image:
    return decode_image(judged.read(place), judged.rules)
