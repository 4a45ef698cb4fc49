"""Features over raw files written with numpy's tofile, so that no store is involved, against plain indexing."""

import itertools
import mmap
import pickle

import numpy as np
import pytest

from cache import errors
from cache.extents import Extent, stamp_of
from cache.features import Features, MappedRows

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
    mask_N = np.arange(ROWS) % 3 == 1
    assert np.array_equal(features[mask_N], wanted_ND[mask_N])
    assert features[np.zeros(ROWS, bool)].shape == (0, DIMS)
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


def test_an_index_of_several_dimensions_is_refused_not_taken_for_rows(tmp_path):
    features = make_features(tmp_path, [21], 0)
    with pytest.raises(
        TypeError, match=r"index \(3, 1\) is of several dimensions; take rows first, as features\[row\]"
    ):
        features[3, 1]


def test_features_in_use_pickle_as_places_not_values(tmp_path, resident_bytes):
    features = make_features(tmp_path, [7, 7, 7], resident_bytes)
    features[0]
    data = pickle.dumps(features)
    assert matrix()[:2].tobytes() not in data
    assert np.array_equal(pickle.loads(data)[:], matrix())  # noqa: S301


@pytest.mark.parametrize("kind", ["int8", "uint8", "int16", "uint64"])
def test_small_numbers_reach_rows_beyond_their_own_range(tmp_path, kind):
    values_ND = np.arange(600, dtype=np.float32).reshape(300, 2)
    (tmp_path / "part").write_bytes(values_ND.tobytes())
    stamp = stamp_of((tmp_path / "part").stat())
    extent = Extent(path=tmp_path / "part", offset=0, dtype=np.dtype("float32"), shape=(300, 2), stamp=stamp)
    features = Features("float32", (2,), [extent], 0)
    rows_B = np.array([5, 100] if kind.startswith("u") else [5, -1], dtype=kind)
    assert np.array_equal(features.gather(rows_B), values_ND[rows_B.astype(int)])


def test_numbers_beyond_any_row_are_refused_in_every_dtype(tmp_path):
    features = make_features(tmp_path, [21], 0)
    with pytest.raises(IndexError, match="row 18446744073709551615 is outside the 21 rows"):
        features.gather(np.array([2**64 - 1], dtype=np.uint64))


class Buffer:
    """A map that only writes down what it is told."""

    def __init__(self):
        self.advice = []

    def madvise(self, option, start, length):
        assert option == mmap.MADV_WILLNEED
        assert start % mmap.PAGESIZE == 0
        self.advice.append((start, start + length))


@pytest.mark.skipif(not hasattr(mmap, "MADV_WILLNEED"), reason="this system takes no advice about maps")
def test_announced_rows_are_whole_and_nothing_else():
    buffer, row_bytes, offset = Buffer(), 3000, 64
    MappedRows(np.zeros((50, 1500), np.float16), buffer, offset).announce(np.array([40, 0, 7]))
    for number, (start, stop) in zip([40, 0, 7], buffer.advice, strict=True):
        first, last = offset + number * row_bytes, offset + (number + 1) * row_bytes
        assert (start, stop) == (first // mmap.PAGESIZE * mmap.PAGESIZE, last)


@pytest.mark.parametrize("layout", ["one", "uneven"])
def test_rows_are_announced_until_a_gather_finds_them_in_memory(tmp_path, monkeypatch, layout):
    announced, clock = [], itertools.count(0.0, 0.0)
    monkeypatch.setattr(MappedRows, "announce", lambda _, numbers: announced.append(numbers.tolist()))
    monkeypatch.setattr("cache.features.time.perf_counter", lambda: next(clock))
    features = make_features(tmp_path, LAYOUTS[layout], 0)
    rows_B = [20, 1, 4, 4]
    for step_seconds in (1.0, 1.0, 0.0, 0.0, 1.0, 1.0):  # of the clock: slow, slow, fast, fast, slow, slow
        clock = itertools.count(0.0, step_seconds)
        announced.append(step_seconds)
        assert np.array_equal(features.gather(rows_B), matrix()[rows_B])
    words = {"one": [[20, 1, 4, 4]], "uneven": [[1], [1, 1], [0]]}[layout]
    assert announced == [1.0, *words, 1.0, *words, 0.0, *words, 0.0, 1.0, 1.0, *words]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_one_of_several_views_is_that_column(tmp_path, layout, resident_bytes):
    stored_NVD = np.random.default_rng(3).normal(size=(ROWS, 3, DIMS)).astype("float16")
    extents, start = [], 0
    for number, count in enumerate(LAYOUTS[layout]):
        path = tmp_path / f"part-{number}"
        path.write_bytes(b"x" * CHUNK_BYTES + stored_NVD[start : start + count].tobytes())
        extents.append(
            Extent(
                path=path,
                offset=CHUNK_BYTES,
                dtype=np.dtype("float16"),
                shape=(count, 3, DIMS),
                stamp=stamp_of(path.stat()),
            )
        )
        start += count
    for view in range(3):
        features, wanted_ND = Features("float16", (DIMS,), extents, resident_bytes, view), stored_NVD[:, view]
        assert features.shape == (ROWS, DIMS)
        assert np.array_equal(np.asarray(features), wanted_ND)
        rows_B = np.random.default_rng(1).integers(0, ROWS, size=40)
        assert np.array_equal(features.gather(rows_B), wanted_ND[rows_B])
        for index in (slice(3, 9), slice(-4, None), slice(9, 3), slice(None, None, -3), [5, 0, -1], 7, -21):
            assert np.array_equal(features[index], wanted_ND[index]), index
        assert np.array_equal(pickle.loads(pickle.dumps(features))[:], wanted_ND)  # noqa: S301
