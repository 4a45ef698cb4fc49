"""Features over raw files written with numpy's tofile, so that no store is involved, against plain indexing."""

import pickle

import numpy as np
import pytest

from cache import errors
from cache.features import Features
from cache.inspection import Extent, stamp_of

ROWS, DIMS = 21, 5
LAYOUTS = {"one": [21], "even": [7, 7, 7], "uneven": [0, 3, 0, 0, 17, 1, 0], "single rows": [1] * 21}
CHUNK_BYTES = 64


def matrix(dtype="float16"):
    return np.random.default_rng(0).normal(size=(ROWS, DIMS)).astype(dtype)


def make_features(folder, counts, resident_bytes, dtype="float16"):
    """The matrix cut into files of `counts` rows, each after 64 bytes of something else."""
    extents, start = [], 0
    for number, count in enumerate(counts):
        path = folder / f"part-{number}"
        path.write_bytes(b"x" * CHUNK_BYTES + matrix(dtype)[start : start + count].tobytes())
        stamp = stamp_of(path.stat())
        extents.append(Extent(path=path, offset=CHUNK_BYTES, dtype=np.dtype(dtype), shape=(count, DIMS), stamp=stamp))
        start += count
    return Features(dtype, (DIMS,), extents, resident_bytes)


@pytest.fixture(params=[0, 1 << 30], ids=["mapped", "resident"])
def resident_bytes(request):
    return request.param


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_way_to_ask_gives_what_numpy_gives(tmp_path, layout, resident_bytes, dtype):
    features, wanted_ND = make_features(tmp_path, LAYOUTS[layout], resident_bytes, dtype), matrix(dtype)
    assert (features.shape, features.dtype, len(features)) == ((ROWS, DIMS), np.dtype(dtype), ROWS)
    assert np.array_equal(np.asarray(features), wanted_ND)
    assert np.asarray(features, dtype="float64").dtype == np.float64
    shuffled_B = np.random.default_rng(1).integers(0, ROWS, size=64)
    assert np.array_equal(features.gather(shuffled_B), wanted_ND[shuffled_B])
    for index in (slice(3, 9), slice(None), slice(-4, None), slice(9, 3), slice(None, None, -3), [5, 0, -1], 7, -21):
        assert np.array_equal(features[index], wanted_ND[index]), index
    assert features[np.int64(3)].shape == (DIMS,)
    assert features[[]].shape == (0, DIMS)
    assert features.gather(np.array([3], dtype=np.uint8)).dtype == np.dtype(dtype)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_blocks_cut_the_rows_alike_for_every_layout(tmp_path, layout, resident_bytes):
    features = make_features(tmp_path, LAYOUTS[layout], resident_bytes)
    blocks = list(features.blocks(8))
    assert [(start, len(block_BD)) for start, block_BD in blocks] == [(0, 8), (8, 8), (16, 5)]
    assert np.array_equal(np.concatenate([block_BD for _, block_BD in blocks]), matrix())
    with pytest.raises(errors.SchemaError, match="blocks of 0 rows make no sense; ask for 1 or more"):
        next(features.blocks(0))


def test_what_is_handed_out_may_be_changed(tmp_path, resident_bytes):
    features = make_features(tmp_path, [21], resident_bytes)
    for taken in (features[2:4], features[2], features.gather([2]), next(features.blocks())[1], np.asarray(features)):
        taken[...] = 0
    assert np.array_equal(features[:], matrix())


@pytest.mark.parametrize("limit", [0, -1])
def test_the_first_use_gathers_where_the_limit_allows(tmp_path, limit):
    whole_bytes = ROWS * DIMS * 2
    features = make_features(tmp_path, [7, 7, 7], whole_bytes + limit)
    features[0]
    for path in tmp_path.iterdir():
        path.write_bytes(b"\0" * path.stat().st_size)  # seen through a map, not by an array in memory
    assert np.array_equal(features[:], matrix()) == (limit == 0)


def test_no_rows_at_all(tmp_path, resident_bytes):
    for counts in ([], [0], [0, 0]):
        features = make_features(tmp_path, counts, resident_bytes)
        assert features[:].shape == features.gather([]).shape == (0, DIMS)
        assert list(features.blocks()) == []
        with pytest.raises(IndexError, match="row 0 is outside the 0 rows"):
            features[0]


@pytest.mark.parametrize(
    ("rows", "error", "message"),
    [
        ([21], IndexError, "row 21 is outside the 21 rows, counted from 0"),
        ([0, -22], IndexError, "row -22 is outside the 21 rows"),
        ([0.5], TypeError, "rows must be one list of whole numbers, not float64"),
        ([True], TypeError, "rows must be one list of whole numbers, not bool"),
        ([[1]], TypeError, r"rows must be one list of whole numbers, not int64 of shape \(1, 1\)"),
    ],
)
def test_rows_that_do_not_exist_are_refused(tmp_path, rows, error, message):
    features = make_features(tmp_path, [21], 0)
    with pytest.raises(error, match=message):
        features.gather(rows)
    with pytest.raises(error, match=message):
        features[rows]


def test_features_in_use_pickle_as_places_not_values(tmp_path, resident_bytes):
    features = make_features(tmp_path, [7, 7, 7], resident_bytes)
    features[0]
    data = pickle.dumps(features)
    assert matrix()[:2].tobytes() not in data
    assert np.array_equal(pickle.loads(data)[:], matrix())  # noqa: S301
