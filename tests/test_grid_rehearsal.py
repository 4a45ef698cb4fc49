"""A dry run finds what would fail, says what the rest costs, and writes nothing; a run refuses an unknown student before its first cell."""

import pathlib
from typing import Any

import pytest
from click.testing import CliRunner
from grids import CANNOT_BE_BUILT, CIFAR, STUDENT, make_stores, write_recipe

import cache
from tcs.cli.fewshot import command
from tcs.config.evaluate import FewshotConfig
from tcs.config.train import TrainConfig
from tcs.errors import ConfigError, ModelError
from tcs.grid import rehearsal
from tcs.grid.estimate import bytes_of, estimate
from tcs.grid.ledger import load_results
from tcs.grid.recipe import plan_cells
from tcs.grid.recipe_file import load_grid
from tcs.grid.run import fewshot
from tcs.training.train import timed


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> pathlib.Path:
    return make_stores(tmp_path)


def rehearse(folder: pathlib.Path, **changes: Any) -> int:
    recipe = write_recipe(folder, **changes)
    problems = fewshot(FewshotConfig(recipe=str(recipe), out=str(folder / "grid"), dry_run=True, jobs=2))
    assert not (folder / "grid").exists()
    return problems


def test_a_recipe_that_works_is_told_with_its_costs(folder: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(folder.rglob("*"))
    assert rehearse(folder, references=["teacher-probe", "ibm2", "same-pixels"]) == 0
    assert sorted(path for path in folder.rglob("*") if path.name != "recipe.yaml") == before
    told = capsys.readouterr().err
    assert "8 cells: 2 students x 2 methods" in told
    assert "0 done, 8 to go, of which 6 train (3 steps of 16), in 2 streams." in told
    assert f"student {CIFAR} by labels: 0.08 M parameters, " in told
    assert f"student {CIFAR} by tcs-probe: 0.08 M parameters, " in told
    assert "reference teacher-probe: 1 cells, about " in told
    assert "reference ibm2: 1 cells, about 0 s (260 epochs, 200 noisy copies of each labelled row: leave it out" in told
    assert "8 cells take about " in told
    assert " by 2 jobs where there are cores for them." in told
    assert "disk: runs " in told


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"students": [STUDENT, CANNOT_BE_BUILT]}, f"student {CANNOT_BE_BUILT} would fail: --model '{CANNOT_BE_BUILT}'"),
        ({"shots": [4, 50]}, "shots 50 would fail: "),
        ({"unlabelled": [20, 500]}, "method tcs-probe with unlabelled 500 would fail: "),
        ({"targets": None, "methods": ["labels", "tcs+elsh"]}, "method tcs+elsh with unlabelled 20 would fail: "),
        ({"methods": ["labels", {"label": "maps", "loss": "ce + at"}]}, "would fail: --loss 'ce + at' reads cached maps"),
        (
            {"students": [CIFAR, "mobilenetv2_050"], "methods": [{"label": "vkd", "head": "linear", "loss": "ce + vkd"}]},
            "student mobilenetv2_050 by vkd would fail: vkd has a student of 1280 dims and a teacher of ",
        ),
        ({"options": {"img_size": 16, "steps": 3, "opt": "adamx"}}, "would fail: --opt is 'adamx'"),
        (
            {"references": ["same-pixels"], "options": {"img_size": 16, "steps": 3, "model_ema": True}},
            "method same-pixels with unlabelled 20 would fail: same-pixels does not follow --model-ema",
        ),
    ],
)  # fmt: skip
def test_what_would_fail_is_named(
    folder: pathlib.Path, capsys: pytest.CaptureFixture[str], changes: dict[str, Any], told: str
) -> None:
    assert rehearse(folder, **changes) >= 1
    err = capsys.readouterr().err
    assert told in err
    assert "cells take about" in err  # the rest is looked at all the same


def test_the_command_fails_where_something_would(folder: pathlib.Path) -> None:
    recipe = write_recipe(folder, shots=[50], methods=["labels"])
    ended = CliRunner().invoke(command, [str(recipe), "--out", str(folder / "grid"), "--dry-run"])
    assert (ended.exit_code, ended.stdout) == (1, "")
    assert f"1 things of {recipe} would fail, told above; nothing was written." in ended.stderr


