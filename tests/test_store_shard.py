"""The bytes of a shard, read with plain h5py and compared with FORMAT.md, and the rows that are refused."""

import hashlib
import io
import json

import h5py
import numpy as np
import pytest
from small_stores import make_plan, make_rows

import cache
from cache import errors
from cache.shard import shard_pieces


def shard_bytes(plan, index, rows):
    return b"".join(shard_pieces(plan, index, rows).every)


def test_a_shard_holds_what_format_md_says():
    plan = make_plan()
    rows = make_rows(plan, 1, bad=(3,))
    with h5py.File(io.BytesIO(shard_bytes(plan, 1, rows))) as file:
        found = []
        file.visititems(lambda name, item: found.append(name) if isinstance(item, h5py.Dataset) else None)
        assert sorted(found) == [
            *("features/avg", "features/cls", "hashes", "images/bytes", "images/offsets"),
            *("keys", "labels", "positions", "quarantine"),
        ]
        assert dict(file.attrs)["format_version"] == 2
        assert file.attrs["plan_identity"] == plan.plan_identity.encode()
        assert file.attrs["shard"] == 1
        assert file["keys"][()].tolist() == ["b/ä.png".encode()]
        assert file["positions"][()].tolist() == [2]
        assert file["labels"][()].tolist() == [1]
        assert np.array_equal(file["hashes"][()], rows.hashes_N16)
        assert np.array_equal(file["features/avg"][()], rows.features["avg"].astype("<f2"))
        assert np.array_equal(file["features/cls"][()], rows.features["cls"].astype("<f4"))
        assert file["images/bytes"][()].tobytes() == "b/ä.png".encode() * 3
        assert file["images/offsets"][()].tolist() == [0, 24]
        assert json.loads(file["quarantine"][()].tobytes()) == [{"position": 3, "key": "b/3.png", "reason": "cut"}]
        for name in found:
            dataset = file[name]
            assert dataset.chunks is None
            assert dataset.compression is None
            assert dataset.id.get_offset() % 64 == 0
        dtypes = {name: file[name].dtype.str for name in found}
    assert dtypes["features/avg"] == "<f2"
    assert dtypes["features/cls"] == "<f4"
    assert dtypes["positions"] == dtypes["labels"] == dtypes["images/offsets"] == "<i8"
    assert dtypes["hashes"] == dtypes["images/bytes"] == dtypes["quarantine"] == "|u1"


def test_the_content_digest_is_the_one_format_md_describes():
    plan = make_plan()
    order = ["keys", "positions", "labels", "hashes", "features/avg", "features/cls"]
    with h5py.File(io.BytesIO(shard_bytes(plan, 2, make_rows(plan, 2)))) as file:
        digest = hashlib.blake2b(json.dumps([2, plan.plan_identity, 2]).encode(), digest_size=16)
        for name in [*order, "images/bytes", "images/offsets", "quarantine"]:
            values = file[name][()]
            digest.update(json.dumps([name, values.dtype.str, list(values.shape)]).encode())
            digest.update(values.tobytes())
        assert file.attrs["content_digest"] == digest.hexdigest().encode()


VIEWS = cache.Views(count=2, parameters=("flip",))


def test_views_and_grids_give_rows_their_axes():
    maps = cache.Readout(name="map", dims=3, dtype="float16", grid=(2, 1))
    plan = make_plan(readouts=(maps,), views=VIEWS)
    assert plan.row_shape(maps) == (2, 2, 1, 3)
    values = np.random.default_rng(0).normal(size=(2, 2, 2, 1, 3))
    views = np.array([[[0.0], [1.0]], [[1.0], [0.0]]])
    rows = make_rows(plan, 0, features={"map": values}, views_NVP=views)
    with h5py.File(io.BytesIO(shard_bytes(plan, 0, rows))) as file:
        assert np.array_equal(file["features/map"][()], values.astype("<f2"))
        assert np.array_equal(file["views"][()], views.astype("<f4"))
        assert file["views"].dtype == np.float32
    values[1, 0, 1, 0, 2] = np.nan
    with pytest.raises(errors.FeatureValueError, match=r"feature 0, 1, 0, 2 of readout map for 'a/1.png' is nan"):
        shard_bytes(plan, 0, rows)


