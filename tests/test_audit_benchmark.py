"""benchmarks/audit.py: what is planted is a function of the seed, and shares are those of hand-made cases."""

import csv
import io
import pathlib

import numpy as np
import pytest
from artefacts import make_store
from PIL import Image

import cache
from benchmarks import audit
from tcs.auditing.labels import Suspicion
from tcs.runtime import seed_for

ROWS, WRONG = 60, 3  # 5 % of 60


@pytest.fixture
def store(tmp_path: pathlib.Path) -> cache.Store:
    return make_store(tmp_path / "x.store", rows=ROWS)


def planted_rows(seed: int) -> list[int]:
    """The rows that get a wrong label, by the definition in the benchmark's docstring."""
    generator = np.random.default_rng(seed_for(seed, "planted labels"))
    return sorted(generator.choice(ROWS, WRONG, replace=False).tolist())


def test_shares_of_planted_labels_are_those_of_a_list_made_by_hand(
    store: cache.Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    true_N, given = store.labels_N, []

    def by_hand(points_NK, labels_N, groups_N, near_Nk, classes):
        """Two of the three wrong rows first, the third last; the true class is told of the first and the last."""
        wrong = np.flatnonzero(labels_N != true_N)
        given.append((wrong.tolist(), labels_N[wrong].tolist()))
        scores = np.zeros(ROWS)
        scores[wrong] = [0.9, 0.8, -1.0]
        suggested = true_N.copy()
        suggested[wrong[1]] = (true_N[wrong[1]] + 1) % classes
        return Suspicion(np.arange(ROWS), suggested, scores, suggested)

    monkeypatch.setattr(audit, "suspect_labels", by_hand)
    rows = audit.label_rows(store.path, [100, 101])
    assert [found[0] for found in given] == [planted_rows(100), planted_rows(101)]
    assert all(0 <= label < len(store.classes) for _, labels in given for label in labels)
    assert [row["in_first_tenth"] for row in rows] == [0.6667, 0.6667]
    assert [row["true_class_suggested"] for row in rows] == [0.6667, 0.6667]
    assert [(row["seed"], row["planted"], row["rows"]) for row in rows] == [(100, WRONG, ROWS), (101, WRONG, ROWS)]


def test_planted_labels_are_found_in_classes_far_apart_and_reruns_agree(
    store: cache.Store, tmp_path: pathlib.Path
) -> None:
    tables = []
    for name in ("a", "b"):
        audit.main(["labels", str(store.path), "--seeds", "100", "103", "--out", str(tmp_path / f"{name}.csv")])
        tables.append((tmp_path / f"{name}.csv").read_text())
    assert tables[0] == tables[1]
    rows = list(csv.DictReader(io.StringIO(tables[0])))
    assert [float(row["in_first_tenth"]) for row in rows] == [1.0, 1.0]
    assert [float(row["true_class_suggested"]) for row in rows] == [1.0, 1.0]


def test_planted_copies_are_of_the_sizes_that_are_told_and_always_the_same(
    store: cache.Store, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "COPIED_IMAGES", 4)
    files = []
    for name in ("a", "b"):
        audit.main(["plant", str(store.path), "--out", str(tmp_path / name)])
        files.append(
            {
                path.relative_to(tmp_path / name).as_posix(): path.read_bytes()
                for path in (tmp_path / name).rglob("*.jpg")
            }
        )
    assert files[0] == files[1]
    rows = sorted({name.split("/")[1] for name in files[0]})
    assert sorted(files[0]) == [f"{kind}/{row}" for kind in ("cropped", "encoded", "resized") for row in rows]
    assert len(rows) == 4
    sides = {name: Image.open(io.BytesIO(data)).size[0] / 16 for name, data in files[0].items()}
    assert all(sides[f"encoded/{row}"] == 1 for row in rows)
    assert all(0.5 <= sides[f"resized/{row}"] <= 0.8 for row in rows)
    assert all(0.85 < sides[f"cropped/{row}"] <= 0.95 for row in rows)  # of 16 pixels, cut off to whole ones


def test_the_cost_of_every_step_is_told_and_faiss_finds_the_same_neighbours(tmp_path: pathlib.Path) -> None:
    audit.main(["speed", "--rows", "300", "--dims", "8", "--classes", "3", "--out", str(tmp_path / "speed.csv")])
    rows = list(csv.DictReader(io.StringIO((tmp_path / "speed.csv").read_text())))
    assert [row["step"] for row in rows] == ["start", "space", "neighbours", "labels", "faiss"]
    assert {(row["rows"], row["dims"], row["classes"]) for row in rows} == {("300", "8", "3")}
    assert all(float(row["seconds"]) >= 0 and float(row["peak_mib"]) > 0 for row in rows)
    directions_NK = audit.directions(np.random.default_rng(0).standard_normal((80, 8)).astype(np.float32))
    near_Nk = audit.find_neighbours(directions_NK, np.arange(80), np.full(80, -1), audit.NEIGHBOURS).rows_Nk
    found_Nk = audit.faiss_neighbours(directions_NK)
    assert [[one for one in found if one != row] for row, found in enumerate(found_Nk.tolist())] == near_Nk.tolist()


def test_shares_of_copies_are_those_of_their_own_images(store: cache.Store, tmp_path: pathlib.Path) -> None:
    """Copies of kind `encoded` have their image's own features; of `cropped` one in each half has those of another image."""
    features_ND = np.asarray(store.features()[:])
    copied, others = [3, 10, 20, 41], {3: 10, 10: 10, 20: 20, 41: 3}
    keys = [f"{kind}/{row:06}.jpg" for kind in ("cropped", "encoded") for row in copied]
    rows = [*(others[row] for row in copied), *copied]
    cache.create(tmp_path / "copies.store", {"avg": features_ND[rows]}, keys=keys)
    lone = make_store(tmp_path / "lone.store", rows=30, seed=4)
    found = audit.copy_rows(store.path, tmp_path / "copies.store", [lone.path])
    share = {(row["of"], row["cosine"]): row["share"] for row in found}
    assert {share[f"encoded, {half} half", cosine] for half in ("first", "second") for cosine in audit.COSINES} == {1.0}
    assert [share[f"cropped, {half} half", 0.95] for half in ("first", "second")] == [0.5, 0.5]
    assert {row["images"] for row in found if "half" in row["of"]} == {2}
    for path in (store.path, lone.path):
        shares = [share[f"none planted: {path.stem}", cosine] for cosine in audit.COSINES]
        assert shares == sorted(shares, reverse=True)
