"""The ceiling with a pool: rows of pools and of scores, a row by hand, and the K that `tcs fit` recommends. K coordinates."""

import dataclasses
import json
import pathlib

import numpy as np
import pool_references as reference
import pytest
from artefacts import make_store
from click.testing import CliRunner
from sklearn.decomposition import PCA
from sklearn.linear_model import RidgeClassifierCV

from tcs.cli.fit import command
from tcs.config.coordinates import FitConfig
from tcs.coordinates import transductive
from tcs.coordinates.build import fit_coordinates
from tcs.coordinates.ceiling import LabelledFeatures, recommended_components
from tcs.coordinates.described import describe
from tcs.coordinates.fit import fit
from tcs.coordinates.system import load_coordinates
from tcs.coordinates.transductive import Ground, choose_pool, transductive_ceiling
from tcs.errors import DataError
from tcs.pool_labels.options import PoolLabelOptions
from tcs.pool_labels.spread import spread_labels
from tcs.splits.shots import k_shot_split

CLASSES = ("ant", "bee", "cow")


def blobs(seed=0, per_class=(60, 60, 60)):
    rows, labels, _ = reference.blobs(per_class, dims=6, apart=2.0, seed=0)
    order = np.random.default_rng(seed).permutation(len(rows))
    keys = [f"{seed}/{row}.png" for row in range(len(rows))]
    return LabelledFeatures(features=rows[order], keys=keys, labels_N=labels[order], classes=CLASSES)


def split(train, shots, seed=100):
    return np.sort(k_shot_split(train.keys, train.labels_N, CLASSES, shots, seed).rows_n)


@pytest.fixture(scope="module")
def train():
    return blobs()


@pytest.fixture(scope="module")
def system(train):
    return fit_coordinates(train.features, components=4)


def test_what_scores_is_in_no_pool_and_what_is_labelled_is(train):
    labelled_n = split(train, 2)
    half_labelled = dataclasses.replace(train, labels_N=np.where(np.arange(180) % 2, train.labels_N, -1))
    for ground, outside in ((Ground(train=train), 174), (Ground(train=half_labelled), None)):
        rows = split(ground.train, 2)
        scored_m, pool_P = choose_pool(ground, rows, 100)
        outside = outside or int((ground.train.labels_N >= 0).sum()) - 6
        assert len(scored_m) == round(0.2 * outside)
        assert np.array_equal(np.union1d(scored_m, pool_P), np.arange(180))  # so unlabelled rows are in the pool
        assert len(np.intersect1d(scored_m, pool_P)) == 0
        assert set(rows) <= set(pool_P)
        assert (ground.train.labels_N[scored_m] >= 0).all()
    assert not np.array_equal(
        choose_pool(Ground(train=train), labelled_n, 101)[0], choose_pool(Ground(train=train), labelled_n, 100)[0]
    )


def test_a_pool_is_cut_to_its_most_rows_and_barred_rows_stay_out(train, monkeypatch):
    test, labelled_n = blobs(seed=1), split(train, 2)
    barred_N = np.arange(180) < 90
    scored_m, pool_P = choose_pool(Ground(train=train, test=test, barred_N=barred_N), labelled_n, 100)
    assert np.array_equal(scored_m, np.arange(180))
    assert np.array_equal(pool_P, np.union1d(labelled_n, np.arange(90, 180)))
    monkeypatch.setattr(transductive, "MOST_POOL_ROWS", 50)
    monkeypatch.setattr(transductive, "MOST_SCORED_ROWS", 20)
    scored_m, pool_P = choose_pool(Ground(train=train, test=test), labelled_n, 100)
    assert (len(scored_m), len(pool_P), len(np.unique(pool_P))) == (20, 50, 50)
    assert set(labelled_n) <= set(pool_P)


