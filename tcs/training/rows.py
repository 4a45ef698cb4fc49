"""What is cached of a run's rows, and what the losses are given of a step: the student's output beside the same images' rows.

Whatever else a run is to learn from (rows of a further store) is a field of `TrainingRows`, read by tcs.training.loading, and of
`StepRows`.

Legend: n rows of this run, V views, K coordinates, H hash bits, P = H / 8 bytes, D teacher dims, C classes, B batch rows, L labelled
ones.
"""

import dataclasses

import torch
from torch import Tensor

from tcs.augmentation.mixing import soft_labels, unmixed
from tcs.criteria.base import LinearHead, StepRows
from tcs.functional.coordinates import unpack_bits
from tcs.students.student import Student, StudentOutput
from tcs.training.feed import Batch
from tcs.training.head_rows import Logits, SoftLabels
from tcs.training.views import cached_at


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingRows:
    """Everything that a step may read beside its images, on one device, indexed by position in this run.

    labels_n int64 (-1 outside the split: other labels are never loaded); labelled_m the positions of
    the labelled rows. Where the losses read them: coordinates_nK float32, packed_nP uint8, teacher_nD float, teacher_maps
    each (n, height, width, channels) float, shallow to deep, teacher_logits_nC float32 (a probe of the frozen teacher),
    pool_labels_nC float32 (labels spread over the run's rows); these two are held, or computed for the rows that are read. Of a store
    with V views all of them but the labels have an axis more: (n, V, ...).
    """

    labels_n: Tensor
    labelled_m: Tensor
    coordinates_nK: Tensor | None = None
    packed_nP: Tensor | None = None
    teacher_nD: Tensor | None = None
    teacher_maps: tuple[Tensor, ...] = ()
    teacher_logits_nC: Tensor | Logits | None = None
    pool_labels_nC: Tensor | SoftLabels | None = None


def step_rows(
    output: StudentOutput,
    rows: TrainingRows,
    place_B: Tensor,
    needed: frozenset[str],
    view_B: Tensor | None = None,
    head: LinearHead | None = None,
) -> StepRows:
    """The StepRows of `output` for the images at `place_B`, of which the views `view_B` are shown where there are several (int64
    on the device), with what is `needed` of the cache, and the student's `head` where a loss reads it."""

    def cached(name: str, values: Tensor | Logits | SoftLabels | None) -> Tensor | None:
        if name not in needed or values is None:
            return None
        return cached_at(values, place_B, view_B) if isinstance(values, Tensor) else values.at(place_B, view_B)

    packed = cached("bits", rows.packed_nP)
    maps = rows.teacher_maps if "maps" in needed else ()
    return StepRows(
        logits_BC=output.logits_BC,
        features_BS=output.features_BS,
        second_BC=output.second_BC,
        head=head,
        z_BK=output.z_BK,
        student_maps=output.maps,
        labels_B=rows.labels_n[place_B] if "labels" in needed else None,
        coordinates_BK=cached("coordinates", rows.coordinates_nK),
        bits_BH=None if packed is None else unpack_bits(packed),
        teacher_BD=cached("features", rows.teacher_nD),
        teacher_maps=tuple(cached_at(stage, place_B, view_B).permute(0, 3, 1, 2) for stage in maps),
        teacher_logits_BC=cached("probe", rows.teacher_logits_nC),
        pool_labels_BC=cached("pool", rows.pool_labels_nC),
        place_B=place_B,
    )


@torch.no_grad()
def head_of(student: Student) -> LinearHead:
    """The one linear map of its features that the student's classifier is now."""
    weight_CS, bias_C = student.folded_classifier()
    return LinearHead(weight_CS=weight_CS, bias_C=bias_C)


def changed_labels(batch: Batch, labels_n: Tensor, classes: int, smoothing: float) -> Tensor | None:
    """Labels (L, C) float32 of a batch's labelled rows where they are smoothed or mixed; None where each is one class."""
    if batch.labelled == 0 or (batch.mix is None and smoothing == 0):
        return None
    labels_L = labels_n[batch.positions_B[: batch.labelled].to(labels_n.device)]
    return soft_labels(labels_L, batch.mix or unmixed(batch.labelled), classes, smoothing)
