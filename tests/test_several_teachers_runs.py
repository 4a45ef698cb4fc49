"""Every stage on the stores of two teachers: fit, targets, training, grid. Against formulas written out here.

Legend: N rows, D dims of both teachers, K coordinates, C classes.
"""

import csv
import json
import pathlib
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from artefacts import CLASSES, DIMS, make_store
from click.testing import CliRunner
from grids import score_transductive
from safetensors.torch import load_file
from teachers_beside import unit, write_beside
from torch import Tensor
from view_store import VIEWS, write_view_store

import cache
from cache.errors import SchemaError
from tcs.cli import group
from tcs.config.coordinates import FitConfig, TargetsConfig
from tcs.config.evaluate import FewshotConfig
from tcs.config.train import TrainConfig
from tcs.coordinates.build import fit_coordinates
from tcs.coordinates.fit import fit
from tcs.coordinates.from_store import fit_store_coordinates
from tcs.coordinates.stores import open_stores
from tcs.coordinates.system import load_coordinates
from tcs.coordinates.targets import fit_targets, open_targets
from tcs.distributed.collectives import ALONE
from tcs.errors import ArtefactError, ConfigError, DataError
from tcs.grid.recipe_file import load_grid
from tcs.grid.references import pool_teachers_of
from tcs.grid.run import fewshot
from tcs.pool_labels.options import PoolLabelOptions
from tcs.pool_labels.spread import spread_labels
from tcs.training.data import RunData, open_data
from tcs.training.jobs import Job, plan_jobs
from tcs.training.loading import load_rows
from tcs.training.soft_labels import labels_by_store, pool_labels
from tcs.training.train import train
from tcs.training.trainer import Trainer

STUDENT = "resnet18,layers=(1,1,1,1),channels=(4,4,8,8)"
CPU = torch.device("cpu")


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> pathlib.Path:
    """a and b are two teachers' stores of the same images; t and u those of other images."""
    for first, second, seed in (("a", "b", 0), ("t", "u", 9)):
        store = make_store(tmp_path / f"{first}.store", seed=seed)
        write_beside(tmp_path / f"{second}.store", store, noise=0.2)
    return tmp_path


def fit_config(folder: pathlib.Path, **options: Any) -> FitConfig:
    defaults = {
        "store": str(folder / "a.store"),
        "also": (str(folder / "b.store"),),
        "out": str(folder / "c.safetensors"),
    }
    return FitConfig(**(defaults | {"components": 8, "ceiling_shots": ()} | options))


def config(folder: pathlib.Path, **options: Any) -> TrainConfig:
    defaults = {"store": str(folder / "a.store"), "also": (str(folder / "b.store"),), "out": str(folder / "run")}
    defaults |= {"models": (STUDENT,), "shots": 2, "steps": 3, "batch_size": 16, "img_size": 16, "seed": 3}
    return TrainConfig.from_options(defaults | options)


def planned(chosen: TrainConfig) -> tuple[Job, RunData]:
    data = open_data(chosen.store, chosen.targets, also=chosen.also)
    return plan_jobs(chosen, data)[0], data


def balanced(folder: pathlib.Path) -> np.ndarray:
    """Both teachers' rows side by side as the documentation says: length 1, centred, each with the same total variance."""
    parts = []
    for name in ("a", "b"):
        x_ND = unit(cache.open(folder / f"{name}.store").features()[:])
        x_ND = x_ND - x_ND.mean(0)
        parts.append(x_ND / np.sqrt(x_ND.var(axis=0, ddof=1).sum()))
    return np.concatenate(parts, axis=1)


def principal(x_ND: np.ndarray, components: int) -> np.ndarray:
    """Principal coordinates (N, K) of mean variance 1, up to signs, by an SVD."""
    _, _, axes_KD = np.linalg.svd(x_ND, full_matrices=False)
    z_NK = x_ND @ axes_KD[:components].T
    return z_NK / np.sqrt(z_NK.var(axis=0, ddof=1).mean())


