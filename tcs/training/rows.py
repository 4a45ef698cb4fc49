"""The rows of a run: which images of the store take part, and what is cached of them.

Legend: N rows of the store, n rows of this run, K coordinates, H hash bits, P = H / 8 bytes, D teacher dims, C classes.
"""

import dataclasses
import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from tcs.errors import ConfigError


def pool_rows(
    keys: Sequence[str], labelled_rows_n: NDArray[np.int64], unlabelled: str, split_seed: int
) -> NDArray[np.int64]:
    """Sorted rows whose pixels may be used without labels: the labelled rows and all, none or N of the others.

    The N are those with the smallest hash of (split seed, key), so the choice does not depend on row order or shard layout.
    """
    taken = set(labelled_rows_n.tolist())
    others = [row for row in range(len(keys)) if row not in taken]
    if unlabelled == "none":
        others = []
    elif unlabelled != "all":
        wanted = int(unlabelled)
        if wanted > len(others):
            raise ConfigError(
                f"--unlabelled is {wanted}; the store has {len(others)} rows besides the labelled ones. Use all."
            )
        others = sorted(others, key=lambda row: _rank(split_seed, keys[row]))[:wanted]
    return np.array(sorted(taken.union(others)), np.int64)


def _rank(split_seed: int, key: str) -> bytes:
    text = f"{split_seed}\0pool\0{key}".encode("utf-8", "surrogateescape")
    return hashlib.blake2b(text, digest_size=16).digest()


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingRows:
    """Everything that a step may read beside its images, on one device, indexed by position in this run.

    labels_n int64 (-1 outside the split: other labels are never loaded); labelled_m the positions of
    the labelled rows. Where the losses read them: coordinates_nK float32, packed_nP uint8, teacher_nD float, teacher_maps
    each (n, height, width, channels) float, shallow to deep, teacher_logits_nC float32 (a probe of the frozen teacher). Of a
    store with V views all of them but the labels have an axis more: (n, V, ...).
    """

    labels_n: Tensor
    labelled_m: Tensor
    coordinates_nK: Tensor | None = None
    packed_nP: Tensor | None = None
    teacher_nD: Tensor | None = None
    teacher_maps: tuple[Tensor, ...] = ()
    teacher_logits_nC: Tensor | None = None
