"""Losses on the student's coordinates z against a targets file.

Legend: B batch rows, S student dims, K coordinates, H hash bits.
"""

from collections.abc import Mapping

from torch import Tensor

from tcs.criteria.base import Loss, Plain, Setting, StepRows, given
from tcs.functional.coordinates import HashPlanes, coordinate_l2, elsh, hash_logits, unpack_bits
from tcs.functional.rdimkd import orthonormal, rdimkd, rdimkd_cached, rdimkd_encoded

CLEAN = "exact: the targets are those of the clean view by definition"


def _elsh(setting: Setting) -> Plain:
    planes = setting.planes
    assert planes is not None

    def value(rows: StepRows) -> Tensor:
        return elsh(given(rows.z_BK), given(rows.bits_BH), planes)

    return Plain(value)


LOSSES: Mapping[str, Loss] = {
    "l2": Loss(
        make=lambda _: Plain(lambda rows: coordinate_l2(given(rows.z_BK), given(rows.coordinates_BK))),
        function=coordinate_l2,
        about="mean squared distance of coordinates: RdimKD in the axes of the targets (pca, random, autoencoder, jl)",
        source="RdimKD (Guo et al.), section 2 of its method",
        reads=frozenset({"coordinates"}),
        trains="linear S -> K",
        exact=CLEAN,
        differs="reduction and weight are not published: mean over rows and coordinates, and a weight of 1 to start from",
        related=(rdimkd, rdimkd_cached, rdimkd_encoded, orthonormal),
    ),
    "elsh": Loss(
        make=_elsh,
        function=elsh,
        about="binary cross-entropy on the teacher's hash bits (faiss, orthogonal rotation, median thresholds)",
        source="TCS; LSH loss of Wang et al.",
        reads=frozenset({"bits"}),
        trains="linear S -> K",
        exact=CLEAN,
        differs="the weight is not published: 1 to start from; hash values are scaled to a spread of 2 about their medians",
        related=(HashPlanes, hash_logits, unpack_bits),
    ),
}
