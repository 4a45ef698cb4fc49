"""Lists of images: order, class maps, keys that cannot be recorded."""

import pathlib

import pytest

from tcs.config.extract import DataConfig
from tcs.errors import ConfigError, DataError
from tcs.images.listing import ImageList, PathFiles, index_keys, make_list, read_class_map


def listed(names: dict[str, str | None], classes: tuple[str, ...] | None = None, **options: str) -> ImageList:
    files = PathFiles(pathlib.Path("nowhere"))
    return make_list(DataConfig(data="x", **options), root="x", names=names, files=files, origin={}, classes=classes)


def test_order_is_natural_whatever_the_order_of_the_source() -> None:
    found = listed({"10.png": "b10", "9.png": "b9", "1.png": None})
    assert (found.keys, found.labels, found.classes) == (("1.png", "9.png", "10.png"), (-1, 0, 1), ("b9", "b10"))


def test_classes_of_the_source_keep_their_order_and_labels_none_drops_them() -> None:
    assert listed({"1": "a"}, ("z", "a")).labels == (1,)
    dropped = listed({"1": "a"}, ("z", "a"), labels="none")
    assert (dropped.labels, dropped.classes) == ((-1,), ())


def test_index_keys_sort_as_numbers_and_widen() -> None:
    assert index_keys(3) == ["00000000", "00000001", "00000002"]
    assert index_keys(1) == ["00000000"]


@pytest.mark.parametrize(
    ("key", "reason"), [("a\nb", "line break"), ("", "empty or has a NUL"), ("a\0", "a NUL"), ("\udcff", "valid UTF-8")]
)
def test_keys_that_cannot_be_recorded_are_refused(key: str, reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        listed({key: None})


def test_class_map_decides_the_labels_and_says_what_it_leaves_out(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "map.txt"
    path.write_text("\ufeffowl\r\ncat \r\n\r\n", encoding="utf-8")
    found = listed({"1": "cat", "2": "dog", "3": None, "4": "elk"}, class_map=str(path))
    assert (found.keys, found.labels, found.classes) == (("1", "3"), (1, -1), ("owl", "cat"))
    assert found.notes == ("2 images of 2 classes that --class-map does not name are left out.",)
    with pytest.raises(DataError, match=r"map\.txt names no class of x; give one class name per line"):
        listed({"1": "dog"}, class_map=str(path))
    with pytest.raises(ConfigError, match="--labels none reads no labels, so it excludes --class-map; give one"):
        listed({"1": "dog"}, class_map=str(path), labels="none")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"a\n\nb\n", "has an empty line 2; write one class name per line"),
        (b"a\nb\na\n", "names the class 'a' twice; write each class name once"),
        (b"\n", "is empty; write each class name once"),
        (b"\xff\xfe", "is not UTF-8 text; write one class name per line"),
    ],
)
def test_class_map_that_is_none_is_refused(tmp_path: pathlib.Path, content: bytes, reason: str) -> None:
    (tmp_path / "map.txt").write_bytes(content)
    with pytest.raises(DataError, match=reason):
        read_class_map(str(tmp_path / "map.txt"))


def test_class_map_that_is_missing_is_refused(tmp_path: pathlib.Path) -> None:
    with pytest.raises(DataError, match=r"cannot be read \(No such file or directory\); give a text file"):
        read_class_map(str(tmp_path / "map.txt"))
