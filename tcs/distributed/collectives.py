"""What the ranks of one training do together: gather rows with their gradient, add up gradients, agree, keep one model.

Every rank knows the positions of the whole batch and forwards every W-th of them. The outputs of all rows are gathered,
in the order of the batch, and every rank computes every loss of the whole batch. So memories, queues and statistics of
losses are those of one process, on every rank. A rank's backward pass reaches its own rows only: the sum over ranks is
the gradient of the student, as long as no loss reads its parameters directly: that part would count W times. The gradients
of what the losses own are whole on every rank, and are averaged.

Legend: W ranks, B rows of the batch, b rows of it that fall to one rank, m the largest b, Y bytes of a row.

Tensors laid out flat, so that one collective carries many of them; nothing here knows of other processes.

Legend: b rows, Y bytes of a row.
"""

import contextlib
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from tcs.distributed.group import Group, joined_group
from tcs.distributed.ranks import Ranks
from tcs.errors import ConfigError, ModelError


def row_bytes(rows: Tensor) -> Tensor:
    """The rows of a tensor (b x any shape, any dtype) as uint8, b x Y."""
    return rows.detach().contiguous().unsqueeze(-1).flatten(1).view(torch.uint8)


def rows_of(bytes_bY: Tensor, like: Tensor) -> Tensor:
    """The inverse of `row_bytes`, for any number of rows: dtype and shape of a row are those of `like`."""
    aligned = bytes_bY.clone(memory_format=torch.contiguous_format).view(-1)
    return aligned.view(like.dtype).view(len(bytes_bY), *like.shape[1:])


def to_bytes(tensors: Sequence[Tensor]) -> Tensor:
    """All values of `tensors` (any shapes and dtypes), one after the other, as uint8."""
    return torch.cat([tensor.detach().contiguous().view(-1).view(torch.uint8) for tensor in tensors])


def fill_from_bytes(tensors: Sequence[Tensor], flat: Tensor) -> None:
    """The inverse of `to_bytes`: write the values into `tensors`, in place."""
    for tensor, part in zip(tensors, torch.split(flat, [tensor.nbytes for tensor in tensors]), strict=True):
        tensor.detach().copy_(part.clone().view(tensor.dtype).view(tensor.shape))


def added_up(tensors: Sequence[Tensor], add_up: Callable[[Tensor], None]) -> list[Tensor]:
    """The `tensors` after `add_up`, which works in place: new ones of the same shapes, in float32 or wider.

    `add_up` is called once for each dtype of the results, in the same order wherever the dtypes are the same.
    """
    wide = [torch.promote_types(tensor.dtype, torch.float32) for tensor in tensors]
    sums: dict[int, Tensor] = {}
    for dtype in dict.fromkeys(wide):
        members = [index for index, own in enumerate(wide) if own == dtype]
        flat = torch.cat([tensors[index].detach().reshape(-1).to(dtype) for index in members])
        add_up(flat)
        parts = torch.split(flat, [tensors[index].numel() for index in members])
        sums |= {index: part.view(tensors[index].shape) for index, part in zip(members, parts, strict=True)}
    return [sums[index] for index in range(len(tensors))]


_group_numbers = itertools.count()  # all ranks make the same calls in the same order


