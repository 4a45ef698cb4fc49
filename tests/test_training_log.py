"""The log of a run: a resumed run has the files of an uninterrupted one, whatever a kill left of them."""

import csv
import json
import math
import os
import pathlib
import resource
import signal
import time
from typing import Any

import pytest
from forks import forked

from cache.errors import StoreWriteError
from tcs.errors import ArtefactError
from tcs.training.log import RunLog, delete_log
from tcs.training.metrics import MEASURED_COLUMNS

STEPS, EVERY = 23, 5


def row_of(step: int) -> dict[str, Any]:
    """What training logs of a step: an evaluation every 10 steps, a loss that is not finite once, and a time."""
    row = {"step": step, "phase": "mimic" if step < 7 else "main", "lr": 0.1 / step, "loss": math.sin(step)}
    if step == 9:
        row["loss"] = math.nan
    if step % 10 == 0:
        row["eval_top1"] = 10.0 + step / 3
    return row | {"images_per_s": time.perf_counter(), "grad_norm": 1e-7 * step}


def train(folder: pathlib.Path, first: int, last: int) -> int | None:
    """Steps `first` to `last` as a training loop logs them; the last checkpoint's step, None before the first one."""
    checkpoint = first - 1 or None
    with RunLog.open(folder, checkpoint) as log:
        for step in range(first, last + 1):
            log.write(row_of(step))
            if step % EVERY == 0:
                log.save()
                checkpoint = step
        if last == STEPS:
            log.save()
    return checkpoint


