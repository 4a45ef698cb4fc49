"""The processes that torchrun started for one command: one process group, and what they tell each other in JSON.

torchrun starts the ranks, and ends those of a machine where one has failed. Whatever one rank waits for is a collective, and
gloo ends a collective as soon as the process of a peer is gone. So nothing here watches anybody: a rank that fails tells its
own error and ends, and the others end for that.

Legend: W ranks, x any shape, T bytes of a text.
"""

import collections
import contextlib
import functools
import itertools
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

from tcs.errors import ConfigError, RankError, first_line, listed
from tcs.runtime import Bar, Place, pick_device, place, say

BACKENDS = {"cpu": "gloo", "cuda": "cpu:gloo,cuda:nccl"}
JOIN_TIMEOUT = timedelta(minutes=5)  # a machine that reads its packages over a network takes one
TELL_SECONDS = 30.0  # after which the wait for ranks that have not joined is told
WAIT_TIMEOUT = timedelta(minutes=30)  # for ranks that take equal steps: rank 0 alone looks at held-out rows, and saves
LAUNCHER_SECONDS = 2.0  # torchrun sees within a tenth of a second that a rank has ended, and then ends the others
LOOK_SECONDS = 0.2

_Item = TypeVar("_Item")
_joins = itertools.count()  # groups that follow each other in one launch keep their keys apart


class Ranks:
    """This process among `world_size`, of which rank 0 leads: it alone speaks, judges, and holds locks.

    All ranks make the same calls in the same order, but for `share` and `count`. A call raises RankError where a rank that it
    waits for has ended.
    """

    def __init__(self, here: Place, store: Store | None = None) -> None:
        """`store` counts for all ranks; None for a process that is alone."""
        self.rank, self.world_size = here.rank, here.world_size
        self._store = store
        # torch 2.7 ends a group with the interpreter's lock held, which its threads need to free tensors that nobody else has.
        self._held: collections.deque[Any] = collections.deque(maxlen=4)

    @property
    def leads(self) -> bool:
        """Whether this is rank 0."""
        return self.rank == 0

    def share(self, items: Sequence[_Item]) -> list[_Item]:
        """The items that fall to this rank: every W-th, so that each rank's first ones are the first."""
        return list(items[self.rank :: self.world_size])

    def gather_json(self, value: Any, meanwhile: Callable[[], None] | None = None) -> list[Any]:
        """The values of all ranks, in their order, as JSON brings them back (tuples become lists).

        `meanwhile` is called now and then while this rank waits, which it then does without deafness to signals.
        """
        if self.world_size == 1:
            return [value]
        text_T = torch.frombuffer(bytearray(json.dumps(value).encode()), dtype=torch.uint8)
        sizes = self.all_gather(torch.tensor([len(text_T)]), meanwhile).flatten().tolist()
        padded_T = text_T.new_zeros(max(sizes))
        padded_T[: len(text_T)] = text_T
        texts_WT = self.all_gather(padded_T).numpy()
        return [json.loads(text_T[:size].tobytes()) for text_T, size in zip(texts_WT, sizes, strict=True)]

    def broadcast_json(self, value: Any) -> Any:
        """What rank 0 gave; the values of the others are not read."""
        return self.gather_json(value if self.leads else None)[0]

    def count(self, amount: int) -> int:
        """Add to the units done by all ranks; returns their sum so far, and waits for nobody."""
        assert self._store is not None, "a process that is alone has nobody to count with"
        with self._hearing():
            total: int = self._store.add("units", amount)
        return total

    def all_gather(self, part_x: Tensor, meanwhile: Callable[[], None] | None = None) -> Tensor:
        """The tensors of all ranks (one shape of a dimension or more, any one dtype), in their order: W x x."""
        stacked_Wx = part_x.new_empty((self.world_size, *part_x.shape))
        # Not all_gather_into_tensor, which some versions deprecate for a name that others lack; bytes, as gloo lacks dtypes.
        parts = [one.view(torch.uint8) for one in stacked_Wx.unbind()]
        own = part_x.contiguous().view(torch.uint8)
        self._held.append((parts, own))
        with self._hearing():
            work = dist.all_gather(parts, own, async_op=True)
            assert work is not None
            while meanwhile is not None and not work.is_completed():
                time.sleep(LOOK_SECONDS)
                meanwhile()
            work.wait()
        return stacked_Wx

    def add_up(self, values_x: Tensor) -> None:
        """Replace `values_x` (contiguous) by their sum over ranks, the same bits on every rank."""
        with self._hearing():
            dist.all_reduce(values_x)

    def take_from_first(self, values_x: Tensor) -> None:
        """Replace `values_x` (contiguous, a dtype of gloo's) by those of rank 0."""
        with self._hearing():
            dist.broadcast(values_x, src=0)

    @contextlib.contextmanager
    def _hearing(self) -> Iterator[None]:
        """Make RankError of what torch raises where a peer is gone: a DistError, or from gloo a plain RuntimeError."""
        try:
            yield
        except RuntimeError as error:
            what = first_line(error).partition(". ")[0].rpartition("] ")[2]  # without gloo's file and advice
            raise RankError(
                f"rank {self.rank} has lost the other ranks ({what}); run the same command again to resume."
            ) from error