def test_a_row_is_labels_spread_by_hand_beside_a_ridge_classifier(train, system):
    (row,) = transductive_ceiling(Ground(train=train), system, (2,))
    z_NK = PCA(4, svd_solver="full").fit_transform(train.features.astype(np.float64))
    spread, ridge = [], []
    for seed in (100, 101, 102):
        labelled_n = split(train, 2, seed)
        scored_m, pool_P = choose_pool(Ground(train=train), labelled_n, seed)
        places_n, labels_n = np.searchsorted(pool_P, labelled_n), train.labels_N[labelled_n]
        head = spread_labels(z_NK[pool_P].astype(np.float32), places_n, labels_n, 3, PoolLabelOptions(seed=seed))
        spread.append(100 * (head.scores(z_NK[scored_m]).argmax(1) == train.labels_N[scored_m]).mean())
        x_nK = z_NK[labelled_n]
        scale = ((x_nK - x_nK.mean(0)) ** 2).sum() / 4
        model = RidgeClassifierCV(alphas=10.0 ** np.arange(-6, 4.25, 0.5) * scale).fit(x_nK, labels_n)
        ridge.append(100 * (model.predict(z_NK[scored_m]) == train.labels_N[scored_m]).mean())
    assert row["accuracy"] == pytest.approx(np.mean(spread), abs=1.0)  # one of 35 rows may lie on a border
    assert row["ridge_accuracy"] == pytest.approx(np.mean(ridge), abs=1e-6)
    assert row["ridge_stderr"] == pytest.approx(np.std(ridge, ddof=1) / np.sqrt(3))
    assert row["accuracy"] > row["ridge_accuracy"] + 3
    sizes = {name: row[name] for name in ("shots", "components", "n", "labelled_rows", "scored_rows", "pool_rows")}
    assert sizes == {"shots": 2, "components": 4, "n": 3, "labelled_rows": 6, "scored_rows": 35, "pool_rows": 145}
    assert row["fell_back"] == []


def test_rows_that_score_are_not_read_before_they_score(train, system):
    """A row that is not finite is refused in any pool."""
    scored_m, pool_P = choose_pool(Ground(train=train), split(train, 2), 100)
    for rows, is_refused in ((scored_m, False), (pool_P[:1], True)):
        features = train.features.copy()
        features[rows] = np.nan
        ground = Ground(train=dataclasses.replace(train, features=features))
        if is_refused:
            with pytest.raises(DataError, match="of the pool holds NaN"):
                transductive_ceiling(ground, system, (2,), (100,))
        else:
            (row,) = transductive_ceiling(ground, system, (2,), (100,))
            assert row["stderr"] is None


def test_no_label_of_the_pool_is_read_but_those_of_the_split(train, system):
    ground = Ground(train=train, test=blobs(seed=1))
    labels_N = np.full(180, -1)
    labels_N[split(train, 2)] = train.labels_N[split(train, 2)]
    bare = dataclasses.replace(ground, train=dataclasses.replace(train, labels_N=labels_N))
    assert transductive_ceiling(ground, system, (2,), (100,)) == transductive_ceiling(bare, system, (2,), (100,))


def test_reasons_of_splits_that_fell_back_are_kept(train, system, monkeypatch):
    monkeypatch.setattr("tcs.pool_labels.spread.objection", lambda pool, *_: "it hurts" if pool.seed == 101 else None)
    (row,) = transductive_ceiling(Ground(train=train), system, (2,))
    assert row["fell_back"] == ["it hurts"]


def test_of_many_classes_one_split_of_the_fewest_labels_is_spread(folder, monkeypatch):
    monkeypatch.setattr("tcs.coordinates.transductive.MANY_VALUES", 60 * 3 - 1)
    asked = dataclasses.replace(config(folder, "many"), ceiling_shots=(4, 2))
    system = fit(asked)
    (row,) = system.ceiling["transductive"]
    assert (row["shots"], row["n"], row["stderr"]) == (2, 1, None)
    assert "Many classes: 2 shots alone; tcs probe --head transductive --shots 4 has others." in describe(system)
    monkeypatch.setattr("tcs.coordinates.transductive.MANY_VALUES", 60 * 3)
    whole = fit(dataclasses.replace(asked, out=str(folder / "few")))
    assert [(row["shots"], row["n"]) for row in whole.ceiling["transductive"]] == [(4, 3), (2, 3)]
    assert "Many classes" not in describe(whole)


def cells(shots, accuracies, stderr=1.0, axes="pca", power=0.0):
    return [
        {"shots": shots, "axes": axes, "power": power, "components": size, "accuracy": accuracy, "stderr": stderr}
        for size, accuracy in accuracies.items()
    ]


