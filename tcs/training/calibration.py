"""The temperature of a finished student, fitted on held-out rows whose labels the run may read, before it is written.

Only a run that is given all labels of its store may read those of held-out rows (`may_score_labels`): in a few-shot run they lie
outside the split, and a temperature of the shots themselves would call the student surer than it is. Such a student has none.

Legend: N held-out rows with a label, H W height and width in pixels, C classes.
"""

from typing import Any

import numpy as np
import torch

from tcs.calibration import LEAST_ROWS, calibration_error, fit_temperature, probabilities
from tcs.config.train import may_score_labels
from tcs.images.stored import decode_rows
from tcs.training.data import RunData
from tcs.training.trainer import EVAL_BATCH, Trainer


@torch.no_grad()
def calibration_of(trainer: Trainer, data: RunData) -> dict[str, Any] | None:
    """`temperature`, the `rows` that it was fitted on, and the calibration error (percent) on them `before` and `after`.

    None where the run may read fewer than LEAST_ROWS held-out labels, or the student has no classifier or a single class. The
    student is left in evaluation mode.
    """
    job = trainer.job
    if len(job.classes) < 2 or not job.method.reads_labels or not may_score_labels(job.config):
        return None
    rows_N = job.rows.held_out.rows_N
    rows_N = rows_N[data.store.labels_N[rows_N] >= 0]
    if len(rows_N) < LEAST_ROWS:
        return None
    labels_N = np.asarray(data.store.labels_N[rows_N], np.int64)
    student = trainer.final.eval()
    scaled = job.config.augment.scaled_decoding  # the pixels that a finished student is scored on
    images_N3HW = decode_rows(data.store, rows_N, job.size, data.read, scaled=scaled)
    parts = torch.split(images_N3HW, EVAL_BATCH)
    logits_NC = np.concatenate([student(trainer.normalised(part)).logits_BC.float().cpu().numpy() for part in parts])
    temperature = fit_temperature(logits_NC, labels_N)
    before, after = (calibration_error(probabilities(logits_NC, value), labels_N) for value in (None, temperature))
    return {"temperature": temperature, "rows": len(rows_N), "before": before, "after": after}
