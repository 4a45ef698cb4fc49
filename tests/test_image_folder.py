"""Image folders: keys, order, classes, and what is refused."""

import io
import os
import pathlib

import pytest
from PIL import Image

from tcs.errors import DataError
from tcs.images.folder import list_images
from tcs.images.listing import natural_key


def png() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (10, 12), "#123456").save(buffer, "PNG")
    return buffer.getvalue()


def put(root: pathlib.Path, *keys: str) -> pathlib.Path:
    data = png()
    for key in keys:
        (root / key).parent.mkdir(parents=True, exist_ok=True)
        (root / key).write_bytes(data)
    return root


def test_keys_and_classes_are_in_natural_order_and_class_is_the_first_folder(tmp_path: pathlib.Path) -> None:
    put(tmp_path, "c10/a.png", "c2/x10.png", "c2/x9.JPG", "c2/deep/er/x1.webp")
    found = list_images(tmp_path)
    assert found.root == str(tmp_path)
    assert found.keys == ("c2/deep/er/x1.webp", "c2/x9.JPG", "c2/x10.png", "c10/a.png")
    assert (found.labels, found.classes) == ((0, 0, 0, 1), ("c2", "c10"))
    assert found.read("c10/a.png") == (tmp_path / "c10/a.png").read_bytes()
    assert found.size_bytes() == 4 * len(found.read("c10/a.png"))


def test_natural_key_separates_names_that_are_equal_as_numbers() -> None:
    assert sorted(["b1", "a01", "a1", "a10", "a2", "A3"], key=natural_key) == ["a01", "a1", "a2", "A3", "a10", "b1"]
    long = "7" * 9999  # Python converts no text of so many digits to a number
    numbers = ["a0", "a00", "a5", "a50", f"a{long}", f"a{long}1", "aa"]
    assert sorted(numbers[3:] + numbers[:3], key=natural_key) == numbers


def test_flat_folder_has_no_labels(tmp_path: pathlib.Path) -> None:
    found = list_images(put(tmp_path, "2.png", "10.png"))
    assert (found.keys, found.labels, found.classes) == (("2.png", "10.png"), (-1, -1), ())


def test_image_beside_class_folders_has_no_label(tmp_path: pathlib.Path) -> None:
    found = list_images(put(tmp_path, "a/1.png", "stray.png"))
    assert dict(zip(found.keys, found.labels, strict=True)) == {"a/1.png": 0, "stray.png": -1}


def test_labels_none_ignores_folders_and_labels_folder_demands_them(tmp_path: pathlib.Path) -> None:
    assert list_images(put(tmp_path / "x", "a/1.png"), labels="none").labels == (-1,)
    assert list_images(tmp_path / "x", labels="folder").classes == ("a",)
    with pytest.raises(DataError, match=r"--labels is folder, but .* has no class sub-folders; use --labels none"):
        list_images(put(tmp_path / "y", "1.png"), labels="folder")


def test_hidden_files_are_skipped_and_others_counted(tmp_path: pathlib.Path) -> None:
    put(tmp_path, "a/1.png", "a/._1.png", ".git/2.png", "__MACOSX/3.png", "a/notes.txt", "readme.md")
    found = list_images(tmp_path)
    assert (found.keys, found.ignored) == (("a/1.png",), 2)


def test_split_folder_is_found_under_its_synonyms(tmp_path: pathlib.Path) -> None:
    put(tmp_path, "training/a/1.png", "val/a/2.png")
    assert list_images(tmp_path, split="train").root == str(tmp_path / "training")
    assert list_images(tmp_path, split="validation").keys == ("a/2.png",)
    with pytest.raises(
        DataError, match=r"--split is 'trainn', but .* \(it has training, val\).* Did you mean training\?"
    ):
        list_images(tmp_path, split="trainn")
    with pytest.raises(DataError, match="holds the splits training, val, not classes; choose one, as --split training"):
        list_images(tmp_path)
    assert list_images(tmp_path, labels="folder").classes == ("training", "val")


def test_missing_empty_and_wrong_folders_are_named(tmp_path: pathlib.Path) -> None:
    with pytest.raises(DataError, match="nowhere does not exist; DATA must be a folder of images"):
        list_images(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"holds no images \(0 other files\); put files there that end in .apng"):
        list_images(tmp_path)
    put(tmp_path, "a.txt")
    with pytest.raises(DataError, match=r"holds no images \(1 other files\)"):
        list_images(tmp_path)
    with pytest.raises(DataError, match=r"a\.txt is a file; DATA must be a folder"):
        list_images(tmp_path / "a.txt")


def test_links_are_followed_but_not_in_circles(tmp_path: pathlib.Path) -> None:
    put(tmp_path / "elsewhere", "1.png")
    put(tmp_path / "data", "b/2.png")
    (tmp_path / "data/a").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "data/b/loop").symlink_to(tmp_path / "data")
    (tmp_path / "data/b/self").symlink_to(tmp_path / "data/b")
    (tmp_path / "data/c").symlink_to(tmp_path / "elsewhere")
    assert list_images(tmp_path / "data").keys == ("a/1.png", "b/2.png", "c/1.png")
    put(tmp_path / "two", "a/1.png", "b/2.png")
    (tmp_path / "two/a/to_b").symlink_to(tmp_path / "two/b")
    (tmp_path / "two/b/to_a").symlink_to(tmp_path / "two/a")
    assert list_images(tmp_path / "two").keys == ("a/1.png", "a/to_b/2.png", "b/2.png", "b/to_a/1.png")


def test_names_that_cannot_be_recorded_are_refused(tmp_path: pathlib.Path) -> None:
    put(tmp_path / "x", "a\nb.png")
    with pytest.raises(DataError, match=r"the file name 'a\\nb.png' under .* has a line break"):
        list_images(tmp_path / "x")
    (tmp_path / "y").mkdir()
    pathlib.Path(os.fsdecode(os.fsencode(tmp_path / "y") + b"/\xff.png")).write_bytes(b"")
    with pytest.raises(DataError, match=r"the file name '\\udcff.png' under .* is not valid UTF-8; rename it"):
        list_images(tmp_path / "y")


def test_folder_that_cannot_be_listed_is_an_error(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path, "a/1.png")
    real = os.scandir

    def scandir(path: str) -> object:
        if str(path).endswith("a"):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(DataError, match=r"cannot be listed \(Permission denied\); correct its permissions"):
        list_images(tmp_path)


def test_one_folder_that_holds_folders_is_asked_about(tmp_path: pathlib.Path) -> None:
    put(tmp_path, "images/cat/1.png", "images/dog/2.png")
    with pytest.raises(
        DataError, match=r"lie in its one folder images; choose --split images \(the folders in it are "
    ):
        list_images(tmp_path)
    assert list_images(tmp_path, split="images").classes == ("cat", "dog")
    assert list_images(tmp_path, labels="folder").classes == ("images",)
    assert list_images(tmp_path, labels="none").labels == (-1, -1)
    assert list_images(put(tmp_path / "deep", "cat/1/2.png", "cat/1/3.png")).classes == ("cat",)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes")
def test_pipe_named_as_an_image_cannot_be_read_and_does_not_hang(tmp_path: pathlib.Path) -> None:
    put(tmp_path, "1.png")
    os.mkfifo(tmp_path / "2.png")
    found = list_images(tmp_path)
    assert (found.keys, found.size_bytes()) == (("1.png", "2.png"), len(png()))
    with pytest.raises(OSError, match="not a regular file"):
        found.read("2.png")
