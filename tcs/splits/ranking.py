"""The order in which rows are drawn: by a hash of their keys, so that neither row order, shard layout nor machine matters.

Legend: N rows that are ranked, n rows taken.
"""

import hashlib
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
RANK_BYTES = 16


def hash_rank(split_seed: int, tag: str, key: str) -> bytes:
    """Where the row named `key` stands among others, smallest first: 16 bytes, a pure function of the three.

    `tag` says what is drawn (a class name, or a purpose), so that the draws of one seed have nothing to do with each other.
    """
    return hash_ranks(split_seed, tag, [key])


def hash_ranks(split_seed: int, tag: str, keys: Iterable[str]) -> bytes:
    """`hash_rank` of many keys, one after the other: what they all begin with is hashed once."""
    begun = hashlib.blake2b(_encoded(f"{split_seed}\0{tag}\0"), digest_size=RANK_BYTES)
    ranks = []
    for key in keys:
        digest = begun.copy()
        digest.update(_encoded(key))
        ranks.append(digest.digest())
    return b"".join(ranks)


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def best_ranked(rows_N: Ints, keys: Sequence[str], tag: str, split_seed: int, wanted: int | None = None) -> Ints:
    """The `wanted` rows (None: all) of the smallest ranks among `rows_N`, in that order; `keys` names every row of the store."""
    named = [keys[row] for row in rows_N.tolist()]
    ranks_N2 = np.frombuffer(hash_ranks(split_seed, tag, named), ">u8").reshape(-1, 2).astype(np.uint64)
    places_n = np.arange(len(named))
    if wanted is not None and 0 < wanted < len(named):  # all whose first half may lie among the wanted ones
        firsts_N = ranks_N2[:, 0]
        places_n = np.flatnonzero(firsts_N <= np.partition(firsts_N, wanted - 1)[wanted - 1])
    order_n = np.lexsort((ranks_N2[places_n, 1], ranks_N2[places_n, 0]))
    chosen_n: Ints = rows_N[places_n[order_n[:wanted]]]
    return chosen_n
