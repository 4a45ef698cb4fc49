"""What `tcs methods` lists beside losses and named methods: heads, selections, and losses that need more than one classifier."""

import dataclasses
from collections.abc import Mapping


@dataclasses.dataclass(frozen=True, kw_only=True)
class Other:
    """What is no loss of `tcs train` and stands beside them: `use` is its command, the rest as in `tcs.criteria.base.Loss`.

    `function`, `call` and `related` are text: they name rooms that need timm and faiss, which a list of methods has no need of.
    """

    about: str
    use: str
    source: str
    exact: str
    differs: str
    function: str
    call: str
    related: tuple[str, ...]


OTHERS: Mapping[str, Other] = {
    "ibm2": Other(
        about="few-shot head on frozen features: a cosine classifier of noisy copies of the labelled rows, the noise searched",
        use="tcs probe X.store --test Y.store --head ibm2 --shots 4 --compression 1; a reference row of tcs fewshot",
        source="Fu, Zhu and Wu (IbM2, instance-based max-margin)",
        exact="exact: the original reads frozen features too",
        differs="the clean accuracy of the threshold is that of a head fitted without noise by the final recipe, and the rate falls "
        "once an epoch: neither is published",
        function="tcs.functional.ibm2.ibm2",
        call="ibm2(support_ND, labels_N, directions_CD, gains_C, epsilon, noise_NRD, std_D=None, smoothing=0.1, scale=10.0)",
        related=(
            *(
                f"tcs.functional.ibm2.{name}"
                for name in (
                    "cosine_logits",
                    "smoothed_loss",
                    "support_std",
                    "perturb",
                    "noisy_copies",
                    "search_epsilon",
                )
            ),
            "tcs.probes.ibm2.fit_ibm2",
        ),
    ),
    "jll-head": Other(
        about="a linear head on a random subspace of the features, beside principal axes and selected ones",
        use="tcs probe X.store --test Y.store --projection jl --projection orthogonal --projection pca --projection selection",
        source="JLL subspaces (arXiv 2512.23410)",
        exact="exact: the paper reads frozen features too",
        differs="the paper leaves the distribution open: N(0, 1/K), or orthonormal columns",
        function="tcs.coordinates.axes.jl_projection",
        call="jl_projection(dims, components, seed)",
        related=(
            "tcs.coordinates.axes.random_axes",
            "tcs.coordinates.axes.principal_axes",
            "tcs.probes.heads.fit_head",
        ),
    ),
    "cospress-axes": Other(
        about="axes learned so that cosines between the teacher's rows are kept, for whatever reads coordinates",
        use="tcs fit X.store --method cospress --components 64 --out c.safetensors, then tcs targets",
        source="Mannix and Bondell 2025 (CosPress)",
        exact="exact: cached features alone",
        differs="squared error of the cosines about the mean, which the text at hand does not name; fitted once, before any student",
        function="tcs.coordinates.cospress.cospress_axes",
        call="cospress_axes(features, mean_D, covariance_DD, components, seed)",
        related=("tcs.coordinates.cospress.cosine_error", "tcs.coordinates.axes.principal_axes"),
    ),
    "selection-ridge": Other(
        about="coordinates that a ridge probe of the run's own labels keeps, weakest dropped round by round",
        use="tcs train X.store --targets t.h5 --method tcs --selection ridge --shots 16; tcs fit --shots for a file",
        source="TCS (iterative feature selection)",
        exact="exact: labels and cached coordinates alone",
        differs="the paper's scores and stopping rule are not in the texts at hand: one standard error of cross-validated accuracy",
        function="tcs.coordinates.selection.select_coordinates",
        call="select_coordinates(z_nK, labels_n, n_classes, shots, seed, split_digest, minimum=8)",
        related=("tcs.coordinates.selection.rank_coordinates",),
    ),
    "selection-pool": Other(
        about="coordinates that the run's labels, spread over all cached rows, keep: a ridge probe of thousands of soft labels",
        use="tcs train X.store --targets t.h5 --method tcs --selection pool --shots 1; tcs fit --shots 1 --selection pool for a file",
        source="TCS (iterative feature selection)",
        exact="no online teacher has it: labels are spread over the cached features of the whole pool",
        differs="the paper selects by the labelled rows; the size is chosen by agreement with the spread labels on rows put aside",
        function="tcs.coordinates.pool_selection.select_from_pool",
        call="select_from_pool(pool, options, split_digest, minimum=8)",
        related=("tcs.coordinates.selection.rank_from_gram", "tcs.pool_labels.spread.spread_labels"),
    ),
    "selection-gates": Other(
        about="a trained gate a coordinate; those with the least |gate * dL/dgate| are closed on a schedule",
        use="tcs train X.store --targets t.h5 --method tcs --selection gates --keep 64",
        source="TCS (trainable mask)",
        exact="exact: labels and cached coordinates alone",
        differs="the paper's schedule is not in the texts at hand: 8 periods over the first 60 % of the steps, equal shares",
        function="tcs.students.student.Gates",
        call="Gates(components)",
        related=("tcs.students.student.kept_after", "tcs.students.student.period_ending"),
    ),
}
