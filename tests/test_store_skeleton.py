"""A file laid out without its values: what plain writes put into the places is what h5py reads back."""

import h5py
import numpy as np
import pytest

from cache.layout import skeleton

ATTRIBUTES = {"format": np.bytes_("x"), "format_version": np.int64(2)}


@pytest.mark.parametrize("rows", [0, 1, 700])
def test_values_written_into_the_places_are_read_back(tmp_path, rows):
    rng = np.random.default_rng(0)
    values = {
        "manifest": rng.integers(0, 256, 5000, dtype="u1"),
        "features/avg": rng.normal(size=(rows, 7)).astype("<f2"),
        **{f"features/r{i}": rng.normal(size=(rows, 2, 3)).astype("<f4") for i in range(20)},
        "images/offsets": np.arange(rows + 1, dtype="<i8"),
    }
    layout = skeleton(ATTRIBUTES, {name: (array.dtype.str, array.shape) for name, array in values.items()})
    data = bytearray(layout.size_bytes)
    for offset, piece in layout.pieces.items():
        data[offset : offset + len(piece)] = piece
    for name, array in values.items():
        assert layout.offsets[name] % 64 == 0
        data[layout.offsets[name] : layout.offsets[name] + array.nbytes] = array.tobytes()
    assert len(data) == layout.size_bytes
    (tmp_path / "x.h5").write_bytes(data)
    with h5py.File(tmp_path / "x.h5") as file:
        assert dict(file.attrs) == ATTRIBUTES
        for name, array in values.items():
            assert file[name].chunks is None
            assert file[name].dtype == array.dtype
            assert np.array_equal(file[name][()], array)


def test_a_layout_of_petabytes_takes_kilobytes_and_is_always_the_same():
    forms = {"features/avg": ("<f2", (1 << 40, 768)), "labels": ("<i8", (1 << 40,))}
    layout = skeleton(ATTRIBUTES, forms)
    assert layout.size_bytes > (1 << 40) * 1544
    assert sum(map(len, layout.pieces.values())) < 500_000
    assert layout == skeleton(ATTRIBUTES, forms)
