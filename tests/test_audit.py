"""`tcs audit`: measures against slow references, planted faults found, and the table as `--exclude` of `tcs cache subset`."""

import csv
import json
import pathlib

import numpy as np
import pytest
from artefacts import make_store, png
from click.testing import CliRunner
from extraction import config
from pictures import smooth_picture
from PIL import Image

import cache
import tcs
from tcs.auditing.labels import PENALTY, out_of_fold
from tcs.auditing.neighbours import find_neighbours, nearest_of
from tcs.auditing.outliers import class_facts, outlier_scores
from tcs.auditing.space import directions
from tcs.cli import group
from tcs.config.audit import NEAR_COSINE
from tcs.errors import ArtefactError, ConfigError, DataError
from tcs.extraction.extract import extract

DIMS = 12
NAMES = ("ant", "bee", "cow")


def make(path, features_ND, labels, blobs=None, teacher="made-up"):
    """A store of these rows; the bytes of row i are an image of its own unless `blobs` says otherwise."""
    rows = len(features_ND)
    blobs = blobs or [png(np.full((4, 4, 3), row, np.uint8)) for row in range(rows)]
    keys = [f"{row:03}.png" for row in range(rows)]
    cache.create(path, {"avg": features_ND}, keys=keys, labels=labels, images=blobs, identity={"teacher": teacher})
    return str(path)


def clusters(rows=60, seed=0):
    rng = np.random.default_rng(seed)
    labels_N = np.arange(rows) % 3
    centres_CD = np.random.default_rng(1).standard_normal((3, DIMS)) * 3
    return (centres_CD[labels_N] + rng.standard_normal((rows, DIMS))).astype(np.float32), labels_N


def audit(path, **options):
    return tcs.audit(tcs.AuditConfig(store=path, **options))


def keys_of(found, kind):
    return [item.key for item in found.of(kind)]


def test_neighbours_are_those_of_a_search_of_all_pairs(monkeypatch):
    rng = np.random.default_rng(0)
    rows_NK = directions(rng.standard_normal((41, 5)).astype(np.float32))
    groups_N, labels_N = np.arange(41) // 2, rng.integers(-1, 3, 41)
    monkeypatch.setattr("tcs.auditing.neighbours.BLOCK_PRODUCTS", 41 * 7)
    found = find_neighbours(rows_NK, groups_N, labels_N, 4)
    for row in range(41):
        others = [one for one in range(41) if groups_N[one] != groups_N[row]]
        cosine = {one: float(rows_NK[row] @ rows_NK[one]) for one in others}
        assert found.rows_Nk[row].tolist() == sorted(others, key=lambda one: -cosine[one])[:4]
        conflicts = {one for one in others if min(labels_N[[row, one]]) >= 0 and labels_N[row] != labels_N[one]}
        earlier = [one for one in others if one < row and one not in conflicts]
        assert found.earlier.rows_N[row] == max(earlier, key=cosine.get, default=-1)
        assert found.other.rows_N[row] == max(conflicts, key=cosine.get, default=-1)


def test_nearest_of_another_store_is_that_of_all_products(monkeypatch):
    rng = np.random.default_rng(0)
    a_NK, b_MK = (directions(rng.standard_normal((n, 5)).astype(np.float32)) for n in (13, 9))
    monkeypatch.setattr("tcs.auditing.neighbours.BLOCK_PRODUCTS", 30)
    assert nearest_of(a_NK, b_MK).rows_N.tolist() == (a_NK @ b_MK.T).argmax(axis=1).tolist()


def test_probe_of_a_fold_is_ridge_regression_of_the_other_rows():
    points_LK, labels_L = clusters(30)
    folds_L = np.arange(30) % 4
    found_LC = out_of_fold(points_LK, labels_L, folds_L, 3)
    for row in (0, 7, 29):
        used = folds_L != folds_L[row]
        x, y = points_LK[used].astype(np.float64), np.eye(3)[labels_L[used]]
        penalty = PENALTY * ((x - x.mean(0)) ** 2).sum() / DIMS  # ridge as least squares with rows of its own
        a = np.vstack([x - x.mean(0), np.sqrt(penalty) * np.eye(DIMS)])
        weights = np.linalg.lstsq(a, np.vstack([y - y.mean(0), np.zeros((DIMS, 3))]), rcond=None)[0]
        np.testing.assert_allclose(found_LC[row], (points_LK[row] - x.mean(0)) @ weights + y.mean(0), atol=1e-8)


