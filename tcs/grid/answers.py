"""What a classifier says of test images, whatever it is: a student, a head on the frozen teacher, a vote of its neighbours.

Legend: M scored images, C classes (as the training store numbers them).
"""

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tcs.calibration import calibration_error
from tcs.metrics import accuracy, balanced_accuracy, log_shares

Ints = NDArray[np.int64]
Floats = NDArray[np.floating[Any]]


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Answers:
    """The class of each image `top1_M`; `scores_MC`, whose order ranks the classes, and `log_shares_MC`, the natural logarithms of
    probabilities: None where the classifier has none. Scores of a regression and cosines rank, and are no probabilities. `batch_size` is
    how many images a student scored at once."""

    top1_M: Ints
    scores_MC: Floats | None = None
    log_shares_MC: NDArray[np.float64] | None = None
    batch_size: int | None = None

    @classmethod
    def of_scores(cls, scores_MC: Floats) -> "Answers":
        """Of scores that are no probabilities; of equal ones the first counts."""
        return cls(top1_M=scores_MC.argmax(axis=1), scores_MC=scores_MC)

    @classmethod
    def of_logits(cls, logits_MC: Floats, temperature: float | None = None, batch_size: int | None = None) -> "Answers":
        """Of logits, whose softmax at `temperature` (None: 1) are the probabilities."""
        shares_MC = log_shares(logits_MC, temperature)
        return cls(top1_M=logits_MC.argmax(axis=1), scores_MC=logits_MC, log_shares_MC=shares_MC, batch_size=batch_size)

    @classmethod
    def of_probabilities(cls, shares_MC: Floats) -> "Answers":
        """Of probabilities; one of 0 counts as the least that a float32 can hold."""
        logs_MC = np.log(np.maximum(np.asarray(shares_MC, np.float64), np.finfo(np.float32).tiny))
        return cls(top1_M=shares_MC.argmax(axis=1), scores_MC=shares_MC, log_shares_MC=logs_MC)

    def nll(self, truth_M: Ints) -> NDArray[np.float64] | None:
        """The negative log-likelihood (nats) of each image's class; None without probabilities."""
        return None if self.log_shares_MC is None else -self.log_shares_MC[np.arange(len(truth_M)), truth_M]

    def accuracies(self, truth_M: Ints) -> dict[str, float]:
        """top1 and top1_err, and top5 where classes are ranked, in percent."""
        if self.scores_MC is not None:
            found = accuracy(self.scores_MC, truth_M)
            return {name: found[name] for name in ("top1", "top1_err", "top5")}
        top1 = round(100 * int((self.top1_M == truth_M).sum()) / len(truth_M), 4)
        return {"top1": top1, "top1_err": round(100 - top1, 4)}

    def measures(self, truth_M: Ints) -> dict[str, float]:
        """`accuracies`, `balanced_acc` in percent, and with probabilities `nll` (mean, nats) and `ece` (percent)."""
        found = self.accuracies(truth_M) | {"balanced_acc": balanced_accuracy(self.top1_M, truth_M)}
        nll_M = self.nll(truth_M)
        if nll_M is None or self.log_shares_MC is None:
            return found
        ece = calibration_error(np.exp(self.log_shares_MC), truth_M)
        return found | {"nll": round(float(nll_M.mean()), 4), "ece": ece}
