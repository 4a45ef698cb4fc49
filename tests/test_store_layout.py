"""The pieces of an HDF5 file, against the file that HDF5 writes when it is given the values themselves."""

import io

import h5py
import numpy as np
import pytest

from cache.layout import ALIGNMENT_BYTES, LARGE_BYTES, Joined, buffers, file_pieces

ATTRIBUTES = {"version": np.int64(2), "digest": np.bytes_("0123")}


def written_by_hdf5(datasets):
    """Every value given to HDF5, every byte kept: the slow way."""
    buffer = io.BytesIO()
    with h5py.File(buffer, "w", alignment_threshold=1, alignment_interval=ALIGNMENT_BYTES) as file:
        file.attrs.update(ATTRIBUTES)
        for name, values in datasets.items():
            data = np.frombuffer(b"".join(values.pieces), np.uint8) if isinstance(values, Joined) else values
            file.create_dataset(name, data=data)
    return buffer.getvalue()


def make_datasets(blob_bytes, feature_rows, readouts=2):
    generator = np.random.default_rng(0)
    return {
        "keys": np.array([b"a", b"bc"]),
        **{f"features/r{i}": generator.standard_normal((feature_rows, 64)).astype("<f2") for i in range(readouts)},
        "images/bytes": Joined(
            pieces=[generator.bytes(blob_bytes - blob_bytes // 3), generator.bytes(blob_bytes // 3)]
        ),
        "images/offsets": np.arange(3),
        "quarantine": np.frombuffer(b"[]", np.uint8),
        "nothing": np.empty((0, 3), "<f4"),
    }


@pytest.mark.parametrize("blob_bytes", [1, LARGE_BYTES - 1, LARGE_BYTES, 3 * LARGE_BYTES + 5])
@pytest.mark.parametrize("feature_rows", [3, LARGE_BYTES // 128, 2 * LARGE_BYTES // 128 + 1])
def test_the_pieces_are_the_file_that_hdf5_writes(blob_bytes, feature_rows):
    datasets = make_datasets(blob_bytes, feature_rows)
    found = b"".join(file_pieces(ATTRIBUTES, datasets).every)
    assert found == written_by_hdf5(datasets)
    with h5py.File(io.BytesIO(found)) as file:
        assert file["images/bytes"][()].tobytes() == b"".join(datasets["images/bytes"].pieces)
        assert file["images/bytes"].id.get_offset() % ALIGNMENT_BYTES == 0


def test_a_file_of_many_datasets_is_the_one_that_hdf5_writes():
    datasets = make_datasets(2 * LARGE_BYTES, LARGE_BYTES // 128, readouts=40)
    assert b"".join(file_pieces(ATTRIBUTES, datasets).every) == written_by_hdf5(datasets)


def test_large_values_are_not_copied():
    datasets = make_datasets(2 * LARGE_BYTES, LARGE_BYTES // 128)
    pieces = file_pieces(ATTRIBUTES, datasets).every
    assert all(any(piece is image for piece in pieces) for image in datasets["images/bytes"].pieces)
    views = [np.asarray(piece) for piece in pieces if isinstance(piece, memoryview)]
    assert all(any(np.shares_memory(datasets[f"features/r{i}"], view) for view in views) for i in range(2))


def test_buffers_are_the_bytes_in_order():
    assert buffers(Joined(pieces=[b"ab", b"c"])) == [b"ab", b"c"]
    assert b"".join(buffers(np.arange(4, dtype="<i2").reshape(2, 2))) == bytes([0, 0, 1, 0, 2, 0, 3, 0])
    assert buffers(np.empty((0, 2))) == []