def test_planted_labels_come_first_with_their_true_class(tmp_path):
    features_ND, labels_N = clusters()
    planted_N = labels_N.copy()
    planted_N[[3, 31, 44]] = (labels_N[[3, 31, 44]] + 1) % 3
    found = audit(make(tmp_path / "x.store", features_ND, [NAMES[i] for i in planted_N]))
    errors = found.of("label-error")
    assert len(errors) == 60 == len({item.key for item in errors})
    assert {(item.key, item.suggested) for item in errors[:3]} == {
        (f"{i:03}.png", NAMES[labels_N[i]]) for i in (3, 31, 44)
    }
    assert errors[2].score > 0 > errors[3].score


def test_copies_are_named_by_what_they_are(tmp_path):
    features_ND, labels_N = clusters()
    blobs = [png(np.full((4, 4, 3), row, np.uint8)) for row in range(60)]
    for copy, first in ((9, 0), (10, 1)):  # exact: within a class, and of two
        blobs[copy], features_ND[copy] = blobs[first], features_ND[first]
    labels_N[10] = 2
    features_ND[23], features_ND[25] = (
        features_ND[20] * 1.001,
        features_ND[21] * 1.001,
    )  # near: within a class, and of two
    tested_3D = np.stack([features_ND[40], features_ND[41] * 1.01, -features_ND[0]])
    blobs += [blobs[40], *(png(np.full((4, 4, 3), 200 + i, np.uint8)) for i in range(2))]
    labels = [*(NAMES[i] for i in labels_N), "ant", "ant", "ant"]
    both = make(tmp_path / "both.store", np.concatenate([features_ND, tested_3D]), labels, blobs)
    x, test = (str(tmp_path / name) for name in ("x.store", "t.store"))  # parts of one store: of one teacher
    cache.subset(both, x, keys=[f"{row:03}.png" for row in range(60)])
    cache.subset(both, test, keys=[f"{row:03}.png" for row in range(60, 63)])
    found = audit(x, test=(test,), near=0.9999)
    assert [(item.key, item.other_key) for item in found.of("duplicate")] == [("009.png", "000.png")]
    assert [(item.key, item.other_key) for item in found.of("near-duplicate")] == [("023.png", "020.png")]
    conflicts = {(item.key, item.other_key) for item in found.of("conflict")}
    assert conflicts == {("001.png", "010.png"), ("010.png", "001.png"), ("021.png", "025.png"), ("025.png", "021.png")}
    leaks = {(item.key, item.other_key, item.other_store) for item in found.of("leak")}
    assert leaks == {("040.png", "060.png", test), ("041.png", "061.png", test)}


def test_a_picture_that_was_encoded_again_is_found_across_train_and_test(tmp_path, teacher):
    """From files on: the bytes of no copy are those of its picture, and the teacher sees nearly the same."""
    (tmp_path / "train/a").mkdir(parents=True)
    (tmp_path / "test/a").mkdir(parents=True)
    for number in range(24):
        smooth_picture(48, 40, seed=number).save(tmp_path / f"train/a/{number:02}.png")
    copies = {"05": ({"quality": 60}, (48, 40)), "11": ({"quality": 90}, (40, 33))}
    for name, (options, size) in copies.items():
        picture = Image.open(tmp_path / f"train/a/{name}.png").resize(size, Image.Resampling.BICUBIC)
        picture.save(tmp_path / f"test/a/again-{name}.jpg", **options)
    for number in range(100, 106):
        smooth_picture(48, 40, seed=number).save(tmp_path / f"test/a/{number}.png")
    train, test = (
        str(extract(config(tmp_path / name, tmp_path / f"{name}.store", teacher))) for name in ("train", "test")
    )
    hashes = [{digest.tobytes() for digest in cache.open(path).hashes_N16} for path in (train, test)]
    assert not hashes[0] & hashes[1]
    leaks = audit(train, test=(test,)).of("leak")
    assert {(item.key, item.other_key) for item in leaks} == {(f"a/{n}.png", f"a/again-{n}.jpg") for n in copies}
    assert all(NEAR_COSINE <= item.score < 1 for item in leaks)
    assert audit(test, test=(train,)).of("leak")[0].key.startswith("a/again-")


