"""The teacher-space probe that a student's classifier may start from. Legend: n rows of the run, m labelled ones, C classes, K
coordinates, k selected ones."""

import dataclasses
import pathlib
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tcs.config.train import SELECT_GATES, SELECT_POOL, SELECT_RIDGE, TrainConfig
from tcs.coordinates.pool_selection import LabelledPool, select_from_pool
from tcs.coordinates.selection import Selection, check_selection, select_coordinates
from tcs.coordinates.system import load_coordinates
from tcs.errors import ArtefactError
from tcs.methods.named import PROBE_FROZEN, PROBED, TRAINED, Method
from tcs.probes.ridge import fit_ridge
from tcs.splits.shots import Split
from tcs.students.student import Student
from tcs.training.data import RunData
from tcs.training.label_options import label_options


@dataclasses.dataclass(frozen=True, kw_only=True)
class Probe:
    """The ridge probe of the labelled rows' cached coordinates: weight_CK and bias_C float; zero outside the selection."""

    weight_CK: NDArray[np.floating[Any]]
    bias_C: NDArray[np.floating[Any]]
    active_k: NDArray[np.int64]


def install_probe(student: Student, probe: Probe | None, classifier: str) -> None:
    """Select the probe's coordinates, and write its weights where the method's `classifier` starts from them or is them."""
    if probe is not None:
        student.select(torch.as_tensor(probe.active_k))
    if classifier not in PROBED:
        return
    assert probe is not None
    assert student.classifier is not None
    with torch.no_grad():
        student.classifier.weight.copy_(torch.as_tensor(probe.weight_CK))
        student.classifier.bias.copy_(torch.as_tensor(probe.bias_C))
    student.classifier.requires_grad_(classifier != PROBE_FROZEN)


def find_selection(data: RunData, config: TrainConfig, split: Split, rows_n: NDArray[np.int64]) -> Selection | None:
    """What --selection asks for: nothing (every coordinate), one computed from the split's labels, or from these spread over the
    rows of the run, `rows_n`, or one read from a file.

    Without it every coordinate is kept: on CIFAR-10 no selection beat the spectrum's first K (benchmarks/RESULTS.md). A
    selection that was computed on another split is refused.
    """
    if config.selection in (None, SELECT_GATES):
        return None
    assert config.selection is not None
    if config.selection == SELECT_POOL:
        return _select_by_pool(data, config, split, rows_n)
    if config.selection != SELECT_RIDGE:
        system = load_coordinates(pathlib.Path(config.selection))
        selection, made_on, ours = (
            system.selection,
            system.identity,
            data.coordinates(config.readout).coordinates.identity,
        )
        if made_on != ours:
            raise ArtefactError(
                f"--selection {config.selection} selects among coordinates {made_on}, the targets hold {ours}; "
                "run tcs fit with the options of the targets' coordinate system."
            )
        if selection is None:
            raise ArtefactError(
                f"--selection {config.selection} holds no selection; make it with tcs fit --shots or --split-file."
            )
        check_selection(selection, split)
        return selection
    z_mK = data.coordinates(config.readout).first_coordinates(split.rows_n)
    labels_m = data.store.labels_N[split.rows_n]
    return select_coordinates(z_mK, labels_m, len(data.store.classes), None, config.seed, split.digest)


def _select_by_pool(data: RunData, config: TrainConfig, split: Split, rows_n: NDArray[np.int64]) -> Selection:
    """By the labels of the split, spread over the rows of the run; of no other label. A class without one takes no part."""
    z_nK = data.coordinates(config.readout).first_coordinates(rows_n)
    pool = LabelledPool.of_split(z_nK, rows_n, split.rows_n, data.store.labels_N)
    return select_from_pool(pool, label_options(config, data.store, split, config.pool.pool_estimator), split.digest)


def find_probe(data: RunData, config: TrainConfig, split: Split, selection: Selection | None) -> Probe:
    """The ridge probe of the labelled rows' cached coordinates (of the first view where there are several), on the selected
    coordinates (all of them without a selection)."""
    z_mK = data.coordinates(config.readout).first_coordinates(split.rows_n)
    labels_m, n_classes = data.store.labels_N[split.rows_n], len(data.store.classes)
    active_k = np.arange(z_mK.shape[1]) if selection is None else selection.active_k
    ridge = fit_ridge(z_mK[:, active_k], labels_m, n_classes)
    weight_CK = np.zeros((n_classes, z_mK.shape[1]))
    weight_CK[:, active_k] = ridge.weight_CK
    return Probe(weight_CK=weight_CK, bias_C=np.asarray(ridge.bias_C), active_k=active_k)


def probe_for(
    method: Method, data: RunData, config: TrainConfig, split: Split, rows_n: NDArray[np.int64]
) -> tuple[Probe | None, Selection | None]:
    """The probe and selection that the method and --selection ask for, of a run of the rows `rows_n` (sorted); (None, None) where
    they ask for neither."""
    if (
        method.head != "tcs"
        or (data.targets is None and "coordinates" not in method.needs)
        or (method.classifier == TRAINED and config.selection in (None, SELECT_GATES))
    ):
        return None, None
    selection = find_selection(data, config, split, rows_n)
    return find_probe(data, config, split, selection), selection
