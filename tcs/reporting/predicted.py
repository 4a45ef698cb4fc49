"""What each cell of a grid predicted for each test image: for confusion, single classes, hard images and the bootstrap.

predictions/test-<id>.npz has `keys`, `labels` and `classes` of a test store, predictions/<cell>.npz the answers of one cell. A grid of
an earlier release has none of them, and then there is nothing to show.

Legend: N test images, C classes, S cells.
"""

import dataclasses
import pathlib
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tcs.array_files import BROKEN, arrays_in
from tcs.errors import ArtefactError
from tcs.ordinary import read_ordinary
from tcs.reporting.results import Run
from tcs.reporting.rows import PREDICTIONS, cell_digest

Ints = NDArray[np.int64]


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class ScoredImages:
    """The labelled images of a test store: keys, class numbers `labels_N` int64, names of the classes."""

    identity: str
    keys: tuple[str, ...]
    labels_N: Ints
    classes: tuple[str, ...]


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Predicted:
    """The answers `top1_SN` (S, N) int16 of cells, one a run, on the same images; `nll_SN` float16 in nats, NaN for cells without."""

    test: ScoredImages
    runs: tuple[Run, ...]
    top1_SN: NDArray[np.int16]
    nll_SN: NDArray[np.float16]

    def hits(self) -> NDArray[np.float64]:
        """(S, N): 1.0 where the answer is right."""
        hits_SN: NDArray[np.float64] = (self.top1_SN == self.test.labels_N).astype(np.float64)
        return hits_SN

    def chosen(self, runs: Sequence[Run]) -> "Predicted | None":
        """The same of those of `runs` that are here, in their order; None where none is."""
        place = {run.key: index for index, run in enumerate(self.runs)}
        at = [place[run.key] for run in runs if run.key in place]
        if not at:
            return None
        return dataclasses.replace(
            self,
            runs=tuple(self.runs[index] for index in at),
            top1_SN=self.top1_SN[at],
            nll_SN=self.nll_SN[at],
        )


def load_predictions(folder: pathlib.Path, runs: Sequence[Run]) -> dict[str, Predicted]:
    """Data set -> what its cells predicted, for those of `runs` whose file is there. ArtefactError for a file that is broken, or is not of
    the images it names."""
    found: dict[str, list[tuple[Run, dict[str, Any]]]] = {}
    tests: dict[str, ScoredImages] = {}
    for run in runs:
        path = folder / PREDICTIONS / f"{cell_digest(run.key)}.npz"
        if run.failed or not path.exists():
            continue
        arrays = load_arrays(path, ("top1_N", "test"))
        identity = str(arrays["test"])
        images = folder / PREDICTIONS / f"test-{identity}.npz"
        if not images.exists():
            continue
        if identity not in tests:
            tests[identity] = _load_test(images, identity)
        _check(path, arrays, tests[identity])
        found.setdefault(run.dataset, []).append((run, arrays))
    return {dataset: _stacked(rows, tests) for dataset, rows in found.items()}


def _stacked(rows: list[tuple[Run, dict[str, Any]]], tests: dict[str, ScoredImages]) -> Predicted:
    """The cells of one data set, of its first test store alone."""
    identity = str(rows[0][1]["test"])
    rows = [(run, arrays) for run, arrays in rows if str(arrays["test"]) == identity]
    lacking_N = np.full(len(tests[identity].keys), np.nan)
    return Predicted(
        test=tests[identity],
        runs=tuple(run for run, _ in rows),
        top1_SN=np.stack([arrays["top1_N"] for _, arrays in rows]).astype(np.int16),
        nll_SN=np.stack([arrays.get("nll_N", lacking_N) for _, arrays in rows]).astype(np.float16),
    )


def _check(path: pathlib.Path, arrays: dict[str, Any], test: ScoredImages) -> None:
    top1_N, count = arrays["top1_N"], len(test.keys)
    fits = top1_N.shape == (count,) and arrays.get("nll_N", top1_N).shape == (count,)
    if not fits or (count and not 0 <= int(top1_N.min()) <= int(top1_N.max()) < len(test.classes)):
        raise ArtefactError(f"{path} does not hold an answer for each of the {count} test images; {_remedy(path)}")


def _load_test(path: pathlib.Path, identity: str) -> ScoredImages:
    arrays = load_arrays(path, ("keys", "labels", "classes"))
    return ScoredImages(
        identity=identity,
        keys=tuple(arrays["keys"].tolist()),
        labels_N=arrays["labels"].astype(np.int64),
        classes=tuple(arrays["classes"].tolist()),
    )


def load_arrays(path: pathlib.Path, needed: Sequence[str] = ()) -> dict[str, Any]:
    """The arrays of a file of predictions by name; ArtefactError where it cannot be read, or lacks one that is `needed`."""
    try:
        arrays = arrays_in(read_ordinary(path))
    except (OSError, zlib.error, *BROKEN) as error:
        raise ArtefactError(f"{path} cannot be read ({' '.join(str(error).split())[:80]}); {_remedy(path)}") from error
    lacking = [name for name in needed if name not in arrays]
    if lacking:
        raise ArtefactError(f"{path} lacks {', '.join(lacking)}; {_remedy(path)}")
    return arrays


def _remedy(path: pathlib.Path) -> str:
    return f"remove {path.name}, and the report does without it."


def confusion(predicted: Predicted) -> Ints:
    """(C, C): how often an image of class i (rows) was taken for class j (columns), over all cells."""
    classes = len(predicted.test.classes)
    pairs_SN = predicted.test.labels_N * classes + predicted.top1_SN
    return np.bincount(pairs_SN.ravel(), minlength=classes**2).reshape(classes, classes)


@dataclasses.dataclass(frozen=True, kw_only=True)
class HardImage:
    """A test image that most cells get wrong: its key and class, the wrong answer that was given most, and the share of cells (0 to 1)
    that were right."""

    key: str
    truth: str
    taken_for: str
    right: float


def hardest(predicted: Predicted, count: int) -> list[HardImage]:
    """The `count` images that the fewest cells get right, of equal ones those with the larger mean NLL first."""
    right_N = (predicted.top1_SN == predicted.test.labels_N).mean(axis=0)
    with_nll_S = ~np.isnan(predicted.nll_SN).any(axis=1)
    nll_N = predicted.nll_SN[with_nll_S].sum(
        axis=0, dtype=np.float64
    )  # as good as the mean for an order; 0 where no cell has it
    chosen = np.lexsort((np.arange(len(right_N)), -nll_N, right_N))[:count]
    return [_hard(predicted, int(image), float(right_N[image])) for image in chosen if right_N[image] < 1]


def _hard(predicted: Predicted, image: int, right: float) -> HardImage:
    test = predicted.test
    truth, answers_S = int(test.labels_N[image]), predicted.top1_SN[:, image]
    wrong_C = np.bincount(answers_S[answers_S != truth], minlength=len(test.classes))
    return HardImage(
        key=test.keys[image], truth=test.classes[truth], taken_for=test.classes[int(wrong_C.argmax())], right=right
    )