def test_coordinates_are_principal_axes_of_balanced_rows(folder: pathlib.Path) -> None:
    system = fit(fit_config(folder))
    joined = open_stores(str(folder / "a.store"), [str(folder / "b.store")])
    expected_NK = principal(balanced(folder), 8)
    z_NK = system.transform(joined.features()[:])
    np.testing.assert_allclose(z_NK, expected_NK * np.sign((z_NK * expected_NK).sum(0)), atol=2e-3)
    in_memory = fit_store_coordinates(joined, "avg")
    assert in_memory.coordinates.components == DIMS + 10
    np.testing.assert_allclose(
        np.abs(in_memory.coordinates_rows(np.arange(60))[:, :8]),
        np.abs(principal(balanced(folder), 34)[:, :8]),
        atol=2e-3,
    )


def test_the_identity_names_both_stores_and_their_order(folder: pathlib.Path) -> None:
    identities = [cache.open(folder / f"{name}.store").identity for name in ("a", "b")]
    system = fit(fit_config(folder))
    assert system.store_identity == system.config["store"] == "+".join(identities)
    assert system.teacher_identity.count("+") == 1
    found = load_coordinates(folder / "c.safetensors")
    assert found.identity == system.identity
    alone = fit(fit_config(folder, also=(), out=str(folder / "d.safetensors")))
    turned = {"store": str(folder / "b.store"), "also": (str(folder / "a.store"),)}
    assert (
        len({system.identity, alone.identity, fit(fit_config(folder, out=str(folder / "e"), **turned)).identity}) == 3
    )
    with pytest.raises(ArtefactError, match=r"store is .*\+.* there and .* here"):
        fit(fit_config(folder, also=()))


def test_the_ceiling_and_the_selection_read_both_teachers(folder: pathlib.Path) -> None:
    test = {"ceiling_test": str(folder / "t.store"), "ceiling_test_also": (str(folder / "u.store"),)}
    joined = fit(fit_config(folder, ceiling_shots=(4,), shots=4, **test))
    assert joined.selection is not None
    ceiling = {
        name: fit(fit_config(folder, store=str(folder / f"{name}.store"), also=(), out=str(folder / name)))
        for name in "ab"
    }
    assert {name: system.dims for name, system in ceiling.items()} == {"a": DIMS, "b": 10}
    (spread,) = (joined.ceiling or {})["transductive"]
    assert spread["accuracy"] > 90
    rows = (joined.ceiling or {})["rows"]
    assert {row["components"] for row in rows if row["shots"] is None} == {16, 32, DIMS + 10}
    full = [row["accuracy"] for row in rows if row["shots"] is None and row["components"] == DIMS + 10]
    assert full[0] > 95
    assert max(full) - min(full) < 2  # all axes of the same rows: only the order of them differs


def test_a_test_store_of_each_teacher_is_asked_for(folder: pathlib.Path) -> None:
    with pytest.raises(
        ConfigError, match="--ceiling-test has 0 --ceiling-test-also beside it, and STORE 1 --also; name the test"
    ):
        fit_config(folder, ceiling_test=str(folder / "t.store"))
    with pytest.raises(ConfigError, match="--ceiling-test-also has no effect without --ceiling-test; leave it out"):
        fit_config(folder, ceiling_test_also=(str(folder / "u.store"),))


def test_features_of_one_teacher_that_do_not_vary_are_refused(folder: pathlib.Path) -> None:
    first = cache.open(folder / "a.store")
    cache.create(
        folder / "flat.store",
        {"avg": np.ones((60, 4), "f4")},
        keys=first.keys,
        labels=[CLASSES[label] for label in first.labels_N],
        hashes=first.hashes_N16,
    )
    with pytest.raises(
        DataError, match="the features of store 2 of 2 do not vary; check its images and readout, or leave"
    ):
        fit(fit_config(folder, also=(str(folder / "flat.store"),)))


def targets_of(folder: pathlib.Path, **options: Any) -> pathlib.Path:
    fit(fit_config(folder))
    defaults = {"store": str(folder / "a.store"), "also": (str(folder / "b.store"),), "out": str(folder / "t.h5")}
    return fit_targets(
        TargetsConfig(**(defaults | {"coordinates": str(folder / "c.safetensors"), "bits": 32} | options))
    )