class Collectives(Protocol):
    """What training needs of the ranks. Every rank makes the same calls in the same order.

    Where another rank has failed, each call raises RankError with that rank's message, within about a second.
    """

    @property
    def rank(self) -> int:
        """The number of this process, from 0 on."""

    @property
    def world_size(self) -> int:
        """The number of processes, W."""

    @property
    def leads(self) -> bool:
        """Whether this is rank 0, which alone writes files and speaks."""

    def part(self, positions_B: Tensor) -> Tensor:
        """The positions (b) of a batch that fall to this rank: every W-th, from its own number on; none where B is small."""

    def gather_rows(self, *parts: Tensor, total: int) -> tuple[Tensor, ...]:
        """Tensors of this rank's rows (b x any shape, any dtype) made whole, in the order of `part`: `total` = B rows each.

        The values are the same bits on every rank. A gradient reaches this rank's rows only, and is not reduced: it is
        right once `sum_gradients` has run, if all ranks compute the same loss.
        """

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace the gradients of the trained `parameters` by their sums over ranks, in at least float32.

        A gradient that is None counts as zero, and stays None where it is so on every rank.
        """

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """`sum_gradients`, divided by W: for what every rank has the whole gradient of, so that rounding cannot part them."""

    def broadcast_state(self, module: nn.Module) -> None:
        """Give `module` the parameters and buffers of rank 0. ModelError where theirs have other names, shapes or dtypes."""

    def average_buffers(self, module: nn.Module) -> None:
        """Replace floating buffers by their means over ranks, and the others by those of rank 0.

        What is equal on all ranks stays as it is, bit for bit. Running variances become means of variances within ranks.
        """

    def any_of(self, flag: bool) -> bool:
        """Whether any rank says so: the same answer on all, so that they stop at the same step.

        Before a rank leaves for it, `barrier`: a connection that is closed early looks like a failure to a slower rank.
        """

    def broadcast_json(self, value: Any) -> Any:
        """What rank 0 gave, as JSON brings it back (tuples become lists); the values of the others are not read."""

    def barrier(self) -> None:
        """Wait without limit until all ranks are here."""

    def sync_batch_norm(self, module: nn.Module) -> nn.Module:
        """`module` with batch statistics over the rows of all ranks. ConfigError for one process, and on a CPU."""


class _Alone:
    """One process: everything is there already. What is given is given back."""

    rank, world_size, leads = 0, 1, True

    def part(self, positions_B: Tensor) -> Tensor:
        return positions_B

    def gather_rows(self, *parts: Tensor, total: int) -> tuple[Tensor, ...]:
        assert all(len(part) == total for part in parts), "the only rank has all rows"
        return parts

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        pass

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        pass

    def broadcast_state(self, module: nn.Module) -> None:
        pass

    def average_buffers(self, module: nn.Module) -> None:
        pass

    def any_of(self, flag: bool) -> bool:
        return flag

    def broadcast_json(self, value: Any) -> Any:
        return value

    def barrier(self) -> None:
        pass

    def sync_batch_norm(self, module: nn.Module) -> nn.Module:  # noqa: ARG002
        raise ConfigError(
            "--sync-bn is set for one process, which has no others to share batch statistics with; leave it out."
        )


ALONE: Collectives = _Alone()


@contextlib.contextmanager
def joined_collectives(device: torch.device, ranks: Ranks) -> Iterator[Collectives]:
    """The collectives of all `ranks`, for tensors on `device`; ALONE for one process, and no group is made.

    They go over gloo on a CPU and NCCL on CUDA. Inside `tcs.distributed.ranks.joined_ranks`, and left before it. An error inside ends
    all ranks: this one raises it, the others RankError with its message. ConfigError for devices other than cpu and cuda.
    """
    if ranks.world_size == 1:
        yield ALONE
        return
    with joined_group(device, ranks, f"group {next(_group_numbers)}") as group:
        yield _Together(group, device)


class _Together:
    def __init__(self, group: Group, device: torch.device) -> None:
        self._group, self._device = group, device
        self.rank, self.world_size, self.leads = group.ranks.rank, group.ranks.world_size, group.ranks.leads

    def part(self, positions_B: Tensor) -> Tensor:
        return positions_B[self.rank :: self.world_size]

    def gather_rows(self, *parts: Tensor, total: int) -> tuple[Tensor, ...]:
        mine = slice(self.rank, total, self.world_size)
        bytes_bY = torch.cat([row_bytes(part) for part in parts], dim=1)
        expected = len(range(total)[mine])
        assert len(bytes_bY) == expected, (
            f"rank {self.rank} has {len(bytes_bY)} rows, of {total} it should have {expected}"
        )
        padded_mY = bytes_bY.new_zeros(-(-total // self.world_size), bytes_bY.shape[1])
        padded_mY[: len(bytes_bY)] = bytes_bY
        # Row i of the batch is row i // W of rank i % W, so what pads is last.
        bytes_BY = self._group.all_gather(padded_mY).transpose(0, 1).flatten(0, 1)[:total]
        widths = [row_bytes(part).shape[1] for part in parts]
        wholes = [rows_of(own, part) for own, part in zip(torch.split(bytes_BY, widths, dim=1), parts, strict=True)]
        for whole, part in zip(wholes, parts, strict=True):
            whole[mine] = part  # the same values, with their gradient
        return tuple(wholes)

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        self._reduce_gradients(parameters, 1)

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        self._reduce_gradients(parameters, self.world_size)

    def _reduce_gradients(self, parameters: Iterable[nn.Parameter], divisor: int) -> None:
        trained = [parameter for parameter in parameters if parameter.requires_grad]
        if not trained:
            return
        gradients = [torch.zeros_like(one) if one.grad is None else one.grad for one in trained]
        present = trained[0].new_tensor([one.grad is not None for one in trained])
        *sums, owners = added_up([*gradients, present], self._group.add_up)
        for parameter, gradient, total, count in zip(trained, gradients, sums, owners.tolist(), strict=True):
            if count:
                parameter.grad = gradient.copy_(total / divisor)

    def broadcast_state(self, module: nn.Module) -> None:
        named = [*module.named_parameters(), *module.named_buffers()]
        found = [f"{name} {tuple(tensor.shape)} {tensor.dtype}" for name, tensor in named]
        for own, first in itertools.zip_longest(found, self.broadcast_json(found), fillvalue="nothing more"):
            if own != first:
                raise ModelError(
                    f"rank {self.rank} has built another model than rank 0: {own} where that has {first}; use the same "
                    "versions of torch and timm for all ranks."
                )
        self._take_from_first([tensor for _, tensor in named])

    def _take_from_first(self, tensors: list[Tensor]) -> None:
        if tensors:
            flat = to_bytes(tensors)
            self._group.take_from_first(flat)
            fill_from_bytes(tensors, flat)

    def average_buffers(self, module: nn.Module) -> None:
        buffers = list(module.buffers())
        floating = [buffer for buffer in buffers if buffer.is_floating_point()]
        own = [buffer.clone() for buffer in floating]
        self._take_from_first(buffers)
        # The differences to rank 0 are averaged: the mean of W equal numbers may differ from them in its last bit.
        apart = [torch.where(mine == first, 0, mine - first) for mine, first in zip(own, floating, strict=True)]
        for buffer, total in zip(floating, added_up(apart, self._group.add_up), strict=True):
            buffer.copy_(buffer + total / self.world_size)

    def any_of(self, flag: bool) -> bool:
        count = torch.tensor([int(flag)], device=self._device)
        self._group.add_up(count)
        return bool(count.item())

    def broadcast_json(self, value: Any) -> Any:
        ranks, name = self._group.ranks, self._group.new_name()
        if self.leads:
            ranks.post(name, value)
        return ranks.receive(name)

    def barrier(self) -> None:
        self._group.ranks.meet(self._group.new_name())

    def sync_batch_norm(self, module: nn.Module) -> nn.Module:
        if self._device.type != "cuda":
            raise ConfigError(
                f"--sync-bn is set and --device is '{self._device}'; torch shares batch statistics between ranks on CUDA only, "
                "so leave --sync-bn out: each rank then normalises by the statistics of its own rows."
            )
        from timm.layers import convert_sync_batchnorm  # torch's own would drop the activation inside timm's layers

        converted: nn.Module = convert_sync_batchnorm(module)
        return converted
