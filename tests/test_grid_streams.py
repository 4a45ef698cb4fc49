"""Students of one stream: which cells share one, and rows that are bit for bit those of students trained alone."""

import json
import pathlib
from typing import Any

import pytest
import safetensors.torch
from grids import CANNOT_BE_BUILT, CIFAR, STUDENT, make_stores, results, rows_of, write_recipe

import tcs.grid.run
from tcs.config.evaluate import FewshotConfig
from tcs.grid.recipe import choose_part, plan_cells
from tcs.grid.recipe_file import load_grid
from tcs.grid.run import fewshot
from tcs.grid.streams import group_cells
from tcs.training.finite import NotFiniteError
from tcs.training.trainer import Trainer

VIT = "vit_tiny_patch16_224,img_size=32,patch_size=8,embed_dim=16,depth=1,num_heads=2"


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> pathlib.Path:
    return make_stores(tmp_path)


def run(recipe: pathlib.Path, out: pathlib.Path, **options: Any) -> int:
    return fewshot(FewshotConfig(recipe=str(recipe), out=str(out), **options))


def weights(out: pathlib.Path) -> dict[str, dict[str, bytes]]:
    return {
        str(path.relative_to(out)): {
            name: value.numpy().tobytes() for name, value in safetensors.torch.load_file(path).items()
        }
        for path in sorted(out.rglob("*.safetensors"))
    }


def groups_of(recipe: pathlib.Path, jobs: int = 1) -> list[list[str]]:
    grid = load_grid(recipe)
    groups = group_cells(grid, plan_cells(grid), jobs)
    return [sorted(f"{cell.model} {cell.method.label} {cell.seed}" for cell in group) for group in groups]


def test_students_of_one_method_and_split_are_a_group_and_references_are_alone(folder: pathlib.Path) -> None:
    recipe = write_recipe(folder, students=["a", "b"], references=["teacher-probe", "same-pixels"])
    assert groups_of(recipe) == [
        ["teacher teacher-probe 0"],
        ["a labels 0", "b labels 0"],
        ["a tcs-probe 0", "b tcs-probe 0"],
        ["a same-pixels 0"],
        ["b same-pixels 0"],
    ]


def test_a_method_may_be_run_with_some_of_the_students(folder: pathlib.Path) -> None:
    own = {"method": "tcs-probe", "students": ["b", "a"]}
    changes: dict[str, Any] = {"students": ["a", "b", "c"], "references": []}
    recipe = write_recipe(folder, methods=["labels", own], variants={"short": {"steps": 3}}, **changes)
    assert groups_of(recipe) == [
        ["a labels, short 0", "b labels, short 0", "c labels, short 0"],
        ["a tcs-probe, short 0", "b tcs-probe, short 0"],
    ]


def test_students_of_other_image_sizes_have_another_stream(folder: pathlib.Path) -> None:
    recipe = write_recipe(folder, students=[CIFAR, VIT, STUDENT], methods=["labels"], references=[], options={})
    assert groups_of(recipe) == [[f"{CIFAR} labels 0", f"{VIT} labels 0"], [f"{STUDENT} labels 0"]]


def test_no_job_is_left_without_a_student(folder: pathlib.Path) -> None:
    recipe = write_recipe(folder, students=list("abcd"), methods=["labels"], references=[])
    assert [len(group) for group in groups_of(recipe, jobs=2)] == [2, 2]
    assert [len(group) for group in groups_of(recipe, jobs=8)] == [1, 1, 1, 1]
    recipe = write_recipe(folder, students=list("abcd"), methods=["labels"], references=[], seeds=list(range(10)))
    assert [len(group) for group in groups_of(recipe, jobs=2)] == [4] * 10


def test_parts_of_a_grid_have_whole_groups_and_no_cell_twice(folder: pathlib.Path) -> None:
    grid = load_grid(write_recipe(folder, seeds=[0, 1, 2]))
    groups = group_cells(grid, plan_cells(grid))
    parts = [choose_part(groups, f"{number}/4") for number in (1, 2, 3, 4)]
    keys = [cell.key for part in parts for group in part for cell in group]
    assert sorted(keys) == sorted(cell.key for cell in plan_cells(grid))


