"""`tcs look` as a whole: its page parsed, its result, and what it does with stores that lack something."""

import dataclasses
import html.parser
import json
import pathlib

import numpy as np
import pytest
from artefacts import make_store, make_targets, png
from click.testing import CliRunner

import cache
import tcs
from tcs.cli import group
from tcs.config.extract import DataConfig
from tcs.config.pixels import PixelRules
from tcs.errors import ArtefactError, ConfigError, DataError
from tcs.images.thumbnails import PAGE_BYTES, PICTURE_BYTES, SHEET_BYTES, Pictures
from tcs.looking.kept import NEIGHBOURS
from tcs.looking.maps import (
    MAP_ROWS,
    SHOWN_AXES,
    SHOWN_OF_AN_END,
)
from tcs.looking.page import EXAMPLES
from tcs.looking.typical import MOST_PICTURES
from tcs.probes.agreement import neighbour_agreement
from tcs.reporting.tiles import shortened


def look(path, **options):
    options = {"map": "pca", "out": str(pathlib.Path(path).parent / "look.html")} | options
    return tcs.look(tcs.LookConfig(store=str(path), **options))


class Page(html.parser.HTMLParser):
    """What a page refers to, and its pictures."""

    def __init__(self, text):
        super().__init__()
        self.references, self.images, self.ids, self.text = [], [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        told = dict(attributes)
        self.ids += [told["id"]] if "id" in told else []
        self.references += [told[name] for name in ("href", "src", "xlink:href", "action", "data") if name in told]
        if tag == "img":
            self.images.append(told)

    def handle_data(self, data):
        self.text += data


def parsed(path):
    return Page(pathlib.Path(path).read_text())


def test_page_refers_to_nothing_outside_and_every_picture_has_words(tmp_path):
    store = make_store(tmp_path / "x.store")
    found = look(store.path, map="tsne")
    text = (tmp_path / "look.html").read_text()
    page = Page(text)
    assert found.page_bytes == len(text.encode()) < PAGE_BYTES
    assert {reference.partition("data:image/jpeg")[0] for reference in page.references if reference[0] != "#"} == {""}
    assert {reference[1:] for reference in page.references if reference[0] == "#"} <= set(page.ids)
    assert len(page.ids) == len(set(page.ids))
    assert len(page.images) > 12 * 31
    told = [image for image in page.images if image.get("alt")]
    assert len(told) == len(page.images) - EXAMPLES  # pictures on buttons, which have a name of their own
    assert "url(http" not in text
    assert "default-src 'none'" in text
    facts = json.loads(text.partition('id="map-facts">')[2].partition("</script>")[0])
    assert list(facts["places"]) == list(found.maps) == ["PCA", "t-SNE"]
    assert len(facts["names"]) == found.mapped == 60 == text.count("<circle data-i=")
    assert "prefers-color-scheme: dark" in text
    assert "@media print" in text


def test_page_is_the_same_again_and_others_are_left_alone(tmp_path):
    store = make_store(tmp_path / "x.store")
    look(store.path, map="tsne")
    before = (tmp_path / "look.html").read_bytes()
    look(store.path, map="tsne")
    assert (tmp_path / "look.html").read_bytes() == before
    with pytest.raises(
        ArtefactError, match=r"look\.html exists and is not what this look shows; name another out, or pass overwrite"
    ):
        look(store.path)
    look(store.path, overwrite=True)
    assert (tmp_path / "look.html").read_bytes() != before


def test_numbers_are_those_of_the_page_and_of_the_features(tmp_path):
    store = make_store(tmp_path / "x.store")
    found = look(store.path)
    features_ND = store.features("avg")[np.arange(60)].astype(np.float64)
    assert found.kept[1].recall == pytest.approx(1.0)  # 24 coordinates of 24 dims: nothing is lost
    assert 0.3 < found.kept[2].recall < 1
    spectrum_D = np.linalg.eigvalsh(np.cov(features_ND.T))[::-1]
    shares = [item.share for item in found.coordinates]
    np.testing.assert_allclose(shares, (spectrum_D / spectrum_D.sum())[: len(shares)], rtol=1e-4)
    image = found.classes[0].least[0]
    centred = features_ND - features_ND.mean(0)
    centred /= np.linalg.norm(centred, axis=1, keepdims=True)
    row = store.keys.index(image.key)
    others = [o for o in range(60) if o != row and store.labels_N[o] == store.labels_N[row]]
    assert image.centrality == pytest.approx(np.mean([centred[row] @ centred[o] for o in others]), abs=1e-5)
    cosine_N = centred @ centred[row]
    cosine_N[row] = -2
    assert (image.nearest, image.distance) == (
        store.keys[cosine_N.argmax()],
        pytest.approx(1 - cosine_N.max(), abs=1e-5),
    )
    assert f"keep {100 * found.kept[2].recall:.0f} %" in parsed(tmp_path / "look.html").text


def test_given_targets_are_what_is_compared(tmp_path):
    store = make_store(tmp_path / "train.store")
    targets = make_targets(tmp_path, components=3)
    found = look(store.path, targets=str(targets))
    assert [(item.space, item.dims) for item in found.kept] == [("features", 24), ("coordinates", 3), ("hash bits", 32)]
    opened = tcs.open_targets(targets)
    share, _ = neighbour_agreement(opened.z_NK, store.features("avg")[np.arange(60)])
    assert found.kept[1].recall == pytest.approx(share, abs=0.02)  # there z is centred once more
    hashed = look(store.path, coordinates=str(tmp_path / "pca.safetensors"), out=str(tmp_path / "c.html"))
    assert hashed.kept[1].recall == found.kept[1].recall
    assert hashed.kept[2].dims == 1024
    make_targets(tmp_path, components=4, method="random")
    with pytest.raises(ArtefactError, match=r"^targets .* were made with coordinates .* leave one of them out"):
        look(store.path, targets=str(targets), coordinates=str(tmp_path / "random.safetensors"))
    with pytest.raises(ConfigError, match=r"^readout is 'cls', and the coordinates are of 'avg'; leave it out"):
        look(store.path, targets=str(targets), readout="cls")
    other = make_store(tmp_path / "other.store", seed=1)
    with pytest.raises(ArtefactError, match="holds targets of store"):
        look(other.path, targets=str(targets))


@pytest.mark.parametrize("shape", [{"views": 3}, {"grid": (2, 2)}])
def test_views_and_maps_have_a_vector_a_row(tmp_path, shape):
    found = look(make_store(tmp_path / "x.store", **shape).path)
    assert (found.images, found.kept[1].recall) == (60, pytest.approx(1.0))


def test_without_labels_all_are_one_group(tmp_path):
    found = look(make_store(tmp_path / "x.store", labelled=False).path)
    assert [item.name for item in found.classes] == ["unlabelled"]
    assert found.kept[0].same_class is None
    assert "0 with a label, the others shown as unlabelled" in parsed(tmp_path / "look.html").text


def test_a_store_without_images_has_a_page_without_pictures(tmp_path):
    found = look(make_store(tmp_path / "x.store", images="none").path)
    assert found.notes == ("The store holds no images, so the page has no pictures; name them with --data.",)
    page = parsed(tmp_path / "look.html")
    assert page.images == []
    assert "ant/0-0000.png" in page.text


def images_of(store, folder):
    for row, key in enumerate(store.keys):
        (folder / key).parent.mkdir(parents=True, exist_ok=True)
        (folder / key).write_bytes(store.image_bytes(row))
    return str(folder)


def test_pictures_are_read_from_where_the_images_are(tmp_path):
    data = images_of(make_store(tmp_path / "with.store"), tmp_path / "data")
    store = make_store(tmp_path / "x.store", images="none")
    found = look(store.path, data=data)
    assert found.notes == (f"The pictures are read from {data}.",)
    assert len(parsed(tmp_path / "look.html").images) > 300
    with pytest.raises(ConfigError, match="holds its own"):
        look(tmp_path / "with.store", data=data)
    (tmp_path / "data" / store.keys[0]).unlink()
    with pytest.raises(DataError, match="lacks 1 images"):
        look(store.path, data=data)


def test_pictures_are_read_from_the_recorded_place_if_it_is_there(tmp_path, monkeypatch):
    data = images_of(make_store(tmp_path / "with.store"), tmp_path / "data")
    store = make_store(tmp_path / "x.store", images="none")
    monkeypatch.setattr("tcs.images.thumbnails.recorded_data", lambda provenance: DataConfig(data=data))
    assert look(store.path).notes == (f"The pictures are read from {data}, as the store records.",)
    assert len(parsed(tmp_path / "look.html").images) > 300
    (tmp_path / "data" / store.keys[0]).write_bytes(b"another")  # not what the teacher saw
    look(store.path, overwrite=True)
    assert "1 picture could not be read and is left out." in parsed(tmp_path / "look.html").text
    (tmp_path / "data" / store.keys[0]).unlink()
    found = look(store.path, overwrite=True)
    assert found.notes[0].startswith("The page has no pictures: --data")
    assert parsed(tmp_path / "look.html").images == []


def test_names_are_escaped_and_shortened(tmp_path):
    rows = np.random.default_rng(0).standard_normal((8, 4)).astype(np.float32)
    blobs = [png(np.full((4, 4, 3), row, np.uint8)) for row in range(8)]
    keys = [f"</script><b>{row}" for row in range(7)] + ["ü" * 200]
    path = tmp_path / "x.store"
    cache.create(path, {"avg": rows}, keys=keys, labels=["<i>&", "bee"] * 4, images=blobs, identity={"teacher": "t"})
    look(path)
    text = (tmp_path / "look.html").read_text()
    assert "<i>&" not in text
    assert "</script><b>" not in text
    assert "ü" * 100 not in text
    assert len(shortened("ü" * 200).encode()) <= 80
    assert shortened("a/b.png") == "a/b.png"
    assert shortened("bad\udcff") == "bad?"


def test_equal_features_have_no_page_and_two_images_have_one(tmp_path):
    def made(name, rows_ND):
        keys = [f"{row}.png" for row in range(len(rows_ND))]
        cache.create(tmp_path / name, {"avg": rows_ND}, keys=keys, identity={"teacher": "t"})
        return tmp_path / name

    with pytest.raises(DataError, match="do not vary"):
        look(made("equal.store", np.ones((5, 4), np.float32)))
    with pytest.raises(DataError, match=r"has 1 row; neighbours need two or more"):
        look(made("one.store", np.ones((1, 4), np.float32)))
    found = look(made("two.store", np.eye(2, 4, dtype=np.float32)), map="tsne")
    assert (found.neighbours, found.kept[1].recall, found.maps) == (1, 1.0, ("PCA",))
    assert any("There is no t-SNE map" in note for note in found.notes)


def test_broken_pictures_are_counted(tmp_path):
    rows = np.random.default_rng(0).standard_normal((6, 4)).astype(np.float32)
    blobs = [b"no image", *(png(np.full((4, 4, 3), row, np.uint8)) for row in range(5))]
    cache.create(
        tmp_path / "x.store",
        {"avg": rows},
        keys=[f"{i}.png" for i in range(6)],
        images=blobs,
        identity={"teacher": "t"},
    )
    look(tmp_path / "x.store")
    assert "1 picture could not be read and is left out." in parsed(tmp_path / "look.html").text


def test_page_of_any_store_stays_within_its_bound():
    pictures = MOST_PICTURES + EXAMPLES * (1 + 3 * NEIGHBOURS) + 2 * SHOWN_AXES * SHOWN_OF_AN_END + EXAMPLES
    names = 80 + 80  # bytes of a key and of a class
    words = pictures * (2 * names + 300) + MAP_ROWS * (80 + 60) + 200_000
    assert (pictures * PICTURE_BYTES + SHEET_BYTES) * 4 / 3 + words < PAGE_BYTES


def test_pictures_of_noise_stay_within_theirs():
    rng = np.random.default_rng(0)
    blobs = [png(rng.integers(0, 256, (300, 200, 3), dtype=np.uint8)) for _ in range(4)]
    made = Pictures(lambda row: blobs[row % 4], PixelRules())
    made.prepare(range(4))
    assert 1000 < max(len(made.uri(row)) for row in range(4)) <= PICTURE_BYTES * 4 / 3 + 30
    small = [png(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)) for _ in range(4)]
    uri, columns = Pictures(lambda row: small[row % 4], PixelRules()).sheet(range(MAP_ROWS))
    assert columns == 71
    assert len(uri) <= SHEET_BYTES * 4 / 3 + 30


def test_command_fits_a_screen_and_says_it_as_json(tmp_path):
    store = make_store(tmp_path / "x.store")
    out = str(tmp_path / "look.html")
    done = CliRunner().invoke(group, ["look", str(store.path), "--map", "pca", "--out", out])
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert len(lines) < 24
    assert "coordinates (24, principal, fitted to this store): 100.0" in done.stdout
    assert lines[-1].startswith(f"{out}: ")
    facts = json.loads(
        CliRunner().invoke(group, ["look", str(store.path), "--map", "pca", "--out", out, "--json"]).stdout
    )
    again = look(store.path)
    assert facts == json.loads(json.dumps(dataclasses.asdict(again)))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"out": "a.txt"}, r"--out is 'a\.txt'; its name must end in one of \.html, \.htm"),
        ({"map": "umap"}, "--map is 'umap'; it must be one of tsne, pca"),
        ({"seed": -1}, "--seed is -1; it must be 0 or more"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, said):
    with pytest.raises(ConfigError, match=said):
        tcs.LookConfig(store="x.store", **options)