def without_times(folder: pathlib.Path) -> tuple[str, str]:
    """metrics.jsonl and summary.csv without the measured columns, read without the code under test."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    with (folder / "summary.csv").open() as file:
        rows = list(csv.DictReader(file))
    return tuple(  # type: ignore[return-value]
        repr([[(key, value) for key, value in row.items() if key not in MEASURED_COLUMNS] for row in table])
        for table in (lines, rows)
    )


@pytest.fixture
def whole(tmp_path: pathlib.Path) -> pathlib.Path:
    """The folder of an uninterrupted run."""
    (tmp_path / "whole").mkdir()
    train(tmp_path / "whole", 1, STEPS)
    return tmp_path / "whole"


def test_every_row_is_a_line_at_once_and_the_table_has_the_union_of_columns(tmp_path: pathlib.Path) -> None:
    with RunLog.open(tmp_path, None) as log:
        log.write({"step": 1, "loss": 2.5})
        assert (tmp_path / "metrics.jsonl").read_text() == '{"step": 1, "loss": 2.5}\n'
        assert not (tmp_path / "summary.csv").exists()
        log.write({"step": 2, "top1": math.inf, "loss": math.nan, "phase": "a,b"})
        log.save()
    assert (tmp_path / "summary.csv").read_text() == 'step,loss,top1,phase\n1,2.5,,\n2,nan,inf,"a,b"\n'
    assert sorted(path.name for path in tmp_path.iterdir()) == ["metrics.jsonl", "summary.csv"]


@pytest.mark.parametrize("killed_at", range(1, STEPS))
def test_a_resumed_run_has_the_files_of_an_uninterrupted_one(
    tmp_path: pathlib.Path, whole: pathlib.Path, killed_at: int
) -> None:
    folder = tmp_path / "resumed"
    folder.mkdir()
    checkpoint = train(folder, 1, killed_at)
    path = folder / "metrics.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    kept, lost = b"".join(lines[: checkpoint or 0]), b"".join(lines[checkpoint or 0 :])
    path.write_bytes(kept + lost[: 37 * killed_at % (len(lost) + 1)])  # of what came later a power cut leaves any part
    train(folder, (checkpoint or 0) + 1, STEPS)
    assert without_times(folder) == without_times(whole)


def test_opening_drops_later_rows_from_both_files(tmp_path: pathlib.Path, whole: pathlib.Path) -> None:
    with RunLog.open(whole, 10):
        lines = (whole / "metrics.jsonl").read_text().splitlines()
        assert [json.loads(line)["step"] for line in lines] == list(range(1, 11))
        assert (whole / "summary.csv").read_text().splitlines()[-1].startswith("10,main,")
    with RunLog.open(whole, None):
        assert (whole / "metrics.jsonl").read_bytes() == b""
        assert not (whole / "summary.csv").exists()


def test_opening_again_at_the_same_step_changes_no_byte(whole: pathlib.Path) -> None:
    before = [(whole / name).read_bytes() for name in ("metrics.jsonl", "summary.csv")]
    RunLog.open(whole, STEPS).close()
    assert [(whole / name).read_bytes() for name in ("metrics.jsonl", "summary.csv")] == before


def test_garbage_in_the_middle_is_named_and_left(whole: pathlib.Path) -> None:
    path = whole / "metrics.jsonl"
    lines = path.read_bytes().split(b"\n")
    path.write_bytes(b"\n".join([*lines[:4], b"<<<<<<< HEAD", *lines[4:]]))
    before = path.read_bytes()
    with pytest.raises(ArtefactError, match=r"metrics .*metrics\.jsonl, line 5 is no row \('<<<<<<< HEAD'\)"):
        RunLog.open(whole, STEPS)
    assert path.read_bytes() == before


def test_a_full_disk_is_told_in_one_line_and_the_rerun_goes_on(tmp_path: pathlib.Path, whole: pathlib.Path) -> None:
    folder = tmp_path / "full"
    folder.mkdir()
    checkpoint = train(folder, 1, 12)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    with RunLog.open(folder, checkpoint) as log:
        resource.setrlimit(resource.RLIMIT_FSIZE, ((folder / "metrics.jsonl").stat().st_size + 30, limits[1]))
        try:
            with pytest.raises(
                StoreWriteError, match=r"metrics\.jsonl: .*; free space and rerun the same command"
            ) as error:
                log.write(row_of(11))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "\n" not in str(error.value)
    assert not (folder / "metrics.jsonl").read_bytes().endswith(b"\n")  # a part of the line stands there
    train(folder, 11, STEPS)
    assert without_times(folder) == without_times(whole)


def test_a_file_that_cannot_be_opened_or_synced_is_named(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = RunLog.open(tmp_path, None)
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", refuse)
        with pytest.raises(StoreWriteError, match=r"metrics\.jsonl: Input/output error"):
            log.save()
    log.close()
    log.close()
    with pytest.raises(StoreWriteError, match=r"metrics\.jsonl: No such file or directory; make the folder writable"):
        RunLog.open(tmp_path / "missing", None)


def refuse(_descriptor: int) -> None:
    raise OSError(5, "Input/output error")


def write_for_ever(folder: pathlib.Path) -> None:
    log = RunLog.open(folder, None)
    for step in range(1, 10**9):
        log.write({"step": step, "loss": 1 / step})
        print(step, flush=True)


def test_rows_survive_a_kill_of_the_process(tmp_path: pathlib.Path) -> None:
    told, said = 200, tmp_path / "said"
    with forked(said, write_for_ever, tmp_path) as child:
        child.until(lambda: f"\n{told}\n" in child.stdout)
        child.send(signal.SIGKILL)
        assert child.ended() == -signal.SIGKILL
    with RunLog.open(tmp_path, told):
        lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [{"step": step, "loss": 1 / step} for step in range(1, told + 1)]


def test_only_files_of_the_log_are_deleted(whole: pathlib.Path) -> None:
    for name in ("last.safetensors", "tensorboard/events.out.tfevents.7", "tensorboard/mine.txt"):
        (whole / name).parent.mkdir(exist_ok=True)
        (whole / name).touch()
    delete_log(whole)
    left = sorted(str(path.relative_to(whole)) for path in whole.rglob("*"))
    assert left == ["last.safetensors", "tensorboard", "tensorboard/mine.txt"]
    (whole / "tensorboard/mine.txt").unlink()
    delete_log(whole)
    assert [path.name for path in whole.iterdir()] == ["last.safetensors"]