def test_of_another_teacher_exact_copies_alone_are_leaks(tmp_path):
    features_ND, labels_N = clusters(6)
    x = make(tmp_path / "x.store", features_ND, labels=[NAMES[i] for i in labels_N])
    test = make(
        tmp_path / "t.store", features_ND[:2], ["ant"] * 2, [png(np.full((4, 4, 3), n, np.uint8)) for n in (0, 99)], "b"
    )
    found = audit(x, test=(test,))
    assert keys_of(found, "leak") == ["000.png"]
    assert any("another teacher" in note for note in found.notes)


@pytest.mark.parametrize(
    ("labels", "said"), [(None, "it has no labels"), (["ant"] * 6, "its labelled images are of one class")]
)
def test_without_two_classes_a_note_says_why_there_are_no_label_errors(tmp_path, labels, said):
    found = audit(make(tmp_path / "x.store", clusters(6)[0], labels))
    assert found.of("label-error") == []
    assert said in found.notes[0]


def test_one_image_a_class_and_equal_features_are_no_crash(tmp_path):
    assert len(audit(make(tmp_path / "a.store", clusters(3)[0], list(NAMES))).of("label-error")) == 3
    found = audit(make(tmp_path / "b.store", np.ones((6, DIMS), np.float32), list(NAMES) * 2))
    assert found.counts()["near-duplicate"] == found.counts()["conflict"] == found.counts()["outlier"] == 0
    assert "all features are equal" in found.notes[0]


def test_outliers_are_counted_in_robust_deviations():
    distances = np.array([0.1, 0.2, 0.3, 0.4, 2.0])
    found = outlier_scores((1 - distances).astype(np.float32)[:, None])
    np.testing.assert_allclose(found, (distances - 0.3) / (1.4826 * 0.1), rtol=1e-4)


def test_small_and_narrow_classes_are_told():
    points_NK = np.random.default_rng(0).standard_normal((63, 4)).astype(np.float32)
    labels_N = np.repeat([0, 1, 2, 3], [20, 20, 20, 3])
    points_NK[20:40] *= 0.1
    facts = class_facts(points_NK, labels_N, ("a", "b", "c", "d"))
    assert [item.is_few for item in facts] == [False, False, False, True]
    assert [item.is_one_sided for item in facts][:3] == [False, True, False]


def test_table_is_what_subset_excludes(tmp_path):
    features_ND, labels_N = clusters()
    blobs = [png(np.full((4, 4, 3), row, np.uint8)) for row in range(60)]
    blobs[9], features_ND[9] = blobs[0], features_ND[0]
    labels_N[5] = 0
    x, table, out = (
        make(tmp_path / "x.store", features_ND, [NAMES[i] for i in labels_N], blobs),
        str(tmp_path / "a.csv"),
        tmp_path,
    )
    audit(x, out=(table,), near=1.0)
    with pathlib.Path(table).open(newline="") as file:
        lines = list(csv.reader(file))
    assert lines[0] == ["kind", "key", "class", "suggested", "other_key", "other_store", "score"]

    def kept(name, *more):
        done = CliRunner().invoke(group, ["cache", "subset", x, "--out", str(out / name), "--exclude", table, *more])
        assert done.exit_code == 0, done.output
        return set(cache.open(out / name).keys)

    every = set(cache.open(x).keys)
    assert every - kept("1.store") == {"009.png"}
    assert every - kept("2.store", "--exclude-kind", "label-error", "--exclude-top", "1") == {"005.png"}
    nothing = ["cache", "subset", x, "--out", str(out / "3.store"), "--exclude", table, "--exclude-kind", "leak"]
    with pytest.raises(
        DataError, match="names nothing of the kinds leak, so nothing would be left out; name other kinds"
    ):
        CliRunner().invoke(group, nothing, catch_exceptions=False, standalone_mode=False)
    assert not (out / "3.store").exists()
    with pathlib.Path(table).open("w", newline="") as file:  # as a spreadsheet of some countries saves it
        csv.writer(file, delimiter=";").writerows(lines)
    assert every - kept("4.store") == {"009.png"}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"kinds": ("label-error",)}, "needs --exclude-top N"),
        ({"top": 3}, "--exclude-top has no effect without"),
        ({"kinds": ("leaks",)}, "--exclude-kind is 'leaks'.*Did you mean leak"),
    ],
)
def test_what_to_exclude_is_never_guessed(options, said):
    from tcs.config.audit import ExclusionConfig

    with pytest.raises(ConfigError, match=said):
        ExclusionConfig(exclude="a.csv", **options)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("key,rank\na,1\n", "does not begin with the columns kind,key"),
        ("kind,key\nleek,000.png\n", "line 2 .* has the kind 'leek'.*Did you mean leak"),
        ("kind,key\nleak,gone.png\n", "names 'gone.png', which is no image of this store"),
    ],
)
def test_tables_of_something_else_are_refused(tmp_path, text, said):
    from tcs.auditing.exclusion import excluded_keys
    from tcs.config.audit import ExclusionConfig

    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(DataError, match=said):
        excluded_keys(ExclusionConfig(exclude=str(tmp_path / "a.csv")), ["000.png"])


