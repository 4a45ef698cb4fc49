"""Pixel rules 2, mode by mode: orientation, transparency, depth, colour profiles, against numpy and Pillow used directly.

Legend: H height, W width.
"""

import concurrent.futures
import io
import pathlib
import struct
import tarfile
import zlib

import numpy as np
import pytest
from image_files import UPRIGHT, encoded, oriented
from PIL import Image, ImageCms

from tcs.config.pixels import COLOURS, EARLIER, PixelRules, hex_colour, other_rules, rules_in
from tcs.errors import ArtefactError, ConfigError
from tcs.images.decode import BadImageError, decode_image, decode_square, decode_told, shrink
from tcs.images.exif import orientation_in
from tcs.images.formats import extensions
from tcs.images.jpeg import markers_of

RULES, RAW = PixelRules(), PixelRules(orientation=False)

LOSSLESS = {"PNG": {}, "TIFF": {}, "WEBP": {"lossless": True}}


def pixels(seed: int, height: int = 12, width: int = 10, bands: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, bands), dtype=np.uint8)


def shown(data: bytes, rules: PixelRules = RULES) -> np.ndarray:
    return np.asarray(decode_image(data, rules))


@pytest.mark.parametrize("kind", LOSSLESS)
@pytest.mark.parametrize("orientation", UPRIGHT)
def test_the_orientation_is_applied_or_left(kind: str, orientation: int) -> None:
    stored = pixels(1)
    data = encoded(Image.fromarray(stored), kind, exif=oriented(orientation), **LOSSLESS[kind])
    assert np.array_equal(shown(data), UPRIGHT[orientation](stored))
    assert np.array_equal(shown(data, RAW), stored)
    assert decode_told(data, RULES).done == ({"turned_upright"} if orientation > 1 else set())
    assert decode_told(data, RAW).done == set()


@pytest.mark.usefixtures("decoder")
@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("options", [{}, {"progressive": True, "subsampling": 2}])
def test_the_orientation_of_a_jpeg_is_applied_by_both_decoders(orientation: int, options: dict) -> None:
    image = Image.fromarray(pixels(2, 33, 18))
    plain, turned = (encoded(image, "JPEG", **options, **more) for more in ({}, {"exif": oriented(orientation)}))
    stored = np.asarray(Image.open(io.BytesIO(plain)))
    assert np.array_equal(shown(plain), stored)
    assert np.array_equal(shown(turned), UPRIGHT[orientation](stored))
    assert np.array_equal(shown(turned, RAW), stored)
    assert np.array_equal(shown(turned, EARLIER), stored)


@pytest.mark.usefixtures("decoder")
def test_pictures_of_phones_are_turned_and_the_first_one_counts() -> None:
    first = Image.fromarray(pixels(3, 20, 30))
    data = encoded(first, "MPO", save_all=True, append_images=[Image.new("RGB", (9, 9))], exif=oriented(6))
    assert decode_image(data, RULES).size == (20, 30)
    assert decode_told(data, RULES).done == {"turned_upright"}


def test_grey_jpegs_and_compressed_tiffs_are_turned() -> None:
    grey = pixels(4, bands=1)[:, :, 0]
    data = encoded(Image.fromarray(grey), "TIFF", exif=oriented(8), compression="tiff_lzw")
    assert np.array_equal(shown(data)[:, :, 0], UPRIGHT[8](grey))
    assert np.array_equal(shown(data, RAW)[:, :, 0], grey)
    jpeg = encoded(Image.fromarray(grey), "JPEG", exif=oriented(8))
    assert np.array_equal(shown(jpeg)[:, :, 1], UPRIGHT[8](np.asarray(Image.open(io.BytesIO(jpeg)))))


