"""The grid: its plan, one row a run, resume, failed cells, reference rows."""

import csv
import pathlib
from typing import Any

import numpy as np
import pytest
import yaml
from artefacts import make_store, make_targets
from click.testing import CliRunner

import cache
from tcs.cli.fewshot import command
from tcs.config.evaluate import FewshotConfig
from tcs.errors import ArtefactError, ConfigError, DataError
from tcs.grid.ledger import check_folder, load_results
from tcs.grid.recipe import choose_part, plan_cells
from tcs.grid.recipe_file import load_grid
from tcs.grid.run import COLUMNS, fewshot
from tcs.probes.ibm2 import fit_ibm2
from tcs.splits.shots import k_shot_split

STUDENT = "resnet18,layers=(1,1,1,1),channels=(4,4,8,8)"
BROKEN = "levit_128s,img_size=16"


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> pathlib.Path:
    make_store(tmp_path / "train.store")
    make_store(tmp_path / "test.store", seed=9, rows=30)
    make_targets(tmp_path)
    return tmp_path


def write_recipe(folder: pathlib.Path, **changes: Any) -> pathlib.Path:
    recipe = {
        "train": str(folder / "train.store"),
        "test": str(folder / "test.store"),
        "targets": str(folder / "pca.h5"),
        "students": [STUDENT],
        "methods": ["labels", "tcs-probe"],
        "shots": [1, 4],
        "seeds": [0, 1],
        "unlabelled": ["none", 20],
        "references": ["teacher-probe", "teacher-knn"],
        "options": {"img_size": 16, "steps": 3, "batch_size": 16, "hflip": 0.0},
    } | changes
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump({key: value for key, value in recipe.items() if value is not None}))
    return path


def run(folder: pathlib.Path, recipe: pathlib.Path, **options: Any) -> tuple[int, list[dict[str, str]]]:
    failed = fewshot(FewshotConfig(recipe=str(recipe), out=str(folder / "grid"), **options))
    with (folder / "grid" / "results.csv").open(newline="") as file:
        return failed, list(csv.DictReader(file))


def test_the_plan_is_the_product_and_methods_without_a_pool_run_once(folder: pathlib.Path) -> None:
    cells = plan_cells(load_grid(write_recipe(folder)))
    per_seed_and_shots = 2 + 1 + 2  # two reference rows, labels once, tcs-probe with both pools
    assert len(cells) == 2 * 2 * per_seed_and_shots
    assert len({cell.key for cell in cells}) == len(cells)
    assert [cell.seed for cell in cells] == sorted(cell.seed for cell in cells)
    parts = [choose_part(cells, f"{index}/3") for index in (1, 2, 3)]
    assert sorted(cell.key for part in parts for cell in part) == sorted(cell.key for cell in cells)


def test_one_row_a_run_with_costs_and_identities(folder: pathlib.Path) -> None:
    failed, rows = run(folder, write_recipe(folder))
    assert failed == 0
    assert len(rows) == 20
    assert tuple(rows[0]) == COLUMNS
    assert {row["cache_id"] for row in rows} == {cache.open(folder / "train.store").identity}
    trained = [row for row in rows if row["model"] == STUDENT]
    assert all(float(row["wall_s"]) > 0 and int(row["images_seen"]) > 0 for row in trained)
    assert all(float(row["top1"]) + float(row["top1_err"]) == pytest.approx(100) for row in rows)
    assert (folder / "grid" / "splits" / "shots-4-seed-1.txt").read_text().count("\n") == 12


