"""The pool of a run: rows whose pixels may be used without labels. Legend: n labelled rows."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tcs.errors import ConfigError
from tcs.splits.ranking import hash_rank


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
        others = sorted(others, key=lambda row: hash_rank(split_seed, "pool", keys[row]))[:wanted]
    return np.array(sorted(taken.union(others)), np.int64)