@pytest.mark.skipif(".avif" not in extensions(), reason="this Pillow reads no AVIF")
@pytest.mark.parametrize("orientation", UPRIGHT)
def test_avif_is_turned(orientation: int) -> None:
    image = Image.fromarray(np.add.outer(np.arange(32), np.arange(48)).astype(np.uint8)).convert("RGB")
    plain, turned = encoded(image, "AVIF"), encoded(image, "AVIF", exif=oriented(orientation))
    assert np.array_equal(shown(turned), UPRIGHT[orientation](shown(plain)))
    assert np.array_equal(shown(turned, RAW), shown(plain))


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP", "JPEG"])
def test_xmp_is_not_looked_at(kind: str) -> None:
    image, xmp = Image.fromarray(pixels(22)), b'<x tiff:Orientation="6"/>'
    options = {"tiffinfo": {700: xmp}} if kind == "TIFF" else {"xmp": xmp}
    plain, told = (encoded(image, kind, **LOSSLESS.get(kind, {}), **more) for more in ({}, options))
    assert xmp in told or kind == "PNG"
    assert np.array_equal(shown(told), shown(plain))
    assert decode_told(told, RULES).done == set()


def png(header: tuple[int, int, int, int], rows: bytes, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG by its specification: width, height, depth and colour type; filtered rows; chunks before the pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">IIBB", *header) + b"\0\0\0")
    body = b"".join(chunk(*one) for one in chunks) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + head + body


def test_exif_that_imagemagick_wrote_as_text_counts() -> None:
    exif = oriented(3).tobytes()
    text = f"\nexif\n{len(exif):8}\n{exif.hex()}\n".encode()
    grey = pixels(5, 3, 4, 1)[:, :, 0]
    rows = b"".join(b"\0" + row.tobytes() for row in grey)
    data = png((4, 3, 8, 0), rows, (b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(text)))
    assert np.array_equal(shown(data)[:, :, 0], UPRIGHT[3](grey))
    broken = png((4, 3, 8, 0), rows, (b"tEXt", b"Raw profile type exif\0\nexif\n 12\nxyz"))
    assert np.array_equal(shown(broken)[:, :, 0], grey)


BAD_EXIF = {
    "nothing": b"",
    "a name alone": b"Exif\0\0",
    "another byte order": b"Exif\0\0XX*\0\0\0\0\x08",
    "a directory beyond the end": b"Exif\0\0II*\0\xff\xff\xff\xff",
    "65,535 entries that are not there": b"Exif\0\0II*\0\x08\0\0\0\xff\xff",
    "cut off in the entry": b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0",
    "orientation 0": oriented(0).tobytes(),
    "orientation 9": oriented(9).tobytes(),
    "orientation as text": b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x02\0\x02\0\0\x006\0\0\0",
    "an offset that lies": b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x02\xff\xff\xff\xff\x7f\xff\xff\xff",
    "65,535 entries of another tag": b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + b"\1\1\3\0\1\0\0\0\6\0\0\0" * 5000,
}


@pytest.mark.usefixtures("decoder")
@pytest.mark.parametrize("kind", BAD_EXIF)
def test_bad_exif_says_nothing(kind: str) -> None:
    assert orientation_in(BAD_EXIF[kind]) == 1
    image = Image.fromarray(pixels(6))
    for form in ("JPEG", "PNG", "WEBP"):
        plain, odd = encoded(image, form), encoded(image, form, exif=BAD_EXIF[kind] or b"Exif\0\0")
        assert np.array_equal(shown(odd), shown(plain))


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", [3, 4])
def test_the_orientation_is_found_in_both_byte_orders_and_types(order: str, kind: int) -> None:
    head = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(f"{order}IH", 8, 2)
    value = struct.pack(f"{order}HH", 6, 0) if kind == 3 else struct.pack(f"{order}I", 6)
    entries = struct.pack(f"{order}HHII", 0x010F, 2, 1, 0) + struct.pack(f"{order}HHI", 0x0112, kind, 1) + value
    assert orientation_in(b"Exif\0\0" + head + entries) == 6


