"""The reference row `teacher-transductive`: one a pool, from the rows that the cell's students see. N rows, D features."""

import csv
import pathlib
from typing import Any

import numpy as np
import pytest
import yaml
from artefacts import make_store
from grids import score_transductive
from relabelled import labelled_only_at, scrambled
from sklearn.decomposition import PCA

import cache
from tcs.config.evaluate import FewshotConfig
from tcs.config.train import TrainConfig
from tcs.errors import ConfigError, DataError
from tcs.grid import references
from tcs.grid.recipe_file import load_grid
from tcs.grid.run import fewshot
from tcs.methods.named import find_method
from tcs.pool_labels.options import PoolLabelOptions
from tcs.pool_labels.spread import spread_labels
from tcs.probes.ridge import fit_ridge
from tcs.reporting.results import group_tables, load_runs
from tcs.splits.shots import k_shot_split
from tcs.training.jobs import choose_rows

STUDENT = "resnet18,layers=(1,1,1,1),channels=(4,4,8,8)"
CLASSES = tuple("abcdefgh")
NAME = "teacher-transductive"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("reference")
    make_store(folder / "train.store", rows=160, classes=CLASSES, dims=5)
    make_store(folder / "test.store", seed=9, rows=96, classes=CLASSES, dims=5)
    return folder


def write_recipe(folder: pathlib.Path, **changes: Any) -> pathlib.Path:
    recipe = {
        "train": str(folder / "train.store"),
        "test": str(folder / "test.store"),
        "students": [STUDENT],
        "methods": [{"label": "rkd", "loss": "ce + 0.5*rkd"}],
        "shots": [1],
        "seeds": [0, 1],
        "unlabelled": ["none", 60, "all"],
        "references": ["teacher-probe", NAME],
        "options": {"img_size": 16, "steps": 1, "batch_size": 8},
    } | changes
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe))
    return path


def run(folder: pathlib.Path, name: str, **changes: Any) -> list[dict[str, str]]:
    assert fewshot(FewshotConfig(recipe=str(write_recipe(folder, **changes)), out=str(folder / name))) == 0
    with (folder / name / "results.csv").open(newline="") as file:
        return [row for row in csv.DictReader(file) if row["method"] == NAME]


def by_hand(folder: pathlib.Path, seed: int, unlabelled: str, **options: Any) -> tuple[float, int]:
    """Top-1 in percent, and rows of the pool: the run's own rows, principal axes of scikit-learn, labels spread."""
    train, test = cache.open(folder / "train.store"), cache.open(folder / "test.store")
    config = TrainConfig(
        store=str(folder / "train.store"),
        out="run",
        models=(STUDENT,),
        loss="ce + l2",
        shots=1,
        seed=seed,
        unlabelled=unlabelled,
        **options,
    )
    rows = choose_rows(config, train, find_method("tcs-probe"))
    x_ND = train.features()[rows.rows_n].astype(np.float64)
    axes = PCA(5, svd_solver="full").fit(x_ND)
    labelled = np.sort(rows.split.rows_n)
    found = spread_labels(
        axes.transform(x_ND).astype(np.float32),
        np.searchsorted(rows.rows_n, labelled),
        train.labels_N[labelled],
        8,
        PoolLabelOptions(seed=seed),
    )
    hits = found.scores(axes.transform(test.features()[:].astype(np.float64))).argmax(1) == test.labels_N
    return 100 * float(hits.mean()), len(rows.rows_n)


@pytest.fixture(scope="module")
def grid(folder: pathlib.Path) -> list[dict[str, str]]:
    return run(folder, "grid")


def test_there_is_a_row_a_pool_and_its_pool_is_that_of_the_cell(
    folder: pathlib.Path, grid: list[dict[str, str]]
) -> None:
    assert [(row["model"], row["seed"], row["unlabelled"]) for row in grid] == [
        ("teacher", seed, pool) for seed in ("0", "1") for pool in ("60", "all")
    ]
    sizes = set()
    for row in grid:
        expected, size = by_hand(folder, int(row["seed"]), row["unlabelled"], held_out=0)
        assert float(row["top1"]) == pytest.approx(expected, abs=100 / 96 + 1e-3)  # one row may lie on a border
        sizes.add((row["unlabelled"], size))
    assert sizes == {("60", 68), ("all", 160)}
    assert all(row["params_m"] == row["error"] == "" and float(row["top5"]) >= float(row["top1"]) for row in grid)


