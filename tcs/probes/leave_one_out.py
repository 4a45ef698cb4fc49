"""Which penalty of a ridge regression has the least leave-one-out squared error, without computing the errors of most of them.

The exact leave-one-out residual of row i is r_i / (1 - h_ii) (Allen's PRESS), so the error of a penalty is the sum of w_i |r_i|^2
with w = 1 / (1 - h)^2. Leverages are cheap at every penalty; with many outputs the residuals are not. Where rows are put into
groups of nearly equal w, the residuals of a group need one J x J matrix of products for all penalties, and the smallest and the
largest w of the group bound its part of the error from both sides. Penalties whose lower bound lies above another's upper bound
cannot be the best; what is left, mostly one, is computed exactly. So the choice is that of the exact errors, ties included.

Legend: M rows, B of a block, J eigenvectors, C outputs, P penalties, G groups. All arithmetic is float64.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tcs.probes.targets import Targets, has_many

Array = NDArray[np.floating]
F64 = NDArray[np.float64]

LEAST_FREE = 1e-2  # of 1 - h: a row that is nearly reproduced has a residual that differences of squares would lose
GROUP_ROWS = 128  # smaller groups have closer bounds and slower products
ROUNDING = 1e-10  # of |y|^2, by which a sum of squared residuals may be off: float64 loses far less
Block = tuple[F64, Targets]


def least_error(blocks: Sequence[Block], shrink_PJ: F64, projected_JC: F64, n: int) -> int:
    """Index of the penalty of least error over all rows, of equal ones the first; `n` rows were fitted.

    `blocks` are pairs of rows (B, J) and their centred targets; predictions are row * shrink * projected.
    """
    candidates_p = np.arange(len(shrink_PJ))
    if has_many(projected_JC.shape[1], shrink_PJ.shape[1]):
        candidates_p = possible_penalties(blocks, shrink_PJ, projected_JC, n)
        if len(candidates_p) == 1:
            return int(candidates_p[0])
    errors_p = np.zeros(len(candidates_p))
    for basis_BJ, targets in blocks:
        add_loo_errors(errors_p, basis_BJ, shrink_PJ[candidates_p], projected_JC, targets, n)
    return int(candidates_p[errors_p.argmin()])


@np.errstate(divide="ignore", invalid="ignore")
def possible_penalties(blocks: Sequence[Block], shrink_PJ: F64, projected_JC: F64, n: int) -> NDArray[np.int64]:
    """Indexes of the penalties (rising) that may have the least error, by its bounds; a row that is reproduced has none from above."""
    basis_MJ = np.concatenate([basis_BJ for basis_BJ, _ in blocks])
    lengths_M = np.concatenate([targets.squares() for _, targets in blocks])
    shared_MJ = basis_MJ * np.concatenate([targets.products(projected_JC) for _, targets in blocks])
    outer_JJ = projected_JC @ projected_JC.T
    weights_MP = _free(basis_MJ, shrink_PJ, n) ** -2
    squares_J = np.einsum("mj,mj->j", basis_MJ, basis_MJ) * np.diag(outer_JJ)
    guess_P = lengths_M.sum() - 2 * (shrink_PJ @ shared_MJ.sum(axis=0)) + shrink_PJ**2 @ squares_J
    common_M = weights_MP[:, int((guess_P * weights_MP.mean(axis=0)).argmin())].clip(max=LEAST_FREE**-2)
    order_M = np.argsort(common_M, kind="stable")
    lower_P, upper_P = np.zeros((2, len(shrink_PJ)))
    for start in range(0, len(order_M), GROUP_ROWS):
        rows_m = order_M[start : start + GROUP_ROWS]
        common_m = common_M[rows_m]
        scaled_mJ = np.sqrt(common_m)[:, None] * basis_MJ[rows_m]
        length = common_m @ lengths_M[rows_m]
        errors_P = length - 2 * (shrink_PJ @ (common_m @ shared_MJ[rows_m]))
        errors_P += np.einsum("pj,pj->p", shrink_PJ @ ((scaled_mJ.T @ scaled_mJ) * outer_JJ), shrink_PJ)
        ratio_mP = weights_MP[rows_m] / common_m[:, None]
        lower_P += (errors_P - ROUNDING * length).clip(0) * ratio_mP.min(axis=0)
        upper_P += (errors_P + ROUNDING * length).clip(0) * ratio_mP.max(axis=0)
    return np.flatnonzero(~(lower_P > np.nan_to_num(upper_P, nan=np.inf).min()))


def _free(basis_BJ: F64, shrink_PJ: F64, n: int) -> F64:
    """1 - h (B, P): what of a row's residual is left once the row has taken part in the fit."""
    return 1 - (1 / n + (basis_BJ**2) @ shrink_PJ.T)


def add_loo_errors(errors_P: F64, basis_BJ: F64, shrink_PJ: F64, projected_JC: F64, targets: Targets, n: int) -> None:
    """Add the squared leave-one-out errors of a block of rows; predictions yhat are basis * shrink * projected.

    Of many outputs |y - yhat|^2 is |y|^2 - 2 y.yhat + |yhat|^2, which no B x C matrix a penalty is needed for: y.yhat is one product
    for all penalties, and |yhat|^2 reads the J x J matrix of the outputs' products.
    """
    free_BP = _free(basis_BJ, shrink_PJ, n)
    by_products = has_many(projected_JC.shape[1], basis_BJ.shape[1])
    outer_JJ = projected_JC @ projected_JC.T if by_products else None
    shared_BJ = basis_BJ * targets.products(projected_JC) if by_products else None
    lengths_B = targets.squares()
    for index, shrink_J in enumerate(shrink_PJ):
        free_B = free_BP[:, index]
        if outer_JJ is None or shared_BJ is None or np.abs(free_B).min() < LEAST_FREE:
            residual_BC = targets.dense() - basis_BJ @ (shrink_J[:, None] * projected_JC)
            squares_B = np.einsum("bc,bc->b", residual_BC, residual_BC)
        else:
            scaled_BJ = basis_BJ * shrink_J
            fitted_B = np.einsum("bj,bj->b", scaled_BJ @ outer_JJ, scaled_BJ)
            squares_B = lengths_B - 2 * (shared_BJ @ shrink_J) + fitted_B
        errors_P[index] += float((squares_B / free_B**2).sum())
