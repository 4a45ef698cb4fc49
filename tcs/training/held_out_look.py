"""Looking at held-out rows while a student trains: their images and cached rows, and the scores of tcs.training.monitor.

Legend: N held-out rows.
"""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tcs.errors import ArtefactError
from tcs.source import vector_readout
from tcs.training.cached_views import FIRST_VIEW, cached_views
from tcs.training.images import decode_rows
from tcs.training.jobs import Job
from tcs.training.monitor import Monitor, may_score_labels
from tcs.training.showing import frame_size, show_clean
from tcs.training.trainer import EVAL_BATCH, Trainer

Look = Callable[[Trainer], dict[str, float]]


def look_at(job: Job, device: torch.device, *, leads: bool = True) -> Look | None:
    """A function that scores a student on the held-out rows of its run; None where there are none, or nothing is cached of them.

    Of several processes the leading one looks: the others have the same student, and get a function that says nothing.
    """
    rows_N = job.held_out.rows_N
    teacher_ND = _cached(job, rows_N)
    if len(rows_N) == 0 or teacher_ND is None:
        return None
    if not leads:
        return lambda _trainer: {}
    reads_labels = job.method.reads_labels and may_score_labels(job.config)
    labels_N = job.source.store.labels_N[rows_N] if reads_labels else None
    monitor = Monitor(images_N3HW=_shown(job, rows_N), teacher_ND=teacher_ND, labels_N=labels_N)

    def look(trainer: Trainer) -> dict[str, float]:
        with torch.no_grad():
            parts = [trainer.features(part.to(device)).cpu() for part in torch.split(monitor.images_N3HW, EVAL_BATCH)]
        return monitor.score(torch.cat(parts).numpy())

    return look


def _shown(job: Job, rows_N: NDArray[np.int64]) -> Tensor:
    """The images of the rows as they are without augmentation: the first of their cached views where there are several."""
    views = cached_views(job.source.store, rows_N, job.config)
    side = frame_size(job.config, job.size, views=views is not None)
    frames_N3HW = decode_rows(job.source.store, rows_N, side, job.source.read, whole=views is not None)
    if views is None:
        return show_clean(frames_N3HW, job.size)
    return views.show(frames_N3HW, torch.arange(len(rows_N)), views.first(len(rows_N)), job.size)


def _cached(job: Job, rows_N: NDArray[np.int64]) -> NDArray[np.float32] | None:
    """Coordinates of the rows, or else the store's vectors; None where there are neither, or several vectors to choose from."""
    if job.source.targets is not None:
        return job.source.targets.first_coordinates(rows_N)
    store = job.source.store
    view = FIRST_VIEW if job.source.has_views else None
    try:
        readout = vector_readout(store, job.config.readout)
    except ArtefactError:
        return None
    return np.asarray(store.features(readout, resident_bytes=0, view=view).gather(rows_N), np.float32)
