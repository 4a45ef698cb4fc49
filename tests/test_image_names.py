"""Names of classes and files in other normal forms or cases, files that are no images we read, and tables of other languages."""

import pathlib
import re
import unicodedata

import numpy as np
import pytest
from PIL import Image

import cache
from tcs.config.extract import DataConfig
from tcs.config.names import clashes, finder, same_form
from tcs.config.pixels import PixelRules
from tcs.errors import DataError
from tcs.evaluation.judged import match_names
from tcs.export.sources import open_pictures
from tcs.images import formats
from tcs.images.decode import BadImageError, decode_image
from tcs.images.folder import list_images
from tcs.images.sources import open_images
from tcs.images.stored import given_images
from tcs.images.told import SENTENCES
from tcs.maintenance.verify import measure_drift
from tcs.metrics import match_classes
from tcs.splits.given_labels import give_labels, read_given_labels
from tcs.splits.relabelling import relabelled

COMPOSED, APART = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))


def image_at(path: pathlib.Path, seed: int = 0) -> pathlib.Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.random.default_rng(seed).integers(0, 256, (6, 5, 3), dtype=np.uint8)
    Image.fromarray(values).save(path, "PNG")
    return path


def store_of(folder: pathlib.Path, classes: tuple[str, ...], keys: tuple[str, ...]) -> cache.Store:
    features = np.arange(4 * len(keys), dtype=np.float32).reshape(-1, 4)
    labels = [number % len(classes) for number in range(len(keys))]
    cache.create(folder, {"avg": features}, keys=keys, labels=labels, classes=classes, identity={"teacher": "t"})
    return cache.open(folder)


def test_names_are_found_in_another_form_and_keep_their_spelling() -> None:
    find = finder([APART, "rose", "K"])
    assert (find(COMPOSED), find(APART), find("rose")) == (APART, APART, "rose")
    assert (find("Rose"), find("cafe")) == (None, None)
    assert find("\N{KELVIN SIGN}") == "K"  # whose normal form is the letter
    both = finder([APART, COMPOSED])
    assert (both(APART), both(COMPOSED)) == (APART, COMPOSED)
    assert same_form("plain") == "plain"


def test_clashes_are_pairs_by_case_or_form() -> None:
    assert clashes(["a", "b", "A", COMPOSED, APART, "a"]) == [("a", "A"), (COMPOSED, APART)]


def test_clashes_of_folders_and_files_are_told(tmp_path: pathlib.Path) -> None:
    for name in (f"{COMPOSED}/1.png", f"{APART}/1.png", "rose/1.png", "rose/1.PNG"):
        image_at(tmp_path / name)
    if len(list(tmp_path.iterdir())) < 3:
        pytest.skip("this file system keeps one form of a name")
    notes = list_images(tmp_path).notes
    assert any(
        r"the classes 'cafe\u0301' and 'caf\xe9' differ by case or by the form" in note for note in notes
    ) or any(r"the classes 'caf\xe9' and 'cafe\u0301' differ by case or by the form" in note for note in notes)
    assert any("the images 'rose/1." in note and "they count as two" in note for note in notes)
    assert list_images(tmp_path / "rose").notes != ()


def test_a_class_map_names_folders_in_another_form(tmp_path: pathlib.Path) -> None:
    image_at(tmp_path / "images" / APART / "1.png")
    image_at(tmp_path / "images" / "rose" / "1.png")
    (tmp_path / "map.txt").write_text(f"{COMPOSED}\n", encoding="utf-8")
    found = open_images(DataConfig(data=str(tmp_path / "images"), class_map=str(tmp_path / "map.txt")))
    assert (found.classes, found.labels, len(found.keys)) == ((COMPOSED,), (0,), 1)


def test_classes_of_two_stores_match_in_another_form(tmp_path: pathlib.Path) -> None:
    store = store_of(tmp_path / "x.store", ("rose", APART), ("a", "b"))
    assert match_classes(store, [COMPOSED, "rose"]).tolist() == [1, 0]
    with pytest.raises(DataError, match="has classes that the student was not trained on: rose"):
        match_classes(store, [COMPOSED, "Rose"])
    assert match_names([APART, "rose"], ["rose", COMPOSED], "DATA") == {APART: 1, "rose": 0}


def test_pictures_match_the_classes_of_a_student_in_another_form(tmp_path: pathlib.Path) -> None:
    image_at(tmp_path / "images" / APART / "1.png")
    image_at(tmp_path / "images" / "rose" / "1.png")
    pictures = open_pictures(str(tmp_path / "images"), ["rose", COMPOSED], PixelRules())
    assert sorted(pictures.labels_N.tolist()) == [0, 1]


def test_label_files_match_keys_and_classes_in_another_form(tmp_path: pathlib.Path) -> None:
    store = store_of(tmp_path / "x.store", (APART, "rose"), (f"{APART}/1.png", "rose/1.png", "rose/2.png"))
    path = tmp_path / "labels.csv"
    path.write_text(f"key,class\n{COMPOSED}/1.png,rose\nrose/1.png,{COMPOSED}\n", encoding="utf-8")
    names = read_given_labels(str(path), store.keys, {}, "x.store")
    assert names == {f"{APART}/1.png": "rose", "rose/1.png": COMPOSED}
    give_labels(store.path, str(path), names)
    after = cache.open(store.path)
    assert (after.classes, after.labels_N.tolist()) == ((APART, "rose"), [1, 0, 0])


