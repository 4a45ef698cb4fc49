"""CRD (Tian, Krishnan and Isola 2020): noise-contrastive loss between embeddings and memory banks of the other side, as pure functions.

`tcs.functional.composed.crd_step` makes a whole step of them. By hand: two banks and two normalisers (save them), and two
embeddings (`UnitEmbed`, both trained). A step is `crd_normalisers` once at the very first batch, `crd`, then `update_bank` for
each side with detached embeddings.

Legend: N bank rows (training images), B batch (b: a block of it), M = 1 + k candidates of a row (its positive first), E embedding dims.
"""

import math

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from tcs.errors import ConfigError
from tcs.functional.checks import require_places, require_positive, require_same_shape
from tcs.functional.norms import unit
from tcs.functional.precision import full_precision

TEMPERATURE = 0.07000000029802322  # 0.07 as the float32 buffer that the original keeps it in
DENSE_FLOATS = 1 << 26  # of B N products; beyond, candidates are gathered in blocks of GATHERED_FLOATS
GATHERED_FLOATS = 1 << 24


def start_bank(rows: int, width: int = 128, seed: int = 0) -> Tensor:
    """(N, E) float32 start of a bank: uniform in +-1 / sqrt(E / 3), not normalised, the same for a seed on any device."""
    bound = math.sqrt(3 / width)
    return (2 * torch.rand(rows, width, generator=torch.Generator().manual_seed(seed)) - 1) * bound


@full_precision
def crd(
    e_s_BE: Tensor,
    e_t_BE: Tensor,
    bank_s_NE: Tensor,
    bank_t_NE: Tensor,
    index_BM: Tensor,
    z_s: Tensor | float,
    z_t: Tensor | float,
    temperature: float = TEMPERATURE,
) -> Tensor:
    """The contrastive loss of the student's embeddings against the teacher's bank, plus that of the teacher's against the student's.

    `index_BM` (integers) names bank rows: the positive, then k = M - 1 negatives. z_s, z_t are the normalisers of
    `crd_normalisers`. The gradient reaches both embeddings, never the banks. All B N products are made where they
    are at most 2^26 (peak about 4 B N floats: 55 MB at B = 64, N = 50,000), which is far faster than gathering B M E floats; beyond,
    the candidates are gathered block by block, and again in the backward pass. ConfigError: shapes, index, normalisers, temperature.
    """
    if bank_s_NE.shape != bank_t_NE.shape:
        shapes = f"{tuple(bank_s_NE.shape)} and {tuple(bank_t_NE.shape)}"
        raise ConfigError(f"crd has banks of {shapes}; both need one row for each image of the run, of one width.")
    student_BM = _exponents(e_s_BE, bank_t_NE, index_BM, temperature) - _log_normaliser(z_s, "z_s")
    teacher_BM = _exponents(e_t_BE, bank_s_NE, index_BM, temperature) - _log_normaliser(z_t, "z_t")
    return _contrast(student_BM, bank_t_NE.shape[0]) + _contrast(teacher_BM, bank_s_NE.shape[0])


def _log_normaliser(z: Tensor | float, name: str) -> float:
    require_positive(float(z), f"the normaliser {name} of crd")
    return math.log(float(z))


@full_precision
def crd_normalisers(
    e_s_BE: Tensor,
    e_t_BE: Tensor,
    bank_s_NE: Tensor,
    bank_t_NE: Tensor,
    index_BM: Tensor,
    temperature: float = TEMPERATURE,
) -> tuple[Tensor, Tensor]:
    """(z_s, z_t), scalars: N times the mean over the first batch of exp(bank row . embedding / temperature). Kept for all steps."""
    with torch.no_grad():
        z_s = _exponents(e_s_BE, bank_t_NE, index_BM, temperature).exp().mean() * bank_t_NE.shape[0]
        z_t = _exponents(e_t_BE, bank_s_NE, index_BM, temperature).exp().mean() * bank_s_NE.shape[0]
    return z_s, z_t


def _contrast(log_ratios_BM: Tensor, rows: int, eps: float = 1e-7) -> Tensor:
    """-(1 / B) sum of log(p+ / (p+ + k/N + eps)) and log((k/N) / (p- + k/N + eps)) over positives and negatives.

    In the exponents of p, where neither a large nor a small p can overflow.
    """
    noise = (log_ratios_BM.shape[1] - 1) / rows
    excess_BM = log_ratios_BM - math.log(noise + eps)
    zero = torch.zeros_like(excess_BM[:1, :1])
    rights_B = -torch.logaddexp(-excess_BM[:, 0], zero[0])
    wrongs_Bk = -torch.logaddexp(excess_BM[:, 1:], zero) - math.log1p(eps / noise)
    return -(rights_B.sum() + wrongs_Bk.sum()) / log_ratios_BM.shape[0]


def _exponents(e_BE: Tensor, bank_NE: Tensor, index_BM: Tensor, temperature: float) -> Tensor:
    """(B, M): bank row . embedding / temperature."""
    _require_candidates(e_BE, bank_NE, index_BM)
    require_positive(temperature, "the temperature of crd")
    bank_NE = bank_NE.detach()
    index_BM = index_BM.long()
    dense = e_BE.shape[0] * bank_NE.shape[0] <= DENSE_FLOATS
    products_BM = _from_all(e_BE, bank_NE, index_BM) if dense else _from_gathered(e_BE, bank_NE, index_BM)
    return products_BM / temperature