def test_markers_are_found_past_fill_bytes_and_end_where_they_lie() -> None:
    exif = oriented(6).tobytes()
    segment = b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif
    assert markers_of(b"\xff\xd8" + b"\xff" * 9 + segment[1:]).exif == exif
    assert markers_of(b"\xff\xd8\xff\xe1\0\0" + segment).exif == b""  # a length that leads back
    assert markers_of(b"\xff\xd8\xff\xda\0\2" + segment).exif == b""  # behind the pixels' own marker
    pieces = [b"ICC_PROFILE\0" + bytes((n, 2)) + text for n, text in ((2, b"later"), (1, b"first"))]
    joined = b"".join(b"\xff\xe2" + struct.pack(">H", len(piece) + 2) + piece for piece in pieces)
    assert markers_of(b"\xff\xd8" + joined).profile == b"firstlater"
    assert markers_of(b"\xff\xd8\xff").exif == b""


def on_background(colours: np.ndarray, alpha: np.ndarray, background: tuple[int, int, int]) -> np.ndarray:
    """colour * alpha + background * (1 - alpha), rounded."""
    share = alpha[..., None].astype(float) / 255
    return np.rint(colours * share + np.array(background) * (1 - share)).astype(int)


WHITE, TEAL = (255, 255, 255), (0, 128, 128)


@pytest.mark.parametrize("background", [WHITE, TEAL])
@pytest.mark.parametrize("kind", LOSSLESS)
def test_transparency_lies_on_the_background(kind: str, background: tuple[int, int, int]) -> None:
    rgba = pixels(7, 64, 48, 4)
    rgba[0], rgba[1] = [200, 100, 50, 0], [200, 100, 50, 255]
    options = {"exact": True} if kind == "WEBP" else {}
    data = encoded(Image.fromarray(rgba), kind, **LOSSLESS[kind], **options)
    rules = PixelRules(background="#{:02x}{:02x}{:02x}".format(*background))
    expected = on_background(rgba[:, :, :3], rgba[:, :, 3], background)
    found = shown(data, rules).astype(int)
    assert np.abs(found - expected).max() <= 1
    assert (found == expected).mean() > 0.999
    assert (found[0] == background).all()
    assert (found[1] == [200, 100, 50]).all()
    assert decode_told(data, rules).done == {"transparent"}
    assert np.array_equal(shown(data, EARLIER), rgba[:, :, :3])


def test_alpha_that_hides_nothing_changes_nothing() -> None:
    rgba = pixels(8, bands=4)
    rgba[:, :, 3] = 255
    decoded = decode_told(encoded(Image.fromarray(rgba)), RULES)
    assert np.array_equal(np.asarray(decoded.image), rgba[:, :, :3])
    assert decoded.done == set()


def test_grey_with_alpha_lies_on_the_background() -> None:
    la = pixels(9, bands=2)
    expected = on_background(np.stack([la[:, :, 0]] * 3, 2), la[:, :, 1], WHITE)
    assert np.abs(shown(encoded(Image.fromarray(la))).astype(int) - expected).max() <= 1


@pytest.mark.parametrize(("transparency", "alphas"), [(b"\x00\x80\xff", [0, 128, 255]), (1, [255, 0, 255])])
def test_a_palette_with_transparency_lies_on_the_background(transparency: bytes | int, alphas: list[int]) -> None:
    colours = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255]], dtype=np.uint8)
    numbers = np.random.default_rng(10).integers(0, 3, (5, 6), dtype=np.uint8)
    image = Image.fromarray(numbers).convert("P")
    image.putdata(numbers.ravel().tolist())
    image.putpalette(colours.ravel().tolist())
    expected = on_background(colours[numbers], np.array(alphas)[numbers], WHITE)
    kinds = ("PNG", "GIF") if isinstance(transparency, int) else ("PNG",)
    for kind in kinds:
        found = shown(encoded(image, kind, transparency=transparency)).astype(int)
        assert np.abs(found - expected).max() <= 1


