"""What the ranks of one training do together: gather rows with their gradient, add up gradients, agree, keep one model.

Every rank knows the positions of the whole batch and forwards every W-th of them. The outputs of all rows are gathered,
in the order of the batch, and every rank computes every loss of the whole batch. So memories, queues and statistics of
losses are those of one process, on every rank. A rank's backward pass reaches its own rows only: the sum over ranks is
the gradient of the student, as long as no loss reads its parameters directly: that part would count W times. The gradients
of what the losses own are whole on every rank, and are averaged.

That is why torch's DistributedDataParallel is not used: it takes the mean of the gradients of losses that each rank has
computed of its own rows, and a mean over pairs, or over the labelled rows of a batch, is no mean of such means.

Legend: W ranks, B rows of the batch, b rows of it that fall to one rank, m the largest b, V all values of some tensors.
"""

import itertools
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from tcs.distributed.ranks import ONE_RANK, Ranks
from tcs.errors import ConfigError, ModelError


class Collectives:
    """What training needs of the ranks: every rank makes the same calls in the same order.

    A call raises RankError where a rank that it waits for has ended. A process that is alone gets back what it gives.
    """

    def __init__(self, ranks: Ranks, device: torch.device) -> None:
        """Of all `ranks`, for tensors on `device`."""
        self._ranks, self._device = ranks, device
        self.rank, self.world_size, self.leads = ranks.rank, ranks.world_size, ranks.leads

    def part(self, positions_B: Tensor) -> Tensor:
        """The positions (b) of a batch that fall to this rank: every W-th, from its own number on; none where B is small."""
        return positions_B[self.rank :: self.world_size]

    def gather_rows(self, *parts: Tensor, total: int) -> tuple[Tensor, ...]:
        """Tensors of this rank's rows (b x any shape, any dtype) made whole, in the order of `part`: `total` = B rows each.

        The values are the same bits on every rank. A gradient reaches this rank's rows only, and is not reduced: it is
        right once `sum_gradients` has run, if all ranks compute the same loss.
        """
        mine = slice(self.rank, total, self.world_size)
        expected = len(range(total)[mine])
        found = [len(part_b) for part_b in parts]
        assert set(found) <= {expected}, f"rank {self.rank} has {found} rows, of {total} it should have {expected}"
        return parts if self.world_size == 1 else tuple(self._whole(part_b, mine, total) for part_b in parts)

    def _whole(self, part_b: Tensor, mine: slice, total: int) -> Tensor:
        padded_m = part_b.new_zeros(-(-total // self.world_size), *part_b.shape[1:])
        padded_m[: len(part_b)] = part_b.detach()
        # Row i of the batch is row i // W of rank i % W, so what pads is last.
        whole_B = self._ranks.all_gather(padded_m).transpose(0, 1).flatten(0, 1)[:total]
        whole_B[mine] = part_b  # the same values, with their gradient
        return whole_B

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace the gradients of the trained `parameters` by their sums over ranks, in at least float32.

        A gradient that is None counts as zero, and stays None where it is so on every rank.
        """
        self._reduce_gradients(parameters, 1)

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """`sum_gradients`, divided by W: for what every rank has the whole gradient of, so that rounding cannot part them."""
        self._reduce_gradients(parameters, self.world_size)

    def _reduce_gradients(self, parameters: Iterable[nn.Parameter], divisor: int) -> None:
        trained = [parameter for parameter in parameters if parameter.requires_grad]
        if not trained or self.world_size == 1:
            return
        gradients = [torch.zeros_like(one) if one.grad is None else one.grad for one in trained]
        present = torch.tensor([float(one.grad is not None) for one in trained], device=gradients[0].device)
        flat_V = torch.cat(
            [*(one.reshape(-1) for one in gradients), present]
        )  # as wide as the widest, at least float32
        self._ranks.add_up(flat_V)
        *sums, owners = torch.split(flat_V, [*(one.numel() for one in gradients), len(trained)])
        for parameter, gradient, total, count in zip(trained, gradients, sums, owners.tolist(), strict=True):
            if count:
                parameter.grad = gradient.copy_((total / divisor).view_as(gradient))

    def broadcast_state(self, module: nn.Module) -> None:
        """Give `module` the parameters and buffers of rank 0. ModelError where theirs have other names, shapes or dtypes."""
        named = [*module.named_parameters(), *module.named_buffers()]
        if not named or self.world_size == 1:
            return
        self._require_model_of_first([f"{name} {tuple(tensor.shape)} {tensor.dtype}" for name, tensor in named])
        tensors = [tensor.detach() for _, tensor in named]
        bytes_V = packed(tensors)
        self._ranks.take_from_first(bytes_V)
        for tensor, (first,) in zip(tensors, unpacked(bytes_V[None], tensors), strict=True):
            tensor.copy_(first)

    def _require_model_of_first(self, found: list[str]) -> None:
        for own, first in itertools.zip_longest(found, self.broadcast_json(found), fillvalue="nothing more"):
            if own != first:
                raise ModelError(
                    f"rank {self.rank} has built another model than rank 0: {own} where that has {first}; use the same "
                    "versions of torch and timm for all ranks."
                )

    def average_buffers(self, module: nn.Module) -> None:
        """Replace floating buffers by their means over ranks, and the others by those of rank 0.

        What is equal on all ranks stays as it is, bit for bit. Running variances become means of variances within ranks.
        """
        buffers = list(module.buffers())
        if not buffers or self.world_size == 1:
            return
        for buffer, values_W in zip(buffers, unpacked(self._ranks.all_gather(packed(buffers)), buffers), strict=True):
            first = values_W[0]
            if buffer.is_floating_point():
                # The differences to rank 0 are averaged: the mean of W equal numbers may differ from them in its last bit.
                apart_W = torch.where(values_W == first, 0, values_W - first)
                first = first + apart_W.mean(0, dtype=torch.promote_types(buffer.dtype, torch.float32))
            buffer.copy_(first)

    def any_of(self, flag: bool) -> bool:
        """Whether any rank says so: the same answer on all, so that they stop at the same step.

        Before a rank leaves for it, `barrier`: a rank that leaves early looks failed to a slower one.
        """
        return any(self._ranks.gather_json(flag))

    def broadcast_json(self, value: Any) -> Any:
        """What rank 0 gave, as JSON brings it back (tuples become lists); the values of the others are not read."""
        return self._ranks.broadcast_json(value)

    def barrier(self) -> None:
        """Wait until all ranks are here."""
        self._ranks.gather_json(None)

    def sync_batch_norm(self, module: nn.Module) -> nn.Module:
        """`module` with batch statistics over the rows of all ranks. ConfigError for one process, and on a CPU."""
        if self.world_size == 1:
            raise ConfigError(
                "--sync-bn is set for one process, which has no others to share batch statistics with; leave it out."
            )
        if self._device.type != "cuda":
            raise ConfigError(
                f"--sync-bn is set and --device is '{self._device}'; torch shares batch statistics between ranks on CUDA only, "
                "so leave --sync-bn out: each rank then normalises by the statistics of its own rows."
            )
        from timm.layers import convert_sync_batchnorm  # torch's own would drop the activation inside timm's layers

        converted: nn.Module = convert_sync_batchnorm(module)
        return converted


ALONE = Collectives(ONE_RANK, torch.device("cpu"))


def packed(tensors: Sequence[Tensor]) -> Tensor:
    """All values of `tensors` (any shapes and dtypes), one after the other, as uint8, V: one collective carries them."""
    return torch.cat([tensor.contiguous().view(-1).view(torch.uint8) for tensor in tensors])


def unpacked(bytes_WV: Tensor, tensors: Sequence[Tensor]) -> list[Tensor]:
    """The inverse of `packed`, for what W ranks packed: for each of `tensors` W of its shape and dtype."""
    parts = torch.split(bytes_WV, [tensor.nbytes for tensor in tensors], dim=1)
    # A clone begins at an address that every dtype can be read from.
    flat = [part.clone(memory_format=torch.contiguous_format).view(-1) for part in parts]
    return [own.view(like.dtype).view(len(bytes_WV), *like.shape) for own, like in zip(flat, tensors, strict=True)]
