"""Readouts of every shape as matrices, against plain reshaping of the whole array."""

import pathlib

import numpy as np
import pytest

import cache
from cache.errors import SchemaError
from tcs.coordinates.vectors import ChosenVectors, EveryVector, mapped_rows, row_vectors, stored_rows

ROWS = 11


@pytest.fixture(scope="module", params=[None, 1, 3], ids=["clean", "one view", "three views"])
def shaped(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> cache.Store:
    return make_store(tmp_path_factory.mktemp("store") / "s", request.param)


def make_store(path: pathlib.Path, count: int | None) -> cache.Store:
    plan = cache.Plan(
        identity={},
        readouts=(
            cache.Readout(name="avg", dims=5, dtype="float32"),
            cache.Readout(name="map", dims=4, dtype="float16", grid=(2, 3)),
        ),
        keys=tuple(f"{i}.png" for i in range(ROWS)),
        labels=(-1,) * ROWS,
        classes=(),
        images="none",
        rows_per_shard=4,
        batch_size=2,
        views=None if count is None else cache.Views(count=count, parameters=("top", "flip")),
    )
    with cache.StoreWriter(path, plan, provenance={}) as writer:
        for index in writer.pending():
            positions = np.array(plan.positions(index))
            rows = cache.ShardRows(
                positions_N=positions,
                hashes_N16=np.zeros((len(positions), 16), np.uint8),
                features={
                    item.name: np.random.default_rng(0).normal(size=(ROWS, *plan.row_shape(item)))[positions]
                    for item in plan.readouts
                },
                views_NVP=None if count is None else np.zeros((len(positions), count, 2)),
            )
            writer.write_shard(index, rows)
        writer.close()
    return cache.open(path)


@pytest.mark.parametrize("name", ["avg", "map"])
def test_one_vector_a_row_is_the_first_view_averaged_over_positions(shaped: cache.Store, name: str) -> None:
    whole = shaped.features(name)[:].astype(np.float32)
    first = whole if shaped.manifest.plan.views is None else whole[:, 0]
    expected = first if name == "avg" else first.mean((1, 2))
    for resident_bytes in (0, 1 << 20):
        vectors = row_vectors(shaped, name, resident_bytes)
        assert (vectors.shape, len(vectors)) == (expected.shape, ROWS)
        np.testing.assert_allclose(vectors[np.array([7, 0, 7, 10])], expected[[7, 0, 7, 10]], rtol=1e-5)
        assert vectors[np.array([], np.int64)].shape == (0, expected.shape[1])
        found = np.concatenate([block for _, block in vectors.blocks(3)])
        np.testing.assert_allclose(found, expected, rtol=1e-5)
        assert [start for start, _ in vectors.blocks(3)] == [0, 3, 6, 9]


@pytest.mark.parametrize("name", ["avg", "map"])
def test_every_vector_stands_once_in_order(shaped: cache.Store, name: str) -> None:
    features = shaped.features(name)
    expected = features[:].reshape(-1, features.shape[-1])
    vectors = EveryVector(features)
    assert (vectors.shape, len(vectors)) == (expected.shape, len(expected))
    for rows in (1, 7, 100):
        starts, blocks = zip(*vectors.blocks(rows), strict=True)
        assert np.array_equal(np.concatenate(blocks), expected)
        assert list(starts) == np.cumsum([0, *map(len, blocks[:-1])]).tolist()
    wanted = np.array([len(expected) - 1, 0, 5, 5])
    assert np.array_equal(vectors[wanted], expected[wanted])


def test_views_are_read_one_by_one_and_absent_ones_refused(shaped: cache.Store) -> None:
    views = shaped.manifest.plan.views
    if views is None:
        with pytest.raises(SchemaError, match="holds the clean view only; read it without naming a view"):
            shaped.features("avg", view=0)
        return
    for view in range(views.count):
        assert np.array_equal(shaped.features("map", view=view)[:], shaped.features("map")[:][:, view])
    with pytest.raises(SchemaError, match=rf"has no view {views.count}; it has {views.count}, counted from 0"):
        shaped.features("avg", view=views.count)


def test_large_maps_are_averaged_in_parts(shaped: cache.Store, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = row_vectors(shaped, "map")[np.arange(ROWS)]
    monkeypatch.setattr("tcs.coordinates.vectors.BLOCK_VALUES", 50)
    assert np.array_equal(row_vectors(shaped, "map")[np.arange(ROWS)], whole)


def test_chosen_vectors_are_those_rows_in_that_order_and_are_mapped_block_by_block(shaped: cache.Store) -> None:
    whole = row_vectors(shaped, "map")[np.arange(ROWS)]
    wanted = np.array([9, 2, 2, 0, 7])
    chosen = ChosenVectors(row_vectors(shaped, "map"), wanted)
    assert (chosen.shape, len(chosen)) == ((5, whole.shape[1]), 5)
    assert np.array_equal(chosen[np.array([4, 0])], whole[[7, 9]])
    blocks = list(chosen.blocks(2))
    assert [start for start, _ in blocks] == [0, 2, 4]
    assert np.array_equal(np.concatenate([block for _, block in blocks]), whole[wanted])
    mapped = mapped_rows(chosen, lambda block: 2 * block[:, :1], 1)
    assert mapped.dtype == np.float32
    assert np.array_equal(mapped, 2 * whole[wanted][:, :1])
    stored = stored_rows(chosen)
    assert stored.dtype == whole.dtype
    assert np.array_equal(stored, whole[wanted])