def test_outputs_are_the_same_again_and_others_are_left_alone(tmp_path):
    x = str(make_store(tmp_path / "x.store").path)
    out = (str(tmp_path / "a.csv"), str(tmp_path / "a.html"))
    audit(x, out=out)
    before = [(tmp_path / name).read_bytes() for name in ("a.csv", "a.html")]
    audit(x, out=out)
    assert [(tmp_path / name).read_bytes() for name in ("a.csv", "a.html")] == before
    (tmp_path / "a.csv").write_text("mine")
    with pytest.raises(ArtefactError, match=r"a\.csv exists and is not what this audit finds"):
        audit(x, out=out)


def test_page_has_pictures_and_escapes_names(tmp_path):
    features_ND, _ = clusters(6)
    x = make(tmp_path / "x.store", features_ND, ["<b>&", "bee"] * 3)
    audit(x, out=(str(tmp_path / "a.html"),))
    page = (tmp_path / "a.html").read_text()
    assert "&lt;b&gt;&amp;" in page
    assert "<b>&<" not in page
    assert page.count("data:image/jpeg;base64,") >= 6
    assert "http" not in page.replace("http-equiv", "")  # the attribute that forbids the browser to load anything


def test_page_says_of_which_kinds_there_is_nothing_and_shows_pairs_with_words(tmp_path):
    features_ND, labels_N = clusters()
    features_ND[20], labels_N[20] = features_ND[10] * 1.001, labels_N[10]
    out = tmp_path / "a.html"
    labels_N[5] = 0
    found = audit(make(tmp_path / "x.store", features_ND, [NAMES[i] for i in labels_N]), out=(str(out),), near=0.9999)
    page = out.read_text()
    likely = sum(item.score > 0 for item in found.of("label-error"))
    assert 0 < likely < 10
    assert f"{likely} of 60 labels look more like another class" in page
    assert f"Shown: the first 20 of 60, of which {likely} look more like another class (above 0)" in page
    assert "None of these: exact copies, copies with two labels" in page  # outliers there may be
    assert "Copies of test images were not looked for." in page
    assert '<section id="near-duplicate">' in page
    assert '<section id="leak">' not in page
    assert f'alt="{NAMES[labels_N[20]]}, 020.png"' in page
    assert page.count("<img") == page.count('alt="') >= 22


def test_page_of_the_most_lines_stays_below_ten_megabytes():
    from tcs.auditing.page import MOST_SHOWN, PICTURE_BYTES

    pictures = MOST_SHOWN * (1 + 2 + 2 + 2 + 2 + 1)
    assert pictures * (PICTURE_BYTES * 4 / 3 + 300) < 10_000_000


def test_command_tells_the_worst_and_what_next(tmp_path):
    features_ND, labels_N = clusters()
    labels_N[5] = 0
    x = make(tmp_path / "x.store", features_ND, [NAMES[i] for i in labels_N])
    done = CliRunner().invoke(group, ["audit", x, "--out", str(tmp_path / "a.csv")])
    assert done.exit_code == 0, done.output
    assert "005.png (ant, rather cow)" in done.output
    assert f"tcs cache subset {x} --exclude" in done.output
    assert "label-error (labels that look wrong): 1 of 60\n" in done.output
    assert "leak (copies of test images): not looked for without --test\n" in done.output
    assert "duplicate (exact copies): none\n" in done.output
    assert done.output.endswith("there is always a first.\n")
    facts = json.loads(CliRunner().invoke(group, ["audit", x, "--json"]).stdout)
    assert facts["counts"]["label-error"] == 60
    assert facts["findings"][0]["key"] == "005.png"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"out": ("a.txt",)}, "must end in one of .csv, .html"),
        ({"near": 0.0}, "--near is 0; it must be above 0"),
        ({"top": 0}, "--top is 0"),
        ({"test": ("x.store",)}, "a store is given twice"),
        ({"out": ("a.csv", "a.csv")}, "--out names the same place twice"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, said):
    with pytest.raises(ConfigError, match=said):
        tcs.AuditConfig(store="x.store", **options)