def packed(values: np.ndarray, depth: int) -> bytes:
    """Rows of values of `depth` bits with PNG's filter byte 0."""
    if depth == 16:
        return b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    bits = (values[..., None] >> np.arange(depth - 1, -1, -1)) & 1
    return b"".join(b"\0" + np.packbits(row.ravel().astype(np.uint8)).tobytes() for row in bits)


@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
def test_the_one_transparent_grey_of_a_png_is_found_at_every_depth(depth: int) -> None:
    """PNG 11.3.2.1: a value of the file's own depth, of which pixels of 8 bits do not tell."""
    most = 2**depth - 1
    values = np.random.default_rng(11).integers(0, most + 1, (9, 13)).astype(np.int64)
    clear = int(values[4, 4])
    values[0, 0] = clear ^ 1  # the next one: of 16 bits it has the same upper byte
    data = png((13, 9, depth, 0), packed(values, depth), (b"tRNS", struct.pack(">H", clear)))
    grey = values >> 8 if depth == 16 else values * 255 // most
    expected = np.where(values == clear, 255, grey)
    assert np.array_equal(shown(data)[:, :, 2], expected)


@pytest.mark.parametrize("depth", [8, 16])
def test_the_one_transparent_colour_of_a_png_is_found(depth: int) -> None:
    values = np.random.default_rng(12).integers(0, 2**depth, (6, 7, 3)).astype(np.int64)
    values[2, 3] = values[0, 0]
    clear = values[0, 0].tolist()
    data = png((7, 6, depth, 2), packed(values.reshape(6, 21), depth), (b"tRNS", struct.pack(">HHH", *clear)))
    expected = values >> (depth - 8)
    expected[(values == values[0, 0]).all(2)] = 255
    assert np.array_equal(shown(data), expected)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_wide_grey_keeps_its_upper_byte_and_a_narrow_range_is_told(kind: str) -> None:
    wide = np.arange(0, 65536, 16, dtype=np.uint16).reshape(64, 64)
    narrow = (wide >> 4).astype(np.uint16)  # 12 bits, as cameras have them
    for values, done in ((wide, set()), (narrow, {"narrow_16_bit"})):
        decoded = decode_told(encoded(Image.fromarray(values), kind), RULES)
        assert np.array_equal(np.asarray(decoded.image), np.stack([values // 256] * 3, 2))
        assert decoded.done == done


def test_wide_colours_keep_their_upper_byte_and_a_narrow_range_is_told() -> None:
    values = np.random.default_rng(13).integers(0, 65536, (6, 7, 3)).astype(np.int64)
    for scale, done in ((1, set()), (16, {"narrow_16_bit"})):
        data = png((7, 6, 16, 2), packed((values // scale).reshape(6, 21), 16))
        decoded = decode_told(data, RULES)
        assert np.array_equal(np.asarray(decoded.image), values // scale >> 8)
        assert decoded.done == done
    dark = encoded(Image.fromarray(np.full((4, 4, 3), 9, np.uint8)))
    assert decode_told(dark, RULES).done == set()  # of 8 bits, dark is dark


def pnm(values: np.ndarray, largest: int, comment: bytes = b"") -> bytes:
    """Netpbm's PGM (H, W) or PPM (H, W, 3): big-endian, two bytes a value where the largest is above 255."""
    head = b"%s\n%s%d %d\n%d\n" % (b"P6" if values.ndim == 3 else b"P5", comment, *values.shape[1::-1], largest)
    return head + values.astype(">u2" if largest > 255 else "u1").tobytes()


@pytest.mark.parametrize("comment", [b"", b"# 16 bits\n", b"#" * 50 + b"\n#\n"])
@pytest.mark.parametrize("bands", [1, 3])
@pytest.mark.parametrize("largest", [65535, 4095, 1023, 255, 100])
def test_the_largest_value_of_a_netpbm_file_is_white(largest: int, bands: int, comment: bytes) -> None:
    values = np.random.default_rng(13).integers(0, largest + 1, (6, 7, bands)).astype(np.int64)
    values[0, :2] = [[0] * bands, [largest] * bands]
    values = values if bands == 3 else values[:, :, 0]
    decoded = decode_told(pnm(values, largest, comment), RULES)
    share = values / largest
    if bands == 1 and largest > 255:
        expected = np.floor(np.rint(share * 65535) / 256)
        slack = 0  # of the upper 8 of 16 bits
    else:
        expected, slack = share * 255, 0.5 + 1e-9
    expected = expected if bands == 3 else np.stack([expected] * 3, 2)
    assert np.abs(np.asarray(decoded.image) - expected).max() <= slack
    assert decoded.done == set()


@pytest.mark.parametrize("bands", [1, 3])
def test_a_narrow_range_of_a_netpbm_file_is_told(bands: int) -> None:
    values = np.random.default_rng(14).integers(0, 4096, (6, 7, bands)).astype(np.int64)
    values = values if bands == 3 else values[:, :, 0]
    plain = b"P%d 7 6 65535\n" % (3 if bands == 3 else 2) + " ".join(map(str, values.ravel())).encode() + b"\n"
    for data in (pnm(values, 65535), pnm(values, 65535, b"# P6 1 1 255\n"), plain):
        decoded = decode_told(data, RULES)
        assert np.asarray(decoded.image).max() in (15, 16)
        assert decoded.done == {"narrow_16_bit"}
    assert decode_told(pnm(values, 4095), RULES).done == set()  # it calls itself 12 bits, and is shown so
    assert decode_told(pnm(values >> 6, 255), RULES).done == set()  # of 8 bits, dark is dark


def test_wide_integers_beyond_16_bits_are_refused() -> None:
    for value in (-1, 65536):
        values = np.zeros((300, 4), np.int32)
        values[299, 3] = value  # in the last strip
        with pytest.raises(BadImageError, match="integer pixels outside 0 to 65535 have no known range"):
            decode_image(encoded(Image.fromarray(values), "TIFF"), RULES)


def test_floats_from_0_to_1_are_shown_and_others_refused_with_their_range() -> None:
    values = np.random.default_rng(14).random((300, 5), dtype=np.float32)
    values[0, :2] = 0, 1
    assert np.array_equal(
        shown(encoded(Image.fromarray(values), "TIFF"))[:, :, 0], np.rint(values.astype(float) * 255).astype(np.uint8)
    )
    for odd, told in ((-0.5, "from -0.5 to 1"), (812, "from 0 to 812"), (np.nan, "nan")):
        values[299, 4] = odd
        with pytest.raises(BadImageError, match=rf"floating-point pixels .*{told}.*; only 0 to 1 has a known meaning"):
            decode_image(encoded(Image.fromarray(values), "TIFF"), RULES)


@pytest.mark.parametrize(
    ("mode", "kind", "options"),
    [
        ("1", "PNG", {}),
        ("1", "TIFF", {"compression": "group4"}),
        ("L", "JPEG", {}),
        ("P", "GIF", {}),
        ("P", "BMP", {}),
        ("RGB", "PPM", {}),
        ("CMYK", "TIFF", {}),
        ("CMYK", "JPEG", {}),
        ("YCbCr", "TIFF", {"compression": "jpeg"}),
        ("LAB", "TIFF", {"icc_profile": b""}),
    ],
)
def test_other_modes_are_pillows_conversion(mode: str, kind: str, options: dict) -> None:
    data = encoded(Image.fromarray(pixels(15, 16, 24)).convert(mode), kind, **options)
    opened = Image.open(io.BytesIO(data))
    assert np.array_equal(shown(data), np.asarray(opened.convert("RGB")))
    assert decode_told(data, RULES).done == set()


def test_adobes_inverted_cmyk_is_not_shown_as_a_negative() -> None:
    data = encoded(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG", quality=95)
    assert b"Adobe" in data[:200]
    assert np.abs(shown(data).astype(int) - [255, 0, 0]).max() <= 3


def test_ycck_is_pillows_conversion_too() -> None:
    data = encoded(Image.fromarray(pixels(23, 16, 24)).convert("CMYK"), "JPEG", quality=95)
    place = data.index(b"Adobe") + 11  # the last byte of the segment: 0 is CMYK, 2 is YCCK
    assert data[place] == 0
    ycck = data[:place] + b"\2" + data[place + 1 :]
    assert np.array_equal(shown(ycck), np.asarray(Image.open(io.BytesIO(ycck)).convert("RGB")))
    assert not np.array_equal(shown(ycck), shown(data))


def test_wide_grey_of_the_other_byte_order_is_the_same() -> None:
    values = np.random.default_rng(24).integers(0, 65536, (300, 5), dtype=np.uint16)
    entries = ((256, 5), (257, 300), (258, 16), (259, 1), (262, 1), (273, 8), (277, 1), (278, 300), (279, 3000))
    body = b"".join(struct.pack(">HHII", tag, 4, 1, value) for tag, value in entries)
    data = (
        b"MM\0*"
        + struct.pack(">I", 3008)
        + values.astype(">u2").tobytes()
        + struct.pack(">H", len(entries))
        + body
        + b"\0" * 4
    )
    assert np.array_equal(shown(data)[:, :, 0], values >> 8)


PHOTOS = pathlib.Path(__file__).parents[2] / "shared" / "data" / "photos.tar"


@pytest.mark.skipif(not PHOTOS.exists(), reason="the shared photographs are not here")
def test_photographs_are_shown_upright() -> None:
    with tarfile.open(PHOTOS) as tar:
        members = [member for member in tar.getmembers() if member.name.lower().endswith((".jpg", ".jpeg"))][::12]
        photos = [Image.open(io.BytesIO(tar.extractfile(member).read())).convert("RGB") for member in members]
    assert len(photos) > 5
    for number, photo in enumerate(photos):
        orientation = number % 8 + 1
        stored = np.asarray(photo)
        data = encoded(photo, "TIFF", exif=oriented(orientation))
        assert np.array_equal(shown(data), UPRIGHT[orientation](stored))
        jpeg = encoded(photo, "JPEG", exif=oriented(orientation), quality=90)
        assert np.array_equal(shown(jpeg), UPRIGHT[orientation](shown(jpeg, RAW)))


def swapped_profile() -> bytes:
    """The profile of a device whose red is our blue: sRGB's with two columns of its matrix exchanged (ICC.1, 9.2.44)."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    (count,) = struct.unpack_from(">I", profile, 128)
    table = bytearray(profile)
    for place in range(132, 132 + 12 * count, 12):
        name = profile[place : place + 4]
        table[place : place + 4] = {b"rXYZ": b"bXYZ", b"bXYZ": b"rXYZ"}.get(name, name)
    return bytes(table).replace("sRGB".encode("utf-16-be"), "swap".encode("utf-16-be"))


@pytest.mark.usefixtures("decoder")
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "JPEG", "WEBP"])
def test_a_colour_profile_is_followed(kind: str) -> None:
    image = Image.fromarray(pixels(16, 24, 16))
    options = LOSSLESS.get(kind, {})
    plain = encoded(image, kind, **options)
    data = encoded(image, kind, icc_profile=swapped_profile(), **options)
    decoded = decode_told(data, RULES)
    assert np.abs(np.asarray(decoded.image).astype(int) - shown(plain)[:, :, ::-1]).max() <= 1
    assert decoded.done == {"colour_profile"}
    assert np.array_equal(shown(data, EARLIER), shown(plain, EARLIER))


def test_a_profile_is_followed_alike_in_all_threads() -> None:
    data = [encoded(Image.fromarray(pixels(seed, 64, 64)), icc_profile=swapped_profile()) for seed in range(16)]
    alone = [shown(one) for one in data]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        for _ in range(5):
            assert all(np.array_equal(*pair) for pair in zip(pool.map(shown, data), alone, strict=True))


@pytest.mark.usefixtures("decoder")
@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_srgb_is_left_alone_and_a_bad_profile_is_ignored_and_told(kind: str) -> None:
    image = Image.fromarray(pixels(17, 24, 16))
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    for profile, done in ((srgb, set()), (lab, {"bad_colour_profile"}), (b"no profile", {"bad_colour_profile"})):
        decoded = decode_told(encoded(image, kind, icc_profile=profile), RULES)
        assert np.array_equal(np.asarray(decoded.image), shown(encoded(image, kind)))
        assert decoded.done == done


def linear_grey_profile() -> bytes:
    """A grey device whose values are proportional to light (ICC.1:2001-04, 6.1 and 6.3.1.1): no curve, white point D50."""
    d50 = struct.pack(">III", 0xF6D6, 0x10000, 0xD32D)
    text = b"desc" + struct.pack(">II", 0, 5) + b"grey\0" + b"\0" * 79
    tags = {b"desc": text, b"wtpt": b"XYZ \0\0\0\0" + d50, b"kTRC": b"curv" + struct.pack(">II", 0, 0)}
    place, table, body = 128 + 4 + 12 * len(tags), b"", b""
    for name, data in tags.items():
        padded = data + b"\0" * (-len(data) % 4)
        table += name + struct.pack(">II", place + len(body), len(data))
        body += padded
    head = (
        b"\0" * 4 + struct.pack(">I", 0x02400000) + b"mntrGRAYXYZ " + struct.pack(">6H", 2000, 1, 1, 0, 0, 0) + b"acsp"
    )
    head = (head + b"\0" * 28 + d50).ljust(124, b"\0")
    size = 128 + 4 + len(table) + len(body)
    return struct.pack(">I", size) + head + struct.pack(">I", len(tags)) + table + body


@pytest.mark.parametrize("mode", ["L", "LA"])
def test_a_grey_profile_is_followed(mode: str) -> None:
    """IEC 61966-2-1: light -> sRGB."""
    grey = np.arange(256, dtype=np.uint8).reshape(16, 16)
    light = grey / 255
    expected = 255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    data = encoded(Image.fromarray(grey).convert(mode), icc_profile=linear_grey_profile())
    decoded = decode_told(data, RULES)
    assert np.abs(np.asarray(decoded.image) - expected[..., None]).max() <= 1
    assert decoded.done == {"colour_profile"}
    coloured = encoded(Image.fromarray(pixels(25)), icc_profile=linear_grey_profile())
    assert decode_told(coloured, RULES).done == {"bad_colour_profile"}


def test_a_profile_is_followed_before_transparency_lies_on_the_background() -> None:
    rgba = pixels(18, bands=4)
    data = encoded(Image.fromarray(rgba), icc_profile=swapped_profile())
    expected = on_background(rgba[:, :, 2::-1], rgba[:, :, 3], TEAL)
    assert np.abs(shown(data, PixelRules(background="#008080")).astype(int) - expected).max() <= 2


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_the_first_frame_counts_and_is_told(kind: str) -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("#ff0000", "#00ff00")]
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **LOSSLESS.get(kind, {}))
    decoded = decode_told(data, RULES)
    assert decoded.image.getpixel((0, 0)) == (255, 0, 0)
    assert decoded.done == {"first_frame"}
    assert decode_told(encoded(frames[0], kind), RULES).done == set()


def odd_images() -> dict[str, bytes]:
    rgba, image = Image.fromarray(pixels(19, 40, 60, 4)), Image.fromarray(pixels(20, 40, 60))
    wide = Image.fromarray(np.random.default_rng(21).integers(0, 65536, (40, 60), dtype=np.uint16))
    return {
        "turned JPEG": encoded(image, "JPEG", exif=oriented(6)),
        "turned PNG": encoded(image, exif=oriented(8)),
        "turned TIFF": encoded(image, "TIFF", exif=oriented(5)),
        "transparent": encoded(rgba),
        "profile": encoded(image, icc_profile=swapped_profile()),
        "profile in a JPEG": encoded(image, "JPEG", icc_profile=swapped_profile(), exif=oriented(6)),
        "16 bits": encoded(wide),
        "grey": encoded(image.convert("L")),
    }


@pytest.mark.usefixtures("decoder")
@pytest.mark.parametrize("rules", [RULES, RAW, EARLIER])
@pytest.mark.parametrize("kind", odd_images())
def test_a_smaller_copy_shows_what_the_image_shows(kind: str, rules: PixelRules) -> None:
    """What a store keeps of an image is decoded by the same rules again: nothing may be turned or converted twice."""
    data = odd_images()[kind]
    image = decode_image(data, rules)
    assert shrink(data, image, 40) is data
    copy = shrink(data, image, 20)
    small = image.resize(tuple(side // 2 for side in image.size), Image.Resampling.BICUBIC)
    again = decode_image(copy, rules)
    assert again.size == small.size
    difference = np.abs(np.asarray(again).astype(int) - np.asarray(small))
    if rules is EARLIER and kind.startswith("profile"):  # it is kept in a PNG, and was never followed
        assert difference.max() <= 40
    else:
        assert difference.max() <= (40 if copy.startswith(b"\xff\xd8") else 0)
        assert decode_told(copy, rules).done == set()
    assert np.array_equal(decode_square(copy, 20, rules), decode_square(copy, 20, EARLIER))


@pytest.mark.usefixtures("decoder")
@pytest.mark.parametrize("kind", odd_images())
def test_a_decoded_image_is_nothing_but_its_pixels(kind: str) -> None:
    image = decode_image(odd_images()[kind], RULES)
    assert (image.mode, image.info, dict(image.getexif())) == ("RGB", {}, {})


def test_colours_are_names_or_hexadecimal() -> None:
    assert (hex_colour("White"), hex_colour("#A0b1C2")) == ("#ffffff", "#a0b1c2")
    for name, text in COLOURS.items():
        assert Image.new("RGB", (1, 1), name).getpixel((0, 0)) == tuple(bytes.fromhex(text[1:]))
    for wrong in ("", "#fff", "#12345g", "wite", "rgb(1,2,3)"):
        with pytest.raises(ConfigError, match=r"--background is '.*'; it must be a colour as #rrggbb, or one of aqua"):
            hex_colour(wrong)
    with pytest.raises(ConfigError, match=r"Did you mean white"):
        hex_colour("wite")


def test_rules_are_recorded_and_read_back() -> None:
    for rules in (RULES, RAW, PixelRules(background="#102030"), EARLIER):
        assert rules_in(rules.entry, "x.store") == rules
    assert EARLIER.entry == {}
    assert RULES.entry == {"pixels": {"rules": 2, "orientation": True, "background": "#ffffff"}}


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ({"rules": 3}, r"this release knows 1 and 2; use the release that made it"),
        ({"rules": 2, "orientation": True, "background": "#ffffff", "gamma": 1}, r"this release knows 1 and 2"),
        ("2", r"x.store has pixels by the rules 2"),
        ({"rules": 2, "orientation": 1, "background": "#ffffff"}, r"orientation 1 .* which are true or false"),
        ({"rules": 2, "orientation": True, "background": "white"}, r"background 'white'.* and #rrggbb"),
    ],
)
def test_rules_that_nobody_knows_are_refused(value: object, told: str) -> None:
    with pytest.raises(ArtefactError, match=told):
        rules_in({"pixels": value}, "x.store")


def test_other_rules_are_told_in_one_line() -> None:
    assert other_rules(RULES, PixelRules(), "a.store", "b.store") is None
    line = other_rules(RULES, EARLIER, "a.store", "b.store")
    assert line is not None
    assert "a.store and b.store have their pixels by other rules (rules 2: EXIF orientation applied" in line
    assert "\n" not in line
    assert line.endswith("all others the same (alike by --pixel-rules 1).")
    assert "one --background and" in str(other_rules(RULES, RAW, "a.store", "b.store"))
