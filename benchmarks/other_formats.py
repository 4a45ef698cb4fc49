"""Rows of features in other formats, for the record of benchmarks/gather.py. Letters: N rows, M streamed rows, D dims, B batch."""

import io
import pathlib
import tarfile
from collections.abc import Callable
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

Gather = Callable[[Any], object]


def sorted_first(dataset: h5py.Dataset) -> Gather:
    """h5py demands ascending rows, so they are sorted and put back."""

    def gather(rows_B: NDArray[np.int64]) -> NDArray[np.float16]:
        order_B = np.argsort(rows_B)
        found_BD = np.empty((len(rows_B), dataset.shape[1]), dtype=np.float16)
        found_BD[order_B] = dataset[rows_B[order_B]]
        return found_BD

    return gather


def zarr_rows(path: pathlib.Path, raw_ND: NDArray[np.float16]) -> dict[str, Gather]:
    """A zarr array in chunks; nothing, with a word, where zarr is not installed."""
    try:
        import zarr
    except ImportError:
        print("zarr is not installed: its row is left out.")
        return {}
    array = zarr.create_array(
        path, shape=raw_ND.shape, dtype="float16", chunks=(1024, raw_ND.shape[1]), compressors=None
    )
    array[:] = raw_ND
    return {"zarr 3, chunks of 1,024 rows": lambda rows_B: array.oindex[rows_B]}


def webdataset_stream(path: pathlib.Path, raw_MD: NDArray[np.float16]) -> dict[str, Callable[[], object]]:
    """One pass over a tar of one .npy a row, through a shuffle buffer of 1,000 rows."""
    try:
        import webdataset
    except ImportError:
        print("webdataset is not installed: its row is left out.")
        return {}
    with tarfile.open(path, "w") as tar:
        for number, row_D in enumerate(raw_MD):
            buffer = io.BytesIO()
            np.save(buffer, row_D)
            member = tarfile.TarInfo(f"{number:08}.npy")
            member.size = buffer.tell()
            buffer.seek(0)
            tar.addfile(member, buffer)

    def stream() -> int:
        data = webdataset.WebDataset(str(path), shardshuffle=False).shuffle(1000).decode().to_tuple("npy")
        return sum(1 for _ in data)

    return {"WebDataset, shuffled stream": stream}
