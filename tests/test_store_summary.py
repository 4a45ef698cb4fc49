"""What a store tells of its images: counted while they were decoded, added up over passes, read without decoding one again."""

import io
import pathlib
import shutil
from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from extraction import config, encoded, fill
from PIL import Image

import cache
from tcs.cli.cache.info import command, lines
from tcs.config.extract import RepairConfig
from tcs.config.update import UpdateConfig
from tcs.extraction.extract import extract
from tcs.extraction.seen import Seen, SeenImages, format_of, is_constant
from tcs.images.colour import FIRST_FRAME, TURNED
from tcs.maintenance.facts import store_facts
from tcs.maintenance.repair import repair
from tcs.maintenance.update import update
from tcs.store_summary import by_reason, class_ends, duplicates, image_lines

torch.set_num_threads(1)


def save(path: pathlib.Path, width: int, height: int, kind: str = "PNG", colour: int | None = None) -> None:
    pixels = np.random.default_rng(width).integers(0, 256, (height, width, 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels if colour is None else np.full_like(pixels, colour)).save(path, kind)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, teacher: pathlib.Path) -> pathlib.Path:
    """Eight images of known sizes and a store of them: two equal ones in two classes, one of one colour, a strip, two tiny ones."""
    root = tmp_path_factory.mktemp("summary")
    data = root / "data"
    save(data / "a/1.png", 40, 50)
    save(data / "a/2.jpg", 60, 40, "JPEG")
    save(data / "a/3.png", 64, 64, colour=7)
    save(data / "a/4.png", 300, 40)
    save(data / "b/5.png", 20, 33)
    save(data / "b/6.bmp", 41, 31, "BMP")
    shutil.copy(data / "a/1.png", data / "b/7.png")
    shutil.copy(data / "a/1.png", data / "b/8.png")
    extract(config(data, root / "x.store", teacher, rows_per_shard=3))
    return root


def test_facts_hold_what_the_pass_has_counted(folder: pathlib.Path) -> None:
    found = store_facts(folder / "x.store")
    assert found["seen"] == {
        "images": 8,
        "widths": {"20": 1, "300": 1, "40": 3, "41": 1, "60": 1, "64": 1},
        "heights": {"31": 1, "33": 1, "40": 2, "50": 3, "64": 1},
        "formats": {"bmp": 1, "jpeg": 1, "png": 6},
        "suspicious": {"constant": 1, "extreme aspect": 1, "tiny": 2},
        "named": {"constant": ["a/3.png"], "tiny": ["b/5.png", "b/6.bmp"], "extreme aspect": ["a/4.png"]},
    }
    assert found["duplicates"] == {"groups": 1, "rows": 3, "across_classes": 1}
    told = lines(found)
    assert told["image sizes"] == "width 20 to 300, median 40, height 31 to 64, median 40"
    assert told["formats"] == "png 6, bmp 1, jpeg 1"
    assert told["suspicious"] == "2 tiny (b/5.png, b/6.bmp); 1 constant (a/3.png); 1 extreme aspect (a/4.png)"
    assert told["copies"] == "3 images in 1 group of equal files, 1 of them with more than one class"


