"""Digests that tie artefacts together: BLAKE2b with 16 bytes, as text 32 hexadecimal digits."""

import hashlib
import json
from collections.abc import Iterable
from typing import Any

DIGEST_BYTES = 16


def new_digest() -> "hashlib.blake2b":
    """A running digest, for content that comes in pieces."""
    return hashlib.blake2b(digest_size=DIGEST_BYTES)


def content_hash(data: bytes) -> bytes:
    """The 16 raw bytes that identify the content of one image file."""
    return hashlib.blake2b(data, digest_size=DIGEST_BYTES).digest()


def digest_of_bytes(data: bytes) -> str:
    """The digest of `data` as 32 hexadecimal digits."""
    return content_hash(data).hex()


def digest_of_pieces(pieces: Iterable[bytes | memoryview]) -> str:
    """The digest of `pieces`, one after the other, as 32 hexadecimal digits."""
    digest = new_digest()
    for piece in pieces:
        digest.update(piece)
    return digest.hexdigest()


def digest_of_json(value: Any) -> str:
    """The digest of a JSON value: keys sorted, no spaces, so that equal values have equal digests.

    Raises TypeError for what JSON cannot hold, ValueError for NaN and infinity.
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return digest_of_bytes(text.encode("ascii"))


def store_identity(plan_identity: str, hashes: Iterable[bytes], quarantined: Iterable[int]) -> str:
    """The identity of a closed store: its plan, the content hashes in row order, the positions without a row."""
    digest = new_digest()
    digest.update(plan_identity.encode())
    for piece in hashes:
        digest.update(piece)
    digest.update(json.dumps(list(quarantined)).encode())
    return digest.hexdigest()
