"""Stores of several teachers read as one, and refused where they do not belong together. N rows, D dims."""

import pathlib
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from artefacts import CLASSES, DIMS, make_store
from small_stores import make_plan, write
from teachers_beside import unit, write_beside
from view_store import write_view_store

import cache
from cache.errors import IdentityError, SchemaError
from tcs.artefact import teacher_identity_of, teacher_name_of

ROWS = 60
BACKWARDS = np.arange(ROWS)[::-1]


@pytest.fixture
def first(tmp_path: pathlib.Path) -> cache.Store:
    return make_store(tmp_path / "first.store")


@pytest.fixture
def beside(tmp_path: pathlib.Path, first: cache.Store) -> Callable[..., cache.Store]:
    return lambda **changes: write_beside(tmp_path / "other.store", first, **changes)


def test_vectors_stand_side_by_side_each_of_length_one(first: cache.Store, beside: Callable[..., cache.Store]) -> None:
    other = beside()
    joined = cache.join(first, [other])
    expected_ND = np.concatenate([unit(store.features()[:]) for store in (first, other)], axis=1)
    features = joined.features()
    assert (features.shape, features.dtype, len(features)) == ((ROWS, DIMS + 10), np.float32, ROWS)
    np.testing.assert_allclose(features[:], expected_ND, atol=1e-6)
    rows = np.array([41, 3, 3, -1])
    for found in (features.gather(rows), features[rows], pickle.loads(pickle.dumps(features))[rows]):  # noqa: S301 (our own)
        np.testing.assert_allclose(found, expected_ND[rows], atol=1e-6)
    np.testing.assert_allclose(features[7], expected_ND[7], atol=1e-6)
    np.testing.assert_allclose(np.asarray(features), expected_ND, atol=1e-6)
    blocks = list(features.blocks(25))
    assert [start for start, _ in blocks] == [0, 25, 50]
    assert np.array_equal(np.concatenate([block for _, block in blocks]), features[:])
    with pytest.raises(SchemaError, match="blocks of 0 rows make no sense"):
        next(features.blocks(0))
    with pytest.raises(IndexError, match="row 60 is outside the 60 rows"):
        features.gather(np.array([60]))


def test_all_else_is_the_first_stores_and_the_identity_names_both(
    first: cache.Store, beside: Callable[..., cache.Store]
) -> None:
    other = beside()
    joined = cache.join(first, [other])
    assert joined.identity == f"{first.identity}+{other.identity}"
    assert joined.widths("avg") == (DIMS, 10)
    assert first.widths("avg") == (DIMS,)
    assert (joined.keys, joined.classes) == (first.keys, first.classes)
    assert np.array_equal(joined.labels_N, first.labels_N)
    assert joined.image_bytes(5) == first.image_bytes(5)
    assert joined.readouts["avg"].dims == joined[0].features["avg"].shape[0] == DIMS + 10
    assert teacher_name_of(joined) == "made-up+other 7"
    assert teacher_identity_of(joined, "avg") == f"{teacher_identity_of(first)}+{teacher_identity_of(other)}"
    assert (first.parts, first.readouts["avg"].dims) == ((), DIMS)  # the stores themselves are as they were


def test_none_beside_it_leaves_a_store_as_it_is(first: cache.Store) -> None:
    assert cache.join(first, []) is first


def test_a_row_of_zeros_stays_one(tmp_path: pathlib.Path) -> None:
    keys, hashes = ["a", "b"], np.zeros((2, 16), np.uint8)
    stores = [
        cache.open(
            cache.create(
                tmp_path / f"{scale}.store",
                {"avg": np.array([[0.0, 0.0], [3.0, 4.0]], "f4") * scale},
                keys=keys,
                hashes=hashes,
            )
        )
        for scale in (1, 2)
    ]
    assert cache.join(stores[0], stores[1:]).features()[:].tolist() == [
        [0, 0, 0, 0],
        pytest.approx([0.6, 0.8, 0.6, 0.8]),
    ]


