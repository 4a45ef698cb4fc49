"""The pool: cached coordinates of all rows of a run, a few of them labelled, read in blocks about their mean.

Legend: N rows of the pool, M of them labelled, S rows of a sample, B rows of a block, K coordinates, J = K + 1 (the last
column is 1, so that a bias is a weight), C classes. Rows are float32, sums float64.
"""

import dataclasses
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tcs.errors import DataError
from tcs.runtime import seed_for

BLOCK_ROWS = 8192

SAMPLE_ROWS = 32768  # what class offsets and the spread of scores are measured on; C numbers need no more rows

Rows = NDArray[np.integer]


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Pool:
    """Rows as they were given (`z_NK`, on any device), and where their mean lies and how far they spread.

    `labelled_M` (positions, rising) and `labels_M` are int64 tensors on the CPU. Work is done on `device`. `graphs` keeps neighbour
    graphs by their number of neighbours: they are the same whatever is labelled, so pools of the same rows share them.
    """

    z_NK: Tensor
    labelled_M: Tensor
    labels_M: Tensor
    n_classes: int
    origin_K: Tensor
    spread: float
    device: torch.device
    seed: int
    block_rows: int = BLOCK_ROWS
    graphs: dict[int, Tensor] = dataclasses.field(default_factory=dict)

    @property
    def rows(self) -> int:
        """N."""
        return len(self.z_NK)

    def standardised(self, z_BK: Tensor) -> Tensor:
        """Rows (B, J) float32 on the device: about the pool's mean, of mean variance 1, and a last column of ones."""
        x_BK = (z_BK.to(self.device, torch.float32) - self.origin_K) / self.spread
        return torch.cat([x_BK, x_BK.new_ones(len(x_BK), 1)], dim=1)

    def blocks(self) -> Iterator[tuple[int, Tensor]]:
        """Pairs (first row, standardised block (B, J)) over all rows."""
        for start in range(0, self.rows, self.block_rows):
            yield start, self.standardised(self.z_NK[start : start + self.block_rows])

    def all_rows(self) -> Tensor:
        """Every row (N, J), standardised: for samples."""
        return self.standardised(self.z_NK)

    def labelled(self) -> Tensor:
        """The labelled rows (M, J), standardised."""
        return self.standardised(self.z_NK[self.labelled_M.to(self.z_NK.device)])

    def one_hot(self) -> Tensor:
        """Labels of the labelled rows (M, C), float32 on the device."""
        hot_MC = torch.nn.functional.one_hot(self.labels_M, self.n_classes)
        return hot_MC.to(self.device, torch.float32)

    def label_weight(self, share: float) -> float:
        """What each labelled row weighs beside a row of the pool, for options.label_weight = `share`."""
        labels_per_class = len(self.labels_M) / self.n_classes
        return min(1.0, share * labels_per_class) * self.rows / len(self.labels_M)

    def clamp(self, start: int, p_BC: Tensor) -> Tensor:
        """Soft labels of the block that begins at row `start`, with the labelled rows among them set to their labels."""
        return clamp(p_BC, start, self.labelled_M, self.labels_M)

    def sample(self, most: int = SAMPLE_ROWS) -> Tensor:
        """Positions (S,) of at most `most` rows, rising: all of them, or the labelled rows and a seeded draw of others.

        Where more than half would be labelled rows, as many others are drawn as there are labelled ones.
        """
        most = max(most, 2 * len(self.labelled_M))
        if self.rows <= most:
            return torch.arange(self.rows)
        generator = torch.Generator().manual_seed(seed_for(self.seed, "pool sample"))
        drawn_S = torch.randperm(self.rows, generator=generator)[:most]
        drawn_S = drawn_S[~torch.isin(drawn_S, self.labelled_M)][: most - len(self.labelled_M)]
        return torch.cat([self.labelled_M, drawn_S]).sort().values

    def restricted(self, positions_S: Tensor) -> "Pool":
        """The pool of these rows alone (rising, all labelled rows among them), about the same mean."""
        if len(positions_S) == self.rows:
            return self
        places_M = torch.searchsorted(positions_S, self.labelled_M)
        z_SK = self.z_NK[positions_S.to(self.z_NK.device)]
        return dataclasses.replace(self, z_NK=z_SK, labelled_M=places_M, graphs={})

    def relabelled(self, kept_M: Tensor) -> "Pool":
        """The same rows, of which only the labelled ones where `kept_M` (bool) holds are still labelled."""
        return dataclasses.replace(self, labelled_M=self.labelled_M[kept_M], labels_M=self.labels_M[kept_M])


