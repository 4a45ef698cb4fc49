"""Files that are made to hurt: each ends in one line, with memory that is bounded by what it holds, and starts nothing."""

import io
import json
import os
import pathlib
import struct
import subprocess
import sys
import textwrap
import time
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms

from tcs.config.pixels import EARLIER, PixelRules
from tcs.images.decode import MOST_UNASKED_PIXELS, BadImageError, decode_image, decode_told
from tcs.images.formats import formats

BOTH = (PixelRules(), EARLIER)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, depth: int, colour: int, *more: bytes, rows: bytes = b"") -> bytes:
    head = chunk(b"IHDR", struct.pack(">IIBB", width, height, depth, colour) + b"\0\0\0")
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(more) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def gif(width: int, height: int) -> bytes:
    """42 bytes: header, a palette of two colours, one picture, of which a few bits are there."""
    head = b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80, 0, 0) + b"\0\0\0\xff\xff\xff"
    return head + b"," + struct.pack("<HHHHB", 0, 0, width, height, 0) + b"\2\x09\x4c\x01\0\0\0\0\0\0\0\0;"


def tiff(width: int, height: int) -> bytes:
    """A directory that claims a strip of bits which is not there."""
    entries = (
        (256, 4, width),
        (257, 4, height),
        (258, 3, 1),
        (259, 3, 1),
        (262, 3, 1),
        (273, 4, 8),
        (278, 4, height),
        (279, 4, 9),
    )
    body = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in entries)
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + body + b"\0\0\0\0"


BOMBS = {
    "GIF of 42 bytes": gif(13_370, 13_370),
    "PNG of 16 bits": png(13_370, 13_370, 16, 0),
    "PNG of 16 bits and four bands": png(13_370, 13_370, 16, 6),
    "PNG of one bit": png(13_370, 13_370, 1, 0),
    "TIFF": tiff(13_370, 13_370),
    "WEBP": b"RIFF"
    + struct.pack("<I", 22)
    + b"WEBPVP8L"
    + struct.pack("<I", 9)
    + b"\x2f"
    + struct.pack("<I", 16_383 | 16_383 << 14)
    + b"\0" * 6,
    "JPEG": b"\xff\xd8\xff\xc0"
    + struct.pack(">HBHHB", 17, 8, 8900, 8900, 3)
    + b"\1\x22\0\2\x11\1\3\x11\1"
    + b"\xff\xda\0\x0c\3\1\0\2\x11\3\x11\0\x3f\0\0",
    "BMP": b"BM" + struct.pack("<IIIIiiHHIIiiII", 54, 0, 54, 40, 13_000, 13_000, 1, 24, 0, 0, 0, 0, 0, 0),
}


