"""`tcs look`: each number against a slow reference, the page parsed, and what it does with stores that lack something."""

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
from tcs.errors import ArtefactError, ConfigError, DataError
from tcs.images.thumbnails import PAGE_BYTES, PICTURE_BYTES, SHEET_BYTES, Pictures
from tcs.looking.kept import NEIGHBOURS, compare_neighbours
from tcs.looking.maps import (
    MAP_ROWS,
    SHOWN_AXES,
    SHOWN_OF_AN_END,
    PrincipalPoints,
    axis_ends,
    make_maps,
    principal_points,
    tsne,
)
from tcs.looking.neighbours import COSINE_SCALE, nearest_rows
from tcs.looking.page import EXAMPLES
from tcs.looking.spaces import Space, signs
from tcs.looking.typical import MOST_PICTURES, centralities, groups_of, typical_rows
from tcs.probes.agreement import neighbour_agreement
from tcs.reporting.tiles import shortened


def blocks_of(rows_NX, size):
    return ((start, rows_NX[start : start + size]) for start in range(0, len(rows_NX), size))


def unit(rows_NX):
    return (rows_NX / np.linalg.norm(rows_NX, axis=1, keepdims=True)).astype(np.float32)


def space_of(rows_NX, name="features", scale=COSINE_SCALE):
    return Space(
        name=name, source="", dims=rows_NX.shape[1], rows=len(rows_NX), scale=scale, prepared=lambda at: rows_NX[at]
    )


def look(path, **options):
    options = {"map": "pca", "out": str(pathlib.Path(path).parent / "look.html")} | options
    return tcs.look(tcs.LookConfig(store=str(path), **options))


@pytest.mark.parametrize("size", [1, 7, 100])
def test_nearest_rows_are_those_of_all_products(size):
    rng = np.random.default_rng(0)
    rows_NX, asked = unit(rng.standard_normal((61, 6))), np.array([0, 17, 60])
    found = nearest_rows(rows_NX[asked], asked, blocks_of(rows_NX, size), 61, 5, COSINE_SCALE)
    for place, row in enumerate(asked):
        cosine_N = rows_NX[row].astype(np.float64) @ rows_NX.T
        cosine_N[row] = -2
        expected = np.argsort(-cosine_N, kind="stable")[:5]
        assert found.rows_Qk[place].tolist() == expected.tolist()
        np.testing.assert_allclose(found.products_Qk[place], cosine_N[expected], atol=1e-6)


@pytest.mark.parametrize("size", [1, 5, 64])
def test_of_rows_that_tie_the_first_are_named_and_shares_are_counted_by_hand(size):
    bits_NP = np.random.default_rng(1).integers(0, 2, (40, 8), dtype=np.uint8)
    bits_NP = np.packbits(bits_NP, axis=1, bitorder="little")  # 256 values of 8 bits: ties everywhere
    rows_NX, asked, count = signs(bits_NP), np.arange(40), 6
    wanted_Qk = np.stack([np.random.default_rng(row).choice(np.delete(asked, row), count, False) for row in asked])
    found = nearest_rows(rows_NX, asked, blocks_of(rows_NX, size), 40, count, 1, wanted_Qk)
    for row in range(40):
        hamming = {o: bin(int(bits_NP[row, 0]) ^ int(bits_NP[o, 0])).count("1") for o in range(40) if o != row}
        assert found.rows_Qk[row].tolist() == sorted(hamming, key=lambda o: (hamming[o], o))[:count]
        last = sorted(hamming.values())[count - 1]
        nearer = [o for o in hamming if hamming[o] < last]
        tied = [o for o in hamming if hamming[o] == last]
        share = (count - len(nearer)) / len(tied)
        expected = sum(1.0 if o in nearer else share if o in tied else 0.0 for o in wanted_Qk[row].tolist()) / count
        assert found.kept_Q[row] == pytest.approx(expected)


def test_recall_is_the_agreement_of_all_rows():
    rng = np.random.default_rng(2)
    features_ND = rng.standard_normal((80, 9))
    features_ND -= features_ND.mean(0)
    fewer_NK = features_ND[:, :4]
    spaces = [space_of(unit(features_ND)), space_of(unit(fewer_NK), "coordinates")]
    found = compare_neighbours(spaces, np.arange(80) % 3, seed=0)
    share, chance = neighbour_agreement(fewer_NK, features_ND)
    assert found.kept[1].recall == pytest.approx(share)
    assert found.kept[1].chance == pytest.approx(chance)
    assert found.kept[0].recall == 1.0
    labels_N = np.arange(80) % 3
    same = (labels_N[found.near[1].rows_Qk] == labels_N[:, None]).mean()
    assert found.kept[1].same_class == pytest.approx(same)


def test_rows_that_are_all_alike_keep_what_chance_keeps():
    rng = np.random.default_rng(3)
    spaces = [space_of(unit(rng.standard_normal((30, 5)))), space_of(np.ones((30, 8), np.float32), "hash bits", 1)]
    found = compare_neighbours(spaces, np.full(30, -1), seed=0)
    assert found.kept[1].recall == pytest.approx(found.kept[1].chance) == pytest.approx(10 / 29)
    assert found.kept[1].same_class is None