def _require_candidates(e_BE: Tensor, bank_NE: Tensor, index_BM: Tensor) -> None:
    if e_BE.ndim != 2 or bank_NE.ndim != 2 or e_BE.shape[1] != bank_NE.shape[1]:
        shapes = f"embeddings {tuple(e_BE.shape)} and a bank of {tuple(bank_NE.shape)}"
        raise ConfigError(f"crd has {shapes}; they must be (B, E) and (N, E).")
    shaped = index_BM.ndim == 2 and index_BM.shape[0] == e_BE.shape[0] and index_BM.shape[1] >= 2
    if not shaped or index_BM.is_floating_point():
        kind = f"{tuple(index_BM.shape)}{' floating numbers' if index_BM.is_floating_point() else ''}"
        raise ConfigError(f"crd has an index of {kind}; it must be ({e_BE.shape[0]}, 1 + k) integers with k >= 1.")
    low, high = int(index_BM.min()), int(index_BM.max())
    if low < 0 or high >= bank_NE.shape[0]:
        raise ConfigError(f"crd has bank rows from {low} to {high} in its index; the bank has {bank_NE.shape[0]}.")


def _from_all(e_BE: Tensor, bank_NE: Tensor, index_BM: Tensor) -> Tensor:
    return (e_BE @ bank_NE.T).gather(1, index_BM)


def _from_gathered(e_BE: Tensor, bank_NE: Tensor, index_BM: Tensor) -> Tensor:
    """Block by block of the batch; a block's gathered rows are not kept for the backward pass but gathered again."""
    block = max(1, GATHERED_FLOATS // (index_BM.shape[1] * e_BE.shape[1]))
    parts = zip(torch.split(e_BE, block), torch.split(index_BM, block), strict=True)
    return torch.cat(
        [checkpoint(_gathered, e, bank_NE, index, use_reentrant=False, preserve_rng_state=False) for e, index in parts]
    )


def _gathered(e_bE: Tensor, bank_NE: Tensor, index_bM: Tensor) -> Tensor:
    return torch.bmm(bank_NE[index_bM], e_bE.unsqueeze(2)).squeeze(2)


def update_rows(bank_NE: Tensor, e_BE: Tensor, rows_B: Tensor, momentum: float = 0.5) -> Tensor:
    """(B, E): momentum * old + (1 - momentum) * new, of unit length, without gradient; for callers who write them in place.

    `rows_B` are integers. ConfigError: shapes, rows that the bank has not.
    """
    require_places(rows_B, rows_B.numel(), len(bank_NE), "update_rows")
    rows_B = rows_B.long()
    require_same_shape(
        bank_NE[rows_B], e_BE, "update_rows", remedy="give one embedding of the bank's width for each row"
    )
    old_BE = bank_NE[rows_B].detach()
    return unit(momentum * old_BE + (1 - momentum) * e_BE.detach().to(bank_NE.dtype), dim=1)


def update_bank(bank_NE: Tensor, e_BE: Tensor, rows_B: Tensor, momentum: float = 0.5) -> Tensor:
    """The bank with `update_rows` in place of rows_B; a new tensor (N E floats), the given one is unchanged."""
    return bank_NE.detach().index_copy(0, rows_B.long(), update_rows(bank_NE, e_BE, rows_B, momentum))


def draw_index(
    rows_B: Tensor,
    bank_rows: int,
    negatives: int,
    generator: torch.Generator,
    labels_N: Tensor | None = None,
    same_class_positive: bool = False,
) -> Tensor:
    """(B, 1 + negatives) int64 candidates on the CPU: the row itself, then rows of other classes (without labels: any other rows).

    Drawn without replacement unless more are asked for than there are. `same_class_positive` takes as positive a random row of
    the class ("relax") instead of the row itself ("exact"). Labels cost a pass over N for each row of the batch.
    ConfigError: labels that are missing or -1, no other row.
    """
    _require_labels(bank_rows, negatives, labels_N, same_class_positive)
    drawn = []
    for row in rows_B.tolist():
        if labels_N is None:
            others = _distinct(bank_rows - 1, negatives, generator)
            drawn.append(torch.cat([torch.tensor([row]), others + (others >= row)]))
            continue
        same = labels_N == labels_N[row]
        positive = _draw(same, 1, generator) if same_class_positive else torch.tensor([row])
        drawn.append(torch.cat([positive, _draw(~same, negatives, generator)]))
    return torch.stack(drawn)


def _require_labels(bank_rows: int, negatives: int, labels_N: Tensor | None, same_class_positive: bool) -> None:
    if negatives < 1:
        raise ConfigError(f"crd is asked for {negatives} negatives; it needs 1 or more.")
    if labels_N is None and same_class_positive:
        raise ConfigError(
            "crd is asked for positives of the same class without labels; give labels or use the row itself."
        )
    if labels_N is not None and (labels_N.shape != (bank_rows,) or int(labels_N.min()) < 0):
        raise ConfigError(
            f"crd has {labels_N.numel()} labels, the least {int(labels_N.min())}, for {bank_rows} bank rows; "
            "each row needs one of 0 or more. Leave the labels out to draw from all other rows."
        )


def _draw(pool_N: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """`count` of the rows that `pool_N` (bool) holds, distinct if there are as many."""
    rows = pool_N.nonzero().squeeze(1)
    return rows[_distinct(len(rows), count, generator)]


def _distinct(size: int, count: int, generator: torch.Generator) -> Tensor:
    """`count` numbers below `size`, uniform, distinct if there are as many. Few of many cost no permutation of them all."""
    if not size:
        raise ConfigError(
            "crd has no row to draw negatives from; it needs a second class (or, without labels, a second row)."
        )
    if count > size:
        return torch.randint(size, (count,), generator=generator)
    if 4 * count >= size:
        return torch.randperm(size, generator=generator)[:count]
    found = torch.randint(size, (0,), generator=generator)
    while len(found) < count:
        found = torch.unique(torch.randint(size, (2 * count,), generator=generator))
    return found[torch.randperm(len(found), generator=generator)[:count]]