def test_extraction_ends_with_the_summary(
    folder: pathlib.Path, teacher: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    extract(config(folder / "data", tmp_path / "y.store", teacher, workers=1))
    said = capsys.readouterr().err
    for line in (
        "image sizes: width 20 to 300, median 40, height 31 to 64, median 40.\n",
        "copies: 3 images in 1 group of equal files, 1 of them with more than one class.\n",
    ):
        assert line in said
    extract(config(folder / "data", tmp_path / "y.store", teacher))
    assert "image sizes" not in capsys.readouterr().err  # finished already


def test_a_repair_and_a_resumed_pass_count_the_whole_and_one_of_an_earlier_release_says_of_how_many(
    folder: pathlib.Path, teacher: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = pathlib.Path(shutil.copytree(folder / "x.store", tmp_path / "x.store"))
    before = store_facts(store)["seen"]
    (store / "shard-00001.h5").unlink()
    assert repair(RepairConfig(store=str(store))).is_sound
    assert store_facts(store)["seen"] == before
    write = cache.StoreWriter.write_shard

    def stop(self: cache.StoreWriter, index: int, rows: cache.ShardRows) -> None:
        if index == 1:
            raise KeyboardInterrupt
        write(self, index, rows)

    for name in ("y.store", "z.store"):
        with monkeypatch.context() as patch:
            patch.setattr(cache.StoreWriter, "write_shard", stop)
            with pytest.raises(KeyboardInterrupt):
                extract(config(folder / "data", tmp_path / name, teacher, rows_per_shard=3))
    found = store_facts(extract(config(folder / "data", tmp_path / "y.store", teacher, rows_per_shard=3)))
    assert found["seen"] == before
    (tmp_path / "z.store/shard-00000.note").unlink()  # which no earlier release wrote
    found = store_facts(extract(config(folder / "data", tmp_path / "z.store", teacher, rows_per_shard=3)))
    assert found["seen"]["images"] == 5
    assert lines(found)["image sizes"].endswith(" (of 5 of the 8 images; the others were not counted)")


def test_an_update_counts_as_a_fresh_pass_would(
    folder: pathlib.Path, teacher: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    shutil.copytree(folder / "x.store", tmp_path / "x.store")
    data = pathlib.Path(shutil.copytree(folder / "data", tmp_path / "data"))
    save(data / "c/9.jpg", 80, 90, "JPEG")  # new
    (data / "a/3.png").unlink()  # gone, of one colour
    save(data / "a/4.png", 33, 44)  # another image
    shutil.copy(data / "b/5.png", data / "c/10.png")  # a copy
    update(UpdateConfig(store=str(tmp_path / "x.store"), data=str(data)))
    fresh = store_facts(extract(config(data, tmp_path / "fresh.store", teacher)))["seen"]
    found = store_facts(tmp_path / "x.store")["seen"]
    assert found == fresh
    (data / "b/6.bmp").rename(data / "c/6.bmp")
    (data / "a/2.jpg").unlink()
    update(UpdateConfig(store=str(tmp_path / "x.store"), data=str(data)))
    found = store_facts(tmp_path / "x.store")["seen"]
    assert found["formats"] == {"bmp": 1, "jpeg": 1, "png": 6}
    assert sorted(found["named"]["tiny"]) == ["b/5.png", "c/10.png", "c/6.bmp"]


def test_an_update_of_a_store_without_images_says_of_how_many_its_counts_are(
    folder: pathlib.Path, teacher: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    data = pathlib.Path(shutil.copytree(folder / "data", tmp_path / "data"))
    extract(config(data, tmp_path / "x.store", teacher, images="none"))
    follow = UpdateConfig(store=str(tmp_path / "x.store"), data=str(data))
    save(data / "c/9.jpg", 80, 90, "JPEG")
    update(follow)
    assert store_facts(tmp_path / "x.store")["seen"]["formats"] == {"bmp": 1, "jpeg": 2, "png": 6}
    (data / "a/3.png").unlink()
    save(data / "c/10.jpg", 81, 90, "JPEG")
    update(follow)
    found = store_facts(tmp_path / "x.store")
    assert (found["seen"]["images"], found["seen"]["formats"]) == (1, {"jpeg": 1})
    assert lines(found)["image sizes"] == "width 81, height 90 (of 1 of the 9 images; the others were not counted)"


def test_stores_that_record_nothing_say_nothing(tmp_path: pathlib.Path) -> None:
    path = cache.create(
        tmp_path / "x.store", {"avg": np.ones((3, 2))}, keys=["a", "b", "c"], provenance={"seen": "much"}
    )
    found = store_facts(path)
    assert (found["duplicates"], found["seen"], found["pixels"]) == (None, None, None)
    assert not {"copies", "image sizes", "formats", "suspicious"} & lines(found).keys()


PIXELS = {"images": 9, "counts": {TURNED: 3, FIRST_FRAME: 1}, "keys": {TURNED: ["a"], FIRST_FRAME: ["b"]}}


def test_counts_of_pixels_are_shown_where_they_are_recorded(tmp_path: pathlib.Path) -> None:
    provenance = {"seen": SeenImages().to_json(), "pixels": PIXELS}
    path = cache.create(
        tmp_path / "x.store", {"avg": np.ones((1, 2))}, keys=["a"], images=[b"x"], provenance=provenance
    )
    assert lines(store_facts(path))["pixels changed"] == "turned upright 3, first frame 1"


@pytest.mark.parametrize(
    ("start", "expected"),
    [
        (b"RIFF\x00\x00\x00\x00WEBPVP8 ", "webp"),
        (b"\x00\x00\x00\x1cftypavif", "avif"),
        (b"\x00\x00\x00\x18ftypheic", "heif"),
        (b"GIF89a", "gif"),
        (b"MM\x00*", "tiff"),
        (b"P6 3 4", "other"),
        (b"", "other"),
    ],
)
def test_formats_are_told_by_first_bytes(start: bytes, expected: str) -> None:
    assert format_of(start) == expected


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP"])
def test_formats_of_whole_files_are_those_of_pillow(kind: str) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (3, 4)).save(buffer, kind)
    assert format_of(buffer.getvalue()) == kind.lower()


def test_one_pixel_of_another_colour_is_no_constant_image() -> None:
    image = Image.new("RGB", (50, 40), (1, 2, 3))
    assert is_constant(image)
    for place in ((0, 0), (49, 39), (17, 5)):
        for colour in ((2, 2, 3), (1, 2, 0)):
            other = image.copy()
            other.putpixel(place, colour)
            assert not is_constant(other)


def test_counts_of_two_passes_add_up() -> None:
    images = [(f"{i}.png", Seen(width=i, height=2 * i, format="png", is_constant=i % 2 == 0)) for i in range(1, 41)]
    whole, parts = SeenImages(), SeenImages()
    whole.add(images)
    parts.add(images[:23])
    other = SeenImages()
    other.add(images[23:])
    parts.add_counts(other.to_json())
    assert parts.to_json() == whole.to_json()
    assert whole.to_json()["suspicious"] == {"constant": 20, "tiny": 31}
    assert len(whole.to_json()["named"]["tiny"]) == 10
    whole.remove(images[23:])
    parts = SeenImages()
    parts.add(images[:23])
    assert whole.to_json() == parts.to_json()


@pytest.mark.parametrize("seed", range(5))
def test_duplicates_are_those_of_a_plain_count(tmp_path: pathlib.Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    images = [bytes([value]) for value in rng.integers(0, 30, 50)]
    labels = [None if value == 3 else "xyz"[value] for value in rng.integers(0, 4, 50)]
    path = cache.create(
        tmp_path / "x.store", {"avg": np.ones((50, 2))}, keys=[f"{i}" for i in range(50)], labels=labels, images=images
    )
    groups = {image: count for image, count in Counter(images).items() if count > 1}
    classes = {
        image: {label for other, label in zip(images, labels, strict=True) if other == image} - {None}
        for image in groups
    }
    assert duplicates(cache.open(path)) == {
        "groups": len(groups),
        "rows": sum(groups.values()),
        "across_classes": sum(len(found) > 1 for found in classes.values()),
    }


def test_many_classes_show_their_ends_and_all_when_asked(tmp_path: pathlib.Path) -> None:
    labels = [f"c{number:02}" for number in range(12) for _ in range(number + 1)]
    keys = [f"{i}" for i in range(len(labels))]
    path = cache.create(tmp_path / "x.store", {"avg": np.ones((len(keys), 2))}, keys=keys, labels=labels)
    told = lines(store_facts(path))
    ends = "largest c11 12, c10 11, c09 10; smallest c02 3, c01 2, c00 1"
    assert told["classes"] == f"12 (1 to 12, median 6.5 rows each): {ends} (--classes tells all)"
    assert class_ends({"a": 1, "b": 2}) == "largest b 2, a 1; smallest b 2, a 1"
    every = CliRunner().invoke(command, [str(path), "--classes"]).stdout.splitlines()
    assert every[-12:] == [f"class c{number:02}\t{number + 1}" for number in reversed(range(12))]


def test_quarantine_is_counted_by_reason(tmp_path: pathlib.Path, teacher: pathlib.Path) -> None:
    data = fill(tmp_path / "data", 12)
    for name, content in (("c0/90.png", b"x"), ("c0/91.png", b"y"), ("c1/92.png", b"")):
        (data / name).write_bytes(content)
    (data / "c1/93.png").write_bytes(encoded(93))
    told = lines(store_facts(extract(config(data, tmp_path / "x.store", teacher, max_bad=3))))
    assert told["quarantine by reason"] == "not an image file 2, empty file 1"
    assert by_reason([]) == ""


def test_lines_of_nothing_are_none() -> None:
    found: dict[str, Any] = {
        "rows": 0,
        "duplicates": {"groups": 0, "rows": 0, "across_classes": 0},
        "seen": None,
        "pixels": None,
    }
    assert image_lines(found) == {"copies": "no two files are equal"}
