"""The reference without a teacher: its rows of the grid, exact resume, the pixels it sees, the labels it does not."""

import dataclasses
import pathlib
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from artefacts import make_store, make_targets

import cache
from tcs.checkpoint import load_weights
from tcs.config.evaluate import EvalConfig, FewshotConfig
from tcs.config.train import TrainConfig
from tcs.errors import ArtefactError, ConfigError, DivergedError
from tcs.evaluation.students import evaluate
from tcs.grid.pixel_trainer import PixelTrainer
from tcs.grid.recipe import plan_cells
from tcs.grid.recipe_file import load_grid
from tcs.grid.run import fewshot, load_results
from tcs.grid.same_pixels import METHOD, train_same_pixels
from tcs.inference.runs import load_student
from tcs.methods.named import find_method
from tcs.plain_files import load_json, save_json
from tcs.splits.held_out import nothing_held_out
from tcs.splits.shots import k_shot_split, without_labels
from tcs.students.backbone import parse_student, pre_logits
from tcs.training.data import open_data
from tcs.training.jobs import Job, RunRows, choose_rows

ROOT = pathlib.Path(__file__).parent.parent
STUDENT = "resnet18,layers=(1,1,1,1),channels=(4,4,8,8)"


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> pathlib.Path:
    make_store(tmp_path / "train.store")
    make_store(tmp_path / "test.store", seed=9, rows=30)
    return tmp_path


def config(folder: pathlib.Path, out: str = "run", **changes: Any) -> TrainConfig:
    given = {
        "store": str(folder / "train.store"),
        "out": str(folder / out),
        "models": (STUDENT,),
        "shots": 4,
        "seed": 0,
        "unlabelled": "20",
        "img_size": 16,
        "steps": 6,
        "batch_size": 16,
        "checkpoint_every": 2,
    }
    return TrainConfig.from_options(given | changes)


def train(folder: pathlib.Path, out: str = "run", **changes: Any) -> pathlib.Path:
    return train_same_pixels(config(folder, out, **changes), open_data(str(folder / "train.store"), None))


def write_recipe(folder: pathlib.Path, **changes: Any) -> pathlib.Path:
    recipe = {
        "train": str(folder / "train.store"),
        "test": str(folder / "test.store"),
        "students": [STUDENT],
        "methods": ["labels"],
        "shots": [1, 4],
        "seeds": [0],
        "unlabelled": ["none", 20, "all"],
        "references": ["teacher-probe", "same-pixels"],
        "options": {"img_size": 16, "steps": 3, "batch_size": 16},
    } | changes
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe))
    return path


def run_grid(folder: pathlib.Path, out: str = "grid", **changes: Any) -> list[dict[str, Any]]:
    assert fewshot(FewshotConfig(recipe=str(write_recipe(folder, **changes)), out=str(folder / out))) == 0
    return load_results(folder / out / "results.csv")


def pixel_rows(rows: list[dict[str, Any]]) -> dict[tuple[str, str], dict[str, Any]]:
    return {(row["shots"], row["unlabelled"]): row for row in rows if row["method"] == "same-pixels"}


def equal_weights(first: pathlib.Path, second: pathlib.Path, name: str = "last.safetensors") -> bool:
    pair = load_weights(first / name), load_weights(second / name)
    return pair[0].keys() == pair[1].keys() and all(torch.equal(pair[0][key], pair[1][key]) for key in pair[0])


def test_one_row_per_student_shots_seed_and_pool_with_pixels(folder: pathlib.Path) -> None:
    other = "vit_tiny_patch16_224,img_size=16,patch_size=8,embed_dim=12,depth=1,num_heads=2"
    cells = plan_cells(load_grid(write_recipe(folder, students=[STUDENT, other], seeds=[0, 1])))
    found = {cell.key for cell in cells if cell.method.label == "same-pixels"}
    expected = {
        ("", model, "same-pixels", shots, seed, pool)
        for model in (STUDENT, other)
        for shots in "14"
        for seed in "01"
        for pool in ("20", "all")
    }
    assert found == expected
    assert len({cell.key for cell in cells}) == len(cells)


