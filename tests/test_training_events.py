"""TensorBoard's scalars, read back by TensorBoard; without the package only who asks for it is told."""

import math
import pathlib
import resource
import sys

import pytest

from cache.errors import StoreWriteError
from tcs.errors import ConfigError
from tcs.training.log import RunLog, require_tensorboard

ROWS = [{"step": step, "phase": "main", "loss": 1.5 / step, "n": step, "none": None} for step in range(1, 13)]


def scalars(folder: pathlib.Path) -> dict[str, list[tuple[int, float]]]:
    """(step, value) of each tag, as TensorBoard shows them."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator").EventAccumulator(
        str(folder / "tensorboard")
    )
    accumulator.Reload()
    tags = accumulator.Tags()["scalars"]
    return {tag: [(event.step, event.value) for event in accumulator.Scalars(tag)] for tag in tags}


def log_rows(folder: pathlib.Path, resume_step: int | None, last: int, tensorboard: bool = True) -> None:
    with RunLog.open(folder, resume_step, tensorboard) as log:
        for row in ROWS[resume_step or 0 : last]:
            log.write(row)


def expected(last: int = 12) -> dict[str, list[tuple[int, float]]]:
    losses = [(step, pytest.approx(1.5 / step, rel=1e-7)) for step in range(1, last + 1)]  # float32
    return {"loss": losses, "n": [(step, step) for step in range(1, last + 1)]}


@pytest.fixture
def no_tensorboard(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the package were not installed: any import of it raises ImportError."""
    for name in ["tensorboard", *(name for name in sys.modules if name.startswith("tensorboard."))]:
        monkeypatch.setitem(sys.modules, name, None)


def test_numbers_are_scalars_of_their_step(tmp_path: pathlib.Path) -> None:
    log_rows(tmp_path, None, 12)
    assert scalars(tmp_path) == expected()


def test_values_that_are_not_finite_reach_tensorboard(tmp_path: pathlib.Path) -> None:
    with RunLog.open(tmp_path, None, tensorboard=True) as log:
        log.write({"step": 1, "a": math.nan, "b": math.inf, "c": 1e300})
    found = scalars(tmp_path)
    assert math.isnan(found["a"][0][1])
    assert (found["b"], found["c"]) == ([(1, math.inf)], [(1, math.inf)])  # float32


@pytest.mark.parametrize("checkpoint", [None, 4, 8])
def test_a_resumed_run_shows_every_step_once(tmp_path: pathlib.Path, checkpoint: int | None) -> None:
    log_rows(tmp_path, None, 9)
    (first,) = (tmp_path / "tensorboard").iterdir()
    with first.open("r+b") as file:  # a kill cuts the last record short
        file.truncate(first.stat().st_size - 7)
    log_rows(tmp_path, checkpoint, 12)
    assert scalars(tmp_path) == expected()
    assert len(list((tmp_path / "tensorboard").iterdir())) == 2


def test_asked_for_late_it_still_shows_the_run_from_its_start(tmp_path: pathlib.Path) -> None:
    log_rows(tmp_path, None, 9, tensorboard=False)
    assert not (tmp_path / "tensorboard").exists()
    log_rows(tmp_path, 8, 12)
    assert scalars(tmp_path) == expected()


@pytest.mark.usefixtures("no_tensorboard")
def test_a_log_without_it_needs_no_package(tmp_path: pathlib.Path) -> None:
    log_rows(tmp_path, None, 12, tensorboard=False)
    assert (tmp_path / "metrics.jsonl").read_text().count("\n") == 12


@pytest.mark.usefixtures("no_tensorboard")
def test_a_missing_package_is_told_before_anything_is_written(tmp_path: pathlib.Path) -> None:
    message = r'--tensorboard needs the package tensorboard \(.*\); pip install "tcs-distill\[tensorboard\]"\.$'
    with pytest.raises(ConfigError, match=message):
        require_tensorboard()
    with pytest.raises(ConfigError, match=message):
        RunLog.open(tmp_path, None, tensorboard=True)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_told_in_one_line(tmp_path: pathlib.Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    with RunLog.open(tmp_path, None, tensorboard=True) as log:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
        try:
            with pytest.raises(
                StoreWriteError, match=r"tensorboard/events\.out\.tfevents\.\d+: .*; free space and rerun"
            ):
                log.write({"step": 1, "a-name-that-takes-some-room-in-an-event-of-tensorboard": 0.5})
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (tmp_path / "metrics.jsonl").read_text().count("\n") == 1  # whole: the events alone did not fit
