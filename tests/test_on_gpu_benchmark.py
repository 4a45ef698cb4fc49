"""The prepared script for a GPU: its commands are ones that their programs take, and no part takes the time or the results of another."""

import argparse
import importlib
import pathlib
import time

import click
import pytest

import benchmarks.on_gpu
from benchmarks.on_gpu import Part, main, parts, run_all
from tcs.cli import group
from tcs.plain_files import load_table

WANTED = parts("photos", "scratch")


def test_the_plan_is_printed_and_nothing_is_run(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["photos", "--out", str(tmp_path / "out"), "--plan"])
    assert len(capsys.readouterr().out.splitlines()) == len(WANTED) == len({part.name for part in WANTED})
    assert not (tmp_path / "out").exists()
    assert sum(part.seconds for part in WANTED[:6]) < 540  # what is most wanted fits, each at its limit


class TakenError(Exception):
    """The arguments were taken, and nothing else is to happen."""


@pytest.mark.parametrize(
    "part", [part for part in WANTED if part.module.startswith("benchmarks.")], ids=lambda p: p.name
)
def test_every_benchmark_takes_its_arguments(part: Part, monkeypatch: pytest.MonkeyPatch) -> None:
    module, parse = importlib.import_module(part.module), argparse.ArgumentParser.parse_args

    def taken(self: argparse.ArgumentParser, args: list[str] | None = None) -> None:
        parse(self, args)  # SystemExit where one is not known
        raise TakenError

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", taken)
    with pytest.raises(TakenError):
        module.main(list(part.arguments))


@pytest.mark.parametrize("part", [part for part in WANTED if part.name.endswith("rank")], ids=lambda p: p.name)
def test_commands_of_torchrun_are_ours(part: Part) -> None:
    name, *arguments = part.arguments[part.arguments.index("tcs") + 1 :]
    command = group.get_command(click.Context(group), name)
    assert command is not None
    command.make_context(name, arguments)  # UsageError for an option that there is not


def test_a_part_that_fails_or_is_late_takes_nothing_from_the_next(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(benchmarks.on_gpu, "RESULTS", tmp_path / "results")
    (tmp_path / "results" / "gpu-good").mkdir(parents=True)
    (tmp_path / "results" / "gpu-good" / "x.md").write_text("a table")
    wanted = [
        Part(name="fails", seconds=30, module="this.is.no.module", arguments=()),
        Part(name="late", seconds=6, module="timeit", arguments=("-n1", "-r1", "-s", "import time", "time.sleep(60)")),
        Part(name="good", seconds=30, module="calendar", arguments=("2026", "1")),
        Part(name="never", seconds=1, module="calendar", arguments=()),
    ]
    start = time.monotonic()
    out = tmp_path / "out"
    out.mkdir()
    run_all(wanted, out, start + 40)
    assert time.monotonic() - start < 25
    states = {row["part"]: row["state"] for row in load_table(out / "summary.csv")}
    assert states == {"fails": "failed", "late": "late", "good": "done", "never": "not begun"}
    assert "January 2026" in (out / "good.log").read_text()
    assert (out / "results" / "gpu-good" / "x.md").read_text() == "a table"
    assert len(capsys.readouterr().out.splitlines()) == 4