@pytest.fixture
def pools(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by the number of rows of every pool."""
    seen: list[int] = []
    real = references.spread_labels

    def counting(z_NK: Any, *rest: Any, **more: Any) -> Any:
        seen.append(len(z_NK))
        return real(z_NK, *rest, **more)

    monkeypatch.setattr(references, "spread_labels", counting)
    return seen


def test_held_out_rows_are_in_no_pool(folder: pathlib.Path, pools: list[int]) -> None:
    options = {"img_size": 16, "steps": 1, "batch_size": 8, "held_out": 40}
    (row,) = run(folder, "held", options=options, methods=["labels"], seeds=[0], unlabelled=["all"])
    expected, size = by_hand(folder, 0, "all", held_out=40)
    assert pools == [size] == [120]
    assert float(row["top1"]) == pytest.approx(expected, abs=100 / 96 + 1e-3)


def test_a_table_shows_the_reference_of_its_own_pool(folder: pathlib.Path, grid: list[dict[str, str]]) -> None:
    tables = {table.unlabelled: table for table in group_tables(load_runs(folder / "grid"))}
    assert set(tables) == {"none", "60", "all"}
    assert tables["none"].cell(NAME, 1) == []
    for row in grid:
        shown = {run.seed: run.top1 for run in tables[row["unlabelled"]].cell(NAME, 1)}
        assert set(shown) == {"0", "1"}
        assert shown[row["seed"]] == float(row["top1"])
        assert len(tables[row["unlabelled"]].cell("teacher-probe", 1)) == 2


def split(folder: pathlib.Path, shots: int = 1) -> tuple[cache.Store, cache.Store, np.ndarray]:
    train, test = cache.open(folder / "train.store"), cache.open(folder / "test.store")
    return train, test, k_shot_split(train.keys, train.labels_N, CLASSES, shots, 0).rows_n


def test_images_that_score_are_left_out_of_the_pool(folder: pathlib.Path, pools: list[int]) -> None:
    """Scored on images of the pool, it is as if the pool had not held them."""
    train, _, rows = split(folder)
    same = labelled_only_at(
        make_store(folder / "same.store", rows=160, classes=CLASSES, dims=5, images="none"), np.arange(30, 70)
    )
    expected = [row for row in range(160) if not 30 <= row < 70 or row in rows]
    found = score_transductive(train, same, rows, np.arange(160), 0, "cpu")
    assert found == score_transductive(train, same, rows, np.array(expected), 0, "cpu")
    assert pools == [len(expected)] * 2
    assert 120 < len(expected) < 160


def test_no_label_outside_the_split_is_read(folder: pathlib.Path) -> None:
    train, test, rows = split(folder, 2)
    first, again = (
        score_transductive(store, test, rows, np.arange(160), 0, "cpu") for store in (train, scrambled(train, rows))
    )
    assert first == again


def test_without_a_row_to_spread_to_it_is_the_ridge_probe_and_says_so(
    folder: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train, test, rows = split(folder, 2)
    found = score_transductive(train, test, rows, np.sort(rows), 0, "cpu")
    ridge = fit_ridge(train.features()[rows], train.labels_N[rows], 8)
    assert found["top1"] == pytest.approx(ridge.accuracy(test.features()[:], test.labels_N), abs=1e-3)
    assert (
        "teacher-transductive is the ridge probe of the labelled rows here: every row of the pool is labelled"
        in capsys.readouterr().err
    )


def test_bad_input_is_refused(folder: pathlib.Path) -> None:
    with pytest.raises(
        ConfigError, match=rf"asks for reference '{NAME}' with unlabelled: \[none\]; it reads unlabelled images"
    ):
        load_grid(write_recipe(folder, unlabelled=["none"]))
    with pytest.raises(ConfigError, match=f"labels a method '{NAME}', as a reference is; give it another label"):
        load_grid(write_recipe(folder, methods=[{"label": NAME, "method": "labels"}]))
    train, test, rows = split(folder)
    with pytest.raises(DataError, match=r"class \d has no labelled row"):
        score_transductive(train, test, rows[:-1], np.arange(160), 0, "cpu")
