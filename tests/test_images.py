"""Image folders and decoding, against PIL and numpy used directly."""

import io
import os
import pathlib

import numpy as np
import pytest
from PIL import Image, ImageFile

from tcs.errors import DataError
from tcs.images import BadImageError, ImageList, decode_image, decode_square, list_images, natural_key, shrink


def pixels(seed: int, height: int = 12, width: int = 10) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def put(root: pathlib.Path, *keys: str) -> pathlib.Path:
    data = encoded(Image.fromarray(pixels(0)))
    for key in keys:
        (root / key).parent.mkdir(parents=True, exist_ok=True)
        (root / key).write_bytes(data)
    return root


def test_keys_and_classes_are_in_natural_order_and_class_is_the_first_folder(tmp_path: pathlib.Path) -> None:
    put(tmp_path, "c10/a.png", "c2/x10.png", "c2/x9.JPG", "c2/deep/er/x1.webp")
    found = list_images(tmp_path)
    assert found == ImageList(
        root=tmp_path,
        keys=("c2/deep/er/x1.webp", "c2/x9.JPG", "c2/x10.png", "c10/a.png"),
        labels=(0, 0, 0, 1),
        classes=("c2", "c10"),
    )
    assert found.read("c10/a.png") == (tmp_path / "c10/a.png").read_bytes()
    assert found.size_bytes() == 4 * len(found.read("c10/a.png"))


def test_natural_key_separates_names_that_are_equal_as_numbers() -> None:
    assert sorted(["b1", "a01", "a1", "a10", "a2", "A3"], key=natural_key) == ["a01", "a1", "a2", "A3", "a10", "b1"]


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
    assert list_images(tmp_path, split="train").root == tmp_path / "training"
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
    with pytest.raises(DataError, match=r"holds no images \(0 other files\); put files there that end in .bmp"):
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


def test_plain_formats_decode_to_their_pixels() -> None:
    expected = pixels(1)
    image = Image.fromarray(expected)
    for kind in ("PNG", "BMP", "TIFF", "PPM"):
        assert np.array_equal(np.asarray(decode_image(encoded(image, kind))), expected)
    assert np.array_equal(np.asarray(decode_image(encoded(image, "WEBP", lossless=True))), expected)


def test_grey_bilevel_and_alpha_become_rgb() -> None:
    grey = pixels(2)[:, :, 0]
    for image in (Image.fromarray(grey), Image.fromarray(np.stack([grey, 255 - grey], 2))):
        assert np.array_equal(np.asarray(decode_image(encoded(image))), np.stack([grey] * 3, 2))
    bilevel = Image.fromarray(grey).convert("1")
    assert np.array_equal(np.asarray(decode_image(encoded(bilevel)))[:, :, 1], np.asarray(bilevel) * np.uint8(255))
    rgba = np.concatenate([pixels(3), grey[:, :, None]], 2)
    assert np.array_equal(np.asarray(decode_image(encoded(Image.fromarray(rgba)))), rgba[:, :, :3])


@pytest.mark.parametrize("transparency", [b"\x00\x80\xff", 1])
def test_palette_with_transparency_decodes_to_the_palette_colours(transparency: bytes | int) -> None:
    colours = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255]], dtype=np.uint8)
    numbers = np.random.default_rng(4).integers(0, 3, (5, 6), dtype=np.uint8)
    image = Image.fromarray(numbers).convert("P")
    image.putdata(numbers.ravel().tolist())
    image.putpalette(colours.ravel().tolist())
    decoded = decode_image(encoded(image, transparency=transparency))
    assert np.array_equal(np.asarray(decoded), colours[numbers])