def test_a_rerun_runs_only_what_is_missing(folder: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = write_recipe(folder)
    run(folder, recipe, cells="1/2")
    _, rows = run(folder, recipe)
    assert len(rows) == 20
    assert "10 done, 10 to go" in capsys.readouterr().err
    _, again = run(folder, recipe)
    assert again == rows
    assert "20 done, 0 to go" in capsys.readouterr().err
    _, more = run(folder, write_recipe(folder, seeds=[0, 1, 2]))
    assert len(more) == 30


def test_a_failed_cell_does_not_stop_the_others(folder: pathlib.Path) -> None:
    recipe = write_recipe(folder, students=[BROKEN, STUDENT], shots=[4, 50], seeds=[0])
    failed, rows = run(folder, recipe)
    reasons = {(row["model"], row["shots"]): row["error"] for row in rows if row["status"] == "failed"}
    assert failed == sum(row["status"] == "failed" for row in rows)
    assert BROKEN in reasons[(BROKEN, "4")]
    assert "50" in reasons[(STUDENT, "50")]
    assert all(row["status"] == "ok" for row in rows if (row["model"], row["shots"]) == (STUDENT, "4"))


@pytest.mark.parametrize("kind", [OSError, TypeError, KeyError, AttributeError, ValueError, RuntimeError])
def test_whatever_one_cell_raises_is_its_own_row(
    folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch, kind: type[Exception]
) -> None:
    def broken(*_: Any) -> None:
        raise kind("mean")

    monkeypatch.setattr("tcs.grid.run.train_opened", broken)
    failed, rows = run(folder, write_recipe(folder, methods=["labels"], shots=[4], seeds=[0]))
    assert failed == 1
    assert {row["method"]: row["status"] for row in rows} == {
        "teacher-probe": "ok",
        "teacher-knn": "ok",
        "labels": "failed",
    }
    (row,) = [row for row in rows if row["status"] == "failed"]
    assert row["error"].replace("'", "") == f"{kind.__name__}: mean"


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_stops_the_grid(
    folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch, kind: type[BaseException]
) -> None:
    def interrupted(*_: Any) -> None:
        raise kind

    monkeypatch.setattr("tcs.grid.run.train_opened", interrupted)
    with pytest.raises(kind):
        run(folder, write_recipe(folder, methods=["labels"], shots=[4], seeds=[0]))
    assert all(row["status"] == "ok" for row in load_results(folder / "grid" / "results.csv"))


def test_results_of_another_recipe_are_not_mixed_in(folder: pathlib.Path) -> None:
    run(folder, write_recipe(folder, seeds=[0]))
    with pytest.raises(ArtefactError, match="was made with another 'options'"):
        run(folder, write_recipe(folder, options={"img_size": 16, "steps": 4}))
    with pytest.raises(ArtefactError, match="another method 'labels'"):
        run(folder, write_recipe(folder, methods=[{"label": "labels", "method": "bottleneck"}]))


def test_a_folder_that_no_grid_made_is_refused(folder: pathlib.Path) -> None:
    (folder / "grid").mkdir()
    (folder / "grid" / ".DS_Store").write_bytes(b"")
    check_folder(folder / "grid", load_grid(write_recipe(folder)))  # which a system leaves
    (folder / "grid" / "notes.txt").write_text("mine")
    with pytest.raises(ArtefactError, match="holds files that no grid made"):
        run(folder, write_recipe(folder))
    with pytest.raises(ArtefactError, match="is a file; the grid needs a folder"):
        fewshot(FewshotConfig(recipe=str(write_recipe(folder)), out=str(folder / "recipe.yaml")))


def test_a_dry_run_writes_nothing(folder: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fewshot(FewshotConfig(recipe=str(write_recipe(folder)), out=str(folder / "grid"), dry_run=True)) == 0
    assert "20 cells: 1 students x 2 methods" in capsys.readouterr().err
    assert not (folder / "grid").exists()
    told = CliRunner().invoke(command, [str(write_recipe(folder)), "--out", str(folder / "grid"), "--dry-run"])
    assert (told.exit_code, told.stdout) == (0, "")  # it names no results.csv, for there is none


def test_testing_on_the_training_store_is_refused(folder: pathlib.Path) -> None:
    with pytest.raises(DataError, match="train and test are both store"):
        run(folder, write_recipe(folder, test=str(folder / "train.store")))


def test_the_teacher_probe_is_a_ridge_classifier_of_unit_features(folder: pathlib.Path) -> None:
    _, rows = run(folder, write_recipe(folder, shots=[16], seeds=[0], methods=["labels"]))
    from sklearn.linear_model import RidgeClassifierCV

    train, test = cache.open(folder / "train.store"), cache.open(folder / "test.store")
    lines = (folder / "grid" / "splits" / "shots-16-seed-0.txt").read_text().splitlines()
    keys = {line.split()[-1] for line in lines}
    chosen = [row for row, key in enumerate(train.keys) if key in keys]
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (train.features()[chosen], test.features()[:])]
    scatter = float(np.square(unit[0] - unit[0].mean(0)).sum()) / unit[0].shape[1]  # mean eigenvalue
    penalties = 10.0 ** np.arange(-6, 4.25, 0.5) * scatter
    model = RidgeClassifierCV(alphas=penalties).fit(unit[0].astype(np.float64), train.labels_N[chosen])
    assert penalties[0] < model.alpha_ < penalties[-1]
    expected = 100 * float((model.predict(unit[1]) == test.labels_N).mean())
    (probe,) = [row for row in rows if row["method"] == "teacher-probe"]
    assert float(probe["top1"]) == pytest.approx(expected, abs=1e-3)  # as the table rounds it


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shotss": [1]}, "unknown key 'shotss'.*Did you mean shots"),
        ({"students": []}, "lacks 'students', or it is empty"),
        ({"methods": ["tcsx"]}, "--method is 'tcsx'; known methods are"),
        (
            {"methods": ["labels", "same-pixels"]},
            "'same-pixels' is a reference row and no method; name it under references",
        ),
        ({"methods": ["labels", "labels"]}, "names one of its methods twice"),
        (
            {"methods": [{"method": "labels", "students": ["resnet18,layers=(1,1,1,1)"]}]},
            r"'labels', has students: .*is none of the recipe's students .*Did you mean resnet18",
        ),
        (
            {"methods": [{"method": "labels", "students": []}]},
            "name each student that it is run with once, or leave students out",
        ),
        (
            {"methods": [{"method": "labels", "students": [STUDENT, STUDENT]}]},
            "name each student that it is run with once",
        ),
        ({"methods": [{"method": "labels", "students": STUDENT}]}, "students"),
        (
            {"students": [STUDENT, "resnet10t"], "methods": [{"method": "labels", "students": [STUDENT]}]},
            "has the student 'resnet10t', which no method is run with",
        ),
        (
            {
                "students": [STUDENT, "resnet10t"],
                "methods": [
                    {"method": "labels", "students": [STUDENT]},
                    {"method": "tcs-probe", "students": ["resnet10t"]},
                ],
                "primary": ["labels", "tcs-probe"],
            },
            "and no student is run with both",
        ),
        ({"methods": [{"label": "x"}]}, "method 'x' has neither 'method' nor 'loss'"),
        ({"shots": ["four"]}, "it must be a list of whole numbers"),
        ({"options": {"learning_rate": 1}}, "unknown key 'learning_rate'"),
        ({"references": ["teacher"]}, "asks for reference 'teacher'; known references are"),
    ],
)
def test_bad_recipes_are_refused(folder: pathlib.Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_grid(write_recipe(folder, **changes))


def test_recipes_that_cannot_be_read_are_refused(tmp_path: pathlib.Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load_grid(tmp_path / "none.yaml")
    (tmp_path / "a.yaml").write_text("a: [")
    with pytest.raises(ConfigError, match="is not YAML"):
        load_grid(tmp_path / "a.yaml")
    (tmp_path / "a.yaml").write_text("- 1")
    with pytest.raises(ConfigError, match="must be a mapping"):
        load_grid(tmp_path / "a.yaml")


@pytest.mark.parametrize("part", ["0/2", "3/2", "1", "a/b"])
def test_parts_are_numbered_from_one(part: str) -> None:
    with pytest.raises(ConfigError, match="write i/n"):
        choose_part([], part)


def test_the_cheap_references_are_rows_by_default_and_labels_among_them(folder: pathlib.Path) -> None:
    grid = load_grid(write_recipe(folder, references=None, methods=["tcs-probe"]))
    assert grid.references == (
        *("teacher-probe", "teacher-transductive", "teacher-knn", "teacher-centroids", "same-pixels"),
        "teacher-all-labels",
    )
    assert [row.label for row in grid.methods] == ["labels", "tcs-probe"]
    without_pool = load_grid(write_recipe(folder, references=None, unlabelled=["none"]))
    assert set(grid.references) - set(without_pool.references) == {"teacher-transductive", "same-pixels"}
    assert [row.label for row in without_pool.methods] == ["labels", "tcs-probe"]  # named by the recipe: not twice
    assert load_grid(write_recipe(folder, references=None, unlabelled=None)).unlabelled == ("all",)  # as of tcs train
    on_request = load_grid(write_recipe(folder, references=["bottleneck", "ibm2", "all-labels"]))
    assert [row.label for row in on_request.methods] == ["bottleneck", "labels", "tcs-probe"]


def test_ibm2_is_a_reference_row_on_request(folder: pathlib.Path) -> None:
    recipe = write_recipe(folder, references=["ibm2"], methods=["labels"], shots=[4], seeds=[2])
    _, rows = run(folder, recipe)
    (row,) = [row for row in rows if row["method"] == "ibm2"]
    assert (row["model"], row["status"], row["unlabelled"]) == ("teacher", "ok", "none")
    train, test = cache.open(folder / "train.store"), cache.open(folder / "test.store")
    split = k_shot_split(train.keys, train.labels_N, train.classes, 4, 2).rows_n
    head = fit_ibm2(train.features()[split], train.labels_N[split], 3, seed=2)
    hits = (test.features()[:] @ head.weight_CD.T).argmax(1) == test.labels_N
    assert float(row["top1"]) == pytest.approx(100 * hits.mean(), abs=1e-3)
    assert float(row["top5"]) == 100
