"""Ranks as threads over torch's in-process store: messages, shares, counts, failures, and the end."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from crews import at_once, crew
from torch.distributed import HashStore

from tcs.distributed.heartbeat import beating
from tcs.distributed.ranks import ALONE, Ranks, ending_together, joined_ranks, shared_bar
from tcs.errors import ConfigError, DataError, RankError
from tcs.runtime import Place

ROOT = Path(__file__).parents[1]


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
    assert ALONE.share([1, 2]) == [1, 2]
    assert (ALONE.leads, list(ALONE.others)) == (True, [])


def test_messages_arrive_as_json_whoever_comes_first() -> None:
    first, second = crew(2)
    value = {"pending": [1, 2], "name": "ä", "none": None}
    seen: list[int] = []

    def later() -> None:
        time.sleep(0.2)
        first.post("plan", value)

    received, _ = at_once(lambda: second.receive("plan", meanwhile=lambda: seen.append(1)), later)
    assert received == value
    assert seen
    second.post("plan", "mine")
    assert (first.receive("plan", rank=1), second.receive("plan")) == ("mine", value)


def test_scopes_keep_attempts_and_calls_apart() -> None:
    store = HashStore()
    crew(2, "tcs/0/0/", store)[1].fail("broken")
    again = crew(2, "tcs/1/0/", store)
    again[0].post("plan", 1)
    assert again[1].receive("plan") == 1


def test_torch_is_given_a_part_of_the_store_of_its_own() -> None:
    first, second = crew(2, "tcs/0/0/")
    first.store("group").set("plan", "torch's")
    first.post("plan", "ours")
    assert second.store("group").get("plan") == b"torch's"
    assert second.receive("plan") == "ours"


def test_a_bar_shows_what_all_ranks_have_done() -> None:
    first, second = crew(2)
    shown, alone = Counted(), Counted()
    bar, other = shared_bar(first, shown), shared_bar(second, Counted())
    bar.advance(3)
    other.advance(4)
    bar.advance(0)
    bar.advance(1)
    assert shown.amounts == [3, 4, 1]
    assert shared_bar(ALONE, alone) is alone


def test_a_failure_reaches_ranks_that_wait_and_ranks_that_work() -> None:
    first, second, third = crew(3)

    def failing() -> None:
        with ending_together(second):
            time.sleep(0.1)
            raise DataError("the disk is gone.\nmore")

    def waiting() -> None:
        with ending_together(first):
            first.receive("never", rank=2)

    def working() -> None:
        bar = shared_bar(third, Counted())
        with ending_together(third):
            for _ in range(1000):
                bar.advance(1)
                time.sleep(0.01)

    start = time.monotonic()
    errors = at_once(failing, waiting, working)
    assert time.monotonic() - start < 5
    assert isinstance(errors[0], DataError)
    for error in errors[1:]:
        assert isinstance(error, RankError)
        assert str(error).startswith("rank 1 on ")
        assert str(error).endswith(": the disk is gone.")


def test_the_first_failure_counts_and_hearing_of_one_is_none() -> None:
    first, second, third = crew(3)
    second.fail("broken")
    third.fail("broken, too")
    with pytest.raises(RankError, match=r"^rank 1 on .*: broken$"), ending_together(third):
        third.count(1)
    with pytest.raises(RankError, match=r"^rank 1 on .*: broken$"):
        first.require_all_well()


@pytest.mark.parametrize("slow", [0, 2])
def test_nobody_passes_a_meeting_before_all_are_there(slow: int) -> None:
    events: list[str] = []
    ranks = crew(3)

    def take_part(rank: int) -> None:
        time.sleep(0.2 if rank == slow else 0)
        events.append("came")
        ranks[rank].meet("here")
        events.append("left")

    assert at_once(*(lambda r=rank: take_part(r) for rank in range(3))) == [None] * 3
    assert events == ["came"] * 3 + ["left"] * 3


@pytest.mark.parametrize("slow", [0, 1])
def test_the_others_wait_for_rank_0_and_rank_0_leaves_last(slow: int) -> None:
    events: list[str] = []
    ranks = crew(2)

    def take_part(rank: int) -> None:
        with ending_together(ranks[rank]):
            time.sleep(0.2 if rank == slow else 0)
            events.append(f"{rank} through")
        events.append(f"{rank} left")

    assert at_once(lambda: take_part(0), lambda: take_part(1)) == [None, None]
    assert events.index("0 through") < events.index("1 left")
    assert events.index("1 through") < events.index("0 left")


@pytest.mark.parametrize("dead", [0, 1])
def test_a_rank_that_falls_silent_is_missed(monkeypatch: pytest.MonkeyPatch, dead: int) -> None:
    """Ranks of other machines are not ended by torchrun when one is killed."""
    monkeypatch.setattr("tcs.distributed.heartbeat.BEAT_SECONDS", 0.05)
    monkeypatch.setattr("tcs.distributed.heartbeat.SILENT_SECONDS", 2.0)
    ranks = crew(3)
    living = [rank for rank in range(3) if rank != dead]

    def take_part(rank: int) -> None:
        with beating(ranks[rank].add, rank), ending_together(ranks[rank]):
            if rank == dead:
                raise KeyboardInterrupt  # leaves without a word, as a killed one
            ranks[rank].receive("never", rank=dead)

    def die() -> None:
        with contextlib.suppress(KeyboardInterrupt):
            take_part(dead)

    start = time.monotonic()
    errors = at_once(die, *(lambda r=rank: take_part(r) for rank in living))
    assert 1.9 < time.monotonic() - start < 20
    for error in errors[1:]:
        assert isinstance(error, RankError)
        assert f"rank {dead} has given no sign of life for " in str(error)


def test_ranks_that_are_slow_but_alive_are_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tcs.distributed.heartbeat.BEAT_SECONDS", 0.02)
    monkeypatch.setattr("tcs.distributed.heartbeat.SILENT_SECONDS", 1.0)
    first, second = crew(2)

    def slow() -> None:
        time.sleep(0.6)  # late to begin
        with beating(second.add, 1):
            time.sleep(1.5)
            second.post("written", [])

    def waiting() -> Any:
        with beating(first.add, 0):
            return first.receive("written", rank=1)

    assert at_once(waiting, slow) == [[], None]


def test_a_rank_that_never_begins_is_missed_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tcs.distributed.heartbeat.BEAT_SECONDS", 0.02)
    monkeypatch.setattr("tcs.distributed.heartbeat.FIRST_BEAT_SECONDS", 0.3)
    with pytest.raises(RankError, match="rank 1 has given no sign of life for 0 s; run the same command again"):
        crew(2)[0].receive("ready", rank=1)


def test_a_lost_store_is_one_line() -> None:
    class Gone:
        def __getattr__(self, _: str) -> Callable[..., None]:
            def fail(*_: object) -> None:
                raise RuntimeError("Connection reset by peer\n  at frame 1")

            return fail

    lost = Ranks(Place(1, 1, 2), Gone())
    with pytest.raises(RankError, match=r"^rank 1 has lost the other ranks \(Connection reset by peer\); run the same"):
        lost.receive("plan")
    with pytest.raises(DataError, match="own trouble"), ending_together(lost):
        raise DataError("own trouble")


def test_a_process_that_is_alone_loads_no_torch() -> None:
    code = (
        "import sys\nfrom tcs.distributed.ranks import ALONE, joined_ranks\n"
        "with joined_ranks() as ranks:\n    assert ranks is ALONE\n"
        "assert not {'torch', 'numpy'} & set(sys.modules)\n"
    )
    environment = {name: value for name, value in os.environ.items() if name not in ("RANK", "WORLD_SIZE")}
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, check=True)


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
    monkeypatch.setattr("tcs.distributed.ranks._launcher_store", lambda _: HashStore())
    before, children = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGCHLD)
    with pytest.raises(SystemExit) as left, joined_ranks():
        signal.raise_signal(signal.SIGTERM)
    signal.signal(signal.SIGCHLD, children)
    assert left.value.code == 143
    assert capsys.readouterr().err == "stopped by SIGTERM; run the same command again to resume.\n"
    assert signal.getsignal(signal.SIGTERM) is before
