"""The recipes of the leaderboard fit each other, and the images that its caches are made of are drawn as they say."""

import io
import pathlib
import tarfile

import pytest
import yaml

from benchmarks.fewshot.stores import draw

PLACE = pathlib.Path(__file__).parents[1] / "benchmarks" / "fewshot"


def test_both_recipes_are_of_the_same_students_and_caches() -> None:
    leaderboard, shots = (yaml.safe_load((PLACE / f"{name}.yaml").read_text()) for name in ("leaderboard", "shots"))
    assert leaderboard["students"] == shots["students"]
    assert leaderboard["datasets"] == shots["datasets"]
    labels = {method if isinstance(method, str) else method["label"] for method in leaderboard["methods"]}
    assert {method if isinstance(method, str) else method["label"] for method in shots["methods"]} <= labels


@pytest.mark.parametrize("before", ["", "./"])
def test_so_many_images_of_each_class_are_drawn_whatever_an_earlier_start_left(
    tmp_path: pathlib.Path, before: str
) -> None:
    archive = tmp_path / "all.tar"
    with tarfile.open(archive, "w") as tar:
        for key in (f"{kind}/{number:04}.jpg" for kind in "ab" for number in range(10)):
            tar.addfile(tarfile.TarInfo(before + key), io.BytesIO())
    (tmp_path / "some.partial" / "a").mkdir(parents=True)
    (tmp_path / "some.partial" / "a" / "foreign.jpg").touch()
    folder = draw(archive, tmp_path / "some", 3)
    drawn = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.jpg"))
    assert [key[0] for key in drawn] == ["a"] * 3 + ["b"] * 3
    assert len({key[2:] for key in drawn}) > 3  # not the same numbers of both
    assert draw(archive, tmp_path / "some", 3) == folder
    with pytest.raises(SystemExit, match="holds other images"):
        draw(archive, tmp_path / "some", 4)
