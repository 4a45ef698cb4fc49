"""Losses that remember earlier rows: CRD's banks and lightly-train's queue. What they remember is saved with the run.

Legend: n rows of the run (N of the functions), B batch rows, S student dims, D teacher dims (their T), E embedding dims, M
candidates of a row, Q queue rows.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from tcs.criteria.base import Criterion, Loss, Setting, StepRows, given
from tcs.functional.composed import CrdState, crd_embedded, crd_step, start_crd
from tcs.functional.crd import crd, crd_normalisers, draw_index, start_bank, update_bank
from tcs.functional.queue import FeatureQueue, push, queue_kl, queue_step, similarity_kl, start_queue
from tcs.functional.regressors import UnitEmbed
from tcs.runtime import seed_for

NEGATIVES = 16384
MOST_QUEUED, FEWEST_QUEUED = 8192, 16


class Crd(Criterion):
    """CRD: both sides embedded in 128 dims, each contrasted with a memory of the other. Negatives are any other rows.

    The candidates of step t are a pure function of (seed, t); banks, normalisers and t are buffers.
    """

    bank_s_nE: Tensor
    bank_t_nE: Tensor
    normalisers: Tensor
    steps: Tensor

    def __init__(self, setting: Setting) -> None:
        super().__init__()
        self._seed, self._rows = setting.seed, setting.rows
        self.embed_s, self.embed_t = UnitEmbed(setting.student_dims), UnitEmbed(setting.teacher_dims)
        self.register_buffer("bank_s_nE", start_bank(setting.rows, seed=seed_for(setting.seed, "student bank")))
        self.register_buffer("bank_t_nE", start_bank(setting.rows, seed=seed_for(setting.seed, "teacher bank")))
        self.register_buffer("normalisers", torch.zeros(2))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def forward(self, rows: StepRows) -> Tensor:
        """The loss of the batch; afterwards its rows are written into both banks."""
        place_B, first = given(rows.place_B), not self.steps
        generator = torch.Generator().manual_seed(seed_for(self._seed, "candidates", int(self.steps)))
        negatives = min(NEGATIVES, self._rows - 1)
        index_BM = draw_index(place_B.cpu(), self._rows, negatives, generator).to(place_B.device)
        z_s, z_t = (None, None) if first else self.normalisers.clone()
        before = CrdState(bank_s_NE=self.bank_s_nE, bank_t_NE=self.bank_t_nE, z_s=z_s, z_t=z_t)
        weights = (*self.embed_s.weights(), *self.embed_t.weights())
        loss, after = crd_step(rows.features_BS, given(rows.teacher_BD), *weights, before, place_B, index_BM)
        # New tensors in place of the old: the backward pass still reads those.
        self.bank_s_nE, self.bank_t_nE = after.bank_s_NE, after.bank_t_NE
        if first:
            self.normalisers.copy_(torch.stack([given(after.z_s), given(after.z_t)]))
        self.steps += 1
        return loss


class QueueKl(Criterion):
    """KL between similarities to a queue of earlier teacher rows, through a linear map S -> D."""

    queue_QD: Tensor
    filled: Tensor

    def __init__(self, setting: Setting) -> None:
        super().__init__()
        self.adaptor = nn.Linear(setting.student_dims, setting.teacher_dims)
        size = max(FEWEST_QUEUED, min(MOST_QUEUED, setting.rows // 2))
        self.register_buffer("queue_QD", torch.zeros(size, setting.teacher_dims))
        self.register_buffer("filled", torch.zeros((), dtype=torch.int64))

    def forward(self, rows: StepRows) -> Tensor:
        """The loss against the queue with this batch in it."""
        before = FeatureQueue(rows_QT=self.queue_QD, filled=int(self.filled))
        loss, after = queue_step(
            rows.features_BS,
            given(rows.teacher_BD),
            before,
            adaptor_TS=self.adaptor.weight,
            adaptor_bias_T=self.adaptor.bias,
        )
        self.queue_QD.copy_(after.rows_QT)
        self.filled.fill_(after.filled)
        return loss


LOSSES: Mapping[str, Loss] = {
    "crd": Loss(
        make=Crd,
        function=crd_embedded,
        about="each side's embedding contrasted with a memory bank of the other",
        source="Tian, Krishnan and Isola 2020",
        reads=frozenset({"features"}),
        across_rows=True,
        trains="two linear maps to 128 dims; remembers two banks of N x 128",
        weight=0.8,
        differs=f"negatives are any other rows (labels are few), at most {NEGATIVES} and N - 1, without repetition",
        related=(crd_step, CrdState, start_crd, crd, crd_normalisers, update_bank, draw_index, start_bank, UnitEmbed),
    ),
    "queue-kl": Loss(
        make=QueueKl,
        function=similarity_kl,
        about="KL of similarities to a queue of teacher features, T = 0.07",
        source="lightly-train, its first distillation method",
        reads=frozenset({"features"}),
        across_rows=True,
        trains="linear S -> T; remembers up to 8192 rows",
        weight=1.0,
        exact="the original mixes images (MixUp), whose teacher features no cache of single images holds; else as cached",
        differs="rows that were never filled take no part; one queue, whatever the number of devices",
        related=(queue_step, FeatureQueue, start_queue, push, queue_kl),
    ),
}