def test_targets_are_of_both_stores(folder: pathlib.Path) -> None:
    targets = open_targets(targets_of(folder))
    joined = open_stores(str(folder / "a.store"), [str(folder / "b.store")])
    assert targets.store_identity == joined.identity
    np.testing.assert_allclose(targets.z_NK, targets.coordinates.transform(joined.features()[:]), atol=1e-6)
    assert open_targets(folder / "t.h5", joined.identity).identity == targets.identity
    assert targets_of(folder) == folder / "t.h5"  # nothing to do
    with pytest.raises(
        ArtefactError, match=r"run tcs targets on this store, and name the same stores in the same order with --also"
    ):
        open_targets(folder / "t.h5", cache.open(folder / "a.store").identity)
    with pytest.raises(
        ArtefactError, match=r"reads the features of 2 store\(s\) side by side .*, and 1 is given .*; name the first"
    ):
        targets_of(folder, also=(), out=str(folder / "other.h5"))


@pytest.mark.parametrize("with_targets", [False, True])
def test_a_run_learns_from_joined_coordinates(folder: pathlib.Path, with_targets: bool) -> None:
    chosen = config(folder, targets=str(targets_of(folder)) if with_targets else None)
    (path,) = train(chosen)
    record = json.loads((path / "config.json").read_text())
    joined = open_stores(chosen.store, chosen.also)
    assert record["identity"]["store_identity"] == joined.identity
    assert record["stores_read"] == [chosen.store, *chosen.also]
    assert record["coordinates"]["components"] == (8 if with_targets else DIMS + 10)
    assert len(list((folder / "run" / "pool-labels").iterdir())) == 1
    before = (path / "last.safetensors").stat().st_mtime_ns
    assert train(chosen) == [path]
    assert (path / "last.safetensors").stat().st_mtime_ns == before  # finished: the same stores
    with pytest.raises(ArtefactError, match=r"was made with store_identity .*\+"):
        train(config(folder, also=()))


def test_soft_labels_are_spread_in_joined_coordinates_or_averaged_over_the_teachers(folder: pathlib.Path) -> None:
    job, data = planned(config(folder, method="tcs-pool"))
    rows = load_rows(job, data, CPU, pool_labels(job, data, ALONE), labels_by_store(job, data, ALONE))
    assert labels_by_store(job, data, ALONE) == ()
    assert isinstance(rows.pool_labels_nC, Tensor)
    each_job, each_data = planned(config(folder, method="tcs-pool", pool_teachers="each", out=str(folder / "each")))
    heads, by_store = pool_labels(each_job, each_data, ALONE), labels_by_store(each_job, each_data, ALONE)
    assert (heads, len(by_store)) == ({}, 2)
    averaged = load_rows(each_job, each_data, CPU, heads, by_store)
    assert isinstance(averaged.pool_labels_nC, Tensor)
    singles = []
    for name in ("a", "b"):
        alone = config(
            folder,
            store=str(folder / f"{name}.store"),
            also=(),
            method="tcs-pool",
            out=str(folder / "each"),
            data=str(folder),
        )
        one = open_data(alone.store, None, data=alone.data)
        one.__dict__["read"] = data.read  # the second store holds no images
        one_job = plan_jobs(alone, one)[0]
        one_rows = load_rows(one_job, one, CPU, pool_labels(one_job, one, ALONE))
        assert isinstance(one_rows.pool_labels_nC, Tensor)
        singles.append(one_rows.pool_labels_nC)
    assert len(list((folder / "each" / "pool-labels").iterdir())) == 2  # the files of the runs on each store alone
    np.testing.assert_allclose(averaged.pool_labels_nC, (singles[0] + singles[1]) / 2, atol=1e-6)
    assert float((averaged.pool_labels_nC - rows.pool_labels_nC).abs().max()) > 1e-5
    unlabelled = rows.labels_n < 0
    spread_nC = pool_labels(job, data, ALONE)["pool"].soft_labels(np.asarray(rows.coordinates_nK))
    np.testing.assert_allclose(rows.pool_labels_nC[unlabelled], spread_nC[unlabelled], atol=1e-6)
    assert each_job.identity["pool_teachers"] == "each"
    assert "pool_teachers" not in job.identity
    np.testing.assert_array_equal(averaged.coordinates_nK, rows.coordinates_nK)


