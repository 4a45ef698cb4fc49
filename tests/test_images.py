"""Decoding by pixel rules 1, those of stores without any other, against PIL and numpy used directly."""

import io
import pathlib
import tarfile

import numpy as np
import pytest
from image_files import encoded
from PIL import Image, ImageFile

from tcs.config.pixels import EARLIER
from tcs.images.decode import BadImageError, decode_image, decode_square, shrink
from tcs.images.jpeg import quick_pixels


def pixels(seed: int, height: int = 12, width: int = 10) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_plain_formats_decode_to_their_pixels() -> None:
    expected = pixels(1)
    image = Image.fromarray(expected)
    for kind in ("PNG", "BMP", "TIFF", "PPM"):
        assert np.array_equal(np.asarray(decode_image(encoded(image, kind), EARLIER)), expected)
    assert np.array_equal(np.asarray(decode_image(encoded(image, "WEBP", lossless=True), EARLIER)), expected)


def test_grey_bilevel_and_alpha_become_rgb() -> None:
    grey = pixels(2)[:, :, 0]
    for image in (Image.fromarray(grey), Image.fromarray(np.stack([grey, 255 - grey], 2))):
        assert np.array_equal(np.asarray(decode_image(encoded(image), EARLIER)), np.stack([grey] * 3, 2))
    bilevel = Image.fromarray(grey).convert("1")
    assert np.array_equal(
        np.asarray(decode_image(encoded(bilevel), EARLIER))[:, :, 1], np.asarray(bilevel) * np.uint8(255)
    )
    rgba = np.concatenate([pixels(3), grey[:, :, None]], 2)
    assert np.array_equal(np.asarray(decode_image(encoded(Image.fromarray(rgba)), EARLIER)), rgba[:, :, :3])


@pytest.mark.parametrize("transparency", [b"\x00\x80\xff", 1])
def test_palette_with_transparency_decodes_to_the_palette_colours(transparency: bytes | int) -> None:
    colours = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255]], dtype=np.uint8)
    numbers = np.random.default_rng(4).integers(0, 3, (5, 6), dtype=np.uint8)
    image = Image.fromarray(numbers).convert("P")
    image.putdata(numbers.ravel().tolist())
    image.putpalette(colours.ravel().tolist())
    decoded = decode_image(encoded(image, transparency=transparency), EARLIER)
    assert np.array_equal(np.asarray(decoded), colours[numbers])