def test_the_smallest_k_within_one_standard_error_of_the_best_is_recommended():
    rows = cells(4, {16: 48.9, 32: 49.0, 64: 50.0, 128: 49.9}) + cells(16, {16: 60.0, 32: 61.0, 64: 64.0, 128: 65.0})
    rows += (
        cells(None, {16: 99.0}, stderr=None) + cells(4, {16: 90.0}, power=1.0) + cells(4, {128: 90.0}, axes="random")
    )
    assert recommended_components(rows, "pca", 0.2) == {4: 32, 16: 64}
    assert recommended_components(rows, "autoencoder", 0.0) == {4: 32, 16: 64}
    assert recommended_components(rows, "pca", 0.8) == {4: 16}
    assert recommended_components(rows, "random", 1.0) == {4: 128}
    assert recommended_components(cells(None, {16: 99.0}, stderr=None), "pca", 0.0) == {}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ceiling")
    make_store(folder / "a.store")
    make_store(folder / "b.store", seed=1)
    return folder


def config(folder, out, **options):
    return FitConfig(store=str(folder / "a.store"), out=str(folder / out), components=6, ceiling_shots=(4,), **options)


def test_a_fit_measures_it_at_its_own_k_and_stays_the_same_fit(folder, monkeypatch):
    system = fit(config(folder, "c"))
    (row,) = load_coordinates(folder / "c").ceiling["transductive"]
    assert (row["shots"], row["components"], row["n"], row["pool_rows"]) == (4, 6, 3, 60 - row["scored_rows"])
    assert fit(config(folder, "t", ceiling_test=str(folder / "b.store"))).ceiling["transductive"][0]["pool_rows"] == 60
    monkeypatch.setattr("tcs.coordinates.fit.transductive_ceiling", lambda *_: [])
    assert fit(config(folder, "d")).identity == system.identity
    assert fit(config(folder, "c")).ceiling == system.ceiling  # read, not measured again


def test_images_of_the_ceiling_test_store_are_in_no_pool(folder):
    make_store(folder / "same.store", images="none")
    with_itself = fit(config(folder, "s", ceiling_test=str(folder / "same.store")))
    (row,) = with_itself.ceiling["transductive"]
    assert row["pool_rows"] == row["labelled_rows"] == 12
    assert row["fell_back"] == ["every row of the pool is labelled, so there is nothing to spread to"] * 3
    assert "3 of 3 are the ridge probe: every row of the pool is labelled" in describe(with_itself)
    assert with_itself.ceiling["copies"] == {"images": 60, "known": 60}
    assert "LEAKAGE: 60 of the 60 test images of the ceiling are copies of images that these axes" in describe(
        with_itself
    )
    with_other = fit(config(folder, "o", ceiling_test=str(folder / "b.store")))
    assert with_other.ceiling["copies"]["known"] == 0
    assert "LEAKAGE" not in describe(with_other)


def test_the_command_says_both(folder):
    arguments = [str(folder / "a.store"), "--out", str(folder / "e"), "--components", "6", "--ceiling-shots", "4"]
    printed = CliRunner().invoke(command, arguments, catch_exceptions=False).stdout.splitlines()
    assert printed[-2].startswith("Transductive probe at K=6, 4 shots spread over 50 rows: ")
    assert printed[-2].endswith("(3 splits, 10 rows scored that no pool holds)")
    assert printed[-1] == (
        "Recommended: --components 16, by the smallest K whose ridge probe lies within one standard error of the best: "
        "16 at 4 shots; this fit has 6."
    )
    report = json.loads(CliRunner().invoke(command, [*arguments, "--json"], catch_exceptions=False).stdout)
    assert report["recommended_components"] == {"4": 16}
    assert report["ceiling"]["transductive"][0]["shots"] == 4


def test_a_coordinate_system_of_an_earlier_release_is_described_as_ever():
    system = load_coordinates(pathlib.Path(__file__).parent / "fixtures" / "coordinates_v1.safetensors")
    assert "transductive" not in system.ceiling
    text = describe(system)
    assert "Ceiling: ridge probe of cached coordinates" in text
    assert "Transductive" not in text


def test_many_classes_are_spread_on_one_split(train, system, monkeypatch):
    three, one = (transductive_ceiling(Ground(train=train), system, (2,), seeds)[0] for seeds in (None, (100,)))
    assert (three["n"], one["n"], one["stderr"]) == (3, 1, None)
    monkeypatch.setattr(transductive, "MANY_VALUES", 180 * 3 - 1)
    assert transductive_ceiling(Ground(train=train), system, (2,)) == [one]
    monkeypatch.setattr(transductive, "MANY_VALUES", 180 * 3)
    assert transductive_ceiling(Ground(train=train), system, (2,)) == [three]
