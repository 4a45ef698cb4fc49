"""The process group of the ranks of one command, with collectives in which no rank waits for one that has failed.

torch's own wait ends when the peer's process does, or after a time limit. Here a rank that waits looks, and asks
`tcs.distributed.ranks` twice a second whether all are well. That is also the reason why nothing overlaps with the backward pass.

Legend: W ranks; m, x any lengths.
"""

import contextlib
import itertools
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from tcs.distributed.ranks import Ranks, telling_failures
from tcs.errors import ConfigError

BACKENDS = {"cpu": "gloo", "cuda": "nccl"}

GROUP_MINUTES = 30  # for what is not looked at: joining, and the layers of --sync-bn

LOOK_SECONDS = (0.00002, 0.0005)  # the first and the longest pause between two looks at a collective

ASK_SECONDS = 0.5


class Group:
    """The default process group of torch.distributed, seen from one rank. Tensors are contiguous and on its device."""

    def __init__(self, ranks: Ranks, name: str) -> None:
        self.ranks, self._name = ranks, name
        self._numbers = itertools.count()  # all ranks make the same calls in the same order

    def new_name(self) -> str:
        """A name for a message among these ranks that none has had, the same on all."""
        return f"{self._name}/{next(self._numbers)}"

    def all_gather(self, part_mx: Tensor) -> Tensor:
        """The tensors of all ranks, of one shape and dtype, stacked in the order of ranks: W x m x x."""
        stacked = part_mx.new_empty((self.ranks.world_size * part_mx.shape[0], *part_mx.shape[1:]))
        with self._hearing():
            self._finish(dist.all_gather_into_tensor(stacked, part_mx, async_op=True))
        return stacked.view(self.ranks.world_size, *part_mx.shape)

    def add_up(self, values: Tensor) -> None:
        """Replace `values` by their sum over ranks, the same bits on every rank."""
        with self._hearing():
            self._finish(dist.all_reduce(values, async_op=True))

    def take_from_first(self, values: Tensor) -> None:
        """Replace `values` by those of rank 0."""
        with self._hearing():
            self._finish(dist.broadcast(values, src=0, async_op=True))

    def _finish(self, work: Any) -> None:
        pause, longest = LOOK_SECONDS
        asked = time.monotonic()
        while not work.is_completed():
            if time.monotonic() - asked > ASK_SECONDS:
                self.ranks.require_all_well()
                asked = time.monotonic()
            time.sleep(pause)
            pause = min(2 * pause, longest)
        work.wait()  # raises what went wrong; on CUDA the current stream then waits for the group's

    @contextlib.contextmanager
    def _hearing(self) -> Iterator[None]:
        """Turn an error of the connection into that of the rank that caused it, as far as that rank could tell it."""
        try:
            yield
        except RuntimeError as error:
            self.ranks.require_all_well()
            lost = self.ranks.lost(error)
            self.ranks.fail(str(lost))
            raise lost from error


@contextlib.contextmanager
def joined_group(device: torch.device, ranks: Ranks, name: str) -> Iterator[Group]:
    """Join all `ranks` in torch's default group, over gloo on a CPU and NCCL on CUDA; `name` is new to these ranks.

    An error inside is told to the others at once, and the group is left as it is: taking it down waits for collectives
    that never end. So the process is expected to end, too. ConfigError for other devices.
    """
    if device.type not in BACKENDS:
        raise ConfigError(
            f"--device is '{device}'; several ranks train on {' or '.join(BACKENDS)} only, so use one of these, or one process."
        )
    with _aborting(device), telling_failures(ranks):
        ranks.meet(f"{name}/join")  # joining blocks: nobody does before all are there
        group = Group(ranks, name)
        _join(device, group, name)
        yield group
        ranks.meet(f"{name}/leave")  # nobody closes a connection that another still reads
    dist.destroy_process_group()


def _join(device: torch.device, group: Group, name: str) -> None:
    ranks, on_cuda = group.ranks, device.type == "cuda"
    if on_cuda:
        torch.cuda.set_device(device)
    with group._hearing():
        dist.init_process_group(
            BACKENDS[device.type],
            store=ranks.store(name),
            rank=ranks.rank,
            world_size=ranks.world_size,
            timeout=timedelta(minutes=GROUP_MINUTES),
            device_id=device if on_cuda else None,
        )


@contextlib.contextmanager
def _aborting(device: torch.device) -> Iterator[None]:
    """On an error, end the kernels of NCCL that wait for other ranks: the end of a process waits for its kernels."""
    try:
        yield
    except BaseException:
        if device.type == "cuda" and (world := dist.group.WORLD) is not None:
            world.abort()
        raise
