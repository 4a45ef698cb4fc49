"""Ranks as processes over gloo: what they tell each other, how they join and leave, and how a failure ends all of them."""

import os
import re
import signal
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
import torch
import torch.distributed as dist
from crews import crew
from processes import run_processes, run_ranks

from tcs.distributed.collectives import ALONE, Collectives
from tcs.distributed.ranks import ONE_RANK, Ranks, _await_all, joined_ranks, shared_bar
from tcs.errors import ConfigError, DataError, RankError
from tcs.runtime import Place, stop_requests

WAYS: dict[str, Callable[[Collectives], Any]] = {
    "any_of": lambda together: together.any_of(False),
    "broadcast_json": lambda together: together.broadcast_json(1),
    "gather_rows": lambda together: together.gather_rows(torch.ones(1), total=3),
    "broadcast_state": lambda together: together.broadcast_state(torch.nn.Linear(2, 2)),
}


class Counted:
    """A progress bar that remembers what it was told."""

    def __init__(self) -> None:
        self.amounts: list[int] = []

    def advance(self, amount: int, note: str = "") -> None:
        self.amounts.append(amount)


def test_shares_are_disjoint_and_cover_all() -> None:
    for size in (1, 2, 3, 7):
        shares = [ranks.share([10, 11, 12, 13, 14]) for ranks in crew(size)]
        assert sorted(item for share in shares for item in share) == [10, 11, 12, 13, 14]
        assert max(map(len, shares)) - min(map(len, shares)) <= 1
    assert crew(2)[1].share([10, 11, 12, 13, 14]) == [11, 13]
    assert ONE_RANK.share([1, 2]) == [1, 2]
    assert ONE_RANK.gather_json("own") == ["own"]
    assert (ONE_RANK.leads, ONE_RANK.broadcast_json("own")) == (True, "own")