@pytest.mark.parametrize("dry_run", [True, False])
def test_an_unknown_student_is_refused_before_the_first_cell(folder: pathlib.Path, dry_run: bool) -> None:
    recipe = write_recipe(folder, students=[STUDENT, "resnet81"])
    with pytest.raises(ModelError, match=r"'resnet81', which timm .* does not have\. Did you mean resnet18"):
        fewshot(FewshotConfig(recipe=str(recipe), out=str(folder / "grid"), dry_run=dry_run))
    assert not (folder / "grid").exists()


def test_a_run_says_before_the_first_cell_what_will_fail(
    folder: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = write_recipe(folder, shots=[4, 50], methods=["labels"], students=[STUDENT])
    assert fewshot(FewshotConfig(recipe=str(recipe), out=str(folder / "grid"))) == 2
    told = capsys.readouterr().err
    assert told.index("shots 50 will fail, and the other cells go on: ") < told.index("[1/4]")


def test_a_rerun_says_how_long_the_rest_takes_by_the_rows_that_are_there(
    folder: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fewshot(FewshotConfig(recipe=str(write_recipe(folder)), out=str(folder / "grid")))
    assert "cells take about" not in capsys.readouterr().err
    recipe = write_recipe(folder, seeds=[0, 1])
    assert fewshot(FewshotConfig(recipe=str(recipe), out=str(folder / "grid"), dry_run=True)) == 0
    assert "5 done, 5 to go" in capsys.readouterr().err
    fewshot(FewshotConfig(recipe=str(recipe), out=str(folder / "grid")))
    assert "5 cells take about " in capsys.readouterr().err
    assert len(load_results(folder / "grid" / "results.csv")) == 10


def test_an_estimate_reads_rows_first_then_other_methods_then_timed_steps(folder: pathlib.Path) -> None:
    grid = load_grid(write_recipe(folder, references=["teacher-probe", "ibm2"], shots=[16], unlabelled=["none", "all"]))
    cells, store = plan_cells(grid), cache.open(folder / "train.store")
    of_student = {"dataset": "", "model": STUDENT, "method": "labels", "status": "ok"}
    rows = [of_student | {"wall_s": text} for text in ("10", "90", "20")]
    rows += [of_student | {"status": "failed", "wall_s": "5"}, of_student | {"dataset": "other", "wall_s": "1"}]
    timed = {("", CIFAR, False): 7.0, ("", CIFAR, True): 9.0, ("", STUDENT, False): 3.0, ("", STUDENT, True): 4.0}
    found = estimate(cells, rows, lambda _: store, timed)
    seconds = {(cell.model, cell.method.label, cell.unlabelled): found.seconds[cell.key] for cell in cells}
    assert seconds[STUDENT, "labels", "none"] == 20
    assert seconds[STUDENT, "tcs-probe", "all"] == 20
    of_other = [seconds[CIFAR, *key] for key in (("labels", "none"), ("tcs-probe", "none"), ("tcs-probe", "all"))]
    assert of_other == [7, 7, 9]
    assert seconds["teacher", "ibm2", "none"] == pytest.approx(40 * (3 * 16 * 24) / (10 * 16 * 512))
    assert found.unknown == 0
    assert found.total == pytest.approx(sum(seconds.values()))
    assert estimate(cells, rows, lambda _: store).unknown == 3


def test_bytes_are_two_files_of_weights_a_student_and_four_bytes_a_prediction(folder: pathlib.Path) -> None:
    cells = plan_cells(load_grid(write_recipe(folder)))
    assert bytes_of(cells, {STUDENT: 1000, CIFAR: 2000}, lambda _: 30) == (2 * 2 * 4 * 3000, 5 * 30 * 4)


def test_a_student_that_fails_in_its_first_steps_is_named_and_the_rest_is_timed(
    folder: pathlib.Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails_for_cifar(config: TrainConfig, *given: Any) -> list[dict[str, Any]]:
        if config.models == (CIFAR,) and config.method == "labels":
            raise ConfigError("a loss that no student of this kind can have.")
        return timed(config, *given)

    monkeypatch.setattr(rehearsal, "timed", fails_for_cifar)
    assert rehearse(folder, methods=["labels", "bottleneck"], references=[]) == 1
    told = capsys.readouterr().err
    assert f"student {CIFAR} by bottleneck: " in told  # of the same kind, tried where the first failed
    assert f"student {CIFAR} by labels would fail: a loss that no student of this kind can have." in told
    assert f"student {STUDENT} by labels: " in told
