"""Linear classifiers of compressed features: fitted on g = R'f, served as the one linear map W R' of f.

Legend: N rows of a split, M rows to score, D features, K coordinates, C classes.
"""

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from tcs.probes.gram import Gram
from tcs.probes.ibm2 import Ibm2Recipe, fit_ibm2
from tcs.probes.logistic import fit_logistic

F64 = NDArray[np.float64]
READS_ROWS = ("logistic", "ibm2")  # the others need the sums only


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class LinearHead:
    """`weight_CK` and `bias_C`, float64; the largest of the C scores is the class. A bias of -inf: never this class."""

    weight_CK: F64
    bias_C: F64

    def logits(self, x_MK: NDArray[np.floating]) -> NDArray[np.floating]:
        """Scores (M, C) in the precision of the rows."""
        scores_MC: NDArray[np.floating] = x_MK @ self.weight_CK.T.astype(x_MK.dtype) + self.bias_C.astype(x_MK.dtype)
        return scores_MC

    def merged(self, axes_DK: F64) -> "LinearHead":
        """The same classifier of the features f themselves: W (R'f) + b = (W R') f + b, for R = `axes_DK`."""
        return LinearHead(weight_CK=self.weight_CK @ axes_DK.T, bias_C=self.bias_C)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class SplitRows:
    """The labelled rows of one split: their sums with +-1 targets, and, for heads that read them, the features themselves."""

    gram: Gram
    x_ND: NDArray[np.float32] | None
    labels_N: NDArray[np.int64]
    n_classes: int

    def projected(self, axes_DK: F64) -> NDArray[np.float32]:
        """The rows R'f, (N, K)."""
        assert self.x_ND is not None
        projected_NK: NDArray[np.float32] = self.x_ND @ axes_DK.astype(np.float32)
        return projected_NK


@dataclasses.dataclass(frozen=True, kw_only=True)
class HeadOptions:
    """What a head may depend on beside its rows; `copies` is of `ibm2`, `device` of it and of `logistic` with many classes."""

    seed: int
    copies: int
    device: str


def fit_head(name: str, rows: SplitRows, axes_DK: F64, options: HeadOptions) -> LinearHead:
    """The head called `name`, one of HEAD_FITS, on the projected rows. DataError and ConfigError come from the fits."""
    return HEAD_FITS[name](rows, axes_DK, options)


def _ridge(rows: SplitRows, axes_DK: F64, options: HeadOptions) -> LinearHead:
    """Closed form from the projected sums; the leave-one-out penalty of tcs.probes.gram."""
    del options
    weight_CK, bias_C, _ = rows.gram.mapped(axes_DK).ridge()
    return LinearHead(weight_CK=weight_CK, bias_C=bias_C)


def _logistic(rows: SplitRows, axes_DK: F64, options: HeadOptions) -> LinearHead:
    x_NK = rows.projected(axes_DK)
    probe = fit_logistic(x_NK, rows.labels_N, rows.n_classes, options.seed, device=options.device)
    return LinearHead(weight_CK=probe.weight_CK, bias_C=probe.bias_C)


def _ibm2(rows: SplitRows, axes_DK: F64, options: HeadOptions) -> LinearHead:
    """Its cosine divides by the length of the projected row, which leaves the order of the classes as it is."""
    recipe = Ibm2Recipe(copies=options.copies)
    x_NK = rows.projected(axes_DK)
    head = fit_ibm2(x_NK, rows.labels_N, rows.n_classes, seed=options.seed, recipe=recipe, device=options.device)
    return LinearHead(weight_CK=head.weight_CD, bias_C=np.zeros(rows.n_classes))


HEAD_FITS: Mapping[str, Callable[[SplitRows, F64, HeadOptions], LinearHead]] = {
    "ridge": _ridge,
    "logistic": _logistic,
    "ibm2": _ibm2,
}
