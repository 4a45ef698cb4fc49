"""The order in which rows are drawn: by a hash of their keys, so that neither row order, shard layout nor machine matters."""

import hashlib


def hash_rank(split_seed: int, tag: str, key: str) -> bytes:
    """Where the row named `key` stands among others, smallest first: 16 bytes, a pure function of the three.

    `tag` says what is drawn (a class name, or a purpose), so that the draws of one seed have nothing to do with each other.
    """
    text = f"{split_seed}\0{tag}\0{key}".encode("utf-8", "surrogateescape")
    return hashlib.blake2b(text, digest_size=16).digest()
