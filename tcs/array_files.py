"""Arrays of .npy and .npz files that were read whole: what a header claims is held against what is there before it is allocated."""

import io
import struct
import tokenize
import zipfile
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

NPY_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
MOST_RATIO, SPARE_BYTES = 1032, 1024  # deflate makes nothing smaller than this share (RFC 1951: 258 bytes in two bits)
BROKEN = (
    ValueError,
    EOFError,
    KeyError,
    SyntaxError,
    TypeError,
    OverflowError,
    RecursionError,
    struct.error,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)  # as readers tell it


def array_in(data: bytes) -> NDArray[Any]:
    """The array in the bytes of an .npy file, without pickle. One of BROKEN where it is none, or the header claims another size."""
    header = io.BytesIO(data)
    shape, _, dtype = NPY_HEADERS[np.lib.format.read_magic(header)](header)
    items = 1
    for length in shape:
        items *= length
    held = len(data) - header.tell()
    if dtype.hasobject or items * dtype.itemsize != held:
        raise ValueError(f"it claims {dtype} of shape {shape} in {held:,} bytes")
    found: NDArray[Any] = np.load(io.BytesIO(data), allow_pickle=False)
    return found


def arrays_in(data: bytes) -> dict[str, NDArray[Any]]:
    """Name -> array of the bytes of an .npz file. One of BROKEN where it is none, or claims more than can be in it."""
    found = {}
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for part in archive.infolist():
            if part.file_size > MOST_RATIO * part.compress_size + SPARE_BYTES or part.compress_size > len(data):
                raise ValueError(f"{part.filename} claims {part.file_size:,} bytes")
            found[part.filename.removesuffix(".npy")] = array_in(archive.read(part))
    return found
