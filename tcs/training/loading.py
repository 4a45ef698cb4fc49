"""What the steps of a run read beside its images, from the store and its targets into memory.

Legend: n rows of this run, m labelled rows, V views, D teacher dims, C classes.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

import cache
from tcs.errors import ArtefactError
from tcs.pool_labels.pool import BLOCK_ROWS
from tcs.pool_labels.spread import PoolLabels
from tcs.probes.logistic import fit_logistic, require_finite
from tcs.runtime import say, seed_for
from tcs.training.data import RunData, map_readouts, vector_readout
from tcs.training.head_rows import Logits, Read, logits_of, soft_labels_of
from tcs.training.jobs import Job
from tcs.training.rows import TrainingRows

MAPS_BYTES = 8 << 30


def load_rows(
    job: Job,
    data: RunData,
    device: torch.device,
    heads: Mapping[str, PoolLabels] | None = None,
    by_store: Sequence[PoolLabels] = (),
) -> TrainingRows:
    """All that the steps of a run's students read beside images, resident on `device`, of every cached view.

    Labels outside the split are -1: they are never used. `heads` and `by_store` are those of `tcs.training.soft_labels.pool_labels`
    and `labels_by_store`.
    """
    needs, targets, rows_n, heads = job.method.needs, data.targets, job.rows.rows_n, heads or {}
    labels_n = np.full(len(rows_n), -1, np.int64)
    labelled_m = np.searchsorted(rows_n, np.sort(job.rows.split.rows_n))
    labels_n[labelled_m] = data.store.labels_N[rows_n[labelled_m]]
    readout = vector_readout(data.store, job.config.readout) if needs & {"features", "probe"} else None
    reads_z = "coordinates" in needs or bool(heads)
    z = _coordinates(data, job.config.readout, rows_n, device) if reads_z else None
    reads: list[Read] = [] if z is None or "pool" not in heads else [(heads["pool"], z)]
    for part, labels in zip(data.by_store, by_store, strict=False):
        reads.append((labels, _coordinates(part, job.config.readout, rows_n, device)))
    teacher_nD = _cached(data.store, readout, rows_n, device) if readout and "features" in needs else None
    logits: Tensor | Logits | None = None
    if "probe" in heads and z is not None:
        logits = logits_of(heads["probe"], z, device)
    elif "probe" in needs and readout is not None:
        logits = _probe_logits(job, data.store, readout, device, teacher_nD)
    packed = targets.bits_rows(rows_n) if targets is not None and "bits" in needs else None
    return TrainingRows(
        labels_n=torch.from_numpy(labels_n).to(device),
        labelled_m=torch.from_numpy(labelled_m),
        coordinates_nK=z if "coordinates" in needs else None,
        packed_nP=None if packed is None else torch.as_tensor(packed, device=device),
        teacher_nD=teacher_nD,
        teacher_maps=_cached_maps(data.store, rows_n, device) if "maps" in needs else (),
        teacher_logits_nC=logits,
        pool_labels_nC=soft_labels_of(reads, torch.from_numpy(labels_n), device) if reads else None,
    )


def _coordinates(data: RunData, readout: str | None, rows_n: NDArray[np.int64], device: torch.device) -> Tensor:
    """z of the rows on `device`, (n, [V,] K) float32."""
    return torch.as_tensor(data.coordinates(readout).coordinates_rows(rows_n), device=device)


def _cached(store: cache.Store, readout: str, rows_n: NDArray[np.int64], device: torch.device) -> Tensor:
    """The rows of a readout on `device`, in the stored dtype."""
    return torch.from_numpy(store.features(readout, resident_bytes=0).gather(rows_n)).to(device)


def _cached_maps(store: cache.Store, rows_n: NDArray[np.int64], device: torch.device) -> tuple[Tensor, ...]:
    """Every map readout of the rows, (n, [V,] height, width, channels). ArtefactError where they do not fit into memory."""
    names = map_readouts(store)
    row_bytes = sum(store.features(name, resident_bytes=0)[0].nbytes for name in names)
    if row_bytes * len(rows_n) > MAPS_BYTES:
        raise ArtefactError(
            f"the maps {', '.join(names)} of {len(rows_n):,} rows take {row_bytes * len(rows_n) / 2**30:.1f} GiB, more than "
            f"{MAPS_BYTES / 2**30:.0f} GiB; use --unlabelled N, or extract smaller maps."
        )
    return tuple(_cached(store, name, rows_n, device) for name in names)


def _probe_logits(
    job: Job, store: cache.Store, readout: str, device: torch.device, teacher_nD: Tensor | None
) -> Tensor | Logits:
    """Logits of the rows, of each of their views, by a logistic probe of the frozen teacher fitted on the split's labels alone.

    `teacher_nD` are the rows' features, where they are there already.
    """
    features, split_n = store.features(readout, resident_bytes=0), job.rows.split.rows_n
    fitted, labels_m = features.gather(split_n), store.labels_N[split_n]
    if np.unique(labels_m, return_counts=True)[1].min() < 2:
        say(
            "With one label of some class the logistic probe has no rows to choose its penalty by, and its logits are nearly flat: "
            "--probe-head ridge or transductive teaches more."
        )
    views = 1 if fitted.ndim == 2 else fitted.shape[1]
    probe = fit_logistic(
        fitted.reshape(-1, fitted.shape[-1]),
        np.repeat(labels_m, views),
        len(store.classes),
        seed_for(job.config.seed, "probe"),
        views,
        device,
    )
    if teacher_nD is None:
        teacher_nD = _cached(store, readout, job.rows.rows_n, torch.device("cpu"))
    for block in torch.split(teacher_nD, BLOCK_ROWS):
        require_finite(block.cpu().numpy())
    return logits_of(probe, teacher_nD, device)