def test_both_ways_of_spreading_train(folder: pathlib.Path) -> None:
    (path,) = train(config(folder, pool_teachers="each"))
    assert json.loads((path / "config.json").read_text())["config"]["pool_teachers"] == "each"
    assert len(list((folder / "run" / "pool-labels").iterdir())) == 2


@pytest.mark.parametrize("teachers", ["joined", "each"])
def test_a_run_cut_short_goes_on_and_reads_the_labels_that_are_there(
    folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch, teachers: str
) -> None:
    (whole,) = train(config(folder, pool_teachers=teachers, out=str(folder / "whole")))
    step = Trainer.train_step

    def cut(self: Trainer, *given: Any) -> None:
        if self.step == 2:
            raise KeyboardInterrupt
        step(self, *given)

    monkeypatch.setattr(Trainer, "train_step", cut)
    with pytest.raises(KeyboardInterrupt):
        train(config(folder, pool_teachers=teachers, checkpoint_every=1))
    monkeypatch.setattr(Trainer, "train_step", step)
    files = sorted((folder / "run" / "pool-labels").iterdir())
    assert len(files) == (1 if teachers == "joined" else 2)
    before = [path.stat().st_mtime_ns for path in files]
    (path,) = train(config(folder, pool_teachers=teachers, checkpoint_every=1))
    assert [path.stat().st_mtime_ns for path in files] == before
    first, second = (load_file(run / "last.safetensors") for run in (whole, path))
    assert all(torch.equal(first[key], second[key]) for key in first)
    other = "each" if teachers == "joined" else "joined"
    with pytest.raises(ArtefactError, match=r"was made with pool_teachers .*; use another --out or --overwrite"):
        train(config(folder, pool_teachers=other))


@pytest.mark.parametrize(
    "options", [{"loss": "kd"}, {"loss": "kd", "probe_head": "ridge"}, {"loss": "feature-l2 + ce"}]
)
def test_probes_and_feature_losses_read_rows_side_by_side(folder: pathlib.Path, options: dict[str, Any]) -> None:
    job, data = planned(config(folder, **options))
    rows = load_rows(job, data, CPU, pool_labels(job, data, ALONE))
    if "kd" in options["loss"]:
        assert isinstance(rows.teacher_logits_nC, Tensor)
        truth_n = data.store.labels_N[job.rows.rows_n]
        assert (rows.teacher_logits_nC.argmax(1).numpy() == truth_n).mean() > 0.9
    else:
        assert rows.teacher_nD is not None
        assert rows.teacher_nD.shape == (len(job.rows.rows_n), DIMS + 10)
    assert len(train(config(folder, **options))) == 1


def test_labels_of_a_split_file_reach_every_teacher(folder: pathlib.Path) -> None:
    store = cache.open(folder / "a.store")
    lines = [f"{'new' if row % 3 == 2 else CLASSES[row % 3]} {store.keys[row]}" for row in range(9) if row % 3 < 2]
    (folder / "split.txt").write_text("\n".join(lines) + "\n")
    chosen = config(folder, shots=None, split_file=str(folder / "split.txt"), pool_teachers="each")
    data = open_data(chosen.store, None, None, chosen.split_file, chosen.also)
    assert [part.store.classes for part in data.by_store] == [("ant", "bee")] * 2
    assert all(np.array_equal(part.store.labels_N, data.store.labels_N) for part in data.by_store)
    (path,) = train(chosen)
    assert json.loads((path / "config.json").read_text())["classes"] == ["ant", "bee"]