def test_its_rows_are_like_those_of_any_student(folder: pathlib.Path) -> None:
    rows = run_grid(folder)
    assert [row["status"] for row in rows] == ["ok"] * 8  # 2 shots: the teacher's probe, labels, two pools
    found = pixel_rows(rows)
    assert set(found) == {(shots, pool) for shots in "14" for pool in ("20", "all")}
    (labels,) = [row for row in rows if (row["method"], row["shots"]) == ("labels", "4")]
    for row in found.values():
        assert row["model"] == STUDENT
        assert float(row["top1"]) + float(row["top1_err"]) == pytest.approx(100)
        assert (row["steps"], row["images_seen"]) == ("3", str(3 * 16))  # 8 images a step, two views each
        assert row["targets_id"] == ""
        assert all(float(row[key]) > 0 for key in ("wall_s", "images_per_s", "peak_mem_mb"))
        assert all(row[key] == labels[key] for key in ("params_m", "cache_id", "teacher", "commit"))
    assert found["4", "20"]["split_id"] == labels["split_id"]
    assert run_grid(folder) == rows
    (scored,) = evaluate(EvalConfig(run=str(folder / "grid/runs/same-pixels_4_0_20"), store=str(folder / "test.store")))
    assert (str(scored["top1"]), scored["seen"]) == (found["4", "20"]["top1"], 0)


def test_a_lost_row_comes_back_the_same(folder: pathlib.Path) -> None:
    rows = run_grid(folder, shots=[4])
    table = folder / "grid" / "results.csv"
    table.write_text("".join(line for line in table.read_text().splitlines(True) if "same-pixels" not in line))
    assert sorted(run_grid(folder, shots=[4]), key=str) == sorted(rows, key=str)


def test_two_runs_are_equal_to_the_bit_and_seeds_differ(folder: pathlib.Path) -> None:
    torch.manual_seed(7)
    expected = torch.rand(2)
    torch.manual_seed(7)
    first = train(folder)
    assert torch.equal(torch.rand(2), expected)
    assert equal_weights(first, train(folder, "again"))
    assert equal_weights(first, folder / "again" / first.name, "folded.safetensors")
    assert not equal_weights(first, train(folder, "other", seed=1))


@pytest.mark.parametrize("kill_at", [0, 3, 5])
def test_a_killed_run_goes_on_to_the_same_bits(
    folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch, kill_at: int
) -> None:
    whole, step = train(folder), PixelTrainer.train_step

    def dying(self: PixelTrainer) -> tuple[float, float]:
        if self.step == kill_at:
            raise KeyboardInterrupt
        return step(self)

    monkeypatch.setattr(PixelTrainer, "train_step", dying)
    with pytest.raises(KeyboardInterrupt):
        train(folder, "killed")
    monkeypatch.undo()
    resumed = train(folder, "killed")
    assert equal_weights(whole, resumed)
    assert (whole / "summary.csv").read_text() == (resumed / "summary.csv").read_text()
    assert load_json(resumed / "config.json")["cost"]["images_seen"] == 6 * 16
    assert not (resumed / "resume.pt").exists()


def test_it_sees_exactly_the_pixels_of_the_pool_methods(folder: pathlib.Path) -> None:
    make_targets(folder)
    data, chosen = open_data(str(folder / "train.store"), str(folder / "pca.h5")), config(folder)
    rows_n = choose_rows(dataclasses.replace(chosen, held_out=0), data.store, find_method("tcs-probe")).rows_n
    seen = np.load(train_same_pixels(chosen, data) / "seen.npy")
    assert len(rows_n) == 12 + 20
    assert {row.tobytes() for row in seen} == {row.tobytes() for row in data.store.hashes_N16[rows_n]}


def test_labels_outside_the_split_are_not_read(folder: pathlib.Path) -> None:
    """A store without them draws the same split (it ranks inside a class) and gives the same student."""
    first, data = train(folder), open_data(str(folder / "train.store"), None)
    split = k_shot_split(data.store.keys, data.store.labels_N, data.store.classes, 4, 0)
    kept_N = np.full_like(data.store.labels_N, -1)
    kept_N[split.rows_n] = data.store.labels_N[split.rows_n]
    data.store.labels_N = kept_N
    assert equal_weights(first, train_same_pixels(config(folder, "bare"), data))


