"""Many cases of doors in parts: the parts are the whole, each is counted once a commit, and the table keeps what it had."""

import json
import pathlib
import runpy
import sys
from typing import Any

import pytest

ROOT = pathlib.Path(__file__).parents[1]


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The names of the script, of commit 0123abc."""
    names = runpy.run_path(str(ROOT / "scripts" / "door_tally.py"), run_name="door_tally")
    monkeypatch.setitem(names["command_line"].__globals__, "environment", lambda: {"commit": "0123abc"})
    return names


def test_the_parts_are_the_whole(script: dict[str, Any]) -> None:
    for cases, parts in ((10, 3), (5000, 7), (2, 5), (6, 1)):
        found = [script["stretch"](cases, f"{number + 1}/{parts}") for number in range(parts)]
        assert [number for first, last in found for number in range(first, last)] == list(range(cases))


@pytest.mark.parametrize("part", ["0/3", "4/3", "1", "a/b", "1/0", "-1/3"])
def test_what_is_no_part_is_told(script: dict[str, Any], part: str) -> None:
    with pytest.raises(SystemExit, match=r"--part is '.*'; it must be K/N with K from 1 to N, as 3/10\."):
        script["stretch"](10, part)


def test_a_part_is_run_once_a_commit_and_the_table_keeps_the_others(
    script: dict[str, Any], tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ran = []

    def cases(asked: Any) -> dict[str, int]:
        ran.append((asked.first, asked.last, asked.seed))
        return {"refused": asked.last - asked.first - 1, "hang" if asked.first else "refused ": 1}

    def ended(part: str, seed: int = 2) -> tuple[int, dict[str, int]]:
        table = str(tmp_path / "new" / "tally.csv")
        options = ["--cases", "9", "--seed", str(seed), "--part", part, "--tally", table, "--json"]
        monkeypatch.setattr(sys, "argv", ["doors.py", *options])
        with pytest.raises(SystemExit) as end:
            script["command_line"]("About.", "damages", cases, ("refused", "refused "), "files")
        return int(end.value.code or 0), json.loads(capsys.readouterr().out)

    assert ended("1/2") == (0, {"refused": 3, "refused ": 1})
    assert ended("2/2") == (1, {"refused": 4, "hang": 1})
    first = (tmp_path / "new" / "tally.csv").read_text().splitlines()
    assert first[0] == "harness,cases,seed,part,only,commit,date,processor_s,wall_s,verdict,count"
    assert [line.split(",")[3] for line in first[1:]] == ["1/2", "1/2", "2/2", "2/2"]
    assert ended("2/2") == (1, {"refused": 4, "hang": 1})
    assert ran == [(0, 4, 2), (4, 9, 2)]
    assert ended("2/2", seed=3)[0] == 1
    script["command_line"].__globals__["environment"] = lambda: {"commit": "4567def"}
    assert ended("1/2")[0] == 0
    assert ran[2:] == [(4, 9, 3), (0, 4, 2)]
    assert (tmp_path / "new" / "tally.csv").read_text().splitlines()[: len(first)] == first
