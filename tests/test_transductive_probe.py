"""`tcs probe --head transductive`: what its pool holds, and its heads against labels spread by hand. N rows, D features, K coordinates."""

import dataclasses
import json
import pathlib
import re
from typing import Any

import numpy as np
import pool_references as reference
import pytest
from artefacts import make_store
from relabelled import scrambled

import cache
from tcs.cli import main
from tcs.config.evaluate import ProbeConfig
from tcs.coordinates.vectors import ChosenVectors
from tcs.errors import DataError
from tcs.evaluation.probe import measure_compression
from tcs.evaluation.probe_stores import ProbedStores, open_stores
from tcs.evaluation.transductive import SplitPool, fit_transductive, pools_of
from tcs.pool_labels.options import PoolLabelOptions
from tcs.pool_labels.spread import spread_labels
from tcs.probes.heads import HeadOptions
from tcs.probes.ridge import fit_ridge
from tcs.reporting.compression import UNCOMPRESSED, Compression, render, write_compression
from tcs.splits.shots import Split, k_shot_split

CLASSES = tuple("abcdefgh")
OPTIONS = HeadOptions(seed=0, copies=1, device="cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("transductive")
    make_store(folder / "train.store", rows=160, classes=CLASSES, dims=5)
    make_store(folder / "test.store", seed=9, rows=96, classes=CLASSES, dims=5)
    return folder


def config(folder: pathlib.Path, **options: Any) -> ProbeConfig:
    given = {"store": str(folder / "train.store"), "test": str(folder / "test.store"), "dims": (3,), "seeds": (0, 1)}
    return ProbeConfig(**{**given, "head": "transductive", "projections": ("pca",), "shots": 1, **options})


def stores_of(folder: pathlib.Path) -> ProbedStores:
    return open_stores(config(folder))


def split_of(stores: ProbedStores, shots: int = 1, seed: int = 0) -> Split:
    return k_shot_split(stores.train.keys, stores.train.labels_N, stores.train.classes, shots, seed)


def pool_of(stores: ProbedStores, split: Split) -> SplitPool:
    (pool,) = pools_of(stores, [split]).values()
    return pool


def cell(result: Compression, method: str, seed: int = 0) -> dict[str, Any]:
    (row,) = [dict(row) for row in result.rows if (row["method"], row["seed"]) == (method, seed)]
    return row


@pytest.fixture(scope="module")
def measured(folder: pathlib.Path) -> Compression:
    return measure_compression(config(folder))


def test_a_cell_is_labels_spread_by_hand_over_all_training_rows(folder: pathlib.Path, measured: Compression) -> None:
    train, test = cache.open(folder / "train.store"), cache.open(folder / "test.store")
    x_ND, x_MD = train.features()[:].astype(np.float64), test.features()[:].astype(np.float64)
    axes_DK = np.linalg.svd(x_ND - x_ND.mean(0), full_matrices=False)[2].T[:, :3]
    for method, r_DK in (("pca", axes_DK), (UNCOMPRESSED, np.eye(5))):
        for seed in (0, 1):
            split = k_shot_split(train.keys, train.labels_N, CLASSES, 1, seed).rows_n
            options = PoolLabelOptions(seed=seed)
            found = spread_labels((x_ND @ r_DK).astype(np.float32), split, train.labels_N[split], 8, options)
            hits = found.scores(x_MD @ r_DK).argmax(1) == test.labels_N
            row = cell(measured, method, seed)
            assert row["top1"] == pytest.approx(100 * hits.mean(), abs=100 / 96 + 1e-3)  # one row may lie on a border
            assert (row["pool"], row["labelled"], row["estimator"], row["fell_back"]) == (160, 8, "average", "")


def test_the_pool_helps_where_one_row_a_class_says_little(folder: pathlib.Path, measured: Compression) -> None:
    ridge = measure_compression(config(folder, head="ridge"))
    for method in (UNCOMPRESSED, "pca"):
        spread, bare = ([cell(result, method, seed)["top1"] for seed in (0, 1)] for result in (measured, ridge))
        assert np.mean(spread) > np.mean(bare) + 5
    assert {row["head"] for row in measured.rows} == {"transductive"}
    assert "estimator" not in ridge.rows[0]


def test_a_pool_of_blobs_is_spread_as_dense_formulas_spread_it(folder: pathlib.Path, monkeypatch: Any) -> None:
    """One estimator a second time in float64, through a projection: nothing of tcs.pool_labels decides what is expected."""
    stores = stores_of(folder)
    split = split_of(stores)
    options = PoolLabelOptions(estimator="ridge-em", safety=False)
    monkeypatch.setattr("tcs.evaluation.transductive.PoolLabelOptions", lambda seed: options)
    axes_DK = np.linalg.qr(np.random.default_rng(0).normal(size=(5, 5)))[0][:, :4]
    found = fit_transductive(pool_of(stores, split), axes_DK, OPTIONS)
    x_NJ = reference.standardised(stores.train.features()[:] @ axes_DK)
    rows = np.sort(split.rows_n)
    head_CJ = reference.em(x_NJ, rows, stores.train.labels_N[rows], 8, options, reference.ridge_step)
    expected_NC = reference.calibrated(head_CJ, x_NJ, options)
    guesses = found.head.merged(axes_DK).logits(stores.train.features()[:].astype(np.float64)).argmax(1)
    assert (guesses == expected_NC.argmax(1)).mean() > 0.99
    assert (found.estimator, found.reason, found.pool_rows) == ("ridge-em", None, 160)


def test_whole_rows_are_held_as_they_are_stored_and_give_the_head_of_float32(
    folder: pathlib.Path, monkeypatch: Any
) -> None:
    stores, held = stores_of(folder), []
    half_ND = stores.train.features()[:].astype(np.float16)
    pool = dataclasses.replace(pool_of(stores, split_of(stores)), vectors=ChosenVectors(half_ND, np.arange(160)))

    def spread(z_NK: np.ndarray, *given: Any, **options: Any) -> Any:
        held.append(z_NK)
        return spread_labels(z_NK, *given, **options)

    monkeypatch.setattr("tcs.evaluation.transductive.spread_labels", spread)
    found = fit_transductive(pool, np.eye(5), OPTIONS).head
    assert held[0].dtype == np.float16
    x_ND = half_ND.astype(np.float32)
    expected = spread_labels(x_ND, pool.labelled_M, pool.labels_M, 8, PoolLabelOptions(seed=0))
    np.testing.assert_array_equal(found.weight_CK, expected.weight_CK)
    np.testing.assert_array_equal(found.bias_C, expected.bias_C)
    fit_transductive(pool, np.eye(5)[:, ::-1], OPTIONS)  # square, and no identity
    np.testing.assert_array_equal(held[1], x_ND[:, ::-1])


def test_no_label_outside_the_split_is_read(folder: pathlib.Path) -> None:
    stores = stores_of(folder)
    split = split_of(stores, shots=2)
    other = scrambled(stores.train, split.rows_n)
    first, again = (
        fit_transductive(pool_of(found, split), np.eye(5), OPTIONS).head
        for found in (stores, ProbedStores(**{**vars(stores), "train": other}))
    )
    np.testing.assert_array_equal(first.weight_CK, again.weight_CK)
    np.testing.assert_array_equal(first.bias_C, again.bias_C)


def test_images_that_score_are_in_no_pool_unless_the_split_names_them(folder: pathlib.Path) -> None:
    stores = stores_of(folder)
    split = split_of(stores)
    same_images = make_store(folder / "again.store", rows=160, classes=CLASSES, dims=5, images="none")
    np.testing.assert_array_equal(same_images.hashes_N16, stores.train.hashes_N16)
    scored_M = np.arange(30, 70)
    pool = pool_of(dataclasses.replace(stores, test=same_images, scored_M=scored_M), split)
    features_ND = stores.train.features()[:]
    expected = [row for row in range(160) if row not in scored_M or row in split.rows_n]
    assert 120 < len(expected) < 128  # some rows of the split score
    np.testing.assert_array_equal(pool.vectors[np.arange(len(pool.vectors))], features_ND[expected])
    np.testing.assert_array_equal(pool.vectors[pool.labelled_M], features_ND[np.sort(split.rows_n)])
    np.testing.assert_array_equal(pool.labels_M, stores.train.labels_N[np.sort(split.rows_n)])
    assert pool_of(stores, split).vectors.shape == (160, 5)


def test_seeds_of_one_split_draw_folds_and_so_have_rows_of_their_own(folder: pathlib.Path) -> None:
    result = measure_compression(config(folder, split_seed=3))
    assert [(row["method"], row["seed"]) for row in result.rows] == [
        (UNCOMPRESSED, 0),
        ("pca", 0),
        (UNCOMPRESSED, 1),
        ("pca", 1),
    ]
    assert len({row["split_id"] for row in result.rows}) == 1


def test_falling_back_is_recorded_with_its_reason(
    folder: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr(
        "tcs.pool_labels.spread.objection", lambda pool, *_: "it hurts" if pool.z_NK.shape[1] == 3 else None
    )
    options = config(folder, shots=4, out=str(tmp_path / "out"))
    result = measure_compression(options)
    train, test = (cache.open(folder / f"{name}.store") for name in ("train", "test"))
    split = k_shot_split(train.keys, train.labels_N, CLASSES, 4, 1).rows_n
    x_ND = train.features()[:].astype(np.float64)
    axes_DK = np.linalg.svd(x_ND - x_ND.mean(0), full_matrices=False)[2].T[:, :3]
    ridge = fit_ridge(x_ND[split] @ axes_DK, train.labels_N[split], 8)
    fallen = cell(result, "pca", 1)
    assert fallen["top1"] == pytest.approx(ridge.accuracy(test.features()[:] @ axes_DK, test.labels_N), abs=1e-3)
    assert (fallen["estimator"], fallen["fell_back"]) == ("ridge", "it hurts")
    assert cell(result, UNCOMPRESSED, 1)["fell_back"] == ""
    page = render(result)
    assert "Labels were spread over the 160 rows of the training store that do not score; estimator: average." in page
    assert "fell back to the ridge probe of the labelled rows in 2 of 4 heads." in page
    assert "| pca | 3 | 1 | it hurts |" in page
    write_compression(result, tmp_path / "out")
    record = json.loads((tmp_path / "out" / "probe.json").read_text())
    assert record["recipe"]["spreading"]["estimator"] == "average"
    assert "seed" not in record["recipe"]["spreading"]
    assert [row["fell_back"] for row in record["rows"]].count("it hurts") == 2
    assert "it hurts" in (tmp_path / "out" / "compression.csv").read_text()
    assert list(measure_compression(options).rows) == record["rows"]


def test_the_page_of_a_run_that_never_fell_back_has_no_table_of_reasons(measured: Compression) -> None:
    page = render(measured)
    assert page.startswith("# transductive head on compressed avg features, 1 labels a class\n")
    assert "in 0 of 4 heads." in page
    assert "why it fell back" not in page


def test_what_cannot_be_spread_is_refused(folder: pathlib.Path) -> None:
    with pytest.raises(
        DataError, match=r"all 160 rows of .*train\.store that do not score have a label in use.*--shots"
    ):
        measure_compression(config(folder, shots=None))
    few = make_store(folder / "few.store", rows=7, classes=CLASSES, dims=5)
    with pytest.raises(DataError, match=r"class 'h' of .*few\.store has no labelled row \(1 of 8 classes have none\)"):
        measure_compression(config(folder, store=str(few.path), shots=None))
    stores = stores_of(folder)
    pool = pool_of(stores, split_of(stores))
    rows = stores.train.features()[:].copy()
    rows[50, 2] = np.nan
    broken = SplitPool(**{**vars(pool), "vectors": ChosenVectors(rows, np.arange(160))})
    with pytest.raises(DataError, match=r"row 50 of the pool holds NaN.*check the store with tcs cache verify"):
        fit_transductive(broken, np.eye(5), OPTIONS)


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[Any, str, str]:
    with pytest.raises(SystemExit) as ended:
        main(["probe", *arguments])
    output = capsys.readouterr()
    return ended.value.code, output.out, output.err


def test_command(folder: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    stores = [
        str(folder / "train.store"),
        "--test",
        str(folder / "test.store"),
        "--head",
        "transductive",
        "--dims",
        "3",
    ]
    code, out, err = run(capsys, *stores, "--projection", "jl", "--shots", "2", "--seed", "4", "--json")
    assert code == 0
    assert [(row["method"], row["estimator"], row["pool"]) for row in json.loads(out)["results"]] == [
        (UNCOMPRESSED, "average", 160),
        ("jl", "average", 160),
    ]
    assert "2 transductive heads (each spreads the labels over the rows that have none in use)" in err
    assert re.search(
        r"^these heads take about \d+ (s|min) in all, by two that were fitted to a part of the pool.$",
        err,
        re.MULTILINE,
    )
    code, out, err = run(capsys, *stores)
    assert (code, out) == (1, "")
    assert err.startswith("Error: all 160 rows of ")
    assert err.count("\n") == 1
