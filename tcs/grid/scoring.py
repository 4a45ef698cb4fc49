"""How a cell is scored: its answers on the labelled test images -> columns of its row, and a file of its predictions.

predictions/test-<id>.npz holds the keys, class numbers and class names of the scored images, once for all cells; predictions/<cell>.npz
the class that the cell gave each of them and, where it has probabilities, the negative log-likelihood of the right one; of a student also
how many images it scored at once.

Legend: M scored test images, n images that a cell has seen, C classes.
"""

import functools
import io
import pathlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

import cache
from tcs.grid.answers import Answers
from tcs.grid.copies import Copies, CopyFinder
from tcs.grid.recipe import Cell
from tcs.metrics import count_known, match_classes
from tcs.reporting.rows import PREDICTIONS
from tcs.runtime import say

MOST_NLL = float(np.finfo(np.float16).max)


class Scorer:
    """Scores cells of the stores `train` and `test` and keeps their predictions in the folder `out`.

    `near` is the cosine of teacher features from which a test image counts as a near copy of what a cell has seen; None counts exact
    copies alone. DataError where the test store has no labels, or classes that `train` lacks.
    """

    def __init__(self, out: pathlib.Path, train: cache.Store, test: cache.Store, near: float | None = None) -> None:
        self._folder, self._train, self._test, self._near = out / PREDICTIONS, train, test, near
        self.classes = tuple(train.classes)

    @functools.cached_property
    def scored(self) -> NDArray[np.int64]:
        """The labelled rows of the test store."""
        return np.flatnonzero(self._test.labels_N >= 0)

    @functools.cached_property
    def truth(self) -> NDArray[np.int64]:
        """The class of each, as the training store numbers them."""
        return match_classes(self._test, self.classes)[self.scored]

    @functools.cached_property
    def _finder(self) -> CopyFinder:
        return CopyFinder(self._train, self._test, self.scored, self._near)

    @functools.cached_property
    def test_id(self) -> str:
        """The identity of the test store, and behind it, where classes are numbered otherwise there, of this numbering."""
        identity = self._test.labelled_identity
        if self.classes == tuple(self._test.classes):
            return identity
        return f"{identity}-{cache.digest_of_json(list(self.classes))[:8]}"

    def say_copies(self) -> None:
        """One line where scored images are copies of images of the training store; how many a cell has seen is in its row."""
        known = count_known(self._test.hashes_N16[self.scored], self._train.hashes_N16)
        if known:
            say(
                f"LEAKAGE: {known:,} of the {len(self.scored):,} test images of {self._test.path} are copies of images of "
                f"{self._train.path}; rows count those that they have seen (overlap), top1_clean is the accuracy without them."
            )

    def score(self, cell: Cell, answers: Answers, known_n16: NDArray[np.uint8]) -> dict[str, Any]:
        """The columns of a cell whose classifier gave `answers` and has seen the images with the content hashes `known_n16`.

        `overlap` counts the scored images among them, `near_overlap` near copies (where these are asked for), and `top1_clean` is
        the accuracy without both; where nothing is left of the test images there is none.
        """
        self._keep(cell, answers)
        copies = self._finder.among(known_n16)
        return answers.measures(self.truth) | self._overlap(answers, copies)

    def _overlap(self, answers: Answers, copies: Copies) -> dict[str, Any]:
        clean_M = copies.clean
        hits_m = answers.top1_M[clean_M] == self.truth[clean_M]
        return {
            "overlap": int(copies.exact_M.sum()),
            "near_overlap": "" if self._near is None else int(copies.near_M.sum()),
            "top1_clean": round(100 * float(hits_m.mean()), 4) if len(hits_m) else "",
        }

    def _keep(self, cell: Cell, answers: Answers) -> None:
        """Write what the cell said of each image, and once for all cells which images these are."""
        self._folder.mkdir(parents=True, exist_ok=True)
        images = self._folder / f"test-{self.test_id}.npz"
        if not images.exists():
            keys = np.array([self._test.keys[row] for row in self.scored])
            _save(images, keys=keys, labels=self.truth.astype(np.int16), classes=np.array(self.classes))
        nll_M = answers.nll(self.truth)
        kept: dict[str, NDArray[Any]] = (
            {} if nll_M is None else {"nll_N": np.minimum(nll_M, MOST_NLL).astype(np.float16)}
        )
        if answers.batch_size is not None:
            kept["batch_size"] = np.array(answers.batch_size)
        path = self._folder / f"{cell.digest}.npz"
        _save(path, top1_N=answers.top1_M.astype(np.int16), test=np.array(self.test_id), **kept)


def _save(path: pathlib.Path, **arrays: NDArray[Any]) -> None:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]  # its stub takes the names for its own options
    cache.atomic_write_bytes(path, buffer.getvalue())
