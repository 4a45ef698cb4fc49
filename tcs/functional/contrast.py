"""NT-Xent and its projection head (SimCLR; Chen et al. 2020, arXiv 2002.05709): two views of an image find each other in a batch.

No teacher takes part: the same functions pretrain a teacher and train the reference student that has none.

Legend: B images of a batch, P projection dims, D encoder dims, V = 2B views.
"""

import math

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from tcs.functional.checks import require_pairs, require_positive, require_same_shape, require_vectors
from tcs.functional.norms import unit
from tcs.functional.precision import full_precision

PROJECTION_DIMS = 128


@full_precision
def nt_xent(first_BP: Tensor, second_BP: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Normalised temperature-scaled cross-entropy (equation 1 of the paper), and the share of views that find their pair.

    Row i of both shows image i. The loss is a scalar, the mean over all 2B views; of the 2B - 1 other views only the pair
    is right. ConfigError: shapes, fewer than 2 images, temperature.
    """
    require_vectors(first_BP, "nt_xent")
    require_same_shape(first_BP, second_BP, "nt_xent", "project both by one head")
    require_pairs(first_BP, "nt_xent")
    require_positive(temperature, "the temperature of nt_xent")
    rows = len(first_BP)
    views_VP = unit(torch.cat([first_BP, second_BP]), dim=1)
    own_VV = torch.eye(2 * rows, dtype=torch.bool, device=views_VP.device)
    logits_VV = (views_VP @ views_VP.T / temperature).masked_fill(
        own_VV, -math.inf
    )  # a view is no candidate for itself
    pair_V = torch.arange(2 * rows, device=views_VP.device).roll(rows)
    return F.cross_entropy(logits_VV, pair_V), (logits_VV.argmax(dim=1) == pair_V).float().mean()


def projection_head(dims: int, out_dims: int = PROJECTION_DIMS) -> nn.Sequential:
    """Two layers D -> D -> P with ReLU between (section 4.2 of the paper), thrown away after training.

    The hidden layer is batch-normalised, as in the authors' code; there the last layer is, too. Its start is drawn from
    torch's global generator: seed that around the call.
    """
    return nn.Sequential(nn.Linear(dims, dims), nn.BatchNorm1d(dims), nn.ReLU(), nn.Linear(dims, out_dims))