def test_rows_are_matched_by_key(
    tmp_path: pathlib.Path, first: cache.Store, beside: Callable[..., cache.Store]
) -> None:
    other = beside(order=BACKWARDS)
    joined, turned = cache.join(first, [other]), cache.join(other, [first])
    expected_ND = np.concatenate([unit(first.features()[:]), unit(other.features()[:])[::-1]], axis=1)
    for features in (joined.features(), joined.features(resident_bytes=0)):
        np.testing.assert_allclose(features[:], expected_ND, atol=1e-6)
        np.testing.assert_allclose(features[10:20], expected_ND[10:20], atol=1e-6)
        np.testing.assert_allclose(features[20:10:-3], expected_ND[20:10:-3], atol=1e-6)
        np.testing.assert_allclose(features.gather([4, -1]), expected_ND[[4, -1]], atol=1e-6)
    assert turned.keys == other.keys == first.keys[::-1]
    part = turned.parts[1]
    assert (part.keys, part.image_bytes(3)) == (other.keys, first.image_bytes(ROWS - 4))
    assert np.array_equal(part.hashes_N16, other.hashes_N16)
    again = part.rearranged(BACKWARDS, {"avg": "avg"})
    assert (again.keys, again.image_bytes(3)) == (first.keys, first.image_bytes(3))
    assert np.array_equal(again.features()[:], first.features()[:])


def test_three_stores_stand_side_by_side_however_they_are_joined(tmp_path: pathlib.Path, first: cache.Store) -> None:
    others = [write_beside(tmp_path / f"{seed}.store", first, seed=seed, dims=seed) for seed in (3, 4)]
    joined, nested = cache.join(first, others), cache.join(cache.join(first, others[:1]), others[1:])
    assert joined.widths("avg") == nested.widths("avg") == (DIMS, 3, 4)
    assert joined.identity == nested.identity
    assert np.array_equal(joined.features()[:], nested.features()[:])


def test_vectors_are_joined_by_name_or_where_they_are_the_only_ones(first: cache.Store, tmp_path: pathlib.Path) -> None:
    lone = write_beside(tmp_path / "lone.store", first, readouts=("cls",))
    pair = write_beside(tmp_path / "pair.store", first, readouts=("avg", "cls"), seed=8)
    assert cache.join(first, [lone]).widths("avg") == (DIMS, 10)
    assert list(cache.join(first, [pair]).readouts) == ["avg"]
    assert list(cache.join(lone, [pair]).readouts) == ["cls"]
    assert list(cache.join(pair, [lone]).readouts) == ["avg", "cls"]
    assert cache.join(pair, [lone]).parts[1].stored_name("avg") == "cls"
    other = write_beside(tmp_path / "other.store", first, readouts=("x", "y"), seed=9)
    with pytest.raises(
        SchemaError, match=r"first.store has the vectors avg and .*other.store x, y; .* tcs cache subset --readout NAME"
    ):
        cache.join(first, [other])


def test_maps_are_those_of_the_first_store(tmp_path: pathlib.Path) -> None:
    first = write_view_store(tmp_path / "first.store", maps=True)
    joined = cache.join(first, [write_beside(tmp_path / "other.store", first)])
    assert list(joined.readouts) == ["avg", "map"]
    assert np.array_equal(joined.features("map")[:], first.features("map")[:])


def test_of_several_views_each_is_joined_with_the_same_one(tmp_path: pathlib.Path) -> None:
    first = write_view_store(tmp_path / "first.store")
    order = np.arange(len(first))[::-1]
    other = write_beside(tmp_path / "other.store", first, order=order)
    joined = cache.join(first, [other])
    expected = np.concatenate([unit(first.features()[:]), unit(other.features()[:][::-1])], axis=-1)
    assert joined.features().shape == (24, 3, 22)
    np.testing.assert_allclose(joined.features()[:], expected, atol=1e-6)
    np.testing.assert_allclose(joined.features(view=1)[:], expected[:, 1], atol=1e-6)


