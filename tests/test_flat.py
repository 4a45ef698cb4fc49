"""Tensors as bytes and back, and sums laid out flat, in one process."""

import math

import pytest
import torch

from tcs.distributed.collectives import added_up, fill_from_bytes, row_bytes, rows_of, to_bytes

DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.uint8, torch.int64, torch.bool]


def drawn(shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    return (torch.randn(shape, generator=torch.Generator().manual_seed(len(shape))) * 50).to(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(0, 3), (1,), (5,), (5, 3), (4, 3, 2, 2), (3, 0)])
def test_rows_come_back_from_their_bytes_whatever_stands_beside_them(
    dtype: torch.dtype, shape: tuple[int, ...]
) -> None:
    rows, beside = drawn(shape, dtype), torch.ones(shape[0], dtype=torch.uint8)
    packed = torch.cat([row_bytes(beside), row_bytes(rows), row_bytes(beside)], dim=1)  # odd addresses
    assert packed.dtype == torch.uint8
    assert packed.shape == (len(rows), 2 + math.prod(shape[1:]) * rows.itemsize)
    found = rows_of(packed[:, 1:-1], like=rows)
    assert found.dtype == dtype
    assert found.shape == rows.shape
    assert torch.equal(found, rows)


def test_other_numbers_of_rows_have_the_shape_of_a_row() -> None:
    rows = drawn((6, 2, 3), torch.float32)
    assert torch.equal(rows_of(row_bytes(rows), like=rows[:0]), rows)


def test_values_come_back_into_tensors_of_any_layout() -> None:
    tensors = [drawn((), torch.bool), drawn((2, 3, 4, 4), torch.float32), drawn((3,), torch.float64)]
    targets = [torch.zeros_like(tensor) for tensor in tensors]
    targets[1] = targets[1].contiguous(memory_format=torch.channels_last)
    tensors[1] = tensors[1].contiguous(memory_format=torch.channels_last)
    fill_from_bytes(targets, to_bytes(tensors))
    assert all(torch.equal(found, wanted) for found, wanted in zip(targets, tensors, strict=True))
    assert targets[1].is_contiguous(memory_format=torch.channels_last)


def test_values_are_added_up_flat_in_float32_or_wider() -> None:
    dtypes = [torch.float64, torch.bfloat16, torch.float32, torch.float64]
    tensors = [drawn((index + 1, 2), dtype) for index, dtype in enumerate(dtypes)]
    given: list[tuple[torch.dtype, int]] = []

    def treble(values: torch.Tensor) -> None:
        given.append((values.dtype, len(values)))
        values *= 3

    sums = added_up(tensors, treble)
    assert given == [(torch.float64, 2 + 8), (torch.float32, 4 + 6)]
    for found, tensor in zip(sums, tensors, strict=True):
        assert torch.equal(found, tensor.to(found.dtype) * 3)
    assert added_up([], treble) == []
