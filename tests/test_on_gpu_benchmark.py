"""The prepared script for a GPU: its commands are ones that their programs take and that name students and teachers that can be built at
the size that they are given, and no part takes the time or the results of another."""

import argparse
import importlib
import pathlib
import time

import click
import pytest
import timm
import torch
import torch.distributed as dist

import benchmarks.on_gpu
from benchmarks import collectives, one_stream, online_teacher, training_step
from benchmarks.on_gpu import Part, main, parts, run_all
from tcs.cli import group
from tcs.errors import ModelError
from tcs.plain_files import load_table
from tcs.students.backbone import create_backbone, measured_width, parse_student

WANTED = parts("photos", "scratch", lightly="environment")
GIVEN = {part.name: part.arguments for part in WANTED}


def test_the_plan_is_printed_and_nothing_is_run(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["photos", "--out", str(tmp_path / "out"), "--plan"])
    printed = capsys.readouterr().out
    assert len(printed.splitlines()) == len(WANTED) == len({part.name for part in WANTED})
    assert "--lightly" not in printed  # its environment is one that not everybody has
    assert not (tmp_path / "out").exists()
    assert sum(part.seconds for part in WANTED) <= 540  # all fit, each at its limit


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


def option(name: str, flag: str) -> str:
    """What a part gives for an option."""
    return GIVEN[name][GIVEN[name].index(flag) + 1]


def students() -> list[tuple[str, str, int]]:
    """(part, student, side of its images) of all that is trained."""
    stream = one_stream.resident_case(one_stream.parse(GIVEN["one-stream"])).config
    assert stream.img_size is not None
    step, online = training_step.parse(GIVEN["training-step"]), online_teacher.parse(GIVEN["online-teacher"])
    return [
        *(("one-stream", model, stream.img_size) for model in stream.models),
        ("training-step", step.model, step.img_size),
        *(("online-teacher", model, online.img_size) for model in online.students),
        ("train-rank", option("train-rank", "--model"), int(option("train-rank", "--img-size"))),
    ]


@pytest.mark.parametrize(("part", "model", "size"), students())
def test_every_student_takes_images_of_the_size_that_it_is_given(part: str, model: str, size: int) -> None:
    spec = parse_student(model)
    backbone = create_backbone(spec, 4)
    assert measured_width(backbone, spec, size) > 0
    if "vit" in model:  # the check is one that another size fails
        with pytest.raises(ModelError):
            measured_width(backbone, spec, 2 * size)


def test_every_teacher_takes_images_of_its_size() -> None:
    online = online_teacher.parse(GIVEN["online-teacher"])
    sizes = dict.fromkeys(online.teachers, online.img_size)
    sizes |= {option(part, "--teacher"): 224 for part in ("extraction", "extract-rank")}
    for name, size in sizes.items():
        settings = {"img_size": size} if name in online.teachers else {}
        with torch.device("meta"):  # no weights: shapes alone
            teacher = timm.create_model(name, num_classes=0, **settings).eval()
            assert teacher(torch.zeros(2, 3, size, size)).shape == (2, teacher.num_features)


def test_collectives_of_one_rank_give_back_what_went_in(capsys: pytest.CaptureFixture[str]) -> None:
    collectives.main(["--device", "cpu"])
    assert capsys.readouterr().out == "gloo: all_reduce, broadcast and all_gather of one rank give back what went in.\n"
    assert not dist.is_initialized()


def test_a_collective_that_changes_its_values_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dist, "broadcast", lambda tensor, src: tensor.add_(1))
    with pytest.raises(AssertionError, match=r"broadcast of one rank changed what went in, torch.float32 on cpu"):
        collectives.main(["--device", "cpu"])
    assert not dist.is_initialized()


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
