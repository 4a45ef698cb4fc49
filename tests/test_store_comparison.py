"""A store of another identity is refused by the name of the field, with both values."""

import numpy as np
import pytest
from small_stores import KEYS, make_plan

import cache
from cache import errors


def begin(path, plan):
    """Write the plan and its folder, and no shard."""
    with cache.StoreWriter(path, plan, provenance={}):
        pass


def test_a_store_begun_in_version_1_is_finished_in_version_1(tmp_path):
    path = tmp_path / "x.store"
    begin(path, make_plan(format_version=1))
    with cache.StoreWriter(path, make_plan(), provenance={}) as writer:
        assert writer.plan.format_version == 1
    with pytest.raises(errors.IdentityError, match="format_version is 1 in the store and 2 in this command"):
        begin(path, make_plan(views=cache.Views(count=2, parameters=("flip",))))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"identity": {"teacher": {"name": "b"}, "mean": [0.5]}},
            "teacher.name is 'a' in the store and 'b' in this command; use another --out or --overwrite",
        ),
        (
            {"identity": {"teacher": {"name": "a"}, "mean": [0.25]}},
            r"mean is \[0.5\] in the store and \[0.25\] in this command",
        ),
        ({"identity": {"teacher": {"name": "a"}}}, r"mean is \[0.5\] in the store and absent in this command"),
        ({"identity": {"teacher": {}, "mean": [0.5]}}, "teacher.name is 'a' in the store and absent in this command"),
        ({"images": "none"}, "images is 'original' in the store and 'none' in this command"),
        ({"rows_per_shard": 3}, "rows_per_shard is 2 in the store and 3 in this command"),
        (
            {"readouts": (cache.Readout(name="avg", dims=3, dtype="float32"),)},
            r"readouts is 'avg \(3 float16\), cls \(2 float32\)' in the store and 'avg \(3 float32\)' in",
        ),
        ({"classes": ("a", "c")}, r"classes\[1\] is 'b' in the store \(2 classes\) and 'c' in this command \(2\)"),
        ({"labels": (0, 0, 1, 0, -1)}, "the label of 'b/3.png' is 1 in the store and 0 in this command"),
        (
            {"keys": (*KEYS[:3], "b/30.png", "b/40.png")},
            r"keys\[3\] is 'b/3.png' in the store \(5 keys\) and 'b/30.png' in this command \(5\)",
        ),
        (
            {"keys": KEYS[:4], "labels": (0, 0, 1, 1)},
            r"keys\[4\] is 'b/4.png' in the store \(5 keys\) and absent in this command \(4\)",
        ),
        ({"identity": {"a": 1, "b": 2, "c": 3}}, "2 more fields differ; use another --out or --overwrite"),
        (
            {"constants": {"a": cache.Constant.of(np.zeros(1))}},
            r"constant a is absent in the store and '<f8 \[1\] [0-9a-f]{32}' in this command",
        ),
        (
            {"views": cache.Views(count=2, parameters=("flip",))},
            r"views is None in the store and '2 \(flip\)' in this command",
        ),
    ],
)
def test_another_identity_is_refused_by_the_name_of_the_field(tmp_path, changes, message):
    path = tmp_path / "x.store"
    begin(path, make_plan())
    before = (path / "manifest.json").read_bytes()
    with pytest.raises(errors.IdentityError, match=message) as caught:
        cache.StoreWriter(path, make_plan(**changes), provenance={})
    assert "\n" not in str(caught.value)
    assert (path / "manifest.json").read_bytes() == before
    assert [file.name for file in path.iterdir()] == ["manifest.json"]


def test_long_values_are_shortened_in_the_message(tmp_path):
    begin(tmp_path / "x.store", make_plan(identity={"weights": "f" * 500}))
    with pytest.raises(errors.IdentityError, match=r"f\.\.\. in the store") as caught:
        cache.StoreWriter(tmp_path / "x.store", make_plan(identity={"weights": "e" * 500}), provenance={})
    assert len(str(caught.value)) < 400