def clamp(p_BC: Tensor, start: int, labelled_M: Tensor, labels_M: Tensor) -> Tensor:
    """Set, in place, the labelled rows of the block that begins at row `start` to their labels; returns the block.

    `labelled_M` (rows of the pool) and `labels_M` are int64 tensors on the CPU; the block may lie elsewhere.
    """
    inside_M = (labelled_M >= start) & (labelled_M < start + len(p_BC))
    places_m = (labelled_M[inside_M] - start).to(p_BC.device)
    p_BC[places_m] = 0
    p_BC[places_m, labels_M[inside_M].to(p_BC.device)] = 1
    return p_BC


def make_pool(
    z_NK: Tensor | NDArray[np.floating],
    labelled_M: Rows,
    labels_M: Rows,
    n_classes: int,
    *,
    device: torch.device | str = "cpu",
    seed: int = 0,
    block_rows: int = BLOCK_ROWS,
) -> Pool:
    """The pool of rows `z_NK`, of which those at `labelled_M`, in any order, have the labels `labels_M` in 0..n_classes-1.

    DataError where positions or labels are out of range or twice there, where a class has no label, where there are fewer
    than two classes, or where a row is not finite.
    """
    rows_NK = torch.as_tensor(z_NK)
    if rows_NK.ndim != 2 or rows_NK.shape[1] == 0:
        raise DataError(f"coordinates of the pool have shape {tuple(rows_NK.shape)}; they must be (rows, coordinates).")
    positions_M, classes_M = (np.asarray(values, np.int64) for values in (labelled_M, labels_M))
    _check_labels(positions_M, classes_M, len(rows_NK), n_classes)
    order_M = np.argsort(
        positions_M
    )  # folds and sums then depend on which rows have labels, not on the order they are named in
    origin_K, spread = _moments(rows_NK, torch.device(device), block_rows)
    return Pool(
        z_NK=rows_NK,
        labelled_M=torch.from_numpy(positions_M[order_M]),
        labels_M=torch.from_numpy(classes_M[order_M]),
        n_classes=n_classes,
        origin_K=origin_K,
        spread=spread,
        device=torch.device(device),
        seed=seed,
        block_rows=block_rows,
    )


def _check_labels(positions_M: NDArray[np.int64], labels_M: NDArray[np.int64], rows: int, n_classes: int) -> None:
    if n_classes < 2:
        raise DataError(f"labels of {n_classes} class cannot be spread; there must be two classes or more.")
    if len(positions_M) != len(labels_M):
        raise DataError(f"{len(positions_M)} labelled rows have {len(labels_M)} labels; give one label a row.")
    if len(positions_M) and not 0 <= positions_M.min() <= positions_M.max() < rows:
        raise DataError(
            f"labelled rows run from {positions_M.min()} to {positions_M.max()}; they must lie in 0..{rows - 1}, "
            "the rows of the pool."
        )
    if len(np.unique(positions_M)) < len(positions_M):
        values, counts = np.unique(positions_M, return_counts=True)
        raise DataError(f"row {values[counts.argmax()]} of the pool is labelled twice; give one label a row.")
    if len(labels_M) and not 0 <= labels_M.min() <= labels_M.max() < n_classes:
        raise DataError(f"labels run from {labels_M.min()} to {labels_M.max()}; they must lie in 0..{n_classes - 1}.")
    missing = np.setdiff1d(np.arange(n_classes), labels_M)
    if len(missing):
        raise DataError(
            f"class {missing[0]} has no labelled row ({len(missing)} of {n_classes} classes have none); label one, or "
            "number only the classes that have labels."
        )


def _moments(z_NK: Tensor, device: torch.device, block_rows: int) -> tuple[Tensor, float]:
    """Mean (K,) float32 on the device and the root of the mean variance (1 where nothing varies), from sums in float64."""
    provisional_K: Tensor | None = None
    sum_K = square = torch.zeros(())
    for start in range(0, len(z_NK), block_rows):
        block_BK = z_NK[start : start + block_rows].to(device, torch.float32)
        provisional_K = block_BK.mean(0) if provisional_K is None else provisional_K
        x_BK = block_BK - provisional_K
        if not torch.isfinite(x_BK.sum()):
            raise _not_finite(start, z_NK[start : start + block_rows])
        sum_K = sum_K + x_BK.sum(0).double().cpu()
        square = square + x_BK.square().sum().double().cpu()
    assert provisional_K is not None  # a labelled row exists, so a block did
    shift_K = sum_K / len(z_NK)
    variance = float(square / z_NK.numel() - shift_K.square().mean())
    origin_K = (provisional_K.double().cpu() + shift_K).to(torch.float32).to(device)
    return origin_K, variance**0.5 if variance > 1e-12 * float(1 + origin_K.square().max()) else 1.0


def _not_finite(start: int, block_BK: Tensor) -> DataError:
    bad_B = ~torch.isfinite(block_BK).all(dim=1).cpu()
    row = start + int(bad_B.int().argmax())
    return DataError(
        f"row {row} of the pool holds NaN, Inf or a number too large for float32 ({int(bad_B.sum())} such rows in its "
        "block); check the store with tcs cache verify, and extract those rows again."
    )