def test_of_many_rows_a_seeded_draw_is_asked_for(monkeypatch):
    monkeypatch.setattr("tcs.looking.kept.MOST_ASKED", 12)
    spaces = [space_of(unit(np.random.default_rng(4).standard_normal((50, 5))))]
    asked = [compare_neighbours(spaces, np.zeros(50, int), seed).asked_Q.tolist() for seed in (0, 0, 1)]
    assert len(set(asked[0])) == 12
    assert asked[0] == asked[1] != asked[2]


def test_centrality_is_the_mean_cosine_to_the_other_images_of_the_class():
    rows_ND = unit(np.random.default_rng(5).standard_normal((31, 4)))
    labels_N = np.array([0] * 12 + [1] * 10 + [-1] * 8 + [2])
    groups_N, names = groups_of(labels_N, ("ant", "bee", "cow"))
    assert names == ("ant", "bee", "cow", "unlabelled")
    found_N = centralities(space_of(rows_ND), groups_N, 4)
    for row in range(30):
        others = [o for o in range(31) if o != row and labels_N[o] == labels_N[row]]
        assert found_N[row] == pytest.approx(np.mean([rows_ND[row] @ rows_ND[o] for o in others]), abs=1e-6)
    assert np.isnan(found_N[30])
    shown = typical_rows(found_N, groups_N, names)
    assert [(item.name, item.rows) for item in shown] == [("ant", 12), ("bee", 10), ("cow", 1), ("unlabelled", 8)]
    order = sorted(range(12), key=lambda row: -found_N[row])
    assert shown[0].most.tolist() == order[:6]
    assert shown[0].least.tolist() == order[::-1][:6]
    assert shown[2].most.tolist() == shown[2].least.tolist() == []
    assert len(shown[3].most) == len(shown[3].least) == 4


def test_many_classes_share_the_pictures_and_the_largest_are_shown():
    groups_N = np.repeat(np.arange(600), 4)
    groups_N[:8] = 1  # class 0 has no image, class 1 has eight
    shown = typical_rows(np.zeros(2400), groups_N, [f"c{g}" for g in range(600)])
    assert sum(len(item.most) + len(item.least) for item in shown) == MOST_PICTURES
    assert [item.name for item in shown] == [f"c{g}" for g in range(1, 241)]


def test_coordinates_are_those_of_a_singular_value_decomposition():
    x_ND = np.random.default_rng(6).standard_normal((50, 6)) * (6, 5, 4, 3, 2, 1)
    mean_D, covariance_DD = x_ND.mean(0), np.cov(x_ND.T)

    class Vectors:
        shape = (50, 6)

        def __len__(self):
            return 50

        def blocks(self):
            return blocks_of(x_ND, 13)

    found = principal_points(Vectors(), mean_D, covariance_DD)
    u, s, _ = np.linalg.svd(x_ND - mean_D, full_matrices=False)
    np.testing.assert_allclose(np.abs(found.points_NJ), np.abs(u * s), atol=1e-4)
    np.testing.assert_allclose(found.shares_J, s**2 / (s**2).sum(), rtol=1e-6)
    first = axis_ends(found)[0]
    assert first.low.tolist() == np.argsort(found.points_NJ[:, 0])[:6].tolist()
    assert first.high.tolist() == np.argsort(-found.points_NJ[:, 0])[:6].tolist()


def test_coordinates_without_variance_are_not_shown():
    points_NJ = np.zeros((8, 3), np.float32)
    points_NJ[:, 0] = np.arange(8)
    assert [item.number for item in axis_ends(PrincipalPoints(points_NJ, np.array([1.0, 0.0, 0.0])))] == [1]


def test_maps_are_the_same_again_and_keep_groups_apart(monkeypatch):
    rng = np.random.default_rng(7)
    points_NJ = (rng.standard_normal((60, 5)) + 20 * (np.arange(60) % 2)[:, None]).astype(np.float32)
    first, second = (make_maps(points_NJ, 0, with_tsne=True).places["t-SNE"] for _ in range(2))
    assert first.tobytes() == second.tobytes()
    even, odd = first[::2], first[1::2]
    assert np.linalg.norm(even.mean(0) - odd.mean(0)) > 2 * max(even.std(0).max(), odd.std(0).max())
    monkeypatch.setattr("tcs.looking.maps.MAP_ROWS", 20)
    drawn = make_maps(points_NJ, 0, with_tsne=False)
    assert len(drawn.rows_M) == len(drawn.places["PCA"]) == 20
    np.testing.assert_array_equal(drawn.places["PCA"], points_NJ[drawn.rows_M, :2])


def test_points_of_one_coordinate_have_a_map():
    assert tsne(np.arange(12, dtype=np.float32)[:, None], 0).shape == (12, 2)


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
    with pytest.raises(ArtefactError, match=r"look\.html exists and is not what this look shows; name another --out"):
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
    centred = unit(features_ND - features_ND.mean(0)).astype(np.float64)
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
    with pytest.raises(ArtefactError, match=r"--targets .* were made with coordinates .* leave one of them out"):
        look(store.path, targets=str(targets), coordinates=str(tmp_path / "random.safetensors"))
    with pytest.raises(ConfigError, match=r"--readout is 'cls', and the coordinates are of 'avg'; leave it out"):
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
    made = Pictures(lambda row: blobs[row % 4])
    made.prepare(range(4))
    assert 1000 < max(len(made.uri(row)) for row in range(4)) <= PICTURE_BYTES * 4 / 3 + 30
    small = [png(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)) for _ in range(4)]
    uri, columns = Pictures(lambda row: small[row % 4]).sheet(range(MAP_ROWS))
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
