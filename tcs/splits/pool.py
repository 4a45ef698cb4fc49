"""Pool_rows: rows whose pixels may be used without labels."""

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

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