def test_split_files_match_classes_in_another_form(tmp_path: pathlib.Path) -> None:
    store = store_of(tmp_path / "x.store", (APART, "rose"), ("a", "b"))
    path = tmp_path / "split.txt"
    path.write_text(f"{COMPOSED} a\nrose b\n", encoding="utf-8")
    assert relabelled(store, str(path)) is store


def test_data_that_moved_to_another_system_is_found_in_another_form(tmp_path: pathlib.Path) -> None:
    data = image_at(tmp_path / "images" / f"{COMPOSED}.png").read_bytes()
    features, hashes = np.zeros((1, 4), np.float32), np.frombuffer(cache.content_hash(data), np.uint8)[None]
    cache.create(
        tmp_path / "x.store", {"avg": features}, keys=[f"{APART}.png"], hashes=hashes, identity={"teacher": "t"}
    )
    store = cache.open(tmp_path / "x.store")
    assert given_images(store, str(tmp_path / "images"))(0) == data
    assert measure_drift(store, tmp_path / "images").is_none


def test_what_is_left_out_is_named_by_kind_with_its_remedy(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(formats, "extensions", lambda: formats.ALWAYS)
    image_at(tmp_path / "a" / "1.png")
    names = (
        "a/IMG_1.HEIC",
        "a/IMG_2.heic",
        "a/raw.CR2",
        "a/x.psd",
        "a/Thumbs.db",
        "a/IMG_0007",
        "a/y.avif",
        "notes.txt",
        "z.txt",
    )
    for name in names:
        (tmp_path / name).write_bytes(b"x")
    found = list_images(tmp_path)
    assert (found.keys, found.ignored) == (("a/1.png",), len(names))
    assert found.notes == (
        '2 files .heic left out (a/IMG_1.HEIC, a/IMG_2.heic): pip install "tcs-distill[heif]".',
        '1 file .avif left out (a/y.avif): pip install "pillow>=11.3".',
        "1 file .cr2 left out (a/raw.CR2): convert to PNG or JPEG first (raw photographs have no pixels of their own).",
        "1 file .psd left out (a/x.psd): convert to PNG or JPEG first.",
        "4 files left out that by their names are no images: 2 .txt, 1 .db, 1 without an extension (a/IMG_0007).",
    )


@pytest.mark.parametrize(
    ("start", "reason"),
    [
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", 'a HEIC file: pip install "tcs-distill[heif]"'),
        (b"\0\0\0\x18ftypavif\0\0\0\0", 'an AVIF file: pip install "pillow>=11.3"'),
        (b"8BPS\0\1", "a Photoshop file: convert to PNG or JPEG first"),
        (b"hello", "not an image file"),
    ],
)
def test_a_file_that_is_called_as_an_image_and_is_another_is_named_by_its_content(
    start: bytes, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tcs.images.decode.formats", lambda: ("JPEG", "PNG"))
    monkeypatch.setattr("tcs.images.formats.extensions", lambda: formats.ALWAYS)
    with pytest.raises(BadImageError) as found:
        decode_image(start + b"\0" * 64, PixelRules())
    assert str(found.value) == reason


@pytest.mark.parametrize(("brand", "kind"), [(b"heic", "a HEIC"), (b"avif", "an AVIF")])
def test_a_damaged_file_of_a_kind_that_can_be_read_is_called_damaged(
    brand: bytes, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tcs.images.formats.extensions", lambda: formats.ALWAYS | formats.HEIF | formats.AVIF)
    assert formats.unread(b"\0\0\0\x18ftyp" + brand + b"\0" * 40) == f"{kind} file that is damaged"


def test_many_files_are_named_by_the_first_few() -> None:
    (line,) = formats.left_out([f"{number}.nef" for number in range(9)])
    assert line.startswith("9 files .nef left out (0.nef, 1.nef, 2.nef ...): convert")
    (line,) = formats.left_out([f"x.k{number}" for number in range(11)])
    assert line.endswith("and 3 more kinds.")
    assert formats.left_out([]) == ()


def test_the_page_says_what_is_read_and_told() -> None:
    page = (pathlib.Path(__file__).parent.parent / "docs" / "reference" / "data.md").read_text(encoding="utf-8")
    read = formats.ALWAYS | formats.AVIF | formats.HEIF
    assert {f"`{extension}`" for extension in read} <= set(re.findall(r"`\.\w+`", page))
    assert {f"| `{kind}` |" for kind in SENTENCES} == set(re.findall(r"\| `\w+` \|(?=\n)", page))


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_a_table_is_read_with_the_separator_of_its_spreadsheet(tmp_path: pathlib.Path, delimiter: str) -> None:
    image_at(tmp_path / "a, b.png")
    rows = [("path", "label"), ('"a, b.png"', "rose")]
    (tmp_path / "t.csv").write_text("\n".join(delimiter.join(row) for row in rows))
    found = open_images(DataConfig(data=str(tmp_path / "t.csv")))
    assert (found.keys, found.classes) == (("a, b.png",), ("rose",))