@pytest.mark.parametrize("teachers", ["joined", "each"])
def test_of_stores_with_views_each_view_has_its_row_and_soft_label(tmp_path: pathlib.Path, teachers: str) -> None:
    write_beside(tmp_path / "b.store", write_view_store(tmp_path / "a.store"), noise=0.2)
    chosen = config(tmp_path, method="tcs-pool", pool_teachers=teachers)
    job, data = planned(chosen)
    rows = load_rows(job, data, CPU, pool_labels(job, data, ALONE), labels_by_store(job, data, ALONE))
    assert isinstance(rows.pool_labels_nC, Tensor)
    assert rows.coordinates_nK is not None
    assert rows.pool_labels_nC.shape == (len(rows.labels_n), VIEWS, 3)
    assert rows.coordinates_nK.shape == (len(rows.labels_n), VIEWS, 22)
    assert len(train(chosen)) == 1


def test_the_commands_take_the_other_stores(folder: pathlib.Path) -> None:
    small = ("--shots", "2", "--steps", "2", "--out", str(folder / "run"))
    a, b, c, h5 = (str(folder / name) for name in ("a.store", "b.store", "c.safetensors", "t.h5"))
    for arguments in (
        ["fit", a, "--also", b, "--out", c, "--components", "8", "--ceiling-shots", "4"],
        ["targets", a, c, "--also", b, "--out", h5, "--bits", "32"],
        ["train", a, "--also", b, "--targets", h5, "--model", STUDENT, "--img-size", "16", *small],
        ["eval", str(folder / "run"), str(folder / "t.store")],
    ):
        told = CliRunner().invoke(group, arguments)
        assert told.exit_code == 0, told.output
    again = CliRunner().invoke(group, ["train", "-c", str(folder / "run" / "args.yaml")])
    assert again.exit_code == 0, again.output
    assert "is finished; nothing to do" in again.output
    suggested = CliRunner().invoke(group, ["suggest", a, "--also", b, "--n", "3", "--out", str(folder / "s.csv")])
    assert suggested.exit_code == 0, suggested.output
    assert {key.partition("/")[0] for key in (folder / "s.csv").read_text().splitlines()[1:]} == set(CLASSES)
    twice = CliRunner().invoke(group, ["fit", a, "--also", a, "--out", str(folder / "d")])
    assert isinstance(twice.exception, SchemaError)
    assert "a.store is given twice" in str(twice.exception)


def write_recipe(folder: pathlib.Path, **changes: Any) -> pathlib.Path:
    names = {"train": "a", "test": "t"} | {"also": ["b"], "test_also": ["u"]}
    stores = {
        key: str(folder / f"{name}.store") if isinstance(name, str) else [str(folder / f"{one}.store") for one in name]
        for key, name in names.items()
    }
    recipe = stores | {
        "students": [STUDENT],
        "methods": ["labels", "tcs-pool"],
        "shots": [2],
        "seeds": [0],
        "unlabelled": ["all"],
        "references": ["teacher-probe", "teacher-knn", "teacher-transductive"],
        "options": {"img_size": 16, "steps": 3, "batch_size": 16, "hflip": 0.0},
    }
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump({key: value for key, value in (recipe | changes).items() if value is not None}))
    return path


def test_a_grid_of_two_teachers_resumes_and_names_them(folder: pathlib.Path) -> None:
    grid = FewshotConfig(recipe=str(write_recipe(folder)), out=str(folder / "grid"))
    assert fewshot(grid) == 0
    with (folder / "grid" / "results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    joined, tested = (
        open_stores(str(folder / f"{first}.store"), [str(folder / f"{second}.store")]).identity
        for first, second in (("a", "b"), ("t", "u"))
    )
    assert {(row["cache_id"], row["test_id"], row["teacher"]) for row in rows} == {(joined, tested, "made-up+other 7")}
    assert json.loads((folder / "grid" / "ledger.json").read_text())["origin"]["train"] == joined
    top1 = {row["method"]: float(row["top1"]) for row in rows}
    assert len(top1) == 5
    assert top1["teacher-probe"] > 90
    assert top1["teacher-transductive"] > 90
    before = (folder / "grid" / "results.csv").read_bytes()
    assert fewshot(grid) == 0
    assert (folder / "grid" / "results.csv").read_bytes() == before
    write_recipe(folder, also=None, test_also=None)
    with pytest.raises(ArtefactError, match=r"was made with another 'train' \(.*\+.* there"):
        fewshot(grid)


