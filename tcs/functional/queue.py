"""KL between student and teacher similarities to a queue of earlier teacher features, as in lightly-train's first distillation method.

The queue is a value: `push` gives a new one. A step (`queue_step`) pushes the batch's teacher features, then takes the loss
against the queue with them in it. Rows that were never filled take no part (there they are zeros that do).

Legend: B batch, Q queue rows, S student dims, T teacher dims.
"""

import dataclasses

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from tcs.errors import ConfigError
from tcs.functional.checks import require_positive, require_same_shape, require_shapes, require_vectors
from tcs.functional.norms import l2_norm, unit
from tcs.functional.precision import full_precision
from tcs.functional.regressors import adapted


@dataclasses.dataclass(frozen=True, kw_only=True)
class FeatureQueue:
    """rows_QT: teacher features of unit length, the newest first; only the first `filled` count, the rest are zeros."""

    rows_QT: Tensor
    filled: int = 0


def start_queue(size: int, width: int, device: torch.device | str = "cpu") -> FeatureQueue:
    """An empty queue of float32 rows. ConfigError if `size` is below 2. Published sizes: 16 to 8192, a quarter to half of the data."""
    if size < 2:
        raise ConfigError(f"The queue has {size} rows; similarities to fewer than 2 say nothing: use 2 or more.")
    return FeatureQueue(rows_QT=torch.zeros(size, width, device=device))


def push(queue: FeatureQueue, f_t_BT: Tensor) -> FeatureQueue:
    """A queue with the batch's rows (made of unit length) in front and the oldest dropped; of a larger batch the first Q rows stay."""
    size, width = queue.rows_QT.shape
    if f_t_BT.ndim != 2 or f_t_BT.shape[1] != width:
        raise ConfigError(
            f"Features of shape {tuple(f_t_BT.shape)} are pushed on a queue of {width} dims; they must agree."
        )
    new_BT = l2_norm(f_t_BT.detach()).to(queue.rows_QT)
    return FeatureQueue(
        rows_QT=torch.cat([new_BT, queue.rows_QT])[:size], filled=min(size, queue.filled + f_t_BT.shape[0])
    )


def queue_kl(f_s_BT: Tensor, f_t_BT: Tensor, queue: FeatureQueue, temperature: float = 0.07) -> Tensor:
    """`similarity_kl` against the queue's filled rows. ConfigError: shapes, temperature, fewer than 2 filled rows."""
    return similarity_kl(f_s_BT, f_t_BT, _filled(queue), temperature)


def queue_step(
    f_s: Tensor,
    f_t_BT: Tensor,
    queue: FeatureQueue,
    temperature: float = 0.07,
    adaptor_TS: Tensor | None = None,
    adaptor_bias_T: Tensor | None = None,
) -> tuple[Tensor, FeatureQueue]:
    """`similarity_kl` against the queue with this batch's teacher rows in it, and that queue, for the next step.

    ConfigError: shapes, temperature, fewer than 2 filled rows.
    """
    after = push(queue, f_t_BT)
    return similarity_kl(f_s, f_t_BT, _filled(after), temperature, adaptor_TS, adaptor_bias_T), after


def _filled(queue: FeatureQueue) -> Tensor:
    if queue.filled < 2:
        raise ConfigError(f"The queue has {queue.filled} filled rows; push teacher features until it has 2 or more.")
    return queue.rows_QT[: queue.filled]


@full_precision
def similarity_kl(
    f_s: Tensor,
    f_t_BT: Tensor,
    rows_QT: Tensor,
    temperature: float = 0.07,
    adaptor_TS: Tensor | None = None,
    adaptor_bias_T: Tensor | None = None,
) -> Tensor:
    """Mean over rows of KL(softmax(t q / temperature) || softmax(s q / temperature)), s and t made of unit length.

    q are the given rows, taken as they are. The student f_s has T dims, or S and a linear adaptor to T (published: with
    bias). ConfigError: shapes, temperature.
    """
    require_vectors(f_s, "queue_kl")
    s_BT = adapted(f_s, adaptor_TS, adaptor_bias_T)
    require_same_shape(s_BT, f_t_BT, "queue_kl")
    require_shapes("queue_kl", ("f_t_BT", f_t_BT, "B T"), ("rows_QT", rows_QT, "Q T"))
    require_positive(temperature, "the temperature of queue_kl")
    anchors_TQ = rows_QT.detach().T / temperature
    similar_s_BQ, similar_t_BQ = unit(s_BT) @ anchors_TQ, unit(f_t_BT.detach()) @ anchors_TQ
    return F.kl_div(similar_s_BQ.log_softmax(1), similar_t_BQ.log_softmax(1), reduction="batchmean", log_target=True)
