"""Label propagation on the graph of nearest neighbours (Zhou et al., NIPS 2003), and the ridge head of what it spreads.

F = (1 - a) (I - a D^-1/2 A D^-1/2)^-1 Y by the iteration F <- a S F + (1 - a) Y. A joins every row to its nearest rows by
cosine, weighted max(0, cosine)^3, and back. Columns of F are divided by their sums (a class whose labelled rows lie in a dense
place would win everywhere: class mass normalisation, Zhu et al., ICML 2003), then rows.

Legend: G rows of the graph, M labelled rows, k neighbours, B rows of a block, J = K + 1 coordinates (ones last), C classes.
"""

import torch
from torch import Tensor

from tcs.pool_labels.balance import class_offsets
from tcs.pool_labels.expectation import Sums, solve_ridge
from tcs.pool_labels.options import PoolLabelOptions
from tcs.pool_labels.pool import Pool

GRAPH_ROWS = (
    32768  # the search is quadratic: a larger pool is spread over a seeded draw of so many rows, labelled ones included
)

SEARCH_ROWS = 1024

SPREAD = 0.9  # a: the share of a row's labels that comes from its neighbours

STEPS = 20

POWER = 3

SMALLEST = 1e-6


def fit_propagation(pool: Pool, options: PoolLabelOptions) -> Tensor:
    """The head (C, J) of the labels that the graph spreads, surer rows weighing more (1 - entropy / log C)."""
    graph = pool.restricted(pool.sample(GRAPH_ROWS))
    x_GJ = graph.all_rows()
    p_GC = spread_labels(graph, x_GJ, options.neighbours)
    log_GC = p_GC.clamp_min(SMALLEST).log()
    p_GC = torch.softmax(log_GC + class_offsets(log_GC, options, log_GC.new_zeros(pool.n_classes)), dim=1)
    entropy_G1 = -(p_GC * p_GC.clamp_min(SMALLEST).log()).sum(1, keepdim=True)
    sure_G1 = (1 - entropy_G1 / torch.log(entropy_G1.new_tensor(float(pool.n_classes)))).clamp_min(SMALLEST)
    sums = _weighted_sums(graph, x_GJ, p_GC, sure_G1, options)
    return solve_ridge(sums, options.penalty).to(pool.device, torch.float32)


def _weighted_sums(graph: Pool, x_GJ: Tensor, p_GC: Tensor, weight_G1: Tensor, options: PoolLabelOptions) -> Sums:
    labelled_MJ, extra = graph.labelled(), weight_G1.mean() * graph.label_weight(options.label_weight)
    second_JJ = (weight_G1 * x_GJ).T @ x_GJ + extra * labelled_MJ.T @ labelled_MJ
    cross_CJ = (weight_G1 * p_GC).T @ x_GJ + extra * graph.one_hot().T @ labelled_MJ
    return Sums(second_JJ=second_JJ.double().cpu(), cross_CJ=cross_CJ.double().cpu())


def spread_labels(graph: Pool, x_GJ: Tensor, neighbours: int) -> Tensor:
    """Soft labels (G, C) of the rows of the graph; rows that no label reaches have equal shares."""
    if neighbours not in graph.graphs:
        graph.graphs[neighbours] = neighbour_graph(x_GJ[:, :-1], min(neighbours, len(x_GJ) - 1))
    similarity_GG = graph.graphs[neighbours]
    label_GC = x_GJ.new_zeros(len(x_GJ), graph.n_classes)
    label_GC[graph.labelled_M.to(x_GJ.device)] = graph.one_hot()
    spread_GC, own_GC = label_GC, (1 - SPREAD) * label_GC
    for _ in range(STEPS):
        spread_GC = torch.sparse.mm(similarity_GG, spread_GC).mul_(SPREAD).add_(own_GC)
    shares_GC = spread_GC / spread_GC.sum(0)
    total_G1 = shares_GC.sum(1, keepdim=True)
    return torch.where(total_G1 > 0, shares_GC / total_G1.clamp_min(1e-30), 1 / graph.n_classes)


def neighbour_graph(x_GK: Tensor, neighbours: int) -> Tensor:
    """D^-1/2 A D^-1/2, sparse (G, G), of the `neighbours` nearest other rows by cosine and their converses."""
    unit_GK = torch.nn.functional.normalize(x_GK, dim=1)
    found = [_nearest(unit_GK, start, neighbours) for start in range(0, len(unit_GK), SEARCH_ROWS)]
    near_Gk, weight_Gk = torch.cat([near for near, _ in found]), torch.cat([weight for _, weight in found])
    from_Gk = torch.arange(len(unit_GK), device=x_GK.device)[:, None].expand_as(near_Gk)
    one_way = torch.stack([from_Gk.flatten(), near_Gk.flatten()])
    places, weights = torch.cat([one_way, one_way.flip(0)], dim=1), weight_Gk.flatten().repeat(2)
    size = (len(unit_GK), len(unit_GK))
    joined = torch.sparse_coo_tensor(places, weights, size, check_invariants=False).coalesce()
    degree_G = x_GK.new_zeros(len(unit_GK)).index_add_(0, joined.indices()[0], joined.values())
    scale_G = degree_G.clamp_min(SMALLEST).rsqrt()
    values = joined.values() * scale_G[joined.indices()[0]] * scale_G[joined.indices()[1]]
    return torch.sparse_coo_tensor(joined.indices(), values, size, is_coalesced=True, check_invariants=False)


def _nearest(unit_GK: Tensor, start: int, neighbours: int) -> tuple[Tensor, Tensor]:
    """(positions, weights), both (B, k), of the nearest other rows of the rows from `start` on."""
    similar_BG = unit_GK[start : start + SEARCH_ROWS] @ unit_GK.T
    own_B = torch.arange(len(similar_BG), device=unit_GK.device)
    similar_BG[own_B, own_B + start] = -2
    cosine_Bk, near_Bk = similar_BG.topk(neighbours, dim=1)
    return near_Bk, cosine_Bk.clamp_min(0) ** POWER
