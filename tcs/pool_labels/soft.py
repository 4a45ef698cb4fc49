"""Soft labels of a large pool as the likeliest classes of every row, float16: 1,281,167 x 8 of 1,000 classes are 60 MB.

Legend: N rows of the pool, B rows, C classes, T classes kept a row.
"""

import dataclasses

import numpy as np
import torch
from numpy.typing import NDArray

from tcs.errors import require
from tcs.pool_labels.spread import PoolLabels


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class TopClasses:
    """The T likeliest classes of every row, likeliest first: `classes_NT` int32 and `shares_NT` float16."""

    classes_NT: NDArray[np.int32]
    shares_NT: NDArray[np.float16]
    n_classes: int

    def dense(self, rows_B: NDArray[np.integer]) -> NDArray[np.float32]:
        """Soft labels (B, C) float32 of these rows; what the kept classes lack to 1 is shared equally by the others."""
        shares_BT = self.shares_NT[rows_B].astype(np.float32)
        others = self.n_classes - shares_BT.shape[1]
        rest_B1 = (1 - shares_BT.sum(axis=1, keepdims=True)).clip(0) / max(others, 1)
        dense_BC = np.repeat(rest_B1, self.n_classes, axis=1)
        np.put_along_axis(dense_BC, self.classes_NT[rows_B].astype(np.int64), shares_BT, axis=1)
        whole_BC: NDArray[np.float32] = dense_BC / dense_BC.sum(axis=1, keepdims=True)
        return whole_BC


def top_classes(labels: PoolLabels, z_NK: NDArray[np.floating], count: int) -> TopClasses:
    """The `count` likeliest classes of every row of the pool, block by block; ConfigError for a count outside 1..C."""
    n_classes = len(labels.bias_C)
    require(
        1 <= count <= n_classes, f"{count} classes are to be kept a row; keep 1 to {n_classes}, the classes there are."
    )
    classes_NT, shares_NT = np.empty((len(z_NK), count), np.int32), np.empty((len(z_NK), count), np.float16)
    for start, p_BC in labels.blocks(z_NK):
        shares_BT, classes_BT = torch.from_numpy(p_BC).topk(count, dim=1)
        span = slice(start, start + len(p_BC))
        classes_NT[span], shares_NT[span] = classes_BT.numpy(), shares_BT.numpy()
    return TopClasses(classes_NT=classes_NT, shares_NT=shares_NT, n_classes=n_classes)
