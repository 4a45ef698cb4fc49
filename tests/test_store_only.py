"""Some rows of a store, read as a store: what is not among them is nowhere, and nothing is copied or written."""

import pathlib
import pickle

import numpy as np
import pytest
from artefacts import make_store

import cache

CHOSEN = np.array([0, 7, 8, 39, 21, 20])


@pytest.fixture(params=[{}, {"views": 2}, {"grid": (2, 3)}], ids=["vectors", "views", "maps"])
def store(request: pytest.FixtureRequest, tmp_path: pathlib.Path) -> cache.Store:
    return make_store(tmp_path / "x.store", rows=90, **request.param)


@pytest.mark.parametrize("resident_bytes", [0, 1 << 30])
def test_rows_are_those_of_the_store_however_they_are_asked_for(store: cache.Store, resident_bytes: int) -> None:
    whole, part = store.features(resident_bytes=0)[:], store.only(CHOSEN)
    features = part.features(resident_bytes=resident_bytes)
    expected = whole[CHOSEN]
    assert (len(part), len(features), features.shape) == (6, 6, (6, *whole.shape[1:]))
    assert np.array_equal(features[:], expected)
    assert np.array_equal(features[1:4], expected[1:4])
    assert np.array_equal(features.gather([5, -1, 0]), expected[[5, -1, 0]])
    assert np.array_equal(features[np.arange(6) % 2 == 0], expected[::2])
    assert np.array_equal(np.concatenate([block for _, block in features.blocks(4)]), expected)
    with pytest.raises(IndexError, match="row 6 is outside the 6 rows"):
        features.gather([6])
    with pytest.raises(IndexError, match="row 6 is outside the 6 rows"):
        part.image_bytes(6)


def test_keys_labels_hashes_images_and_views_go_with_them(store: cache.Store) -> None:
    part = pickle.loads(pickle.dumps(store.only(CHOSEN)))  # noqa: S301 (as a fork server does)
    assert part.keys == [store.keys[row] for row in CHOSEN]
    assert part.labels_N.tolist() == store.labels_N[CHOSEN].tolist()
    assert np.array_equal(part.hashes_N16, store.hashes_N16[CHOSEN])
    assert [part.image_bytes(row) for row in range(6)] == [store.image_bytes(row) for row in CHOSEN]
    assert part.identity == store.identity
    assert part[3].key == store.keys[39]
    if store.manifest.plan.views is not None:
        assert np.array_equal(part.view_parameters()[:], store.view_parameters()[:][CHOSEN])
        assert np.array_equal(part.features(view=1)[:], store.features(view=1)[:][CHOSEN])
    assert len(store) == 90


def test_some_of_some_and_of_stores_side_by_side(tmp_path: pathlib.Path) -> None:
    one, other = (make_store(tmp_path / f"{name}.store", rows=90, teacher=name) for name in "ab")
    assert one.only(CHOSEN).only(np.array([3, 0])).keys == [one.keys[39], one.keys[0]]
    joined = cache.join(one, [other])
    part = joined.only(CHOSEN)
    assert np.array_equal(part.features()[:], joined.features()[:][CHOSEN])
    assert [len(item) for item in part.parts] == [6, 6]
    assert part.identity == joined.identity