def test_the_classifier_is_a_ridge_of_frozen_features(folder: pathlib.Path) -> None:
    """W solves (X'X + p) W' = X'Y for one p, X and Y centred; and the folded timm model gives X W' + b."""
    student = load_student(train(folder, steps=30, lr=1e-2))
    details, store = student.record["student"], cache.open(folder / "train.store")
    rows_m = np.sort(k_shot_split(store.keys, store.labels_N, store.classes, 4, 0).rows_n)
    mean, std = (torch.tensor(details[key]).view(3, 1, 1) for key in ("mean", "std"))
    images = open_data(str(folder / "train.store"), None).resident(rows_m, 16)
    with torch.no_grad():
        inputs = (images.float() / 255 - mean) / std
        x_mS, logits_mC = pre_logits(student.model, inputs).double(), student.model(inputs)
    weights = load_weights(student.folder / "last.safetensors")
    weight_CS, bias_C = weights["classifier.weight"].double(), weights["classifier.bias"].double()
    assert torch.allclose(logits_mC.double(), x_mS @ weight_CS.T + bias_C, atol=1e-4)
    y_mC = 2.0 * torch.nn.functional.one_hot(torch.from_numpy(store.labels_N[rows_m]), 3).double() - 1
    x_mS, y_mC = x_mS - x_mS.mean(0), y_mC - y_mC.mean(0)
    missing_SC = x_mS.T @ y_mC - x_mS.T @ x_mS @ weight_CS.T
    penalty = (missing_SC * weight_CS.T).sum() / weight_CS.square().sum()
    assert penalty > 0
    error = float((missing_SC - penalty * weight_CS.T).norm() / missing_SC.norm())
    assert error < 1e-2, error  # features and weights are float32


def test_the_loss_falls_on_images_that_can_be_told_apart() -> None:
    colours = torch.randint(0, 256, (8, 3, 1, 1), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    options = {"store": "", "out": "", "models": (STUDENT,), "seed": 0, "batch_size": 16, "lr": 1e-2}
    job = Job(
        spec=parse_student(STUDENT),
        config=TrainConfig.from_options(options),
        method=METHOD,
        rows=RunRows(split=without_labels(), rows_n=np.arange(8), held_out=nothing_held_out("nothing is watched.")),
        steps=60,
        size=16,
        classes=("a", "b"),
    )
    trainer = PixelTrainer(job, colours.expand(8, 3, 16, 16).contiguous(), torch.device("cpu"))
    losses = [trainer.train_step()[0] for _ in range(job.steps)]
    assert np.mean(losses[-10:]) < 0.8 * np.log(15)  # the loss of guessing among 15 candidates


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"unlabelled": ["none"]},
            r"asks for reference 'same-pixels' with unlabelled: \[none\]; it reads unlabelled images",
        ),
        ({"unlabelled": [0, "none"]}, "add a pool, as .10000. or .all., or leave the reference out"),
        (
            {"methods": [{"label": "same-pixels", "method": "labels"}]},
            "labels a method 'same-pixels', as a reference is",
        ),
    ],
)
def test_recipes_that_it_cannot_serve_are_refused(folder: pathlib.Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_grid(write_recipe(folder, **changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"unlabelled": "none"}, "same-pixels has no pool .unlabelled is none, 12 labelled rows.; it compares"),
        ({"batch_size": 3}, "same-pixels has a batch of 3; it shows half as many images, twice each"),
        ({"opt": "adamx"}, "--opt is 'adamx', which timm does not have"),
        ({"amp": True}, "same-pixels does not follow --amp .now True., and would not be trained as the other cells"),
    ],
)
def test_runs_that_make_no_sense_are_refused(folder: pathlib.Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        train(folder, **changes)


@pytest.mark.parametrize("options", [{"sched": "constant"}, {"min_lr": 1e-3}, {"opt_betas": (0.5, 0.5)}])
def test_the_optimiser_is_that_of_the_cells(folder: pathlib.Path, options: dict[str, Any]) -> None:
    assert not equal_weights(train(folder), train(folder, "other", **options))


def test_a_folder_of_another_run_is_refused(folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = train(folder)
    with pytest.raises(ArtefactError, match=r"was made with lr 0\.002, this command has 0\.001; use another --out"):
        train(folder, lr=1e-3)
    state = {"step": 1, "fingerprint": "another"}
    torch.save(state, done / "resume.pt")
    (done / "config.json").unlink()
    with pytest.raises(ArtefactError, match=r"resume\.pt belongs to another configuration; use another --out"):
        train(folder)


@pytest.mark.parametrize("state", ["finished", "training"])
def test_a_student_of_other_semantics_is_refused(folder: pathlib.Path, state: str) -> None:
    done = train(folder)
    record = load_json(done / "config.json")
    assert record["identity"]["semantics"] == 2
    record["identity"]["semantics"] = 1
    save_json(done / "config.json", record | {"state": state})
    with pytest.raises(ArtefactError, match="was made with semantics 1, this command has 2; use another --out"):
        train(folder)


def test_a_loss_that_is_not_finite_stops_before_the_update(
    folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tcs.grid.pixel_trainer.normalisation", lambda backbone: ((0.5,) * 3, (float("nan"),) * 3))
    with pytest.raises(DivergedError, match="loss 'nt-xent' is nan at step 0; lower --lr and train again"):
        train(folder)