@pytest.mark.parametrize(
    ("views", "given", "message"),
    [
        (None, np.zeros((2, 2, 1)), "view parameters are given, but the plan has no views"),
        (VIEWS, None, r"view parameters are float64 \(0,\); they must be floating, finite, of shape \(2, 2, 1\)"),
        (VIEWS, np.zeros((2, 2, 2)), r"float64 \(2, 2, 2\); they must be floating, finite, of shape \(2, 2, 1\)"),
        (VIEWS, np.zeros((2, 2, 1), int), "they must be floating"),
        (VIEWS, np.full((2, 2, 1), np.nan), "they must be floating, finite"),
    ],
)
def test_unfit_view_parameters_are_refused(views, given, message):
    plan = make_plan(views=views)
    features = {item.name: np.zeros((2, *plan.row_shape(item))) for item in plan.readouts}
    with pytest.raises(errors.SchemaError, match=message):
        shard_bytes(plan, 0, make_rows(plan, 0, features=features, views_NVP=given))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("positions_N", np.array([0]), r"positions 0 to 1 once each, as a row or quarantined; \[1\] are missing"),
        ("positions_N", np.array([0, 2]), r"\[1, 2\] are missing, doubled or of another shard"),
        ("positions_N", np.array([1, 0]), "positions of shard 0 must be one ascending row of whole numbers"),
        ("positions_N", np.array([1, 0], dtype=np.uint8), "must be one ascending row of whole numbers"),
        ("positions_N", np.array([0.0, 1.0]), "must be one ascending row of whole numbers"),
        ("quarantine", [cache.Quarantined(position=1, key="a/1.png", reason="")], "doubled or of another shard"),
        ("quarantine", [cache.Quarantined(position=1, key="x", reason="")], "quarantined key 'x' does not stand at"),
        ("quarantine", [cache.Quarantined(position=-1, key="b/4.png", reason="")], "does not stand at position -1"),
        ("hashes_N16", np.zeros((2, 8), np.uint8), r"hashes_N16 is uint8 \(2, 8\); it must be uint8 \(2, 16\)"),
        ("hashes_N16", np.zeros((2, 16)), r"hashes_N16 is float64 \(2, 16\); it must be uint8"),
        ("features", {"avg": np.zeros((2, 3))}, r"features hold \['avg'\]; the plan has \['avg', 'cls'\]"),
        (
            "features",
            {"avg": np.zeros((2, 4)), "cls": np.zeros((2, 2))},
            r"features of readout avg are float64 \(2, 4\); they must be floating, of shape \(2, 3\)",
        ),
        ("features", {"avg": np.zeros((2, 3), int), "cls": np.zeros((2, 2))}, "they must be floating"),
        ("images", None, "0 images for 2 rows; the plan keeps one each"),
        ("images", [b"x"], "1 images for 2 rows; the plan keeps one each"),
        ("images", [b"x", b""], "the image of 'a/1.png' must be bytes, and not empty"),
    ],
)
def test_rows_that_do_not_fit_the_plan_are_refused(name, value, message):
    plan = make_plan()
    with pytest.raises(errors.SchemaError, match=message):
        shard_bytes(plan, 0, make_rows(plan, 0, **{name: value}))


def test_images_for_a_plan_without_are_refused():
    plan = make_plan(images="none")
    with pytest.raises(errors.SchemaError, match=r"the plan keeps none \(images: none\)"):
        shard_bytes(plan, 0, make_rows(plan, 0, images=[b"x", b"y"]))
    with h5py.File(io.BytesIO(shard_bytes(plan, 0, make_rows(plan, 0)))) as file:
        assert "images" not in file


@pytest.mark.parametrize(
    ("readout", "value", "message"),
    [
        (
            "avg",
            65505.0,
            "feature 1 of readout avg for 'a/1.png' is 65505, beyond the 65504 of float16; .* --dtype float32",
        ),
        ("avg", -7e4, "for 'a/1.png' is -70000, beyond the 65504 of float16"),
        ("avg", np.nan, "feature 1 of readout avg for 'a/1.png' is nan; features must be finite"),
        ("cls", np.inf, "feature 1 of readout cls for 'a/1.png' is inf; features must be finite"),
    ],
)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_feature_that_would_be_lost_is_refused_by_key_and_readout(readout, value, message, dtype):
    plan = make_plan()
    features = {item.name: np.zeros((2, item.dims), dtype) for item in plan.readouts}
    features[readout][1, 1] = value
    with pytest.raises(errors.FeatureValueError, match=message):
        shard_bytes(plan, 0, make_rows(plan, 0, features=features))
    features[readout][1, 1] = 65504.0
    with h5py.File(io.BytesIO(shard_bytes(plan, 0, make_rows(plan, 0, features=features)))) as file:
        assert file[f"features/{readout}"][1, 1] == 65504.0
