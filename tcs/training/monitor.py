"""Does a student become like its teacher? Numbers on held-out rows that need no label, to be read while it trains.

A loss that falls says that the student fits the rows it is shown; one that does not fall may be at its floor. These numbers
are taken on rows it was never shown, and each has a level that means failure: the share of the teacher's nearest neighbours
that are the student's too (chance: k / (N - 1)), and the share of the variance of the teacher's rows that a linear map of
the student's features explains (0: no better than the mean). Compare them with those of the same student before its first step.

Both sides are centred first. Self-supervised features have a mean larger than their spread, and features behind a ReLU are
all positive, so raw cosines lie near 1 and depend on where the origin is. A head with a bias does not see the origin. Without
centring the first 64 components of our CIFAR-10 teacher share 84 % of its neighbours, with it 93 %. So no number changes where
a student's features are moved, scaled or rotated.

**Labels.** They are read where the run is given all of them, and only then: `may_score_labels`. Where --shots or
--split-file hands the run a few, the labels of all other rows are outside the split and are not read, not even to look.

The scores themselves are those of tcs.probes.agreement.

Legend: N held-out rows, S student dims, D teacher dims (K where they are coordinates).
"""

import dataclasses
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tcs.config.train import may_score_labels
from tcs.errors import ArtefactError
from tcs.images.stored import decode_rows
from tcs.probes.agreement import (
    LEAST_ROWS,
    NEIGHBOURS,
    Array,
    knn_top1,
    neighbour_agreement,
    require_rows,
    require_teacher,
    teacher_r2,
)
from tcs.training.data import RunData, reads_coordinates, vector_readout
from tcs.training.feed import frame_size, show_clean
from tcs.training.jobs import Job
from tcs.training.trainer import EVAL_BATCH, Trainer
from tcs.training.views import FIRST_VIEW, cached_views


@dataclasses.dataclass(frozen=True, kw_only=True)
class Monitor:
    """Held-out rows and what is known of them, to score a student again and again while it trains.

    `images_N3HW` (uint8) are kept for the caller, who computes the student's features of them, in evaluation mode and
    un-augmented. `teacher_ND` (float, any width) are the cached features or coordinates of the same rows. `labels_N`
    (int64, -1 for none) is given only where `may_score_labels` holds. DataError where the parts do not belong together.
    """

    images_N3HW: Tensor
    teacher_ND: Array
    labels_N: NDArray[np.int64] | None = None
    neighbours: int = NEIGHBOURS

    def __post_init__(self) -> None:
        require_rows("images", len(self.images_N3HW), len(self.teacher_ND), LEAST_ROWS)
        require_teacher(self.teacher_ND)
        if self.labels_N is not None:
            require_rows("labels", len(self.labels_N), len(self.teacher_ND), LEAST_ROWS)

    def score(self, features_NS: Array) -> dict[str, float]:
        """The columns of a student's features (N, S), any float dtype. DivergedError where they are not finite.

        `held_out_knn_agreement`, `held_out_knn_chance` and `held_out_r2` are shares; `held_out_knn_top1`, in percent, is
        there with labels.
        """
        agreement, chance = neighbour_agreement(features_NS, self.teacher_ND, self.neighbours)
        scores = {
            "held_out_knn_agreement": agreement,
            "held_out_knn_chance": chance,
            "held_out_r2": teacher_r2(features_NS, self.teacher_ND),
        }
        if self.labels_N is not None and np.count_nonzero(self.labels_N >= 0) >= LEAST_ROWS:
            scores["held_out_knn_top1"] = knn_top1(features_NS, self.labels_N)
        return {name: round(value, 4) + 0.0 for name, value in scores.items()}  # no -0.0


Look = Callable[[Trainer], dict[str, float]]


def look_at(job: Job, data: RunData, device: torch.device, *, leads: bool = True) -> Look | None:
    """A function that scores a student on the held-out rows of its run; None where there are none, or nothing is cached of them.

    Of several processes the leading one looks: the others have the same student, and get a function that says nothing.
    """
    rows_N = job.rows.held_out.rows_N
    teacher_ND = _cached(job, data, rows_N)
    if len(rows_N) == 0 or teacher_ND is None:
        return None
    if not leads:
        return lambda _trainer: {}
    reads_labels = job.method.reads_labels and may_score_labels(job.config)
    labels_N = data.store.labels_N[rows_N] if reads_labels else None
    monitor = Monitor(images_N3HW=_shown(job, data, rows_N), teacher_ND=teacher_ND, labels_N=labels_N)

    def look(trainer: Trainer) -> dict[str, float]:
        with torch.no_grad():
            parts = [trainer.features(part.to(device)).cpu() for part in torch.split(monitor.images_N3HW, EVAL_BATCH)]
        return monitor.score(torch.cat(parts).numpy())

    return look


def _shown(job: Job, data: RunData, rows_N: NDArray[np.int64]) -> Tensor:
    """The images of the rows as they are without augmentation: the first of their cached views where there are several."""
    views = cached_views(data.store, rows_N, job.config)
    side = frame_size(job.config.augment, job.size, views=views is not None)
    scaled = job.config.augment.scaled_decoding
    frames_N3HW = decode_rows(data.store, rows_N, side, data.read, whole=views is not None, scaled=scaled)
    if views is None:
        return show_clean(frames_N3HW, job.size)
    return views.show(frames_N3HW, torch.arange(len(rows_N)), views.first(len(rows_N)), job.size)


def _cached(job: Job, data: RunData, rows_N: NDArray[np.int64]) -> NDArray[np.float32] | None:
    """Coordinates of the rows, or else the store's vectors; None where there are neither, or several vectors to choose from."""
    if data.targets is not None or reads_coordinates(job.method, job.config):
        return data.coordinates(job.config.readout).first_coordinates(rows_N)
    store = data.store
    view = FIRST_VIEW if data.has_views else None
    try:
        readout = vector_readout(store, job.config.readout)
    except ArtefactError:
        return None
    return np.asarray(store.features(readout, resident_bytes=0, view=view).gather(rows_N), np.float32)
