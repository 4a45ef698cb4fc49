"""What a ridge regression is fitted to: columns of numbers, or one-hot classes, which are never written out.

The targets of row i in class c are `offset + 2 e_c`: +-1 for an offset of -1, and about their mean for -1 - mean. Their products with
anything are sums over the rows of a class, so that a thousand classes cost what the rows cost.

Legend: N rows, K coordinates, J eigenvectors, C outputs or classes. All arithmetic is float64.
"""

import dataclasses
from collections.abc import Sequence
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from tcs.errors import DataError

Array = NDArray[np.floating]
F64 = NDArray[np.float64]
FEW_OUTPUTS = 0.5  # of the coordinates; below it a residual for each output is the cheaper way


class Targets(Protocol):
    """Targets (N, C) of N rows."""

    def __len__(self) -> int:
        """N."""

    @property
    def outputs(self) -> int:
        """C."""

    def at(self, rows: slice | NDArray[np.integer]) -> Self:
        """Those of some rows."""

    def joined(self, others: Sequence[Self]) -> Self:
        """These, and `others` after them."""

    def about(self, mean_C: F64) -> Self:
        """These minus `mean_C`."""

    def dense(self) -> F64:
        """Written out, (N, C)."""

    def sums(self) -> F64:
        """Sum over the rows, (C,)."""

    def squares(self) -> F64:
        """Squared length of each row, (N,)."""

    def cross(self, x_NK: F64) -> F64:
        """Products X'Y, (K, C)."""

    def products(self, projected_JC: F64) -> F64:
        """Products Y P', (N, J)."""


@dataclasses.dataclass(frozen=True, eq=False)
class DenseTargets:
    """Any numbers (N, C)."""

    values_NC: Array

    def __len__(self) -> int:
        return len(self.values_NC)

    @property
    def outputs(self) -> int:
        """C."""
        return int(self.values_NC.shape[1])

    def at(self, rows: slice | NDArray[np.integer]) -> "DenseTargets":
        """Those of some rows."""
        return DenseTargets(self.values_NC[rows])

    def joined(self, others: Sequence["DenseTargets"]) -> "DenseTargets":
        """These, and `others` after them."""
        return DenseTargets(np.concatenate([self.dense(), *(other.dense() for other in others)]))

    def about(self, mean_C: F64) -> "DenseTargets":
        """These minus `mean_C`."""
        return DenseTargets(self.values_NC - mean_C)

    def dense(self) -> F64:
        """The numbers."""
        return np.asarray(self.values_NC, np.float64)

    def sums(self) -> F64:
        """Sum over the rows, (C,)."""
        total_C: F64 = self.values_NC.sum(axis=0, dtype=np.float64)
        return total_C

    def squares(self) -> F64:
        """Squared length of each row, (N,)."""
        values_NC = self.dense()
        squares_N: F64 = np.einsum("nc,nc->n", values_NC, values_NC)
        return squares_N

    def cross(self, x_NK: F64) -> F64:
        """Products X'Y, (K, C)."""
        return x_NK.T @ self.values_NC

    def products(self, projected_JC: F64) -> F64:
        """Products Y P', (N, J)."""
        return self.dense() @ projected_JC.T


@dataclasses.dataclass(frozen=True, eq=False)
class ClassTargets:
    """`offset_C`, and 2 more in the column of the row's class: `labels_N`, integers in 0..C-1."""

    labels_N: NDArray[np.integer]
    offset_C: F64

    def __len__(self) -> int:
        return len(self.labels_N)

    @property
    def outputs(self) -> int:
        """C."""
        return len(self.offset_C)

    def at(self, rows: slice | NDArray[np.integer]) -> "ClassTargets":
        """Those of some rows."""
        return ClassTargets(self.labels_N[rows], self.offset_C)

    def joined(self, others: Sequence["ClassTargets"]) -> "ClassTargets":
        """These, and `others` after them, of the same offset."""
        return ClassTargets(np.concatenate([self.labels_N, *(other.labels_N for other in others)]), self.offset_C)

    def about(self, mean_C: F64) -> "ClassTargets":
        """These minus `mean_C`."""
        return ClassTargets(self.labels_N, self.offset_C - mean_C)

    def dense(self) -> F64:
        """Written out, (N, C)."""
        values_NC = np.tile(self.offset_C, (len(self), 1))
        values_NC[np.arange(len(self)), self.labels_N] += 2
        return values_NC

    def sums(self) -> F64:
        """Sum over the rows, (C,)."""
        total_C: F64 = len(self) * self.offset_C + 2 * np.bincount(self.labels_N, minlength=self.outputs)
        return total_C

    def squares(self) -> F64:
        """Squared length of each row, (N,): (o + 2)^2 - o^2 = 4 o + 4 in the column of its class."""
        squares_N: F64 = self.offset_C @ self.offset_C + 4 * (self.offset_C[self.labels_N] + 1)
        return squares_N

    def cross(self, x_NK: F64) -> F64:
        """Products X'Y, (K, C): of the sum of all rows with the offset, and twice the sums of the rows of each class."""
        order_N = np.argsort(self.labels_N, kind="stable")
        present_c, starts_c = np.unique(self.labels_N[order_N], return_index=True)
        cross_CK = np.outer(self.offset_C, x_NK.sum(axis=0))
        if len(present_c):
            cross_CK[present_c] += 2 * np.add.reduceat(x_NK[order_N], starts_c, axis=0)
        return cross_CK.T

    def products(self, projected_JC: F64) -> F64:
        """Products Y P', (N, J)."""
        products_NJ: F64 = projected_JC @ self.offset_C + 2 * projected_JC.T[self.labels_N]
        return products_NJ


def has_many(outputs: int, coordinates: int) -> bool:
    """Whether sums over classes and products of outputs are cheaper than a number for each row and output."""
    return outputs >= FEW_OUTPUTS * coordinates


def one_hot(labels_N: NDArray[np.integer], n_classes: int, coordinates: int) -> F64 | ClassTargets:
    """+-1 one-hot targets (N, C) of rows of so many coordinates: of few classes written out, of many as classes.

    DataError where a label lies outside 0..n_classes-1.
    """
    labels_N = np.asarray(labels_N)
    if has_many(n_classes, coordinates):
        _check(labels_N, n_classes)
        return ClassTargets(labels_N, np.full(n_classes, -1.0))
    return signed_targets(labels_N, n_classes)


def signed_targets(labels_N: NDArray[np.integer], n_classes: int) -> F64:
    """+-1 one-hot targets (N, C), float64. DataError where a label lies outside 0..n_classes-1."""
    _check(labels_N, n_classes)
    return ClassTargets(labels_N, np.full(n_classes, -1.0)).dense()


def _check(labels_N: NDArray[np.integer], n_classes: int) -> None:
    if len(labels_N) and (labels_N.min() < 0 or labels_N.max() >= n_classes):
        raise DataError(f"labels run from {labels_N.min()} to {labels_N.max()}; they must lie in 0..{n_classes - 1}.")
