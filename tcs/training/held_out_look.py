"""Looking at held-out rows while a student trains: their images and cached rows, and the scores of tcs.training.monitor.

Legend: N held-out rows.
"""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from tcs.errors import ArtefactError
from tcs.source import vector_readout
from tcs.training.images import decode_rows
from tcs.training.jobs import Job
from tcs.training.monitor import Monitor, may_score_labels
from tcs.training.showing import frame_size, show_clean
from tcs.training.trainer import EVAL_BATCH, Trainer

Look = Callable[[Trainer], dict[str, float]]


def look_at(job: Job, device: torch.device) -> Look | None:
    """A function that scores a student on the held-out rows of its run; None where there are none, or nothing is cached of them."""
    rows_N = job.held_out.rows_N
    teacher_ND = _cached(job, rows_N)
    if len(rows_N) == 0 or teacher_ND is None:
        return None
    frames_N3HW = decode_rows(job.source.store, rows_N, frame_size(job.config, job.size), job.source.read)
    labels_N = job.source.store.labels_N[rows_N] if may_score_labels(job.config) else None
    monitor = Monitor(images_N3HW=show_clean(frames_N3HW, job.size), teacher_ND=teacher_ND, labels_N=labels_N)

    def look(trainer: Trainer) -> dict[str, float]:
        with torch.no_grad():
            parts = [trainer.features(part.to(device)).cpu() for part in torch.split(monitor.images_N3HW, EVAL_BATCH)]
        return monitor.score(torch.cat(parts).numpy())

    return look


def _cached(job: Job, rows_N: NDArray[np.int64]) -> NDArray[np.float32] | None:
    """Coordinates of the rows, or else the store's vectors; None where there are neither, or several vectors to choose from."""
    if job.source.targets is not None:
        return job.source.targets.coordinates_rows(rows_N)
    store = job.source.store
    if store.manifest.plan.views is not None:
        return None
    try:
        readout = vector_readout(store, job.config.readout)
    except ArtefactError:
        return None
    return np.asarray(store.features(readout, resident_bytes=0).gather(rows_N), np.float32)