def test_sixteen_bit_grey_keeps_its_upper_byte() -> None:
    values = np.arange(0, 65536, 1024, dtype=np.uint16).reshape(8, 8)
    for kind in ("PNG", "TIFF"):
        decoded = np.asarray(decode_image(encoded(Image.fromarray(values), kind), EARLIER))
        assert np.array_equal(decoded, np.stack([(values // 256).astype(np.uint8)] * 3, 2))


def test_cmyk_decodes_to_near_its_colours() -> None:
    red = Image.new("CMYK", (4, 4), (0, 255, 255, 0))
    assert np.abs(np.asarray(decode_image(encoded(red, "TIFF"), EARLIER)).astype(int) - [255, 0, 0]).max() == 0
    assert np.abs(np.asarray(decode_image(encoded(red, "JPEG"), EARLIER)).astype(int) - [255, 0, 0]).max() <= 3


def test_exif_orientation_is_not_applied() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    assert decode_image(encoded(Image.fromarray(pixels(5)), "JPEG", exif=exif), EARLIER).size == (10, 12)


def test_first_frame_of_an_animation_counts() -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("#ff0000", "#00ff00")]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert decode_image(data, EARLIER).getpixel((0, 0)) == (255, 0, 0)


def test_one_pixel_decodes() -> None:
    assert decode_image(encoded(Image.new("RGB", (1, 1), "#010203")), EARLIER).getpixel((0, 0)) == (1, 2, 3)


def test_truncated_images_are_refused_whatever_other_libraries_allow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    image = Image.fromarray(pixels(6, 64, 64))
    for kind in ("JPEG", "PNG", "BMP"):
        data = encoded(image, kind)
        with pytest.raises(BadImageError, match=r"truncated|broken|unrecognized|no more data"):
            decode_image(data[: len(data) // 2], EARLIER)


def test_what_is_no_image_is_refused_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BadImageError, match=r"^empty file$"):
        decode_image(b"", EARLIER)
    with pytest.raises(BadImageError, match=r"^not an image file$"):
        decode_image(b"hello, I am a text file", EARLIER)
    with pytest.raises(BadImageError, match="floating-point pixels have no fixed range"):
        decode_image(encoded(Image.fromarray(np.zeros((4, 4), np.float32)), "TIFF"), EARLIER)
    with pytest.raises(BadImageError, match="integer pixels outside 0 to 65535 have no known range"):
        decode_image(encoded(Image.fromarray(np.full((4, 4), -1, np.int32)), "TIFF"), EARLIER)
    with pytest.raises(BadImageError, match="1 x 1001 pixels: one side is over 1000 times the other"):
        decode_image(encoded(Image.new("L", (1, 1001))), EARLIER)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    assert decode_image(encoded(Image.new("RGB", (3, 5))), EARLIER).size == (3, 5)
    with pytest.raises(BadImageError, match="could be decompression bomb DOS attack"):
        decode_image(encoded(Image.new("RGB", (100, 100))), EARLIER)


def outcome(data: bytes) -> str:
    try:
        return decode_image(data, EARLIER).mode
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
    square = decode_square(encoded(source), 20, EARLIER)
    by_hand = source.resize((30, 20), Image.Resampling.BICUBIC).crop((5, 0, 25, 20))
    assert square.dtype == np.uint8
    assert np.array_equal(square, np.asarray(by_hand))


def test_decode_square_leaves_pixels_of_the_right_size_alone_and_enlarges_small_ones() -> None:
    source = pixels(10, 20, 33)
    assert np.array_equal(decode_square(encoded(Image.fromarray(source)), 20, EARLIER), source[:, 6:26])
    assert decode_square(encoded(Image.new("RGB", (1, 1))), 8, EARLIER).shape == (8, 8, 3)


def test_shrink_keeps_small_images_and_the_kind_of_large_ones() -> None:
    image = Image.fromarray(pixels(11, 40, 80))
    png, jpeg = encoded(image), encoded(image, "JPEG")
    assert shrink(png, image, 40) is png
    small = Image.open(io.BytesIO(shrink(png, image, 10)))
    assert (small.format, small.size) == ("PNG", (20, 10))
    assert np.array_equal(np.asarray(small), np.asarray(image.resize((20, 10), Image.Resampling.BICUBIC)))
    assert Image.open(io.BytesIO(shrink(jpeg, image, 10))).format == "JPEG"


def jpegs() -> dict[str, bytes]:
    """JPEGs of every kind that cameras and web sites make."""
    image = Image.fromarray(pixels(12, 70, 101))
    exif = Image.Exif()
    exif[0x0112] = 8
    return {
        "4:2:0": encoded(image, "JPEG"),
        "4:1:1 and progressive": encoded(image, "JPEG", subsampling="4:1:1", progressive=True),
        "4:4:4 with restart markers": encoded(image, "JPEG", subsampling=0, restart_marker_blocks=3),
        "grey": encoded(image.convert("L"), "JPEG"),
        "CMYK": encoded(image.convert("CMYK"), "JPEG"),
        "EXIF orientation": encoded(image, "JPEG", exif=exif),
        "multi-picture": encoded(image, "MPO", save_all=True, append_images=[Image.new("RGB", (9, 9))]),
    }


PHOTOS = pathlib.Path(__file__).parents[2] / "shared" / "data" / "photos.tar"


@pytest.mark.skipif(not PHOTOS.exists(), reason="the shared photographs are not here")
def test_photographs_decode_to_the_pixels_that_pillow_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("simplejpeg")
    with tarfile.open(PHOTOS) as tar:
        members = [tar.extractfile(member) for member in tar.getmembers() if member.isfile()][::10]
        blobs = [member.read() for member in members if member is not None]
    quick = [np.asarray(decode_image(blob, EARLIER)) for blob in blobs]
    monkeypatch.setattr("tcs.images.jpeg.simplejpeg", None)
    assert len(blobs) > 5
    assert all(np.array_equal(pixels, decode_image(blob, EARLIER)) for pixels, blob in zip(quick, blobs, strict=True))


def test_only_ordinary_colour_jpegs_leave_pillow(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("simplejpeg")
    quick = {kind for kind, data in jpegs().items() if quick_pixels(data) is not None}
    assert quick == {
        "4:2:0",
        "4:1:1 and progressive",
        "4:4:4 with restart markers",
        "EXIF orientation",
        "multi-picture",
    }
    assert quick_pixels(jpegs()["4:2:0"][:-40]) is None
    monkeypatch.setattr("tcs.images.jpeg.MOST_QUICK_PIXELS", 70 * 101 - 1)
    assert quick_pixels(jpegs()["4:2:0"]) is None


@pytest.mark.usefixtures("decoder")
@pytest.mark.parametrize("kind", jpegs())
def test_every_kind_of_jpeg_decodes_to_what_pillow_gives(kind: str) -> None:
    data = jpegs()[kind]
    image = decode_image(data, EARLIER)
    with Image.open(io.BytesIO(data)) as opened:
        expected = opened.convert("RGB")
    assert (image.mode, image.size) == ("RGB", expected.size)
    assert np.array_equal(np.asarray(image), np.asarray(expected))
    assert np.array_equal(np.asarray(image.resize((7, 5))), np.asarray(expected.resize((7, 5))))
    assert shrink(data, image, 20) == shrink(data, expected, 20)


@pytest.mark.usefixtures("decoder")
@pytest.mark.parametrize("kind", [kind for kind in jpegs() if kind != "multi-picture"])
def test_every_kind_of_truncated_jpeg_is_refused(kind: str) -> None:
    data = jpegs()[kind]
    with pytest.raises(BadImageError, match=r"truncated|broken"):
        decode_image(data[: len(data) * 2 // 3], EARLIER)
