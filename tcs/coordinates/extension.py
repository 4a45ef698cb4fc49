"""Targets of a store that has grown: rows that had some keep them bit for bit, the others are hashed by the same thresholds.

Legend: N rows of the store, V views, K coordinates, H hash bits, P = H / 8 bytes; O rows of the earlier store.
"""

import collections

import numpy as np
from numpy.typing import NDArray

from tcs.coordinates.hash_bits import HashBits, encode_coordinates

# What carried-over features may differ by is nothing; by BLAS the coordinates of equal features differ in the last bits with the block
# that they are computed in, relative to the largest. Other views of an image differ by orders of magnitude more.
SAME = 1e-4


def rows_before(
    z_new: NDArray[np.float32],
    hashes_N16: NDArray[np.uint8],
    z_old: NDArray[np.float32],
    hashes_O16: NDArray[np.uint8],
) -> NDArray[np.int64]:
    """The earlier row of each row, int64 (N,), -1 where there was none: of the same content, and of equal coordinates but for rounding.

    `z_new` is (N, K) or (N, V, K), `z_old` (O, K) or (O, V, K). Of copies each earlier row is taken once, in order.
    """
    candidates: dict[bytes, collections.deque[int]] = collections.defaultdict(collections.deque)
    for row, digest in enumerate(hashes_O16):
        candidates[digest.tobytes()].append(row)
    tolerance = SAME * float(np.abs(z_old).max(initial=0.0))
    found_N = np.full(len(z_new), -1, np.int64)
    for row, digest in enumerate(hashes_N16):
        mine = candidates.get(digest.tobytes())
        same = next((old for old in mine or () if np.abs(z_new[row] - z_old[old]).max() <= tolerance), None)
        if mine is not None and same is not None:
            found_N[row] = same
            mine.remove(same)
    return found_N


def extended(
    z_new: NDArray[np.float32], z_old: NDArray[np.float32], old: HashBits, before_N: NDArray[np.int64]
) -> tuple[NDArray[np.float32], HashBits]:
    """Coordinates and bits of all rows, shaped as `z_new` and flat: those at `before_N` of the earlier ones, all others hashed now.

    Rotation, thresholds and spread stay what they were. `old.bits_MP` is flat, as the result's.
    """
    is_old_N = before_N >= 0
    z = z_new.copy()
    z[is_old_N] = z_old[before_N[is_old_N]]
    shape = (*z.shape[:-1], old.bits_MP.shape[-1])
    bits = np.empty(shape, np.uint8)
    bits[is_old_N] = old.bits_MP.reshape(*z_old.shape[:-1], -1)[before_N[is_old_N]]
    others = z[~is_old_N].reshape(-1, z.shape[-1])
    encoded = encode_coordinates(others, old.rotation_HK, old.thresholds_H)
    bits[~is_old_N] = encoded.reshape(-1, *shape[1:])
    hashed = HashBits(
        bits_MP=bits.reshape(-1, shape[-1]),
        rotation_HK=old.rotation_HK,
        thresholds_H=old.thresholds_H,
        rms_H=old.rms_H,
    )
    return z, hashed
