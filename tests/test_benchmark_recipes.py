"""The recipes that ship: each is a plan, and those of data that only others have are rehearsed on stand-ins for their stores."""

import pathlib
from typing import Any

import pytest
import yaml
from artefacts import make_store, make_targets

from tcs.config.evaluate import FewshotConfig
from tcs.grid.recipe import TEACHER, plan_cells
from tcs.grid.recipe_file import load_grid
from tcs.grid.run import fewshot

BENCHMARKS = pathlib.Path(__file__).parent.parent / "benchmarks"
RECIPES = sorted([*(BENCHMARKS / "recipes").glob("*.yaml"), *(BENCHMARKS / "fewshot").glob("*.yaml")])
ELSEWHERE = {"cub200": 384, "imagenet": 768}  # data that only others have, and the dims of its teacher


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_that_ships_is_a_plan(path: pathlib.Path) -> None:
    grid = load_grid(path)
    assert plan_cells(grid)
    if path.parent.name == "fewshot":
        assert grid.primary == ("tcs-pool", "kd")


def test_the_leaderboard_is_of_four_students_five_caches_and_as_many_cells_as_its_page_says() -> None:
    page = (BENCHMARKS / "fewshot" / "README.md").read_text()
    for name, cells in (("leaderboard", 590), ("shots", 280)):
        grid = load_grid(BENCHMARKS / "fewshot" / f"{name}.yaml")
        assert len(plan_cells(grid)) == cells
        assert f"| {cells} |" in next(line for line in page.splitlines() if line.startswith(f"| `{name}.yaml`"))
        assert (len(grid.students), len(grid.datasets)) == (4, 5)


@pytest.mark.parametrize("name", ELSEWHERE)
def test_the_plan_of_data_that_others_have_is_sound(
    name: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    make_store(tmp_path / f"{name}-train.store", dims=ELSEWHERE[name])
    make_store(tmp_path / f"{name}-test.store", rows=24, seed=1, dims=ELSEWHERE[name])
    make_targets(tmp_path, f"{name}-train.store").rename(tmp_path / f"{name}-pca.h5")
    recipe: dict[str, Any] = yaml.safe_load((BENCHMARKS / "fewshot" / f"{name}.yaml").read_text())
    recipe["options"] |= {"batch_size": 4}
    changed = tmp_path / "recipe.yaml"
    changed.write_text(yaml.safe_dump(recipe))
    assert fewshot(FewshotConfig(recipe=str(changed), out=str(tmp_path / "grid"), dry_run=True)) == 0
    told = capsys.readouterr().err
    assert "would fail" not in told
    grid = load_grid(changed)
    assert f"of which {sum(cell.model != TEACHER for cell in plan_cells(grid))} train" in told
    for student in grid.students:
        assert f"student {student} by labels: " in told
        assert f"student {student} by kd: " in told
    assert not (tmp_path / "grid").exists()