REFUSED: tuple[tuple[dict[str, Any], type[Exception], str], ...] = (
    (
        {"order": np.arange(ROWS - 1)},
        SchemaError,
        r"other.store lacks the key '?cow/0-0059.png'? \(1 keys are in one of .*; both must hold the same images: cut them with tcs",
    ),
    (
        {"keys": tuple(f"{row}" for row in range(ROWS))},
        SchemaError,
        r"other.store lacks the key '?ant/0-0000.png'? \(60 keys",
    ),
    (
        {"hashes": np.eye(ROWS, 16, dtype=np.uint8)},
        IdentityError,
        r"ant/0-0000.png'? is another image in .*other.store than in .*first.store \(60 of 60 rows\); extract both from the same",
    ),
    (
        {"classes": ("ant", "bee", "fly")},
        SchemaError,
        r"class '?cow'? is in one of .*first.store and .*other.store alone; extract both with the same labels, or .*tcs cache label",
    ),
    (
        {"labels": (*(row % 3 for row in range(ROWS - 1)), -1)},
        SchemaError,
        r"cow/0-0059.png'? has another label in .*other.store than in .*first.store \(1 of 60 rows\)",
    ),
)


@pytest.mark.parametrize(("changes", "kind", "message"), REFUSED)
def test_stores_that_do_not_belong_together_are_refused(
    first: cache.Store, beside: Callable[..., cache.Store], changes: dict[str, Any], kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message):
        cache.join(first, [beside(**changes)])


def test_classes_in_another_order_are_the_same_labels(first: cache.Store, beside: Callable[..., cache.Store]) -> None:
    turned = beside(classes=CLASSES[::-1], labels=tuple(2 - row % 3 for row in range(ROWS)))
    assert np.array_equal(cache.join(first, [turned]).labels_N, first.labels_N)


def test_views_of_one_store_alone_are_refused(tmp_path: pathlib.Path, first: cache.Store) -> None:
    views = cache.Views(count=2, parameters=("flip",))
    other = write_beside(tmp_path / "other.store", first, views=views, views_NVP=np.zeros((ROWS, 2, 1)), shape=(2,))
    message = r"first.store holds the clean view of each image and .*other.store 2 views .*; extract both with the same --views"
    with pytest.raises(SchemaError, match=message):
        cache.join(first, [other])


def test_other_views_of_the_same_images_are_refused(tmp_path: pathlib.Path) -> None:
    first = write_view_store(tmp_path / "first.store")
    views_NVP = first.view_parameters()[:]
    views_NVP[3, 1, 0] += 0.125
    other = write_beside(tmp_path / "other.store", first, views_NVP=views_NVP)
    with pytest.raises(
        IdentityError, match=r"the views of '?ant/03.png'? in .*other.store are not those in .*first.store"
    ):
        cache.join(first, [other])


def test_the_same_store_twice_is_refused(first: cache.Store) -> None:
    with pytest.raises(
        SchemaError, match=rf"first.store is given twice \(store {first.identity}\); give each store once"
    ):
        cache.join(first, [cache.open(first.path)])


def test_a_store_of_maps_alone_has_nothing_to_join(tmp_path: pathlib.Path, first: cache.Store) -> None:
    maps = write_beside(
        tmp_path / "maps.store",
        first,
        readouts=(cache.Readout(name="map", dims=10, dtype="float32", grid=(1, 2)),),
        shape=(1, 2),
    )
    with pytest.raises(SchemaError, match=r"has the vectors avg and .*maps.store none; vectors are joined by name"):
        cache.join(first, [maps])


def test_quarantined_rows_of_one_store_are_lacking_there(tmp_path: pathlib.Path) -> None:
    write(tmp_path / "whole.store", make_plan())
    write(tmp_path / "cut.store", make_plan(identity={"teacher": {"name": "b"}}), bad=(1,))
    with pytest.raises(SchemaError, match=r"cut.store lacks the key '?a/1.png'? \(1 keys"):
        cache.join(cache.open(tmp_path / "whole.store"), [cache.open(tmp_path / "cut.store")])
