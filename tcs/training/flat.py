"""Tensors laid out flat, so that one collective carries many of them; nothing here knows of other processes.

Legend: b rows, Y bytes of a row.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


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
