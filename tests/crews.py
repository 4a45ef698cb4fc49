"""Ranks of one command as threads of this process, which exchange in memory what processes do in torch's collectives."""

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from torch.distributed import HashStore

from tcs.distributed.ranks import Ranks
from tcs.errors import RankError
from tcs.runtime import Place


class ThreadRanks(Ranks):
    """One of the ranks of `crew`."""

    def __init__(self, rank: int, told: list[Any], barrier: threading.Barrier, store: HashStore) -> None:
        super().__init__(Place(rank, rank, len(told)), store)
        self._told, self._barrier = told, barrier

    def gather_json(self, value: Any, meanwhile: Callable[[], None] | None = None) -> list[Any]:
        try:
            self._told[self.rank] = json.dumps(value)
            self._barrier.wait()
            found = [json.loads(text) for text in self._told]
            self._barrier.wait()  # nobody writes the next value before all have read this one
        except threading.BrokenBarrierError:
            raise RankError(f"rank {self.rank} has lost the other ranks") from None
        return found

    @contextlib.contextmanager
    def joined(self) -> Iterator[Ranks]:
        """As `joined_ranks`: leave together, and a rank that fails ends the others' waits."""
        try:
            yield self
            self.gather_json(None)
        except BaseException:
            self._barrier.abort()
            raise


def crew(size: int) -> list[ThreadRanks]:
    """All ranks of one command."""
    told, barrier, store = [None] * size, threading.Barrier(size), HashStore()
    return [ThreadRanks(rank, told, barrier, store) for rank in range(size)]


def at_once(*actions: Callable[[], Any]) -> list[Any]:
    """Run each action in a thread of its own; results, or the error that an action raised."""

    def outcome(action: Callable[[], Any]) -> Any:
        try:
            return action()
        except Exception as error:
            return error

    with ThreadPoolExecutor(len(actions)) as pool:
        return list(pool.map(outcome, actions))
