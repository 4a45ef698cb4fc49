"""The labels of a run spread over its pool: fitted once, by the leading process, and read from its file by all who train.

Legend: n rows of this run (sorted; the pool), M labelled ones, V views, K coordinates, C classes, c those that have a label.
"""

import dataclasses
import math
import pathlib
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

import cache
from tcs.config.pool import LOGISTIC, RIDGE
from tcs.distributed.collectives import Collectives
from tcs.pool_labels.options import PoolLabelOptions, prior_of
from tcs.pool_labels.spread import PoolLabels, spread_labels
from tcs.pool_labels.stored import load_pool_labels, pool_labels_path, save_pool_labels
from tcs.runtime import say
from tcs.training.data import POOL_LABELS, RunData
from tcs.training.jobs import Job


def pool_labels(job: Job, data: RunData, ranks: Collectives) -> dict[str, PoolLabels]:
    """What the run reads of "pool" and "probe": nothing, one of them, or both, from files beside the run.

    Files that are there already are read; --overwrite makes them anew. A dry run writes none. ArtefactError for a file of another
    identity or format, DataError for rows that cannot be used.
    """
    wanted = {"pool": job.config.pool.pool_estimator} if "pool" in job.method.needs else {}
    if "probe" in job.method.needs and job.config.pool.probe_head != LOGISTIC:
        ridge = job.config.pool.probe_head == RIDGE
        wanted["probe"] = RIDGE if ridge else job.config.pool.pool_estimator
    made: dict[str, PoolLabels] = {}
    for estimator in dict.fromkeys(wanted.values()):
        made[estimator] = _found_or_fitted(job, data, options_of(job, data, estimator), ranks)
        _tell(made[estimator])
    return {kind: made[estimator] for kind, estimator in wanted.items()}


def _found_or_fitted(job: Job, data: RunData, options: PoolLabelOptions, ranks: Collectives) -> PoolLabels:
    if job.config.dry_run:
        return fit_pool_labels(job, data, options)
    identity = identity_of(job, data, options)
    path = pool_labels_path(data.pool_labels_folder or pathlib.Path(job.config.out) / POOL_LABELS, identity)
    if ranks.leads and (job.config.overwrite or not path.exists()):
        save_pool_labels(path, fit_pool_labels(job, data, options), identity)
    ranks.barrier()  # the others read what the leading process wrote
    return load_pool_labels(path, identity)


def _tell(labels: PoolLabels) -> None:
    if labels.reason is not None:
        say(f"Labels are not spread over the pool, its soft labels are those of the ridge probe: {labels.reason}.")


def options_of(job: Job, data: RunData, estimator: str) -> PoolLabelOptions:
    """How the labels of `job` are spread; a prior is that of the classes that have a label."""
    pool, classes = job.config.pool, data.store.classes
    if not pool.class_prior:
        return PoolLabelOptions(estimator=estimator, seed=job.config.seed)
    prior_C = prior_of(pool.shares, classes)
    present_c = np.unique(data.store.labels_N[job.rows.split.rows_n])
    total = math.fsum(prior_C[label] for label in present_c) if len(present_c) < len(classes) else 1.0
    prior = tuple(prior_C[label] / total for label in present_c)
    return PoolLabelOptions(estimator=estimator, balance="given", class_prior=prior, seed=job.config.seed)


def identity_of(job: Job, data: RunData, options: PoolLabelOptions) -> dict[str, Any]:
    """All that decides the labels, as JSON types."""
    system = data.coordinates(job.config.readout).coordinates
    return {
        "store": data.store.labelled_identity,
        "rows": cache.digest_of_bytes(np.ascontiguousarray(job.rows.rows_n, "<i8").tobytes()),
        "split": job.rows.split.digest,
        "coordinates": system.identity,
        "options": {name: list(value) if isinstance(value, tuple) else value for name, value in vars(options).items()},
    }


def fit_pool_labels(job: Job, data: RunData, options: PoolLabelOptions) -> PoolLabels:
    """Spread the labels of the split over the rows of the run, by their coordinates (of the first view).

    A class without a label gets no share of any row. No other label of the store is read.
    """
    rows_n, split_M = job.rows.rows_n, np.sort(job.rows.split.rows_n)
    present_c, places_M = np.unique(data.store.labels_N[split_M], return_inverse=True)
    z_nK = data.coordinates(job.config.readout).first_coordinates(rows_n)
    labels = spread_labels(z_nK, np.searchsorted(rows_n, split_M), places_M, len(present_c), options)
    weight_CK = np.zeros((len(data.store.classes), z_nK.shape[1]))
    bias_C = np.full(len(weight_CK), -np.inf)
    weight_CK[present_c], bias_C[present_c] = labels.weight_CK, labels.bias_C
    return dataclasses.replace(
        labels, weight_CK=weight_CK, bias_C=bias_C, labels_M=present_c[places_M].astype(np.int64)
    )


def soft_label_rows(labels: PoolLabels, z: NDArray[np.float32], device: torch.device) -> Tensor:
    """Soft labels (n, [V,] C) float32 of coordinates (n, [V,] K) on `device`, block by block; labelled rows have their labels."""
    z_nVK = z.reshape(len(z), -1, z.shape[-1])
    soft_nVC = torch.empty(*z_nVK.shape[:2], len(labels.bias_C), device=device)
    for view in range(z_nVK.shape[1]):
        for start, p_BC in labels.blocks(z_nVK[:, view]):
            soft_nVC[start : start + len(p_BC), view] = torch.from_numpy(p_BC).to(device)
    return soft_nVC.reshape(*z.shape[:-1], -1)


def logit_rows(labels: PoolLabels, z: NDArray[np.float32], device: torch.device) -> Tensor:
    """Logits (n, [V,] C) float32 whose softmax is the soft label by the coordinates alone; a class without a label gets the
    smallest of its row."""
    scores = labels.sharpness * labels.scores(z.reshape(-1, z.shape[-1]))
    least = np.where(np.isfinite(scores), scores, np.inf).min(axis=1, keepdims=True)
    logits = np.where(np.isfinite(scores), scores, least).astype(np.float32)
    return torch.from_numpy(logits.reshape(*z.shape[:-1], -1)).to(device)
