"""Which rows to label next, from their points and the labels so far alone.

Without labels: clusters as many as rows are wanted, and the densest row of each (TypiClust: Hacohen et al., arXiv 2202.02794).
With M labels: M + n clusters, those without a label first, the more unsure rows the sooner, and the densest row of each; then, of
clusters with a label, the densest of the more unsure half. How unsure a row is: 1 - the margin between the two likeliest classes of
the transductive probe. (Of clusters without a label it was worse: in development, ridge at 40 images, by 0-4 points.)

Legend: N rows, M labelled rows, m rows of a cluster, K coordinates, C classes, G clusters.
"""

import dataclasses
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from tcs.labelling.clusters import F32, Ints, cluster_rows, typicality
from tcs.pool_labels.options import PoolLabelOptions
from tcs.pool_labels.spread import spread_labels
from tcs.runtime import seed_for
from tcs.splits.label_file import GivenLabels

MOST_CLUSTERS = 1000  # unless more rows are wanted: with many labels, regions matter less than margins

MARGIN_ESTIMATOR = (
    "ridge-em"  # unchecked: in development its margins led as far as the default's, in a tenth of the time
)

CROWD = 4096  # the densest row of a larger cluster is sought in a seeded draw of it


@dataclasses.dataclass(frozen=True)
class Choice:
    """A row and, in words, why."""

    row: int
    reason: str


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Cluster:
    """The rows of a cluster that may be chosen (m,), rising; how many rows it has; how many have labels; how unsure all are."""

    rows_m: Ints
    size: int
    labelled: int
    unsure: float


def choose_rows(z_NK: F32, n: int, given: GivenLabels, seed: int) -> list[Choice]:
    """The `n` rows to label next (at most N - M), best first. The same arguments give the same rows on one machine."""
    unsure_N = unsureness(z_NK, given, seed)
    is_labelled_N = np.zeros(len(z_NK), bool)
    is_labelled_N[given.rows_M] = True
    count = min(n + len(given.rows_M), max(n, MOST_CLUSTERS), len(z_NK))
    clusters = find_clusters(cluster_rows(z_NK, count, seed), is_labelled_N, unsure_N)
    found = _in_turn(z_NK, clusters, unsure_N, seed)
    return [next(found) for _ in range(n)]


def unsureness(z_NK: F32, given: GivenLabels, seed: int) -> NDArray[np.float32] | None:
    """1 - margin (N,) of the transductive probe of the given labels; None below two classes, where there is none to fit."""
    if len(given.classes) < 2:
        return None
    options = PoolLabelOptions(estimator=MARGIN_ESTIMATOR, safety=False, seed=seed)
    labels = spread_labels(z_NK, given.rows_M, given.labels_M, len(given.classes), options)
    unsure_N = np.empty(len(z_NK), np.float32)
    for start, p_BC in labels.blocks(z_NK):
        second_B, first_B = np.partition(p_BC, -2, axis=1)[:, -2:].T
        unsure_N[start : start + len(p_BC)] = 1 - (first_B - second_B)
    return unsure_N


def find_clusters(
    cluster_N: Ints, is_labelled_N: NDArray[np.bool_], unsure_N: NDArray[np.float32] | None
) -> list[Cluster]:
    """Clusters with rows to choose, those without a label first, then the more unsure rows the sooner (sums of unsureness)."""
    order_N = np.argsort(cluster_N, kind="stable")
    parts = np.split(order_N, np.flatnonzero(np.diff(cluster_N[order_N])) + 1)
    clusters = [
        Cluster(
            rows_m=part[~is_labelled_N[part]],
            size=len(part),
            labelled=int(is_labelled_N[part].sum()),
            unsure=float(len(part) if unsure_N is None else unsure_N[part].sum(dtype=np.float64)),
        )
        for part in parts
    ]
    open_ones = [cluster for cluster in clusters if len(cluster.rows_m)]
    return sorted(open_ones, key=lambda cluster: (cluster.labelled > 0, -cluster.unsure, cluster.rows_m[0]))


def _in_turn(z_NK: F32, clusters: list[Cluster], unsure_N: NDArray[np.float32] | None, seed: int) -> Iterator[Choice]:
    """A row of every cluster in turn, then a second one of each, until no row is left."""
    while clusters:
        left = []
        for cluster in clusters:
            row = densest(z_NK, cluster.rows_m, unsure_N if cluster.labelled else None, seed)
            yield Choice(row, _reason(cluster, row, unsure_N))
            rest_m = cluster.rows_m[cluster.rows_m != row]
            if len(rest_m):
                left.append(dataclasses.replace(cluster, rows_m=rest_m, labelled=cluster.labelled + 1))
        clusters = left


def densest(z_NK: F32, rows_m: Ints, unsure_N: NDArray[np.float32] | None, seed: int) -> int:
    """The densest of these rows, or (where it is known how unsure they are) of their more unsure half; of equal ones the first."""
    if unsure_N is not None:
        rows_m = rows_m[unsure_N[rows_m] >= np.median(unsure_N[rows_m])]
    if len(rows_m) > CROWD:
        generator = np.random.default_rng(seed_for(seed, "crowd", int(rows_m[0])))
        rows_m = np.sort(generator.choice(rows_m, CROWD, replace=False))
    return int(rows_m[typicality(z_NK[rows_m]).argmax()])


def _reason(cluster: Cluster, row: int, unsure_N: NDArray[np.float32] | None) -> str:
    images = f"{cluster.size} images" if cluster.size > 1 else "1 image"
    if unsure_N is None and not cluster.labelled:
        return f"stands for {images}"
    labelled = "no label" if not cluster.labelled else f"{cluster.labelled} labelled or suggested"
    margin = "" if unsure_N is None else f"; margin {1 - float(unsure_N[row]):.2f}"
    return f"{images} with {labelled}{margin}"
