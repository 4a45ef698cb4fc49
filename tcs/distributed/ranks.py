"""The processes that torchrun started for one command: what they tell each other, and how they end together.

They talk through the launcher's key-value store, in small JSON texts that are polled for: a rank that waits hears within
a second that another has failed, whatever that one was doing, and nothing is unpickled. There are no collectives here;
those that training needs are in `tcs.distributed.collectives`.
"""

import contextlib
import functools
import itertools
import json
import os
import platform
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from typing import Any, Protocol, TypeVar

from tcs.distributed.heartbeat import Watch, beating
from tcs.errors import ConfigError, RankError
from tcs.runtime import Bar, Place, place, say

JOIN_MINUTES = 10

LOOK_SECONDS = (0.01, 0.5)  # the first and the longest pause between two looks for a message

LEAVE_SECONDS = 10.0

_FAILED, _END, _LEFT, _COUNT = "failed", "end", "left", "count"

_Result = TypeVar("_Result")

_call_numbers = itertools.count()  # all ranks make the same calls in the same order


class Messages(Protocol):
    """What is used of `torch.distributed.Store`."""

    def set(self, key: str, value: str) -> None:
        """Put a text under a name."""

    def get(self, key: str) -> bytes:
        """The text under a name that is there."""

    def check(self, keys: list[str]) -> bool:
        """Whether all names are there."""

    def add(self, key: str, amount: int) -> int:
        """Add to a counter; returns the sum."""


def _nothing() -> None:
    pass


class Ranks:
    """This process among `world_size`, of which rank 0 leads: it alone speaks, judges, and holds locks."""

    def __init__(self, here: Place, messages: Messages | None = None, scope: str = "") -> None:
        """`messages` reach all ranks, None for a process that is alone; `scope` goes before every name."""
        self.rank, self.world_size = here.rank, here.world_size
        self._messages, self._scope = messages, scope
        self._watch = Watch(self.add, self.others if self.leads else [0])

    @property
    def leads(self) -> bool:
        """Whether this is rank 0."""
        return self.rank == 0

    @property
    def others(self) -> range:
        """The ranks beside the leading one."""
        return range(1, self.world_size)

    def share(self, items: Sequence[_Result]) -> list[_Result]:
        """The items that fall to this rank: every `world_size`-th, so that each rank's first ones are the first."""
        return list(items[self.rank :: self.world_size])

    def post(self, name: str, value: Any) -> None:
        """Tell the other ranks a JSON value, once for each name and rank. RankError where they are out of reach."""
        self._set(f"{name}/{self.rank}", value)

    def receive(self, name: str, rank: int = 0, meanwhile: Callable[[], None] = _nothing) -> Any:
        """What `rank` posted under `name`, waited for without limit; RankError as soon as some rank has failed."""
        key = f"{name}/{rank}"
        pause, longest = LOOK_SECONDS
        while not self._has(key):
            self.require_all_well()
            meanwhile()
            time.sleep(pause)
            pause = min(2 * pause, longest)
        return self._get(key)

    def meet(self, name: str) -> None:
        """Wait without limit until all ranks have come to `name`, once for each name; RankError where one has failed."""
        if self.leads:
            for other in self.others:
                self.receive(name, other)
            self.post(name, True)
        else:
            self.post(name, True)
            self.receive(name)

    def count(self, amount: int) -> int:
        """Add to the units done by all ranks; returns their sum. RankError where some rank has failed."""
        total = self.add(_COUNT, amount)
        self.require_all_well()
        return total

    def require_all_well(self) -> None:
        """Raise RankError with the message of the rank that failed, if one has, or naming one that has fallen silent."""
        if self._has(_FAILED):
            failure = self._get(_FAILED)
            raise RankError(f"rank {failure['rank']} on {failure['host']}: {failure['message']}")
        if silent := self._watch.silent():
            message = f"rank {silent[0]} has given no sign of life for {silent[1]:.0f} s; run the same command again to resume."
            self.fail(message)
            raise RankError(message)

    def fail(self, message: str) -> None:
        """Tell all ranks that this one cannot go on; the first failure counts."""
        with contextlib.suppress(RankError):
            if not self._has(_FAILED):
                self._set(_FAILED, {"rank": self.rank, "host": platform.node(), "message": message})

    def lost(self, error: Exception) -> RankError:
        """What to raise for an `error` of the connection to the other ranks."""
        return RankError(
            f"rank {self.rank} has lost the other ranks ({_first_line(error)}); run the same command again to resume."
        )

    def store(self, name: str) -> Any:
        """The launcher's store, for torch: its keys get this command's scope and `name` before them."""
        from torch.distributed.distributed_c10d import PrefixStore, Store

        assert isinstance(self._messages, Store)
        return PrefixStore(self._scope + name, self._messages)

    def end(self) -> None:
        """Wait until rank 0 is through. Rank 0 leaves last: without torchrun the messages live in its process."""
        if self.leads:
            self.post(_END, True)
            deadline = time.monotonic() + LEAVE_SECONDS
            while self.add(_LEFT, 0) < len(self.others) and time.monotonic() < deadline:
                time.sleep(LOOK_SECONDS[0])
        else:
            self.receive(_END)
            self.add(_LEFT, 1)

    def _has(self, name: str) -> bool:
        return bool(self._ask(lambda messages: messages.check([self._scope + name])))

    def _get(self, name: str) -> Any:
        return json.loads(self._ask(lambda messages: messages.get(self._scope + name)))

    def _set(self, name: str, value: Any) -> None:
        self._ask(lambda messages: messages.set(self._scope + name, json.dumps(value)))

    def add(self, name: str, amount: int) -> int:
        """Add to the counter `name` of all ranks; returns the sum."""
        return self._ask(lambda messages: messages.add(self._scope + name, amount))

    def _ask(self, question: Callable[[Messages], _Result]) -> _Result:
        assert self._messages is not None, "a process that is alone has nobody to talk to"
        try:
            return question(self._messages)
        except RuntimeError as error:  # torch.distributed.DistError and its kinds
            raise self.lost(error) from error


