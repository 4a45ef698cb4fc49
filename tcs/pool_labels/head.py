"""Linear heads on standardised rows of a pool, calibrated so that their softmax are its soft labels.

Legend: B rows of a block, S rows of a sample, M labelled rows, K coordinates, J = K + 1 (ones last), C classes. Float32 on the
pool's device.
"""

import torch
from torch import Tensor

from tcs.pool_labels.balance import class_offsets
from tcs.pool_labels.options import PoolLabelOptions
from tcs.pool_labels.pool import SAMPLE_ROWS, Pool
from tcs.probes.ridge import fit_ridge

LEAST_SPREAD = 1e-12


def ridge_head(pool: Pool) -> Tensor:
    """The ridge probe of the labelled rows (C, J): where spreading begins, and what it must not fall behind."""
    probe = fit_ridge(pool.labelled()[:, :-1].cpu().numpy(), pool.labels_M.numpy(), pool.n_classes)
    weight_CK, bias_C = torch.from_numpy(probe.weight_CK), torch.from_numpy(probe.bias_C)
    return torch.cat([weight_CK, bias_C[:, None]], dim=1).to(pool.device, torch.float32)


class Calibration:
    """Turns the scores of any head into logits of soft labels, by a sample of the pool; remembers the last offsets."""

    def __init__(self, pool: Pool, options: PoolLabelOptions) -> None:
        self._sample_SJ = pool.restricted(pool.sample(SAMPLE_ROWS)).all_rows()
        self._options = options
        self._offset_C = self._sample_SJ.new_zeros(pool.n_classes)

    def unit_spread(self, head_CJ: Tensor) -> Tensor:
        """The head with scores of standard deviation 1 over the sample and all classes."""
        return head_CJ / (self._sample_SJ @ head_CJ.T).std().clamp_min(LEAST_SPREAD)

    def __call__(self, head_CJ: Tensor) -> Tensor:
        """The head (C, J) with logits of standard deviation `sharpness`, and the offsets of `balance` in its biases."""
        scaled_CJ = self._options.sharpness * self.unit_spread(head_CJ)
        self._offset_C = class_offsets(self._sample_SJ @ scaled_CJ.T, self._options, self._offset_C)
        return with_offset(scaled_CJ, self._offset_C)


def with_offset(head_CJ: Tensor, offset_C: Tensor) -> Tensor:
    """The head whose scores are higher by `offset_C`."""
    return torch.cat([head_CJ[:, :-1], head_CJ[:, -1:] + offset_C[:, None]], dim=1)
