"""Pixels as a PNG whose bytes depend on nothing but the pixels.

PNG writers agree on the pixels, not on the bytes: those change with the compression library. A content hash must not, so
the pixels are stored as they are: deflate's stored blocks (RFC 1951, 3.2.4), rows without a filter (PNG, third edition, 9).
"""

import struct
import zlib

import numpy as np

SIGNATURE = b"\x89PNG\r\n\x1a\n"
GREY, RGB = 0, 2
BLOCK_BYTES = 65535


def stored_png(pixels: np.ndarray) -> bytes:
    """The PNG of uint8 `pixels`, (H, W) grey or (H, W, 3) RGB. ValueError for any other array."""
    if pixels.dtype != np.uint8 or pixels.ndim not in (2, 3) or pixels.shape[2:] not in ((), (3,)) or pixels.size == 0:
        raise ValueError(
            f"pixels of shape {pixels.shape} and type {pixels.dtype}; they must be uint8 (H, W) or (H, W, 3)"
        )
    height, width = pixels.shape[:2]
    rows_HB = pixels.reshape(height, -1)
    raw = np.concatenate([np.zeros((height, 1), np.uint8), rows_HB], axis=1).tobytes()
    header = struct.pack(">IIBBBBB", width, height, 8, GREY if pixels.ndim == 2 else RGB, 0, 0, 0)
    return SIGNATURE + _chunk(b"IHDR", header) + _chunk(b"IDAT", _stored(raw)) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _stored(raw: bytes) -> bytes:
    """A zlib stream (RFC 1950) of `raw` without compression."""
    blocks = []
    for start in range(0, len(raw), BLOCK_BYTES):
        block = raw[start : start + BLOCK_BYTES]
        last = start + BLOCK_BYTES >= len(raw)
        blocks.append(struct.pack("<BHH", last, len(block), len(block) ^ 0xFFFF) + block)
    return b"\x78\x01" + b"".join(blocks) + struct.pack(">I", zlib.adler32(raw))