ALONE = Ranks(Place())


def shared_bar(ranks: Ranks, bar: Bar) -> Bar:
    """`bar`, or where there are other ranks one that counts with them, and shows on `bar` what all have done."""
    return bar if ranks.world_size == 1 else _SharedBar(ranks, bar)


class _SharedBar:
    def __init__(self, ranks: Ranks, bar: Bar) -> None:
        self._ranks, self._bar, self._shown = ranks, bar, 0

    def advance(self, amount: int, note: str = "") -> None:
        """Count `amount` units of this rank, and show those of all."""
        total = self._ranks.count(amount)
        self._bar.advance(total - self._shown, note)
        self._shown = total


@contextlib.contextmanager
def joined_ranks() -> Iterator[Ranks]:
    """The ranks of this command, from the environment that torchrun sets; ALONE without it, and torch is not asked.

    An error inside is told to the other ranks, which then raise RankError; on success all leave together. ConfigError
    where the environment names other ranks that cannot be reached. SIGTERM becomes SystemExit(143).
    """
    here = place()
    if here.world_size == 1:
        yield ALONE
        return
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")  # torchrun --max-restarts may keep one store for all
    ranks = Ranks(here, _launcher_store(here), scope=f"tcs/{attempt}/{next(_call_numbers)}/")
    with _sigterm_exits(), beating(ranks.add, here.rank), ending_together(ranks):
        yield ranks


@contextlib.contextmanager
def ending_together(ranks: Ranks) -> Iterator[None]:
    """Tell an error inside to the other ranks; without one, leave when all can."""
    with telling_failures(ranks):
        yield
        ranks.end()


@contextlib.contextmanager
def telling_failures(ranks: Ranks) -> Iterator[None]:
    """Tell an error inside to the other ranks, at once; RankError comes from them and is not told again."""
    try:
        yield
    except RankError:
        raise
    except Exception as error:
        ranks.fail(_first_line(error))
        raise


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]


@functools.cache
def _launcher_store(here: Place) -> Messages:
    from torch.distributed.rendezvous import rendezvous

    try:
        store: Messages = next(rendezvous("env://", timeout=timedelta(minutes=JOIN_MINUTES)))[0]
    except (RuntimeError, ValueError) as error:
        raise ConfigError(
            f"this is rank {here.rank} of {here.world_size} (RANK, WORLD_SIZE), but the others cannot be reached "
            f"({_first_line(error)}); start all with torchrun, or unset WORLD_SIZE."
        ) from error
    return store


@contextlib.contextmanager
def _sigterm_exits() -> Iterator[None]:
    """Turn SIGTERM, with which torchrun ends the ranks beside a dead one, into an orderly exit (main thread only)."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def leave(number: int, _frame: object) -> None:
        # The decoding processes were ended by the same signal, which torch would report as a failure of theirs.
        if hasattr(signal, "SIGCHLD"):
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    except SystemExit as error:
        if error.code == 128 + signal.SIGTERM:
            say("stopped by SIGTERM; run the same command again to resume.")
        raise
    finally:
        signal.signal(signal.SIGTERM, before)
