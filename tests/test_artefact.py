"""What stands at a stage's output already: the same recipe is finished, another is refused by name."""

import pathlib

import pytest

from tcs.artefact import differences, is_finished, plain_json
from tcs.errors import ArtefactError


def test_the_same_recipe_is_finished_whatever_its_container_types():
    assert plain_json({"shots": (4, 16)}) == {"shots": [4, 16]}
    assert is_finished(pathlib.Path("c"), {"shots": [4, 16], "power": 0.0}, {"power": 0, "shots": (4, 16)})


def test_every_difference_is_named():
    found = differences({"power": 0.0, "seed": 1, "old": 3}, {"power": 0.5, "seed": 1, "new": "x"})
    assert found == ["new is None there and x here", "old is 3 there and None here", "power is 0.0 there and 0.5 here"]


def test_of_nested_entries_only_those_that_differ_are_named():
    spreading = {"estimator": "average", "rounds": 8}
    assert differences({"spreading": spreading}, {"spreading": spreading | {"rounds": 9}}) == [
        "spreading.rounds is 8 there and 9 here"
    ]
    assert differences({"head": "ridge"}, {"head": "transductive", "spreading": spreading}) == [
        "head is ridge there and transductive here",
        "spreading is None there and 2 entries here",
    ]
    assert differences({"spreading": spreading}, {"spreading": dict(spreading)}) == []


def test_another_recipe_is_refused_with_the_remedy():
    with pytest.raises(
        ArtefactError, match=r"^out.h5 exists and was made otherwise: bits is 8 there and 16 here; .*--out"
    ):
        is_finished(pathlib.Path("out.h5"), {"bits": 8}, {"bits": 16})
