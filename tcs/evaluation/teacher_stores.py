"""Stores of several teachers of the same images, with their rows in one order.

Legend: N rows of a training store, B rows of a block, D and E features of two teachers.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

import cache
from tcs.artefact import teacher_name_of
from tcs.config.evaluate import ProbeConfig
from tcs.config.teachers import CompareConfig
from tcs.coordinates.vectors import RowVectors
from tcs.errors import DataError
from tcs.evaluation.probe_stores import ProbedStores, open_stores
from tcs.metrics import match_classes

BLOCK_ROWS = 2048

F64 = NDArray[np.float64]


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class TeacherStores:
    """A teacher: what it is called here, the readout that its stores call so, and both stores, rows as in those of the first teacher."""

    name: str
    readout: str
    stores: ProbedStores


def open_teachers(config: CompareConfig) -> list[TeacherStores]:
    """Every teacher's stores, checked as `tcs probe` checks two of one teacher, and against those of the first teacher.

    Rows are matched by key. SchemaError or IdentityError, naming the first difference, for other keys, images, labels or classes;
    DataError for a readout that is a map.
    """
    opened = [
        open_stores(ProbeConfig(store=store, test=test, readout=config.readout_of(number)))
        for number, (store, test) in enumerate(zip(config.stores, config.tests, strict=True))
    ]
    for stores in opened:
        if stores.train.readouts[stores.readout].grid is not None:
            raise DataError(
                f"readout {stores.readout} of {stores.train.path} is a map, and teachers are compared by vectors; name another with "
                "--readout."
            )
    trains = _aligned([stores.train for stores in opened], [stores.readout for stores in opened])
    tests = _aligned([stores.test for stores in opened], [stores.readout for stores in opened])
    names = _names([stores.train for stores in opened])
    return [
        TeacherStores(name=name, readout=stores.readout, stores=_as_first(stores, opened[0].readout, train, test))
        for name, stores, train, test in zip(names, opened, trains, tests, strict=True)
    ]


def _aligned(stores: Sequence[cache.Store], readouts: Sequence[str]) -> tuple[cache.Store, ...]:
    """The stores with rows in the order of the first one, each with its one readout, called as the first one's; `cache.join` checks."""
    narrowed = [store.rearranged(None, {name: name}) for store, name in zip(stores, readouts, strict=True)]
    return cache.join(narrowed[0], narrowed[1:]).parts


def _as_first(stores: ProbedStores, readout: str, train: cache.Store, test: cache.Store) -> ProbedStores:
    is_scored_M = test.labels_N >= 0
    return dataclasses.replace(
        stores,
        train=train,
        test=test,
        readout=readout,
        scored_M=np.flatnonzero(is_scored_M),
        truth_M=match_classes(test, train.classes, "that the training store lacks")[is_scored_M],
    )


def _names(stores: Sequence[cache.Store]) -> list[str]:
    """The teachers' names; where two are alike, or none is recorded, the places of the stores."""
    names = [teacher_name_of(store) for store in stores]
    return names if all(names) and len(set(names)) == len(names) else [str(store.path) for store in stores]


def linear_cka(x: RowVectors, y: RowVectors, mean_D: F64, mean_E: F64, norms: tuple[float, float]) -> float:
    """Linear centred kernel alignment of two teachers' vectors of the same N rows, 1 where one is a rotation and scaling of the other.

    |Y'X|^2 / (|X'X| |Y'Y|), Frobenius norms, columns about their means (Kornblith et al., ICML 2019, equation 3 for linear kernels).
    `norms` are |X'X| / (N - 1) and |Y'Y| / (N - 1). 0 where one of them is 0. It is biased upwards where N is not many times D.
    """
    cross_DE = np.zeros((len(mean_D), len(mean_E)))
    origins = (mean_D.astype(np.float32), mean_E.astype(np.float32))
    for (_, x_BD), (_, y_BE) in zip(x.blocks(BLOCK_ROWS), y.blocks(BLOCK_ROWS), strict=True):
        cross_DE += (x_BD.astype(np.float32) - origins[0]).T @ (y_BE.astype(np.float32) - origins[1])
    cross = float(np.square(cross_DE / max(len(x) - 1, 1)).sum())
    return cross / (norms[0] * norms[1]) if min(norms) > 0 else 0.0
