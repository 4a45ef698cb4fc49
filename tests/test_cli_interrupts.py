"""Ctrl-C in a destructor or callback, where Python ignores it."""

import signal
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from tcs.cli.interrupts import AGAIN_SECONDS, kept_interrupts


@pytest.fixture(autouse=True)
def ctrl_c_raises() -> Iterator[None]:
    """As in a command: the workers that pytest starts ignore the signal."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


class Raises:
    def __init__(self, error: type[BaseException]) -> None:
        self.error = error

    def __del__(self) -> None:
        raise self.error


def lose(error: type[BaseException]) -> None:
    del [Raises(error)][0]


def lose_ctrl_c_and_wait() -> None:
    lose(KeyboardInterrupt)
    time.sleep(5)  # a system call: the signal ends it


def test_ctrl_c_that_python_ignores_stops_the_command_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    told: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", told.append)
    begun = time.monotonic()
    with pytest.raises(KeyboardInterrupt), kept_interrupts():
        lose_ctrl_c_and_wait()
    assert time.monotonic() - begun < 4
    assert (told, capsys.readouterr().err) == ([], "")


def test_each_of_several_lost_ones_is_sent_again() -> None:
    with kept_interrupts():
        for _ in range(2):
            with pytest.raises(KeyboardInterrupt):
                lose_ctrl_c_and_wait()


def test_a_second_ctrl_c_inside_the_hook_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    begun, start = [], threading.Timer.start

    def pressed_again(timer: threading.Timer) -> None:
        begun.append(timer)
        if len(begun) == 1:
            raise KeyboardInterrupt
        start(timer)

    monkeypatch.setattr(threading.Timer, "start", pressed_again)
    with pytest.raises(KeyboardInterrupt), kept_interrupts():
        lose_ctrl_c_and_wait()
    assert len(begun) == 2


def test_what_was_lost_at_the_very_end_is_raised_where_it_must_be_delivered() -> None:
    with pytest.raises(KeyboardInterrupt), kept_interrupts(until_delivered=True):
        lose(KeyboardInterrupt)


def test_what_was_lost_at_the_very_end_comes_no_more() -> None:
    came: list[int] = []
    signal.signal(signal.SIGINT, lambda number, _frame: came.append(number))
    with kept_interrupts():
        lose(KeyboardInterrupt)
    time.sleep(5 * AGAIN_SECONDS)
    assert came == []


def test_other_errors_are_told_as_ever_and_the_hook_is_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", told.append)
    with kept_interrupts():
        lose(ValueError)
    assert len(told) == 1
    assert sys.unraisablehook == told.append
