"""Large JPEGs at a fraction of their size: against the whole image, and against Pillow's `draft` used directly.

Legend: H height, W width, S side of a frame.
"""

import io

import numpy as np
import pytest
from image_files import UPRIGHT, oriented
from photographs import encoded, photograph
from PIL import Image, ImageCms, JpegImagePlugin

from tcs.config.pixels import EARLIER, PixelRules, other_rules, rules_in, student_rules_in
from tcs.errors import ArtefactError
from tcs.images.decode import BadImageError, decode_square, decode_told, decode_whole, square_told
from tcs.images.jpeg import quick_pixels
from tcs.images.scaled import SCALED, divisor_for, extent_of
from tcs.images.told import PixelCounts

WHOLE, FRACTION = PixelRules(), PixelRules(scaled=True)
SIDE = 24  # of photographs of 277 x 203; a quarter: 51 x 70 pixels, of which 50.75 x 69.25 are the image's
# What a frame may change by, of 255 levels: 1.6 and 10 here, 6 and 29 from half as many pixels, 5 and 26 if the box is left out. On
# photographs, which are smoother, it is 0.5 and 14 (benchmarks/RESULTS.md, 18).
LEVELS = {"mean": 2.0, "most": 16}


def frame_by_draft(data: bytes, size: int, divisor: int) -> np.ndarray:
    """The frame of an upright JPEG by Pillow alone: decoded at 1 / divisor, the box of its pixels resized, the centre cropped."""
    image = Image.open(io.BytesIO(data))
    assert isinstance(image, JpegImagePlugin.JpegImageFile)
    width, height = image.size
    image.draft(None, (width // divisor, height // divisor))
    assert image.size == (-(-width // divisor), -(-height // divisor))
    sides = [max(size, round(side * size / min(width, height))) for side in (width, height)]
    box = (0, 0, width / divisor, height / divisor)
    resized = image.convert("RGB").resize(sides, Image.Resampling.BICUBIC, box)
    left, top = (sides[0] - size) // 2, (sides[1] - size) // 2
    return np.asarray(resized.crop((left, top, left + size, top + size)))


def change(first: np.ndarray, second: np.ndarray) -> tuple[float, int]:
    """Mean and greatest difference in levels."""
    gap = np.abs(first.astype(int) - second)
    return float(gap.mean()), int(gap.max())


def test_the_fraction_is_the_smallest_that_leaves_enough() -> None:
    assert divisor_for((4000, 3000), None) == 1
    for shorter in range(1, 200):
        for least in (1, 2, 7, 20):
            allowed = [divisor for divisor in (1, 2, 4, 8) if shorter / divisor >= least]
            for size in ((shorter, shorter + 3), (shorter + 50, shorter)):
                assert divisor_for(size, least) == max(allowed, default=1)


@pytest.mark.usefixtures("decoder")
@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize(("size", "divisor"), [(60, 1), (50, 2), (24, 4), (11, 8)])
def test_frames_are_those_of_pillows_draft(size: int, divisor: int, progressive: bool, subsampling: int) -> None:
    data = encoded(photograph(), subsampling=subsampling, progressive=progressive, quality=85)
    square = square_told(data, size, FRACTION)
    assert np.array_equal(square.pixels_SS3, frame_by_draft(data, size, divisor))
    assert square.done == (frozenset() if divisor == 1 else {SCALED})


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("size", [50, 25, 12, 4])
def test_frames_change_by_less_than_a_stated_bound(size: int, seed: int) -> None:
    data = encoded(photograph(seed=seed), quality=95)
    for make in (decode_square, decode_whole):
        mean, most = change(make(data, size, FRACTION), make(data, size, WHOLE))
        assert 0 < mean <= LEVELS["mean"]
        assert most <= LEVELS["most"]


@pytest.mark.usefixtures("decoder")
@pytest.mark.parametrize("orientation", UPRIGHT)
def test_frames_are_turned_upright_to_the_pixel(orientation: int) -> None:
    """Also at the borders, where libjpeg rounds sides up: which of them has a part of a pixel turns with the image."""
    stored = photograph()
    data = encoded(stored, exif=oriented(orientation), quality=95)
    square = square_told(data, SIDE, FRACTION)
    assert square.done == ({SCALED, "turned_upright"} if orientation > 1 else {SCALED})
    # The same frame, resized as it is stored and turned afterwards: only roundings between the two passes differ. The crop of an
    # odd number of columns lies off the middle by half a pixel, so the whole is compared.
    plain = decode_whole(encoded(stored, quality=95), SIDE, FRACTION)
    assert change(decode_whole(data, SIDE, FRACTION), UPRIGHT[orientation](plain))[1] <= 1
    assert change(square.pixels_SS3, decode_square(data, SIDE, WHOLE))[0] <= LEVELS["mean"]
    as_stored = decode_square(data, SIDE, PixelRules(orientation=False, scaled=True))
    assert np.array_equal(as_stored, frame_by_draft(encoded(stored, quality=95), SIDE, 4))


@pytest.mark.parametrize("orientation", UPRIGHT)
def test_the_box_is_where_the_turned_image_has_whole_pixels(orientation: int) -> None:
    size, divisor = (13, 22), 4
    columns, rows = 4, 6  # rounded up from 3.25 and 5.5
    covered_HW = np.ones((rows, columns))
    covered_HW[:, -1] *= 0.25
    covered_HW[-1] *= 0.5
    turned_HW = UPRIGHT[orientation](covered_HW)
    extent = extent_of(size, divisor, orientation)
    left, top, right, bottom = extent.box
    across_W = np.clip(
        np.minimum(np.arange(turned_HW.shape[1]) + 1, right) - np.maximum(np.arange(turned_HW.shape[1]), left), 0, 1
    )
    down_H = np.clip(
        np.minimum(np.arange(turned_HW.shape[0]) + 1, bottom) - np.maximum(np.arange(turned_HW.shape[0]), top), 0, 1
    )
    assert np.array_equal(np.outer(down_H, across_W), turned_HW)
    assert extent.size == (size if orientation < 5 else size[::-1])


def of_kind(kind: str) -> bytes:
    image = photograph()
    if kind == "grey":
        return encoded(image.convert("L"))
    if kind == "CMYK":
        return encoded(image.convert("CMYK"))
    if kind == "profile":
        srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
        return encoded(image, icc_profile=srgb.replace(b"\0s\0R\0G\0B", b"\0o\0t\0h\0e"))
    if kind == "bad profile":
        return encoded(image, icc_profile=b"no profile" * 20)
    if kind == "phone":
        return encoded(image, "MPO", save_all=True, append_images=[Image.new("RGB", (9, 9))], exif=oriented(6))
    return encoded(image, progressive=True) + b"what follows the end" * 9


@pytest.mark.parametrize("rules", [WHOLE, EARLIER])
@pytest.mark.parametrize("kind", ["grey", "CMYK", "profile", "bad profile", "phone", "progressive with more behind it"])
def test_the_rules_of_whole_images_hold(kind: str, rules: PixelRules, monkeypatch: pytest.MonkeyPatch) -> None:
    data = of_kind(kind)
    whole, fraction = square_told(data, SIDE, rules), square_told(data, SIDE, rules.scaled_if(True))
    mean, most = change(fraction.pixels_SS3, whole.pixels_SS3)
    assert 0 < mean <= LEVELS["mean"]
    assert most <= LEVELS["most"]
    assert fraction.done == whole.done | {SCALED}
    monkeypatch.setattr("tcs.images.jpeg.simplejpeg", None)
    assert np.array_equal(square_told(data, SIDE, rules.scaled_if(True)).pixels_SS3, fraction.pixels_SS3)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP", "GIF", "BMP"])
def test_other_formats_are_decoded_whole(kind: str) -> None:
    data = encoded(photograph(), kind)
    assert np.array_equal(decode_square(data, SIDE, FRACTION), decode_square(data, SIDE, WHOLE))
    assert SCALED not in square_told(data, SIDE, FRACTION).done


def test_what_needs_the_whole_image_gets_it() -> None:
    data = encoded(photograph())
    decoded = decode_told(data, FRACTION)
    assert (decoded.image.size, decoded.extent, decoded.done) == ((277, 203), None, frozenset())
    assert np.array_equal(decode_square(data, SIDE, PixelRules()), decode_square(data, SIDE, WHOLE))


def test_another_fraction_by_simplejpeg_is_pillows(monkeypatch: pytest.MonkeyPatch) -> None:
    simplejpeg = pytest.importorskip("simplejpeg")
    data = encoded(photograph())
    plain = simplejpeg.decode_jpeg
    expected = decode_square(data, SIDE, FRACTION)
    monkeypatch.setattr(simplejpeg, "decode_jpeg", lambda data, colours, **_: plain(data, colours))
    assert quick_pixels(data, 48) is None
    assert np.array_equal(decode_square(data, SIDE, FRACTION), expected)


def outcome(data: bytes, rules: PixelRules, size: int) -> str:
    try:
        return str(square_told(data, size, rules).pixels_SS3.shape)
    except BadImageError as error:
        return str(error)


def test_what_cannot_be_decoded_whole_cannot_be_decoded_at_a_fraction() -> None:
    """With the same words: truncated at any place, or with bytes of the header or the pixels replaced."""
    good = encoded(photograph(96, 120), exif=oriented(6), quality=85)
    generator, told = np.random.default_rng(3), set()
    damaged = [good[:length] for length in generator.integers(0, len(good), 25)]
    for _ in range(75):
        bad = np.frombuffer(good, np.uint8).copy()
        places = generator.integers(0, 700 if generator.random() < 0.6 else len(bad), 3)
        bad[places] = generator.integers(0, 256, 3)
        damaged.append(bad.tobytes())
    for data in damaged:
        expected = outcome(data, WHOLE, 10)
        assert outcome(data, FRACTION, 10) == expected
        told.add(expected)
    assert "(10, 10, 3)" in told
    assert any("truncated" in line for line in told)
    assert len(told) > 4


def test_bounds_are_those_of_the_file() -> None:
    long = encoded(Image.new("RGB", (8016, 8)))
    for rules in (WHOLE, FRACTION):
        with pytest.raises(BadImageError, match=r"^8016 x 8 pixels: one side is over 1000 times the other"):
            decode_square(long, 1, rules)


def test_scaled_rules_are_recorded_and_read_back() -> None:
    recorded = {"rules": 2, "orientation": True, "background": "#ffffff", "scaled": 2}
    assert FRACTION.entry == {"pixels": recorded}
    assert EARLIER.scaled_if(True).entry == {"pixels": {"rules": 1, "scaled": 2}}
    for rules in (WHOLE, FRACTION, EARLIER, EARLIER.scaled_if(True), PixelRules(orientation=False, scaled=True)):
        assert student_rules_in(rules.entry, "run") == rules
    assert "large JPEGs decoded at a half, a quarter or an eighth" in FRACTION.describe()
    assert "by other rules (rules 2: EXIF" in str(other_rules(FRACTION, EARLIER.scaled_if(True), "a", "b"))


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (
            {"scaled": 3},
            r"^run has images that are decoded at 3 times the frame or more, and this release knows 2; use the release",
        ),
        ({"scaled": True}, r"decoded at True times the frame"),
        ({"scaled": [2]}, r"decoded at \[2\] times the frame"),
        ({"scaled": 2, "gamma": 1}, r"^run has pixels by the rules .*this release knows 1 and 2"),
        ({"scaled": 2, "rules": 1}, r"^run has pixels by the rules .*this release knows 1 and 2"),
    ],
)
def test_scaled_rules_that_nobody_knows_are_refused(value: dict[str, object], told: str) -> None:
    with pytest.raises(ArtefactError, match=told):
        student_rules_in({"pixels": {**(PixelRules().to_json() or {}), **value}}, "run")


def test_no_store_is_of_scaled_images() -> None:
    with pytest.raises(ArtefactError, match=r"x.store has pixels by the rules .*scaled.* this release knows 1 and 2"):
        rules_in(FRACTION.entry, "x.store")


def test_images_at_a_fraction_are_counted_and_told() -> None:
    counts = PixelCounts()
    counts.add([("a.jpg", {SCALED}), ("b.jpg", {SCALED}), ("c.jpg", set())])
    (line,) = counts.sentences(FRACTION)
    assert (
        line
        == "2 images decoded at a half, a quarter or an eighth of their size, as the student was trained (--scaled-decoding)."
    )