ONE_RANK = Ranks(Place())


class _SharedBar:
    def __init__(self, ranks: Ranks, bar: Bar) -> None:
        self._ranks, self._bar, self._shown = ranks, bar, 0

    def advance(self, amount: int, note: str = "") -> None:
        """Count `amount` units of this rank, and show those of all."""
        total = self._ranks.count(amount)
        self._bar.advance(total - self._shown, note)
        self._shown = total


def shared_bar(ranks: Ranks, bar: Bar) -> Bar:
    """`bar`, or where there are other ranks one that counts with them, and shows on `bar` what all have done."""
    return bar if ranks.world_size == 1 else _SharedBar(ranks, bar)


@contextlib.contextmanager
def joined_ranks(device: str = "cpu", longest_wait: timedelta = WAIT_TIMEOUT) -> Iterator[Ranks]:
    """The ranks of this command in torch's default process group, from the environment that torchrun sets; ONE_RANK without it.

    Tensors of a CPU go over gloo; where `device` is of CUDA, its own go over NCCL. A collective that takes longer than
    `longest_wait` fails. On success all leave together. After an error the group is left as it is, since its end would wait for
    collectives that never end, and so the process is expected to end, too: that is how the other ranks hear of it.

    SIGTERM becomes SystemExit(143). ConfigError for other devices, and where the other ranks cannot be reached.
    """
    here = place()
    if here.world_size == 1:
        yield ONE_RANK
        return
    ranks = Ranks(here, _join(here, device, longest_wait))
    with _sigterm_exits(), _aborting_kernels(device):
        try:
            yield ranks
            ranks.gather_json(None)  # a connection that is closed early looks like a failure to a slower rank
        except RankError:
            time.sleep(LAUNCHER_SECONDS)  # its SIGTERM comes first, where it has seen the failure as well
            raise
    dist.destroy_process_group()


def _join(here: Place, device: str, longest_wait: timedelta) -> Store:
    """Makes the default process group; returns a store of its own for all its ranks."""
    picked = pick_device(device)
    if picked.type not in BACKENDS:
        raise ConfigError(
            f"--device is '{device}'; several ranks work on {' or '.join(BACKENDS)} only, so use one of these, or one process."
        )
    if picked.type == "cuda":
        torch.cuda.set_device(picked)
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")  # torchrun --max-restarts may keep one store for all
    try:
        store = PrefixStore(f"tcs/{attempt}/{next(_joins)}", _launcher_store())
        _await_all(store, here, JOIN_TIMEOUT)
        dist.init_process_group(
            BACKENDS[picked.type], store=store, rank=here.rank, world_size=here.world_size, timeout=longest_wait
        )
    except (RuntimeError, ValueError) as error:
        raise ConfigError(
            f"this is rank {here.rank} of {here.world_size} (RANK, WORLD_SIZE), but the others cannot be reached "
            f"({first_line(error)}); start all with torchrun, or unset WORLD_SIZE."
        ) from error
    return store


def _await_all(store: Store, here: Place, longest: timedelta) -> None:
    """Wait until every rank has said in `store` that it is there. ConfigError, naming them, where some have not in time: one that was
    killed before it got here looks like one that is slow."""
    store.set(f"here/{here.rank}", "1")
    missing, began, told = list(range(here.world_size)), time.monotonic(), False
    while missing := [rank for rank in missing if not store.check([f"here/{rank}"])]:
        waited = time.monotonic() - began
        if waited > longest.total_seconds():
            raise ConfigError(
                f"rank {listed(missing, 5)} of {here.world_size} has not joined in {waited:,.0f} s, and rank {here.rank} waits no "
                "longer; see what that process says, and start all again."
            )
        if waited > TELL_SECONDS and not told:
            say(f"waiting for rank {listed(missing, 5)} of {here.world_size} to join.")
            told = True
        time.sleep(LOOK_SECONDS / 4)


@functools.cache  # without torchrun's own, rank 0 serves it, as long as it lives
def _launcher_store() -> Store:
    store: Store = next(rendezvous("env://", timeout=JOIN_TIMEOUT))[0]
    return store


@contextlib.contextmanager
def _aborting_kernels(device: str) -> Iterator[None]:
    """On an error, end the kernels of NCCL that wait for other ranks: the end of a process waits for its kernels."""
    try:
        yield
    except BaseException:
        if device.startswith("cuda") and dist.group.WORLD is not None:
            dist.group.WORLD.abort()
        raise


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
