"""IbM2 from cached features: a cosine head fitted to noisy copies of a few labelled rows, at a noise level that is searched.

The published recipe: features of unit length; M = 200 copies of every row, drawn anew at every step; Adam at lr x batch / 256
with cosine to 0; label smoothing 0.1; scale 10. The noise level is bisected on [0, 10] with 20 epochs at lr 1 a try, going on
with one head; the head is then fitted afresh, 100 epochs at lr 0.05. Two things the published text leaves open, and what
is done here: the clean accuracy of the threshold is that of a head fitted without noise by the final recipe, and the rate
falls once an epoch. A batch holds up to 256 rows (with all their copies), the rate does not fall for a smaller last one.

Legend: N support rows, B rows of a batch, R copies of each, C classes, D feature dims.
"""

import dataclasses
import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tcs.errors import DataError, require
from tcs.functional.ibm2 import (
    COPIES,
    EpsilonSearch,
    cosine_logits,
    noisy_copies,
    search_epsilon,
    smoothed_loss,
    support_std,
)
from tcs.functional.norms import unit
from tcs.runtime import seed_for

CHUNK_VALUES = 1 << 21  # of noisy copies at once: what fits a processor's cache is twice as fast as all at once
SCALE = 10.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ibm2Recipe:
    """The published numbers. Another value of any is another method, to be named so."""

    copies: int = COPIES
    epochs: int = 100
    lr: float = 0.05
    search_epochs: int = 20
    search_lr: float = 1.0
    batch_size: int = 256
    smoothing: float = 0.1

    def __post_init__(self) -> None:
        require(
            self.copies >= 1, f"--copies is {self.copies}; it must be 1 or more (the published recipe has {COPIES})."
        )
        require(min(self.epochs, self.search_epochs) >= 1, "epochs and search_epochs of IbM2 must be 1 or more.")
        require(self.batch_size >= 1, f"batch_size of IbM2 is {self.batch_size}; it must be 1 or more.")


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Ibm2Head:
    """`weight_CD` float64: the classes order as the cosine head's do; `search` says how the noise level was found.

    The cosine head divides by the length of the feature, one positive number a row, so `x @ weight_CD.T` ranks the
    classes of a row as the head itself does.
    """

    weight_CD: NDArray[np.float64]
    search: EpsilonSearch
    clean_accuracy: float


class _CosineHead:
    """Directions (C, D) and gains (C,), started as a weight-normed linear layer: uniform directions, their lengths as gains."""

    def __init__(self, n_classes: int, dims: int, seed: int, device: torch.device) -> None:
        generator = torch.Generator().manual_seed(seed_for(seed, "ibm2 head"))
        start_CD = (2 * torch.rand(n_classes, dims, generator=generator) - 1) / math.sqrt(dims)
        self.gains_C = torch.linalg.vector_norm(start_CD, dim=1).to(device).requires_grad_()
        self.directions_CD = start_CD.to(device).requires_grad_()

    def logits(self, x_BD: Tensor) -> Tensor:
        return cosine_logits(x_BD, self.directions_CD, self.gains_C, SCALE)

    def merged(self) -> NDArray[np.float64]:
        weight_CD = SCALE * self.gains_C.unsqueeze(1) * unit(self.directions_CD, dim=1)
        found_CD: NDArray[np.float64] = weight_CD.detach().cpu().double().numpy()
        return found_CD


def fit_ibm2(
    features_ND: NDArray[np.floating],
    labels_N: NDArray[np.integer],
    n_classes: int,
    *,
    seed: int,
    recipe: Ibm2Recipe | None = None,
    device: str | torch.device = "cpu",
) -> Ibm2Head:
    """The head of the published recipe. Deterministic for a seed on one kind of device.

    Memory: CHUNK_VALUES floats and a few times that, or the copies of one row. ConfigError for fewer than two rows, DataError
    for features that are not finite.
    """
    if not np.isfinite(features_ND).all():
        raise DataError("IbM2 met features that are not finite (NaN or Inf); check the teacher's output.")
    return _Fit(features_ND, labels_N, n_classes, seed, recipe or Ibm2Recipe(), torch.device(device)).run()


