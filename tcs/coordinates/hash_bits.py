"""Hash bits of coordinates by eLSH: faiss's IndexLSH with a random orthogonal rotation and trained (median) thresholds.

The only module that loads faiss. Bits are what `sa_encode` gave.

Legend: M vectors, K coordinates, H hash bits, P = H / 8 bytes, B rows of a block.
"""

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tcs.errors import ArtefactError
from tcs.runtime import progress_bar, seed_for

ENCODE_ROWS = 8192
ROUNDING_BAND = 1e-5


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class HashBits:
    """bits_MP uint8 (little bit order) and what made them: rotation_HK, thresholds_H and the projections' spread rms_H, float32."""

    bits_MP: NDArray[np.uint8]
    rotation_HK: NDArray[np.float32]
    thresholds_H: NDArray[np.float32]
    rms_H: NDArray[np.float32]


def hash_coordinates(z_MK: NDArray[np.float32], bits: int, sample_rows: int, seed: int) -> HashBits:
    """Hash every row of z_MK float32; thresholds come from `sample_rows` of them. ArtefactError where a bit does not vary."""
    import faiss

    index: Any = faiss.IndexLSH(z_MK.shape[1], bits, True, True)
    index.rrot.init(seed % 2**31)  # a C int; faiss draws the rotation from one fixed seed otherwise
    index.train(z_MK[_sample(len(z_MK), sample_rows, seed)])
    rotation_HK = faiss.vector_to_array(index.rrot.A).reshape(bits, z_MK.shape[1]).astype(np.float32)
    thresholds_H = faiss.vector_to_array(index.thresholds).astype(np.float32)
    bits_MP = np.empty((len(z_MK), bits // 8), np.uint8)
    squares_H = np.zeros(bits)
    with progress_bar(len(z_MK), "hash bits", "rows") as bar:
        for start in range(0, len(z_MK), ENCODE_ROWS):
            block_BK = np.ascontiguousarray(z_MK[start : start + ENCODE_ROWS])
            bits_MP[start : start + len(block_BK)] = index.sa_encode(block_BK)
            squares_H += np.square(block_BK @ rotation_HK.T - thresholds_H, dtype=np.float64).sum(0)
            bar.advance(len(block_BK))
    rms_H = np.sqrt(squares_H / len(z_MK)).astype(np.float32)
    _require_varying(rms_H, thresholds_H, len(z_MK))
    return HashBits(bits_MP=bits_MP, rotation_HK=rotation_HK, thresholds_H=thresholds_H, rms_H=rms_H)


def encode_coordinates(
    z_MK: NDArray[np.float32], rotation_HK: NDArray[np.float32], thresholds_H: NDArray[np.float32]
) -> NDArray[np.uint8]:
    """bits_MP uint8 of z_MK float32 by a rotation and thresholds that are there: those that `hash_coordinates` gave with them."""
    import faiss

    bits, components = rotation_HK.shape
    index: Any = faiss.IndexLSH(components, bits, True, True)
    faiss.copy_array_to_vector(np.ascontiguousarray(rotation_HK, np.float32).reshape(-1), index.rrot.A)
    index.rrot.is_trained = index.is_trained = True
    faiss.copy_array_to_vector(np.ascontiguousarray(thresholds_H, np.float32), index.thresholds)
    blocks = [
        index.sa_encode(np.ascontiguousarray(z_MK[start : start + ENCODE_ROWS]))
        for start in range(0, len(z_MK), ENCODE_ROWS)
    ]
    return np.concatenate([*blocks, np.empty((0, bits // 8), np.uint8)])


def _require_varying(rms_H: NDArray[np.float32], thresholds_H: NDArray[np.float32], rows: int) -> None:
    constant = int((rms_H <= ROUNDING_BAND * np.abs(thresholds_H).max()).sum())
    if constant:
        raise ArtefactError(
            f"{constant} of {len(rms_H)} hash bits do not vary over the store's {rows} rows; use a store with more"
            " varied images, or a coordinate system fitted to this one."
        )


def _sample(rows: int, wanted: int, seed: int) -> NDArray[np.int64]:
    if rows <= wanted:
        return np.arange(rows)
    return np.sort(np.random.default_rng(seed_for(seed, "thresholds")).choice(rows, wanted, replace=False))