EACH = {"label": "each", "method": "tcs-pool", "pool_teachers": "each"}


@pytest.mark.parametrize(
    ("methods", "is_averaged"),
    [
        (["labels", EACH], True),
        ([EACH, {"label": "kd", "loss": "ce + kd"}], True),
        ([EACH, "tcs-pool"], False),
        (["tcs-pool"], False),
        (["labels"], False),
    ],
)
def test_the_reference_of_the_pool_reads_teachers_as_the_students_do(
    folder: pathlib.Path, methods: list[Any], is_averaged: bool
) -> None:
    recipe = write_recipe(folder, methods=methods, references=["teacher-transductive"])
    assert pool_teachers_of(load_grid(recipe)) == ("each" if is_averaged else "joined")


def test_the_averaged_reference_is_the_mean_of_both_heads_soft_labels(folder: pathlib.Path) -> None:
    for first in ("a", "t"):
        for second, seed in (("c", 1), ("d", 3)):  # so much noise that the two heads differ, and err
            write_beside(folder / f"{first}{second}.store", cache.open(folder / f"{first}.store"), seed=seed, noise=1.5)
    train_store, test_store = (
        open_stores(str(folder / f"{first}c.store"), [str(folder / f"{first}d.store")]) for first in ("a", "t")
    )
    rows, pool = np.array([3, 1, 2]), np.arange(len(train_store))  # labelled rows in no order
    soft = []
    for second in ("c", "d"):
        x_ND, test_ND = (cache.open(folder / f"{first}{second}.store").features()[:] for first in ("a", "t"))
        system = fit_coordinates(x_ND, components=x_ND.shape[1])
        options, labels = PoolLabelOptions(seed=5), train_store.labels_N[rows]
        head = spread_labels(system.transform(x_ND), rows, labels, 3, options)
        soft.append(head.soft_labels(system.transform(test_ND)))
    single = [100 * float((one.argmax(1) == test_store.labels_N).mean()) for one in (*soft, soft[0] + soft[1])]
    joined, averaged = (
        score_transductive(train_store, test_store, rows, pool, 5, "cpu", teachers) for teachers in ("joined", "each")
    )
    assert averaged["top1"] == pytest.approx(single[2], abs=1e-3)
    assert len({round(top1, 2) for top1 in (*single, joined["top1"])}) == 4


def test_students_need_the_first_test_store_alone(folder: pathlib.Path) -> None:
    recipe = write_recipe(folder, test_also=None, references=["same-pixels"], methods=["labels"])
    assert fewshot(FewshotConfig(recipe=str(recipe), out=str(folder / "grid"), dry_run=True)) == 0


@pytest.mark.parametrize(
    ("changes", "kind", "message"),
    [
        (
            {"test_also": None},
            ConfigError,
            "has 1 stores under also and 0 under test_also; give the test store of each teacher",
        ),
        ({"also": None}, ConfigError, "has 0 stores under also and 1 under test_also"),
        ({"also": "b.store"}, ConfigError, "has also: 'b.store'; it must be a list of texts"),
        ({"options": {"also": ["b.store"]}}, ConfigError, "has the unknown key 'also'"),
        ({"test": "{folder}/b.store", "test_also": ["{folder}/u.store"]}, DataError, "train and test are both store"),
        ({"also": ["{folder}/u.store"]}, SchemaError, "lacks the key"),
    ],
)
def test_recipes_that_cannot_be_run_are_refused(
    folder: pathlib.Path, changes: dict[str, Any], kind: type[Exception], message: str
) -> None:
    placed = json.loads(json.dumps(changes).replace("{folder}", str(folder)))
    if "test" in placed:
        placed["test_also"] = None
        placed["references"] = ["same-pixels"]
    with pytest.raises(kind, match=message):
        fewshot(FewshotConfig(recipe=str(write_recipe(folder, **placed)), out=str(folder / "grid"), dry_run=True))