def written(kind: str, **options: object) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (32, 48, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


def overwritten(data: bytes, mark: bytes, ahead: int, *values: bytes) -> bytes:
    """The file with other bytes from `ahead` bytes behind the beginning of `mark` on."""
    place, new = data.index(mark) + ahead, b"".join(values)
    return data[:place] + new + data[place + len(new) :]


def scans(count: int) -> bytes:
    """A progressive JPEG whose last scan stands there again and again."""
    buffer = io.BytesIO()
    Image.new("RGB", (400, 400)).save(buffer, "JPEG", progressive=True)
    data = buffer.getvalue()
    last = data[data.rindex(b"\xff\xda") : -2]
    return data[:-2] + last * count + data[-2:]


SIDE = 4000  # 16 million pixels, which are decoded where the bytes are there
LARGE = struct.pack("<HH", SIDE, SIDE)
# Headers that tell of another image than the bytes behind them hold, and what is said of them.
LIES = {
    "JPEG": (overwritten(written("JPEG"), b"\xff\xc0", 5, struct.pack(">HH", SIDE, SIDE)), "which cannot hold them"),
    "progressive JPEG": (
        overwritten(written("JPEG", progressive=True), b"\xff\xc2", 5, struct.pack(">HH", SIDE, SIDE)),
        "which cannot hold them",
    ),
    "tall JPEG": (
        overwritten(written("JPEG"), b"\xff\xc0", 5, struct.pack(">HH", 60_000, 900)),
        "which cannot hold them",
    ),
    "JPEG without rows": (overwritten(written("JPEG"), b"\xff\xc0", 5, struct.pack(">HH", 0, 48)), "not an image file"),
    "JPEG of 3,000 scans": (scans(3000), r"3,0\d\d scans, as decompression bombs have them; 500 are the most"),
    "PNG": (png(SIDE, SIDE, 8, 2, rows=b"\0" * 100), "truncated"),
    "PNG without columns": (png(0, 5, 8, 2), "not an image file"),
    "lossy WEBP": (overwritten(written("WEBP"), b"\x9d\x01\x2a", 3, LARGE), "failed to read next frame"),
    "lossless WEBP": (
        overwritten(written("WEBP", lossless=True), b"VP8L", 9, struct.pack("<I", SIDE - 1 | (SIDE - 1) << 14)),
        "failed to read next frame",
    ),
    "BMP": (overwritten(written("BMP"), b"BM", 18, struct.pack("<ii", SIDE, SIDE)), "truncated"),
    "BMP upside down": (overwritten(written("BMP"), b"BM", 18, struct.pack("<ii", 48, -(2**31))), "decompression bomb"),
    "GIF": (gif(SIDE, SIDE), "truncated"),
    "TIFF": (tiff(SIDE, SIDE), "truncated"),
    **{
        f"Netpbm {kind}": (f"{kind} {SIDE} {SIDE} 255\n1 2 3\n".encode(), "truncated|not enough")
        for kind in ("P2", "P3", "P5", "P6")
    },
    "Netpbm of bits": (f"P4 {SIDE} {SIDE}\n123".encode(), "truncated"),
    "Netpbm of a number without end": (b"P6 " + b"9" * 1_000_000, "Token too long"),
    "Netpbm of a comment without end": (b"P6 #" + b"a" * 500_000, "EOF while reading header|not an image file"),
    "Netpbm beyond all bounds": (b"P6 999999999 999999999 255\n", "decompression bomb"),
}


@pytest.mark.parametrize("kind", LIES)
def test_headers_that_lie_end_in_one_line(kind: str) -> None:
    data, told = LIES[kind]
    start = time.process_time()
    with pytest.raises(BadImageError, match=told) as found:
        decode_image(data, PixelRules())
    assert time.process_time() - start < 2
    assert "\n" not in str(found.value)
    assert len(str(found.value)) <= 220


def test_a_frame_that_its_bytes_can_hold_is_decoded() -> None:
    """The emptiest JPEGs there are: one colour, as few bits as Huffman codes allow."""
    for options in ({}, {"progressive": True}, {"optimize": True, "quality": 1}):
        buffer = io.BytesIO()
        Image.new("L", (3000, 2000)).save(buffer, "JPEG", **options)
        assert decode_image(buffer.getvalue(), PixelRules()).size == (3000, 2000)
    assert decode_image(scans(400), PixelRules()).size == (400, 400)


STARTS = b"\xff\xda" * 700


def progressive(**options: object) -> bytes:
    return written("JPEG", progressive=True, **options)


@pytest.mark.parametrize(
    "data",
    [
        progressive() + STARTS,  # as of a phone that puts a film behind the photograph
        progressive(comment=STARTS),
        progressive(exif=b"Exif\0\0" + STARTS),
        progressive()[:-2] + b"\xff\xfe" + struct.pack(">H", 2 + len(STARTS)) + STARTS + b"\xff\xd9",  # behind a scan
        scans(400) + scans(400),
    ],
    ids=["behind the end", "comment", "EXIF", "between scans", "two images"],
)
def test_what_is_no_scan_of_the_image_is_not_counted(data: bytes) -> None:
    assert decode_image(data, PixelRules()).mode == "RGB"


@pytest.mark.parametrize("hidden", [b"\xff\xfe\0\x04\xff\xd9", b"\xff\xff\xff", b"\xff\xd0", b"ab"])
def test_scans_behind_what_looks_like_an_end_are_counted(hidden: bytes) -> None:
    data = scans(600)
    place = data.index(b"\xff\xda", data.index(b"\xff\xda") + 2)
    with pytest.raises(BadImageError, match=r"610 scans, as decompression bombs have them"):
        decode_image(data[:place] + hidden + data[place:], PixelRules())


@pytest.mark.parametrize("rules", BOTH)
@pytest.mark.parametrize("kind", BOMBS)
def test_bombs_are_refused_before_memory_is_taken(kind: str, rules: PixelRules) -> None:
    assert len(BOMBS["GIF of 42 bytes"]) == 42
    with pytest.raises(
        BadImageError,
        match=r"pixels in \d+ bytes, as decompression bombs|could be decompression bomb|pixels by its header, and \d+ bytes, which cannot",
    ) as found:
        decode_image(BOMBS[kind], rules)
    assert "\n" not in str(found.value)


@pytest.mark.skipif(not pathlib.Path("/proc/self/status").exists(), reason="the peak is read as Linux tells it")
def test_the_memory_that_bombs_take_is_small() -> None:
    """In a process of its own, whose peak nothing else has raised."""
    code = """
        import json, resource, sys
        resource.setrlimit(resource.RLIMIT_DATA, (2 << 30, 2 << 30))
        from tcs.config.pixels import PixelRules
        from tcs.images.decode import BadImageError, decode_image
        from tests.test_hostile_images import BOMBS, LIES, SIDE
        peak = lambda: int(open("/proc/self/status").read().partition("VmHWM:")[2].split()[0])  # kB of this program alone
        found = []
        for files in (BOMBS, {name: data for name, (data, _) in LIES.items()}):
            before, told = peak(), []
            for data in files.values():
                try:
                    decode_image(data, PixelRules())
                except BadImageError as error:
                    told.append(str(error))
            found.append([len(told), peak() - before])
        print(json.dumps(found))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (pathlib.Path(__file__).parents[1], *sys.path)))},
    )
    (refused, kilobytes), (lies, of_lies) = json.loads(done.stdout)
    assert refused == len(BOMBS)
    assert kilobytes < 50_000
    assert lies == len(LIES)
    assert of_lies < 13 * SIDE * SIDE / 1000  # what an image of that size takes, as docs/reference/data.md has it


def test_what_is_large_for_its_bytes_is_decoded_where_it_is_not_too_large() -> None:
    """A page without a word on it: 24 million pixels in a few kilobytes, and in few bytes a pixel of memory."""
    side = 4900
    data = png(side, side, 1, 0, rows=b"\0" * ((side + 7) // 8 + 1) * side)
    assert side * side < MOST_UNASKED_PIXELS
    assert len(data) < 10_000
    assert decode_image(data, PixelRules()).size == (side, side)


@pytest.mark.parametrize("rules", BOTH)
def test_no_program_is_started_for_a_file_whatever_its_name(
    rules: PixelRules, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    marker, program = tmp_path / "started", tmp_path / "gs"
    program.write_text(f"#!/bin/sh\ntouch {marker}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n%%EOF\n"
    told = "not an image file" if rules is EARLIER else "a PostScript file: convert to PNG or JPEG first"
    with pytest.raises(BadImageError, match=rf"^{told}$"):
        decode_image(eps, rules)
    assert not marker.exists()
    with Image.open(io.BytesIO(eps)) as opened, pytest.raises(OSError, match=r"\S"):
        opened.load()
    assert marker.exists() or "EPS" not in Image.OPEN  # so Pillow by itself would have


def test_only_harmless_formats_are_asked_for() -> None:
    assert {"JPEG", "PNG", "GIF", "TIFF", "WEBP", "BMP"} <= set(formats())
    assert not {"EPS", "WMF", "FITS", "PSD", "MPEG", "IPTC", "HDF5"} & set(formats())


def test_exif_of_any_length_takes_no_time() -> None:
    entries = b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + (b"\1\1\5\0" + b"\xff" * 8) * 65_535  # each of 4 billion values
    rows = b"".join(b"\0" + bytes(range(5)) for _ in range(4))
    data = png(5, 4, 8, 0, chunk(b"eXIf", entries.removeprefix(b"Exif\0\0") + b"\0" * 5_000_000), rows=rows)
    start = time.process_time()
    decoded = decode_told(data, PixelRules())
    assert time.process_time() - start < 2
    assert (decoded.image.size, decoded.done) == ((5, 4), frozenset())


@pytest.mark.parametrize("kind", ["JPEG", "WEBP"])
def test_exif_in_many_or_long_pieces_takes_no_time(kind: str) -> None:
    entries = b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + (b"\1\1\5\0" + b"\xff" * 8) * 5000
    if kind == "JPEG":
        piece = b"\xff\xe1" + struct.pack(">H", 65_535) + entries.ljust(65_533, b"\0")
        data = written("JPEG")[:2] + piece * 150 + written("JPEG")[2:]
    else:
        data = written("WEBP", exif=entries + b"\0" * 10_000_000)
    assert len(data) > 9_000_000
    start = time.process_time()
    decoded = decode_told(data, PixelRules())
    assert time.process_time() - start < 2
    assert (decoded.image.size, decoded.done) == ((48, 32), frozenset())


def test_fill_bytes_before_a_marker_take_no_time() -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "JPEG")
    data = buffer.getvalue()
    start = time.process_time()
    assert decode_image(data[:2] + b"\xff" * 5_000_000 + data[2:], PixelRules()).size == (8, 8)
    assert time.process_time() - start < 2


def test_a_profile_that_unpacks_to_gigabytes_ends_in_one_line() -> None:
    packed = zlib.compress(b"\0" * 20_000_000)
    with pytest.raises(BadImageError, match=r"^Decompressed data too large"):
        decode_image(png(5, 4, 8, 0, chunk(b"iCCP", b"x\0\0" + packed)), PixelRules())


def outcome(data: bytes, rules: PixelRules) -> str:
    try:
        return decode_image(data, rules).mode
    except BadImageError as error:
        return str(error)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP", "GIF"])
def test_damaged_files_with_everything_in_them_never_raise_anything_else(kind: str) -> None:
    generator = np.random.default_rng(5)
    exif = Image.Exif()
    exif[0x0112] = 6
    image = Image.fromarray(generator.integers(0, 256, (24, 16, 4), dtype=np.uint8))
    image = image.convert("RGB") if kind == "JPEG" else image
    profile = (
        ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes().replace(b"\0s\0R\0G\0B", b"\0o\0t\0h\0e")
    )
    buffer = io.BytesIO()
    image.save(buffer, kind, exif=exif, icc_profile=profile)
    good = np.frombuffer(buffer.getvalue(), np.uint8)
    for _ in range(150):
        bad = good.copy()
        head = 700 if generator.random() < 0.7 else len(bad)  # what describes the pixels is at the beginning
        places = generator.integers(0, min(head, len(bad)), 4)
        bad[places] = generator.integers(0, 256, 4)
        for rules in BOTH:
            told = outcome(bad.tobytes(), rules)
            assert 0 < len(told) <= 220
            assert "\n" not in told
