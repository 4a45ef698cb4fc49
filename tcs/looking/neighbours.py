"""The nearest rows of a few rows in one measure, and how many of the nearest in another measure are among them.

Rows are prepared so that a product says how near two are: unit rows give cosines, rows of +-1 bits give H less twice the number of
bits that differ. All rows are read once, block by block, and products are compared as whole numbers of `1 / scale`: equal ones are
ties, of which the lower row comes first where rows are named. Rows that tie for the last places are kept in equal shares, as if drawn,
so that a measure in which all rows are alike keeps what chance keeps.

Legend: Q rows asked for, N rows, B rows of a block, X columns, k neighbours.
"""

import dataclasses
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
Ints = NDArray[np.int64]
Blocks = Iterator[tuple[int, F32]]

COSINE_SCALE = 10**6  # float32 products of unit rows are sure to about 1e-7
FARTHEST = -(2**31)  # below every product in units: bits are 8192 at most


@dataclasses.dataclass(frozen=True, eq=False)
class Near:
    """rows_Qk int64, nearest first; products_Qk float64; kept_Q float64, the share of the rows wanted that is among them, if any were
    wanted."""

    rows_Qk: Ints
    products_Qk: F64
    kept_Q: F64 | None


def nearest_rows(
    asked_QX: F32, own_Q: Ints, blocks: Blocks, rows: int, count: int, scale: int, wanted_Qk: Ints | None = None
) -> Near:
    """The `count` (at most `rows` - 1) nearest of the N = `rows` rows in `blocks` of every asked one, itself (`own_Q`) left out."""
    search = _Search(torch.from_numpy(asked_QX), torch.from_numpy(own_Q), rows, count, scale)
    wanted = None if wanted_Qk is None else torch.from_numpy(wanted_Qk)
    found = None if wanted is None else torch.full(wanted.shape, FARTHEST)
    for start, block_BX in blocks:
        units_QB = search.take(start, torch.from_numpy(block_BX))
        if wanted is not None and found is not None:
            is_here_Qk = (wanted >= start) & (wanted < start + len(block_BX))
            here_Qk = units_QB.gather(1, (wanted - start).clamp(0, len(block_BX) - 1))
            found = torch.where(is_here_Qk, here_Qk, found)
    return search.near(found)


class _Search:
    """The nearest rows so far. A row's key orders by product, then by row, so that no two keys are equal."""

    def __init__(self, asked_QX: Tensor, own_Q: Tensor, rows: int, count: int, scale: int) -> None:
        self._asked_QX, self._own_Q, self._rows, self._scale = asked_QX, own_Q, rows, scale
        self._keys_Qk = torch.full((len(asked_QX), count), FARTHEST * rows)
        self._tied_Q = torch.zeros(len(asked_QX), dtype=torch.int64)  # rows that are as near as the last one kept

    def take(self, start: int, block_BX: Tensor) -> Tensor:
        """Go on with a block; its products in whole units (Q, B), FARTHEST for a row itself."""
        units_QB = (self._asked_QX @ block_BX.T * self._scale).round().long()
        numbers_B = torch.arange(start, start + len(block_BX))
        units_QB.masked_fill_(self._own_Q[:, None] == numbers_B, FARTHEST)
        keys_QB = units_QB * self._rows + (self._rows - 1 - numbers_B)
        before_Qk = self._units()
        self._keys_Qk = torch.cat([self._keys_Qk, keys_QB], 1).topk(self._keys_Qk.shape[1], 1).values
        last_Q1 = self._units()[:, -1:]
        earlier_Q = torch.where(
            last_Q1[:, 0] == before_Qk[:, -1], self._tied_Q, (before_Qk == last_Q1).sum(1)
        )  # a last place that moved up has all its earlier ties among the rows that were kept
        self._tied_Q = earlier_Q + (units_QB == last_Q1).sum(1)
        return units_QB

    def near(self, wanted_Qk: Tensor | None) -> Near:
        """What was found; `wanted_Qk` are products of wanted rows, in units."""
        units_Qk = self._units()
        rows_Qk = self._rows - 1 - self._keys_Qk.remainder(self._rows)
        kept_Q = None if wanted_Qk is None else self._kept(units_Qk, wanted_Qk).numpy()
        return Near(rows_Qk.numpy(), units_Qk.double().numpy() / self._scale, kept_Q)

    def _kept(self, units_Qk: Tensor, wanted_Qk: Tensor) -> Tensor:
        last_Q1 = units_Qk[:, -1:]
        places_Q1 = (units_Qk == last_Q1).sum(1, keepdim=True).double()
        shares_Qk = (wanted_Qk > last_Q1) + (wanted_Qk == last_Q1) * (places_Q1 / self._tied_Q[:, None])
        return shares_Qk.mean(1)

    def _units(self) -> Tensor:
        return torch.div(self._keys_Qk, self._rows, rounding_mode="floor")