def test_a_rank_that_never_joins_is_named_in_bounded_time(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    store = dist.HashStore()
    for rank in (2, 3):
        store.set(f"here/{rank}", "1")
    monkeypatch.setattr("tcs.distributed.ranks.TELL_SECONDS", 0.1)
    told = r"rank 1 of 4 has not joined in \d s, and rank 0 waits no longer; see what that process says, and start all again"
    began = time.monotonic()
    with pytest.raises(ConfigError, match=told):
        _await_all(store, Place(rank=0, world_size=4), timedelta(seconds=0.4))
    assert time.monotonic() - began < 5
    assert capsys.readouterr().err.count("waiting for rank 1 of 4 to join.") == 1
    store.set("here/1", "1")
    _await_all(store, Place(rank=0, world_size=4), timedelta(seconds=0))


def test_a_bar_shows_what_all_ranks_have_done() -> None:
    first, second = crew(2)
    shown, alone = Counted(), Counted()
    bar, other = shared_bar(first, shown), shared_bar(second, Counted())
    bar.advance(3)
    other.advance(4)
    bar.advance(0)
    bar.advance(1)
    assert shown.amounts == [3, 4, 1]
    assert shared_bar(ONE_RANK, alone) is alone


def test_a_lost_store_is_one_line() -> None:
    class Gone:
        def add(self, *_: object) -> int:
            raise RuntimeError("Connection reset by peer\n  at frame 1")

    with pytest.raises(RankError, match=r"^rank 1 has lost the other ranks \(Connection reset by peer\); run the same"):
        Ranks(Place(1, 1, 2), Gone()).count(1)


def telling() -> list[Any]:
    """Two groups, one after the other, in each of which the ranks tell each other something; rank 0 comes late."""
    found: list[Any] = []
    for number in (1, 2):
        with joined_ranks() as ranks:
            looks: list[int] = []
            if ranks.leads:
                time.sleep(0.5)
            told = {"rank": ranks.rank, "of": (1, None), "name": "ä" * (1 + 500 * ranks.rank)}
            found.append(ranks.gather_json(told, lambda looks=looks: looks.append(1)))
            assert looks or ranks.leads
            ranks.count(number)
            found += [ranks.broadcast_json([ranks.rank, number]), dist.get_backend(), ranks.count(0)]
        assert not dist.is_initialized()
    return found


def test_ranks_tell_each_other_json_in_groups_that_follow_each_other() -> None:
    gathered = [{"rank": rank, "of": [1, None], "name": "ä" * (1 + 500 * rank)} for rank in range(3)]
    first, *others = run_processes(3, telling)
    assert others == [first, first]
    assert first == [gathered, [0, 1], "gloo", 3, gathered, [0, 2], "gloo", 6]


def failing(together: Collectives, way: str) -> None:
    """The second rank fails, and its process ends; the others wait for it in this or that way."""
    together.any_of(False)
    if together.rank == 1:
        raise DataError("the disk is gone.\nmore")
    WAYS[way](together)


@pytest.mark.parametrize("way", WAYS)
def test_a_failure_ends_the_waits_of_the_others(way: str) -> None:
    start = time.monotonic()
    first, failed, third = run_ranks(3, failing, way)
    assert time.monotonic() - start < 20
    assert isinstance(failed, DataError)
    for error in (first, third):
        assert isinstance(error, RankError)
        assert "\n" not in str(error)


def dying(together: Collectives) -> None:
    together.any_of(False)
    if together.rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    together.any_of(False)


def test_a_rank_that_is_killed_is_missed_at_once() -> None:
    start = time.monotonic()
    first, second = run_ranks(2, dying)
    assert time.monotonic() - start < 20
    assert second is None
    assert isinstance(first, RankError)
    message = r"rank 0 has lost the other ranks \(.*Connection (closed|reset) by peer.*\); run the same command again to resume\."
    assert re.fullmatch(message, str(first))


def failing_late() -> None:
    with joined_ranks() as ranks:
        if not ranks.leads:
            raise DataError("no images.")


def test_a_failure_reaches_ranks_that_leave() -> None:
    first, second = run_processes(2, failing_late)
    assert isinstance(second, DataError)
    assert isinstance(first, RankError)


def stopping(together: Collectives) -> None:
    """Steps until some rank was asked to stop; rank 1 is, in its fourth step."""
    steps = []
    with stop_requests() as stop:
        for step in range(6):
            if together.rank == 1 and step == 3:
                signal.raise_signal(signal.SIGTERM)
            steps.append(step)
            if together.any_of(stop.requested):
                together.barrier()
                assert steps == [0, 1, 2, 3]
                stop.leave()


def test_sigterm_to_one_rank_stops_all_at_the_same_step() -> None:
    left = run_ranks(3, stopping)
    assert [type(error) for error in left] == [SystemExit] * 3
    assert [error.code for error in left] == [143] * 3


def test_one_process_joins_no_group() -> None:
    with joined_ranks("meta") as ranks:
        assert ranks is ONE_RANK
        assert not dist.is_initialized()
    assert (ALONE.rank, ALONE.world_size, ALONE.leads) == (0, 1, True)


def test_devices_without_collectives_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tcs.distributed.ranks.place", lambda: Place(0, 0, 2))
    monkeypatch.setattr("tcs.distributed.ranks.pick_device", torch.device)
    with (
        pytest.raises(ConfigError, match=r"^--device is 'meta'; several ranks work on cpu or cuda only, so use one of"),
        joined_ranks("meta"),
    ):
        pass


def test_ranks_that_nobody_started_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"RANK": "1", "WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    for name in ("MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    with (
        pytest.raises(ConfigError, match=r"this is rank 1 of 2 .*; start all with torchrun, or unset WORLD_SIZE\."),
        joined_ranks(),
    ):
        pass


def test_sigterm_is_an_orderly_exit_that_rank_0_tells(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("tcs.distributed.ranks.place", lambda: Place(0, 0, 2))
    monkeypatch.setattr("tcs.distributed.ranks._join", lambda *_: None)
    before, children = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGCHLD)
    with pytest.raises(SystemExit) as left, joined_ranks():
        signal.raise_signal(signal.SIGTERM)
    signal.signal(signal.SIGCHLD, children)
    assert left.value.code == 143
    assert capsys.readouterr().err == "stopped by SIGTERM; run the same command again to resume.\n"
    assert signal.getsignal(signal.SIGTERM) is before