class _Fit:
    """One run: the support on its device, and noise that is a pure function of (seed, training, step, chunk)."""

    def __init__(
        self,
        features_ND: NDArray[np.floating],
        labels_N: NDArray[np.integer],
        n_classes: int,
        seed: int,
        recipe: Ibm2Recipe,
        device: torch.device,
    ) -> None:
        self._support_ND = unit(torch.from_numpy(np.ascontiguousarray(features_ND, np.float32)).to(device), dim=1)
        self._std_D = support_std(self._support_ND)
        self._labels_N = torch.from_numpy(np.ascontiguousarray(labels_N, np.int64)).to(device)
        self._n_classes, self._seed, self._recipe, self._device = n_classes, seed, recipe, device
        self._chunk_rows = max(1, CHUNK_VALUES // (recipe.copies * self._support_ND.shape[1]))

    def run(self) -> Ibm2Head:
        recipe = self._recipe
        clean = self._new_head()
        self._train(clean, 0.0, "clean", recipe.epochs, recipe.lr)
        clean_accuracy = self._accuracy(clean, 0.0, "clean")
        searched, tries = self._new_head(), iter(range(1000))

        def accuracy_at(epsilon: float) -> float:
            purpose = f"search {next(tries)}"
            self._train(searched, epsilon, purpose, recipe.search_epochs, recipe.search_lr)
            return self._accuracy(searched, epsilon, purpose)

        search = search_epsilon(accuracy_at, clean_accuracy)
        final = self._new_head()
        self._train(final, search.epsilon, "final", recipe.epochs, recipe.lr)
        return Ibm2Head(weight_CD=final.merged(), search=search, clean_accuracy=clean_accuracy)

    def _new_head(self) -> _CosineHead:
        return _CosineHead(self._n_classes, self._support_ND.shape[1], self._seed, self._device)

    def _generator(self, purpose: str, step: int) -> torch.Generator:
        return torch.Generator(self._device).manual_seed(seed_for(self._seed, f"ibm2 {purpose}", step))

    def _train(self, head: _CosineHead, epsilon: float, purpose: str, epochs: int, lr: float) -> None:
        """Adam from new moments; epoch e has the rate lr x batch / 256 x (1 + cos(pi e / epochs)) / 2."""
        parameters = [head.directions_CD, head.gains_C]
        optimizer = torch.optim.Adam(parameters, lr=lr * self._recipe.batch_size / 256)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
        step = 0
        for epoch in range(epochs):
            order_N = torch.randperm(
                len(self._labels_N),
                generator=torch.Generator().manual_seed(seed_for(self._seed, f"ibm2 order {purpose}", epoch)),
            )
            for rows_B in torch.split(order_N.to(self._device), self._recipe.batch_size):
                optimizer.zero_grad(set_to_none=True)
                self._add_gradients(head, rows_B, epsilon, self._generator(purpose, step))
                optimizer.step()
                step += 1
            schedule.step()

    def _add_gradients(self, head: _CosineHead, rows_B: Tensor, epsilon: float, generator: torch.Generator) -> None:
        """Those of the mean loss over the copies of the batch, a chunk of rows at a time."""
        for rows_b in torch.split(rows_B, self._chunk_rows):
            loss = smoothed_loss(*self._copies(head, rows_b, epsilon, generator), self._recipe.smoothing)
            (loss * (len(rows_b) / len(rows_B))).backward()  # type: ignore[no-untyped-call]

    def _copies(
        self, head: _CosineHead, rows_b: Tensor, epsilon: float, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Logits and labels of the noisy copies of some rows; without noise one copy says as much as many."""
        support_bD, labels_b = self._support_ND[rows_b], self._labels_N[rows_b]
        if epsilon == 0:
            return head.logits(support_bD), labels_b
        copies = noisy_copies(support_bD, self._std_D, epsilon, generator, self._recipe.copies)
        return head.logits(copies), labels_b.repeat_interleave(self._recipe.copies)

    @torch.no_grad()
    def _accuracy(self, head: _CosineHead, epsilon: float, purpose: str) -> float:
        """Share of freshly noised copies of all rows that the head gets right."""
        generator, hits, total = self._generator(f"accuracy {purpose}", 0), 0, 0
        for rows_b in torch.split(torch.arange(len(self._labels_N), device=self._device), self._chunk_rows):
            logits_bC, labels_b = self._copies(head, rows_b, epsilon, generator)
            hits += int((logits_bC.argmax(1) == labels_b).sum())
            total += len(labels_b)
        return hits / total
