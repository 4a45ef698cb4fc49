"""HEIC photographs, by the extra `heif`."""

import io
import pathlib

import numpy as np
import pytest
from PIL import Image

import tcs.images.formats as image_formats
from tcs.config.pixels import PixelRules
from tcs.images.decode import BadImageError, decode_image, decode_told
from tcs.images.folder import list_images
from tcs.images.formats import extensions, formats

pillow_heif = pytest.importorskip("pillow_heif")


def heic(image: Image.Image, **options: object) -> bytes:
    formats()  # registers what writes it, too
    buffer = io.BytesIO()
    image.save(buffer, "HEIF", quality=100, **options)
    return buffer.getvalue()


def smooth() -> Image.Image:
    return Image.fromarray(np.add.outer(np.arange(64), 2 * np.arange(48)).astype(np.uint8)).convert("RGB")


def test_heic_is_listed_and_shows_its_pixels(tmp_path: pathlib.Path) -> None:
    (tmp_path / "IMG_1.HEIC").write_bytes(heic(smooth()))
    found = list_images(tmp_path)
    assert (found.keys, found.notes) == (("IMG_1.HEIC",), ())
    assert {".heic", ".heif", ".hif"} <= extensions()
    shown = np.asarray(decode_image(found.read("IMG_1.HEIC"), PixelRules())).astype(int)
    assert np.abs(shown - np.asarray(smooth())).max() <= 4


@pytest.mark.parametrize("orientation", range(1, 9))
def test_heic_is_shown_upright_once(orientation: int) -> None:
    """Its container turns it, and libheif follows that always: nothing is left for EXIF to turn again."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = heic(smooth(), exif=exif.tobytes())
    decoded = decode_told(data, PixelRules())
    turn = {1: 0, 3: 180, 6: 270, 8: 90}
    if orientation in turn:
        expected = np.asarray(smooth().rotate(turn[orientation], expand=True)).astype(int)
        assert np.abs(np.asarray(decoded.image).astype(int) - expected).max() <= 4
    assert decoded.image.size == ((48, 64) if orientation < 5 else (64, 48))


def test_damaged_heic_ends_in_one_line() -> None:
    data = heic(smooth())
    with pytest.raises(BadImageError, match=r"\S"):
        decode_image(data[: len(data) // 2], PixelRules())


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("libx265.so: failed to map segment from shared object", MemoryError),
        ("libx265.so: cannot open shared object file", None),
    ],
)
def test_a_library_that_does_not_load_is_blamed_on_no_image(
    monkeypatch: pytest.MonkeyPatch, said: str, expected: type[Exception] | None
) -> None:
    def refuse(**_: object) -> None:
        raise ImportError(said)

    monkeypatch.setattr(pillow_heif, "register_heif_opener", refuse)
    registered = image_formats._register_heif.__wrapped__
    if expected is None:
        assert registered() is False
        return
    monkeypatch.setattr(image_formats, "_register_heif", registered)
    monkeypatch.setattr("tcs.images.decode.formats", image_formats.formats.__wrapped__)
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "PNG")
    with pytest.raises(expected, match="failed to map segment"):
        decode_image(buffer.getvalue(), PixelRules())
