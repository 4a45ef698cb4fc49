"""Folders whose command was killed while it wrote the first file: the same command takes them up again."""

import pathlib
from collections.abc import Callable

import pytest

import cache
from tcs.demonstration.demo import MARKER, _claim
from tcs.errors import ArtefactError
from tcs.grid.ledger import LEDGER, _may_lie_unclaimed
from tcs.reporting.compression import RECORD, load_finished
from tcs.reporting.teachers import RECORD as TEACHERS
from tcs.training.jobs import CONFIG, _check_run_folder

UNNAMED = "0123abcd.partial"
DOORS: dict[str, tuple[Callable[[pathlib.Path], object], str]] = {
    "demo": (_claim, MARKER),
    "probe": (lambda folder: load_finished(str(folder), {}, overwrite=False), RECORD),
    "probe of teachers": (lambda folder: load_finished(str(folder), {}, overwrite=False, name=TEACHERS), TEACHERS),
    "train": (lambda run: _check_run_folder(run.parent), CONFIG),
}


@pytest.mark.parametrize("door", DOORS)
def test_a_folder_with_nothing_but_its_first_file_unnamed_is_taken_up(tmp_path: pathlib.Path, door: str) -> None:
    take, first = DOORS[door]
    folder = tmp_path / "out" / "student"
    folder.mkdir(parents=True)
    (folder / f"{first}.{UNNAMED}").touch()
    take(folder)


@pytest.mark.parametrize("other", ["mine.txt", f"mine.txt.{UNNAMED}", "partial", f".{UNNAMED}"])
@pytest.mark.parametrize("door", DOORS)
def test_a_folder_with_anything_else_in_it_is_refused(tmp_path: pathlib.Path, door: str, other: str) -> None:
    take, first = DOORS[door]
    folder = tmp_path / "out" / "student"
    folder.mkdir(parents=True)
    (folder / f"{first}.{UNNAMED}").touch()
    (folder / other).write_text("mine")
    with pytest.raises(ArtefactError, match=r"empty or new folder|a new folder"):
        take(folder)
    assert (folder / other).read_text() == "mine"


def test_a_grid_may_begin_where_only_an_unnamed_ledger_lies(tmp_path: pathlib.Path) -> None:
    assert _may_lie_unclaimed(tmp_path / f"{LEDGER}.{UNNAMED}")
    assert not _may_lie_unclaimed(tmp_path / f"mine{LEDGER}.{UNNAMED}")


def test_what_a_writer_leaves_is_told_by_its_whole_name(tmp_path: pathlib.Path) -> None:
    told = {name: cache.is_partial(tmp_path / name, "a.json") for name in ("a.json", f"a.json.{UNNAMED}")}
    assert told == {"a.json": False, f"a.json.{UNNAMED}": True}
    for name in (f"b.json.{UNNAMED}", f"a.json.x.{UNNAMED}", "a.json.partial", f"aXjson.{UNNAMED}"):
        assert not cache.is_partial(tmp_path / name, "a.json")
    (tmp_path / f"b.json.{UNNAMED}").mkdir()
    (tmp_path / f"c.json.{UNNAMED}").symlink_to("nowhere")
    assert not cache.is_partial(tmp_path / f"b.json.{UNNAMED}", "b.json")
    assert not cache.is_partial(tmp_path / f"c.json.{UNNAMED}", "c.json")