def test_rows_and_weights_are_those_of_students_one_at_a_time(folder: pathlib.Path) -> None:
    recipe = write_recipe(folder)
    assert run(recipe, folder / "together") == 0
    for student in (STUDENT, CIFAR):
        assert run(write_recipe(folder, students=[student]), folder / "alone") == 0
    assert results(folder / "together") == results(folder / "alone")
    assert weights(folder / "together") == weights(folder / "alone")
    assert {row["stream_students"] for row in rows_of(folder / "together") if row["model"] != "teacher"} == {"2"}
    assert {row["stream_students"] for row in rows_of(folder / "alone") if row["model"] != "teacher"} == {"1"}


def test_wall_seconds_are_a_students_share_of_its_stream(folder: pathlib.Path) -> None:
    assert run(write_recipe(folder, methods=["labels"], references=[]), folder / "grid") == 0
    costs = [json.loads(path.read_text())["cost"] for path in (folder / "grid" / "runs").rglob("config.json")]
    (wall,) = {cost["wall_seconds"] for cost in costs}
    assert sum(cost["share_seconds"] for cost in costs) == pytest.approx(wall)
    assert all(cost["step_seconds"] <= cost["share_seconds"] <= wall for cost in costs)
    assert sorted(float(row["wall_s"]) for row in rows_of(folder / "grid")) == sorted(
        round(cost["share_seconds"], 2) for cost in costs
    )


def test_a_student_that_cannot_be_built_leaves_the_others_theirs(
    folder: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = write_recipe(folder, students=[CANNOT_BE_BUILT, STUDENT, CIFAR], methods=["labels"], references=[])
    assert run(recipe, folder / "grid") == 1
    assert {row["model"]: row["status"] for row in rows_of(folder / "grid")} == {
        CANNOT_BE_BUILT: "failed",
        STUDENT: "ok",
        CIFAR: "ok",
    }
    told = capsys.readouterr().err
    assert f"student {CANNOT_BE_BUILT} will fail, and the other cells go on" in told
    assert "3 students on one stream fail (" in told


def test_a_student_whose_loss_is_not_finite_fails_alone(folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    step, calls = Trainer.train_step, []

    def broken(trainer: Trainer, *given: Any) -> None:
        calls.append((trainer.job.name, trainer.step))
        if trainer.job.name == CIFAR and trainer.step == 1:
            raise NotFiniteError(CIFAR, "loss_ce", float("nan"), 1)
        step(trainer, *given)

    monkeypatch.setattr(Trainer, "train_step", broken)
    assert run(write_recipe(folder, methods=["labels"], references=[]), folder / "grid") == 1
    rows = {row["model"]: row for row in rows_of(folder / "grid")}
    assert rows[STUDENT]["status"] == "ok"
    assert rows[CIFAR]["status"] == "failed"
    assert "loss 'ce' is nan at step 1" in rows[CIFAR]["error"]
    assert [call for call in calls if call[0] == STUDENT] == [(STUDENT, step) for step in range(3)]
    assert calls.count((CIFAR, 1)) == 2  # on the stream, and once more alone at the end


def test_a_stream_that_runs_out_of_memory_is_trained_one_by_one(
    folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train, asked = tcs.grid.run.train_opened, []

    def small(config: Any, *given: Any) -> Any:
        asked.append(config.models)
        if len(config.models) > 1:
            raise MemoryError("no room")
        return train(config, *given)

    monkeypatch.setattr("tcs.grid.run.train_opened", small)
    assert run(write_recipe(folder, methods=["labels"], references=[]), folder / "grid") == 0
    assert asked == [(STUDENT, CIFAR), (STUDENT,), (CIFAR,)]


def test_students_of_a_stream_are_planned_once(
    folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    train, asked = tcs.grid.run.train_opened, []

    def noted(config: Any, *given: Any) -> Any:
        asked.append(config.models)
        return train(config, *given)

    monkeypatch.setattr("tcs.grid.run.train_opened", noted)
    assert run(write_recipe(folder, methods=["labels"], references=[]), folder / "grid") == 0
    assert asked == [(STUDENT, CIFAR)]
    assert "is finished; nothing to do" not in capsys.readouterr().err
