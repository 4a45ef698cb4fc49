"""The place of a process among ranks, and what depends on it."""

import datetime
import re

import pytest

from tcs.errors import ConfigError
from tcs.runtime import Place, Rate, _commit, pick_device, place, progress_bar, say


def be(monkeypatch: pytest.MonkeyPatch, **variables: str) -> None:
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


def test_place_is_what_torchrun_says(monkeypatch: pytest.MonkeyPatch) -> None:
    be(monkeypatch)
    assert place() == Place(0, 0, 1)
    be(monkeypatch, RANK="5", LOCAL_RANK="1", WORLD_SIZE="8")
    assert place() == Place(rank=5, local_rank=1, world_size=8)
    be(monkeypatch, RANK="0", WORLD_SIZE="1")
    assert place() == Place()


@pytest.mark.parametrize(
    "variables",
    [
        {"RANK": "2", "WORLD_SIZE": "2"},
        {"RANK": "1"},
        {"RANK": "x", "WORLD_SIZE": "2"},
        {"RANK": "0", "WORLD_SIZE": ""},
        {"RANK": "-1", "WORLD_SIZE": "2"},
        {"RANK": "1", "LOCAL_RANK": "-1", "WORLD_SIZE": "2"},
    ],
)
def test_a_place_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]) -> None:
    be(monkeypatch, **variables)
    with pytest.raises(
        ConfigError, match=r"RANK is '.*'; torchrun sets them to whole numbers, .* torchrun or unset them"
    ):
        place()


def test_only_rank_0_speaks(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    be(monkeypatch, RANK="1", WORLD_SIZE="2")
    say("nobody hears this")
    with progress_bar(3, "work", "units") as bar:
        bar.advance(3)
    assert capsys.readouterr().err == ""
    be(monkeypatch, RANK="0", WORLD_SIZE="2")
    say("all hear this")
    assert capsys.readouterr().err == "all hear this\n"


def test_cuda_is_the_device_of_the_local_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    be(monkeypatch, RANK="63", LOCAL_RANK="63", WORLD_SIZE="64")
    with pytest.raises(
        ConfigError, match=r"'cuda:63', which .*; use --device cpu, or no more ranks than there are GPUs"
    ):
        pick_device("cuda")
    assert str(pick_device("cpu")) == "cpu"
    be(monkeypatch)
    with pytest.raises(ConfigError, match=r"'cuda:63', which this machine cannot use .*; use --device cpu\.$"):
        pick_device("cuda:63")


class Clock:
    """Seconds that stand still until they are told to go on."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


def test_the_rate_is_of_what_this_process_did() -> None:
    clock = Clock()
    rate = Rate(1000, clock)
    assert (rate.speed("steps"), rate.left()) == ("", "-:--:--")
    clock.seconds += 7  # what goes before the first step is no part of the rate
    rate.begin_at(900)
    assert (rate.speed("steps"), rate.left()) == ("", "-:--:--")
    clock.seconds += 5
    rate.advance(50)
    assert (rate.speed("steps"), rate.left()) == ("10 steps/s", "0:00:05")


def test_units_that_come_in_a_burst_have_no_fabulous_rate() -> None:
    clock = Clock()
    rate = Rate(4096, clock)
    clock.seconds += 2
    for _ in range(2):  # the second chunk was finished by another thread while the first was waited for
        rate.advance(1024)
    assert (rate.speed("images"), rate.left()) == ("1,024 images/s", "0:00:02")


@pytest.mark.parametrize(
    ("seconds", "speed"), [(0.5, "2.0 cells/s"), (20, "3.0 cells/min"), (240, "15 cells/h"), (7200, "0.5 cells/h")]
)
def test_slow_units_are_told_by_the_minute_or_the_hour(seconds: float, speed: str) -> None:
    clock = Clock()
    rate = Rate(3, clock)
    clock.seconds += seconds
    rate.advance(1)
    assert rate.speed("cells") == speed
    assert rate.left() == str(datetime.timedelta(seconds=2 * seconds))


def test_the_bar_of_a_terminal_shows_all_units_and_this_processes_rate(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    be(monkeypatch)
    clock = Clock()
    monkeypatch.setattr("tcs.runtime.Rate", lambda total: Rate(total, clock))
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "120")
    with progress_bar(1000, "work", "steps") as bar:
        bar.begin_at(900)
        clock.seconds += 5
        bar.advance(50, "loss 1.5")
    shown = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", capsys.readouterr().err)
    assert "950/1000 10 steps/s 0:00:05 loss 1.5" in shown


def test_a_checkout_without_git_has_no_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert _commit.__wrapped__() is None