def test_sixteen_bit_grey_keeps_its_upper_byte() -> None:
    values = np.arange(0, 65536, 1024, dtype=np.uint16).reshape(8, 8)
    for kind in ("PNG", "TIFF"):
        decoded = np.asarray(decode_image(encoded(Image.fromarray(values), kind)))
        assert np.array_equal(decoded, np.stack([(values // 256).astype(np.uint8)] * 3, 2))


def test_cmyk_decodes_to_near_its_colours() -> None:
    red = Image.new("CMYK", (4, 4), (0, 255, 255, 0))
    assert np.abs(np.asarray(decode_image(encoded(red, "TIFF"))).astype(int) - [255, 0, 0]).max() == 0
    assert np.abs(np.asarray(decode_image(encoded(red, "JPEG"))).astype(int) - [255, 0, 0]).max() <= 3


def test_exif_orientation_is_not_applied() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    assert decode_image(encoded(Image.fromarray(pixels(5)), "JPEG", exif=exif)).size == (10, 12)


def test_first_frame_of_an_animation_counts() -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("#ff0000", "#00ff00")]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert decode_image(data).getpixel((0, 0)) == (255, 0, 0)


def test_one_pixel_decodes() -> None:
    assert decode_image(encoded(Image.new("RGB", (1, 1), "#010203"))).getpixel((0, 0)) == (1, 2, 3)


def test_truncated_images_are_refused_whatever_other_libraries_allow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    image = Image.fromarray(pixels(6, 64, 64))
    for kind in ("JPEG", "PNG", "BMP"):
        data = encoded(image, kind)
        with pytest.raises(BadImageError, match=r"truncated|broken|unrecognized|no more data"):
            decode_image(data[: len(data) // 2])


def test_what_is_no_image_is_refused_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BadImageError, match=r"^empty file$"):
        decode_image(b"")
    with pytest.raises(BadImageError, match=r"^not an image file$"):
        decode_image(b"hello, I am a text file")
    with pytest.raises(BadImageError, match="floating-point pixels have no fixed range"):
        decode_image(encoded(Image.fromarray(np.zeros((4, 4), np.float32)), "TIFF"))
    with pytest.raises(BadImageError, match="integer pixels outside 0 to 65535 have no known range"):
        decode_image(encoded(Image.fromarray(np.full((4, 4), -1, np.int32)), "TIFF"))
    with pytest.raises(BadImageError, match="1 x 1001 pixels: one side is over 1000 times the other"):
        decode_image(encoded(Image.new("L", (1, 1001))))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    assert decode_image(encoded(Image.new("RGB", (3, 5)))).size == (3, 5)
    with pytest.raises(BadImageError, match="could be decompression bomb DOS attack"):
        decode_image(encoded(Image.new("RGB", (100, 100))))


def outcome(data: bytes) -> str:
    try:
        return decode_image(data).mode
    except BadImageError as error:
        return str(error)


def test_damaged_bytes_never_raise_anything_else() -> None:
    generator = np.random.default_rng(7)
    for kind in ("JPEG", "PNG", "GIF", "TIFF", "WEBP"):
        good = np.frombuffer(encoded(Image.fromarray(pixels(8, 32, 32)), kind), np.uint8)
        for _ in range(40):
            bad = good.copy()
            bad[generator.integers(0, len(bad), 8)] = generator.integers(0, 256, 8)
            assert 0 < len(outcome(bad.tobytes())) <= 160


def test_decode_square_equals_resize_and_crop_by_hand() -> None:
    source = Image.fromarray(pixels(9, 40, 60))
    square = decode_square(encoded(source), 20)
    by_hand = source.resize((30, 20), Image.Resampling.BICUBIC).crop((5, 0, 25, 20))
    assert square.dtype == np.uint8
    assert np.array_equal(square, np.asarray(by_hand))


def test_decode_square_leaves_pixels_of_the_right_size_alone_and_enlarges_small_ones() -> None:
    source = pixels(10, 20, 33)
    assert np.array_equal(decode_square(encoded(Image.fromarray(source)), 20), source[:, 6:26])
    assert decode_square(encoded(Image.new("RGB", (1, 1))), 8).shape == (8, 8, 3)


def test_shrink_keeps_small_images_and_the_kind_of_large_ones() -> None:
    image = Image.fromarray(pixels(11, 40, 80))
    png, jpeg = encoded(image), encoded(image, "JPEG")
    assert shrink(png, image, 40) is png
    small = Image.open(io.BytesIO(shrink(png, image, 10)))
    assert (small.format, small.size) == ("PNG", (20, 10))
    assert np.array_equal(np.asarray(small), np.asarray(image.resize((20, 10), Image.Resampling.BICUBIC)))
    assert Image.open(io.BytesIO(shrink(jpeg, image, 10))).format == "JPEG"
