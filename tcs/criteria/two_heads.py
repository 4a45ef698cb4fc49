"""The second classifier of DHO: it learns from the teacher's probe, beside a first one that learns from the labels.

Legend: B batch rows, C classes.
"""

from collections.abc import Mapping

from torch import Tensor

from tcs.criteria.base import Loss, Plain, StepRows, given
from tcs.criteria.logits import PROBED
from tcs.functional.two_heads import dho, dho_kd, fold_heads, mixed_logits, mixed_probabilities


def _second_head(rows: StepRows) -> Tensor:
    """KD of the second head: a mean over labelled rows plus one over the others, or the one of them that there is."""
    second_BC, teacher_BC, labelled_B = given(rows.second_BC), given(rows.teacher_logits_BC), given(rows.labels_B) >= 0
    if bool(labelled_B.all()) or not bool(labelled_B.any()):
        return dho_kd(second_BC, teacher_BC)
    return dho_kd(second_BC[labelled_B], teacher_BC[labelled_B], second_BC[~labelled_B], teacher_BC[~labelled_B])


LOSSES: Mapping[str, Loss] = {
    "dho-kd": Loss(
        make=lambda _: Plain(_second_head),
        function=dho_kd,
        about="KL of softened logits, T = 2, of a second classifier: mean over labelled rows + mean over unlabelled ones",
        source="Kang et al. 2025 (DHO)",
        reads=frozenset({"labels", "probe"}),
        second_head=True,
        across_rows=True,
        trains="a second classifier",
        weight=0.5,
        exact=f"{PROBED}, as CLIP's text classifier is in the paper",
        differs="both classifiers are mixed by their logits, 1 : 1, which is one linear classifier; the published mix of softmaxes, by "
        "factors chosen on validation rows, is none (mixed_probabilities)",
        related=(dho, fold_heads, mixed_logits, mixed_probabilities),
    ),
}
