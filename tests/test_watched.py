"""Ranks as processes over gloo: how they join, fail and stop together. No rank waits for one that is gone."""

import os
import pathlib
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.distributed as dist
from processes import run_processes, run_ranks

from tcs.distributed.collectives import ALONE, Collectives, joined_collectives
from tcs.distributed.ranks import ALONE as ONE_RANK
from tcs.distributed.ranks import Ranks, joined_ranks
from tcs.errors import ConfigError, DataError, RankError
from tcs.runtime import Place, stop_requests

ROOT = pathlib.Path(__file__).parents[1]
CPU = torch.device("cpu")
WAYS = {
    "any_of": lambda together: together.any_of(False),
    "barrier": lambda together: together.barrier(),
    "broadcast_json": lambda together: together.broadcast_json(1),
    "gather_rows": lambda together: together.gather_rows(torch.ones(1), total=2),
}


def failing(together: Collectives, way: str) -> None:
    """The leading rank fails, and goes on living; the others wait for it in this or that way."""
    together.any_of(False)
    if together.leads:
        raise DataError("the disk is gone.\nmore")
    WAYS[way](together)


@pytest.mark.parametrize("way", WAYS)
def test_a_failure_reaches_ranks_that_wait_for_the_failed_one(way: str) -> None:
    start = time.monotonic()
    failed, *others = run_ranks(3 if way == "any_of" else 2, failing, way)
    assert time.monotonic() - start < 20
    assert isinstance(failed, DataError)
    for error in others:
        assert isinstance(error, RankError)
        assert str(error).startswith("rank 0 on ")
        assert str(error).endswith(": the disk is gone.")


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
    assert str(first).startswith("rank 0 has lost the other ranks (")
    assert str(first).endswith("); run the same command again to resume.")


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


def joining_twice() -> list[Any]:
    found: list[Any] = []
    with joined_ranks() as ranks:
        for number in (1, 2):
            with joined_collectives(CPU, ranks) as together:
                together.barrier()
                found += [together.broadcast_json([ranks.rank, number]), together.any_of(ranks.rank == number)]
                found += [dist.get_backend(), dist.get_world_size()]
            assert not dist.is_initialized()
    return found


def test_groups_follow_each_other_and_keep_their_messages_apart() -> None:
    wanted = [[0, 1], True, "gloo", 2, [0, 2], False, "gloo", 2]
    assert run_processes(2, joining_twice) == [wanted, wanted]


def failing_before() -> None:
    """Rank 1 fails before it joins the group: joining itself cannot be interrupted."""
    with joined_ranks() as ranks:
        if not ranks.leads:
            raise DataError("no images.")
        with joined_collectives(CPU, ranks):
            pass


def failing_late() -> None:
    with joined_ranks() as ranks, joined_collectives(CPU, ranks) as together:
        if not together.leads:
            raise DataError("no images.")


@pytest.mark.parametrize("work", [failing_before, failing_late])
def test_a_failure_reaches_ranks_that_join_or_leave(work: Callable[[], None]) -> None:
    start = time.monotonic()
    first, second = run_processes(2, work)
    assert time.monotonic() - start < 20
    assert isinstance(second, DataError)
    assert isinstance(first, RankError)
    assert str(first).endswith(": no images.")


def test_one_process_joins_no_group() -> None:
    with joined_collectives(CPU, ONE_RANK) as together:
        assert together is ALONE
        assert not dist.is_initialized()


def test_devices_without_collectives_are_refused() -> None:
    with (
        pytest.raises(
            ConfigError, match=r"^--device is 'meta'; several ranks train on cpu or cuda only, so use one of"
        ),
        joined_collectives(torch.device("meta"), Ranks(Place(0, 0, 2))),
    ):
        pass


SCRIPT = """
import sys, time, torch
from tcs.errors import ConfigError, RankError
from tcs.distributed.ranks import joined_ranks
from tcs.training.collectives import joined_collectives

try:
    with joined_ranks() as ranks, joined_collectives(torch.device("cpu"), ranks) as together:
        assert together.any_of(together.rank == 1)
        if together.rank == 1:
            raise ConfigError("no such thing.")
        together.any_of(False)
except ConfigError:
    time.sleep(30)  # torchrun would end the other rank
except RankError as error:
    sys.exit(f"heard: {error}")
"""


def test_ranks_of_torchrun_fail_together(tmp_path: pathlib.Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--local-addr", "127.0.0.1"]
    command = [*launcher, "--nproc-per-node", "2", str(tmp_path / "script.py")]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1
    assert re.search(r"^heard: rank 1 on .*: no such thing\.$", done.stderr, re.MULTILINE), done.stderr
