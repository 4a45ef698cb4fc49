"""Ranks as threads of one process, over torch's in-process store."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from torch.distributed import HashStore

from tcs.distributed.ranks import Ranks
from tcs.runtime import Place


def crew(size: int, scope: str = "", store: Any = None) -> list[Ranks]:
    messages = HashStore() if store is None else store
    return [Ranks(Place(rank, rank, size), messages, scope) for rank in range(size)]


def at_once(*actions: Callable[[], Any]) -> list[Any]:
    """Run each action in a thread of its own; results, or the error that an action raised."""

    def outcome(action: Callable[[], Any]) -> Any:
        try:
            return action()
        except Exception as error:
            return error

    with ThreadPoolExecutor(len(actions)) as pool:
        return list(pool.map(outcome, actions))
