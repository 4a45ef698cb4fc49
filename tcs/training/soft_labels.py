"""The labels of a run spread over its pool: fitted once, by the leading process, and read from its file by all who train.

Legend: n rows of this run (sorted; the pool), M labelled ones, K coordinates, C classes, c those that have a label.
"""

import dataclasses
import pathlib
from typing import Any

import numpy as np

import cache
from tcs.config.pool import EACH, JOINED, LOGISTIC, RIDGE
from tcs.distributed.collectives import Collectives
from tcs.pool_labels.options import PoolLabelOptions
from tcs.pool_labels.spread import PoolLabels, spread_labels
from tcs.pool_labels.stored import load_pool_labels, pool_labels_path, save_pool_labels
from tcs.runtime import say
from tcs.training.data import POOL_LABELS, RunData
from tcs.training.jobs import Job
from tcs.training.label_options import label_options


def pool_labels(job: Job, data: RunData, ranks: Collectives) -> dict[str, PoolLabels]:
    """What the run reads of "pool" and "probe": nothing, one of them, or both, from files beside the run. The "pool" that
    averages over teachers is in `labels_by_store`.

    Files that are there already are read; --overwrite makes them anew. A dry run writes none. ArtefactError for a file of another
    identity or format, DataError for rows that cannot be used.
    """
    reads_pool = "pool" in job.method.needs and job.config.pool.pool_teachers == JOINED
    wanted = {"pool": job.config.pool.pool_estimator} if reads_pool else {}
    if "probe" in job.method.needs and job.config.pool.probe_head != LOGISTIC:
        ridge = job.config.pool.probe_head == RIDGE
        wanted["probe"] = RIDGE if ridge else job.config.pool.pool_estimator
    made: dict[str, PoolLabels] = {}
    for estimator in dict.fromkeys(wanted.values()):
        made[estimator] = _found_or_fitted(job, data, options_of(job, data, estimator), ranks)
        _tell(made[estimator], "")
    found = {kind: made[estimator] for kind, estimator in wanted.items()}
    return found | ({"pool": _tempered(found["pool"], job)} if reads_pool else {})


def labels_by_store(job: Job, data: RunData, ranks: Collectives) -> tuple[PoolLabels, ...]:
    """With --pool-teachers each, the labels of the run spread over the pool in the coordinates of each teacher's store, to be averaged
    for "pool"; else empty.

    Files and errors are those of `pool_labels`; each store has the file that a run on it alone would have.
    """
    if "pool" not in job.method.needs or job.config.pool.pool_teachers != EACH:
        return ()
    made = []
    for part in data.by_store:
        made.append(_found_or_fitted(job, part, options_of(job, part, job.config.pool.pool_estimator), ranks))
        _tell(made[-1], f" by {part.store.path}")
    return tuple(_tempered(labels, job) for labels in made)


def _tempered(labels: PoolLabels, job: Job) -> PoolLabels:
    """The labels as the loss `pool` reads them; their file, which the loss `kd` may read as well, has temperature 1."""
    return dataclasses.replace(labels, sharpness=labels.sharpness / job.config.pool.pool_temperature)


def _found_or_fitted(job: Job, data: RunData, options: PoolLabelOptions, ranks: Collectives) -> PoolLabels:
    if job.config.dry_run:
        return fit_pool_labels(job, data, options)
    identity = identity_of(job, data, options)
    path = pool_labels_path(data.pool_labels_folder or pathlib.Path(job.config.out) / POOL_LABELS, identity)
    if ranks.leads and (job.config.overwrite or not path.exists()):
        save_pool_labels(path, fit_pool_labels(job, data, options), identity)
    ranks.barrier()  # the others read what the leading process wrote
    return load_pool_labels(path, identity)


def _tell(labels: PoolLabels, by: str) -> None:
    if labels.reason is not None:
        say(f"Labels are not spread over the pool{by}, its soft labels are those of the ridge probe: {labels.reason}.")


def options_of(job: Job, data: RunData, estimator: str) -> PoolLabelOptions:
    """How the labels of `job` are spread; a prior is that of the classes that have a label."""
    return label_options(job.config, data.store, job.rows.split, estimator)


def identity_of(job: Job, data: RunData, options: PoolLabelOptions) -> dict[str, Any]:
    """All that decides the labels, as JSON types."""
    system = data.coordinates(job.config.readout).coordinates
    return {
        "store": data.store.labelled_identity,
        "rows": cache.digest_of_bytes(np.ascontiguousarray(job.rows.rows_n, "<i8").tobytes()),
        "split": job.rows.split.digest,
        "coordinates": system.identity,
        "options": {name: list(value) if isinstance(value, tuple) else value for name, value in vars(options).items()},
        **({} if data.excluded is None else {"excluded": data.excluded}),  # rows are numbered without them
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
