"""A grid over several data sets, variants of its methods, splits that are given, and a loss of one's own."""

import csv
import json
import pathlib
import re
import sys

import pytest
import yaml
from artefacts import make_store, make_targets
from click.testing import CliRunner

import cache
from tcs.cli.fewshot import command
from tcs.config.evaluate import FewshotConfig
from tcs.criteria.terms import parse_loss
from tcs.errors import ArtefactError, ConfigError
from tcs.grid.ledger import LATER
from tcs.grid.recipe import REFERENCES, cell_config, plan_cells
from tcs.grid.recipe_file import RECIPE_KEYS, load_grid
from tcs.grid.run import fewshot
from tcs.splits.shots import k_shot_split

STUDENT = "resnet18,layers=(1,1,1,1),channels=(4,4,8,8)"
DOCUMENTATION = pathlib.Path(__file__).parent.parent / "docs" / "reference" / "benchmark-protocol.md"
OWN_METHOD = DOCUMENTATION.parents[1] / "how-to" / "add-method.md"


@pytest.fixture
def folder(tmp_path):
    """Two data sets: a, with targets, and b of other classes, one of them with few images."""
    for name, seed, classes in (("a", 0, ("ant", "bee", "cow")), ("b", 5, ("x", "y", "z", "w"))):
        make_store(tmp_path / f"{name}.store", seed=seed, classes=classes)
        make_store(tmp_path / f"{name}-test.store", rows=24, seed=seed + 1, classes=classes)
    (tmp_path / "of-a").mkdir()
    make_targets(tmp_path, "a.store").rename(tmp_path / "of-a" / "pca.h5")
    return tmp_path


def datasets(folder, **more):
    found = {
        name: {"train": str(folder / f"{name}.store"), "test": str(folder / f"{name}-test.store")} for name in "ab"
    }
    found["a"]["targets"] = str(folder / "of-a" / "pca.h5")
    return found | more


def write_recipe(folder, **changes):
    recipe = {
        "datasets": datasets(folder),
        "students": [STUDENT],
        "methods": ["labels", "pool-labels"],
        "shots": [2],
        "seeds": [0],
        "unlabelled": ["all"],
        "references": ["teacher-probe", "teacher-all-labels"],
        "latency": False,
        "options": {"img_size": 16, "steps": 1, "batch_size": 6},
    } | changes
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump({key: value for key, value in recipe.items() if value is not None}))
    return path


def run(folder, **changes):
    assert fewshot(FewshotConfig(recipe=str(write_recipe(folder, **changes)), out=str(folder / "grid"))) == 0
    with (folder / "grid" / "results.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_each_data_set_has_its_rows_stores_runs_and_predictions(folder):
    rows = run(folder)
    assert [(row["dataset"], row["method"]) for row in rows] == [
        *(("a", name) for name in ("teacher-probe", "labels", "pool-labels")),
        *(("b", name) for name in ("teacher-probe", "labels", "pool-labels")),
        *(("a", "teacher-all-labels"), ("b", "teacher-all-labels")),
    ]
    for name in "ab":
        own = [row for row in rows if row["dataset"] == name]
        assert {row["cache_id"] for row in own} == {cache.open(folder / f"{name}.store").identity}
        assert {row["test_id"] for row in own} == {cache.open(folder / f"{name}-test.store").identity}
        assert (folder / "grid" / "runs" / f"{name}_labels_2_0_none").is_dir()
        assert (folder / "grid" / "splits" / name / "shots-2-seed-0.txt").exists()
    assert {row["dataset"]: row["targets_id"] != "" for row in rows if row["method"] == "pool-labels"} == {
        "a": True,
        "b": False,  # its axes are fitted to its store
    }
    ledger = json.loads((folder / "grid" / "ledger.json").read_text())
    assert set(ledger["datasets"]) == {"a", "b"}
    assert ledger["datasets"]["b"]["origin"]["train"] == cache.open(folder / "b.store").identity
    assert len(list((folder / "grid" / "predictions").glob("test-*"))) == 2


def test_a_data_set_may_be_added_and_a_rerun_runs_only_that(folder, capsys):
    first = run(folder, datasets={"a": datasets(folder)["a"]})
    both = run(folder)
    assert "4 done, 4 to go" in capsys.readouterr().err
    assert [row for row in both if row["dataset"] == "a"] == first


def test_a_folder_is_of_one_pair_or_of_data_sets_by_name(folder):
    run(folder)
    alone = datasets(folder)["a"]
    with pytest.raises(ArtefactError, match="by a recipe with datasets, and this one has one train and test"):
        run(folder, datasets=None, **alone)
    with pytest.raises(ArtefactError, match=r"another 'train' .* in dataset a; use another --out"):
        run(folder, datasets={"a": datasets(folder)["b"]})


def test_the_rows_of_a_pair_by_name_are_those_of_the_pair_alone(folder):
    named = {row["method"]: row for row in run(folder) if row["dataset"] == "a"}
    (folder / "grid").rename(folder / "other")
    alone = {row["method"]: row for row in run(folder, datasets=None, **datasets(folder)["a"])}
    assert named.keys() == alone.keys()
    for column in ("top1", "balanced_acc", "split_id", "cache_id", "recipe_id", "targets_id"):
        assert {name: row[column] for name, row in named.items()} == {name: row[column] for name, row in alone.items()}
    assert {row["dataset"] for row in alone.values()} == {""}


def test_options_of_a_data_set_stand_in_place_of_the_recipes(folder):
    both = datasets(folder)
    both["b"] |= {"options": {"steps": 2, "img_size": 8}}
    common = {"methods": ["labels"], "references": ["teacher-probe"]}
    rows = {(row["dataset"], row["method"]): row for row in run(folder, datasets=both, **common)}
    assert [rows[name, "labels"]["steps"] for name in "ab"] == ["1", "2"]
    (folder / "grid").rename(folder / "both")
    options = {"img_size": 8, "steps": 2, "batch_size": 6}
    alone = {
        row["method"]: row for row in run(folder, datasets=None, options=options, **common, **datasets(folder)["b"])
    }
    for column in ("top1", "nll", "split_id", "recipe_id", "steps"):
        assert rows["b", "labels"][column] == alone["labels"][column]


def test_splits_are_written_as_the_recipe_says_and_read_again(folder):
    alone, common = datasets(folder)["a"], {"methods": ["labels"], "references": []}
    (row,) = run(folder, datasets=None, splits_as="coop", **common, **alone)
    (written,) = (folder / "grid" / "splits").iterdir()
    assert written.name == "shots-2-seed-0.json"
    kept = written.rename(folder / "split.json")
    (folder / "grid").rename(folder / "first")
    (again,) = run(folder, datasets=None, splits={2: [str(kept)]}, **common, **alone)
    assert (again["split_id"], again["top1"]) == (row["split_id"], row["top1"])


def test_options_of_a_data_set_are_fixed_by_the_first_run_of_it(folder):
    both, common = datasets(folder), {"methods": ["labels"], "references": []}
    run(folder, datasets={"a": both["a"]}, **common)
    both["b"] |= {"options": {"steps": 2}}
    assert len(run(folder, datasets=both, **common)) == 2  # of another data set they are free
    both["a"] |= {"options": {"steps": 2}}
    with pytest.raises(ArtefactError, match=r"made with another 'options' .* in dataset a; use another --out"):
        run(folder, datasets=both, **common)


def test_rows_of_an_earlier_release_are_gone_on_from(folder):
    alone = datasets(folder)["a"]
    rows = run(folder, datasets=None, **alone)
    results = folder / "grid" / "results.csv"
    later = ("dataset", "balanced_acc", "nll", "ece", "overlap", "near_overlap", "top1_clean", "gmacs", "latency_ms")
    kept = [{key: row[key] for key in row if key not in (*later, "online_teacher_s")} for row in rows]
    with results.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(kept[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(kept)
    more = run(folder, datasets=None, seeds=[0, 1], **alone)
    assert len(more) == 2 * len(rows) - 1  # the row of all labels is there once
    assert [{key: row[key] for key in kept[0]} for row in more[: len(kept)]] == kept
    assert more[0]["balanced_acc"] == "" != more[-1]["balanced_acc"]


def test_methods_may_have_targets_by_data_set(folder):
    method = {"label": "own", "method": "tcs-probe", "targets": {"b": "b.h5"}}
    grid = load_grid(write_recipe(folder, methods=[method]))
    found = {
        cell.dataset: cell_config(grid, cell, "", "cpu").targets for cell in plan_cells(grid) if cell.model == STUDENT
    }
    assert found == {"a": str(folder / "of-a" / "pca.h5"), "b": "b.h5"}


def test_variants_are_crossed_with_the_methods(folder):
    grid = load_grid(write_recipe(folder, variants={"short": {"steps": 2}, "wide": {"lr": 0.1}}))
    assert [row.label for row in grid.methods] == [
        *("labels, short", "labels, wide", "pool-labels, short", "pool-labels, wide"),
    ]
    steps = {
        cell.method.label: cell_config(grid, cell, "", "cpu").steps
        for cell in plan_cells(grid)
        if cell.model == STUDENT
    }
    assert (steps["labels, short"], steps["labels, wide"]) == (2, 1)


def test_splits_may_be_given_as_files_one_a_seed(folder):
    store = cache.open(folder / "a.store")
    files = []
    for seed in (7, 8):
        rows = k_shot_split(store.keys, store.labels_N, store.classes, 2, seed).rows_n
        files.append(folder / f"{seed}.txt")
        files[-1].write_text("".join(f"{store.classes[store.labels_N[row]]} {store.keys[row]}\n" for row in rows))
    given = datasets(folder)["a"] | {"splits": {2: [str(path) for path in files]}}
    rows = run(folder, datasets=None, seeds=[0, 1], methods=["labels"], references=["teacher-probe"], **given)
    expected = [k_shot_split(store.keys, store.labels_N, store.classes, 2, seed).digest for seed in (7, 8)]
    assert [row["split_id"] for row in rows if row["method"] == "labels"] == expected


def test_classes_with_fewer_labels_give_what_they_have_and_it_is_told_once(folder, capsys):
    changes = {"shots": [16], "methods": ["labels"], "datasets": {"b": datasets(folder)["b"]}}
    assert fewshot(FewshotConfig(recipe=str(write_recipe(folder, **changes)), out=str(folder / "refused"))) == 2
    assert "has 15 labelled images, fewer than the 16 shots" in (folder / "refused" / "results.csv").read_text()
    capsys.readouterr()
    rows = run(folder, shots_policy="up-to", **changes)
    said = capsys.readouterr().err
    assert said.count("shots_policy is up-to: 4 of 4 classes have fewer than 16 labels") == 1
    assert {row["status"] for row in rows} == {"ok"}
    assert len((folder / "grid" / "splits" / "b" / "shots-16-seed-0.txt").read_text().splitlines()) == 60
    with pytest.raises(ArtefactError, match="another 'options'"):
        run(folder, **changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train": "a.store"}, "has both datasets and train; give each pair of stores its own"),
        ({"datasets": {}}, r"datasets: \{\}; it must be a mapping"),
        ({"datasets": {"a b": {}}}, "the dataset 'a b'; its name must be letters, digits, dots and dashes"),
        ({"datasets": {"a": {"train": "a"}}}, "dataset a of recipe .* lacks 'test'"),
        ({"datasets": {"a": {"tran": "a"}}}, "dataset a of recipe .* has the unknown key 'tran'.*Did you mean train"),
        (
            {"datasets": {"a": {"train": "a", "test": "b", "options": {"step": 1}}}},
            "options of dataset a of .*Did you mean step",
        ),
        (
            {"datasets": {"a": {"train": "a", "test": "b", "options": {"steps": "x"}}}},
            "dataset a of .* steps: 'x'; it must be",
        ),
        ({"datasets": {"a": {"train": "a", "test": "b", "options": {"held_out": -1}}}}, "method 'labels', dataset a: "),
        ({"datasets": None}, "lacks 'train', or it is empty"),
        ({"variants": {"a": {"stepps": 2}}}, "variant a of recipe .* has the unknown key 'stepps'"),
        ({"variants": ["a"]}, r"variants: \['a'\]; it must be a mapping"),
        ({"methods": ["labels\x1b[31m"]}, r"has the text 'labels\\x1b\[31m', which holds control characters"),
        ({"splits_as": "csv"}, "splits_as: 'csv'; it must be lines or ibm2 or coop"),
        ({"shots_policy": "some"}, "shots_policy: 'some'; it must be exact or up-to"),
        ({"near_copies": 98}, "near_copies: 98; it must be a number above 0 and up to 1"),
        ({"latency": "no"}, "latency: 'no'; it must be true or false"),
        ({"unlabelled": ["longtail-0.5"]}, r"it must be a list of .* longtail-F with F above 1"),
        (
            {"datasets": {"a": {"train": "a", "test": "b", "splits": ["a.txt"]}}},
            "it must be a mapping from shots to files, one a seed",
        ),
        (
            {"datasets": {"a": {"train": "a", "test": "b", "splits": {2: ["a.txt", "b.txt"]}}}},
            "has 2 files of splits for 2 shots and 1 seeds; give one a seed",
        ),
        (
            {"methods": [{"label": "x", "method": "tcs-probe", "targets": {"c": "c.h5"}}]},
            "method 'x', has the unknown key 'c'; known keys are a, b",
        ),
    ],
)
def test_bad_recipes_are_one_line(folder, changes, message):
    with pytest.raises(ConfigError, match=message):
        load_grid(write_recipe(folder, **changes))


def test_pools_without_classes_are_lists_or_texts(folder):
    grid = load_grid(write_recipe(folder, unlabelled=["none", "longtail-10", {"without": ["ant", "bee"]}]))
    assert grid.unlabelled == ("none", "longtail-10", "without [ant, bee]")
    assert grid.pixel_pools == grid.unlabelled[1:]


def test_the_documentation_has_every_key_reference_and_measure():
    first_cells = [line.split("|")[1] for line in DOCUMENTATION.read_text().splitlines() if line.startswith("| `")]
    named = set(re.findall("`([^`]+)`", " ".join(first_cells)))
    assert named == {*RECIPE_KEYS, *REFERENCES}
    assert {column for column in LATER if f"`{column}`" not in DOCUMENTATION.read_text()} == {"dataset"}


@pytest.fixture
def own_loss(tmp_path, monkeypatch):
    """The module that the documentation shows, in the working folder."""
    text = OWN_METHOD.read_text()
    source = text.partition("```python\n")[2].partition("```")[0]
    assert len([line for line in source.splitlines() if line.strip()]) <= 20
    (tmp_path / "my_losses.py").write_text(source)
    monkeypatch.chdir(tmp_path)
    before = list(sys.path)
    yield "my_losses:ANGLE"
    assert sys.path == before
    sys.modules.pop("my_losses", None)


def test_a_method_of_ones_own_gets_into_the_table(folder, own_loss):
    recipe = write_recipe(
        folder,
        datasets={"a": datasets(folder)["a"]},
        methods=["labels", {"label": "angle", "loss": f"ce + 2.0*{own_loss}"}],
        options={"img_size": 16, "steps": 3, "batch_size": 6},
    )
    told = CliRunner().invoke(command, [str(recipe), "--out", str(folder / "grid")], catch_exceptions=False)
    assert told.exit_code == 0
    with (folder / "grid" / "results.csv").open(newline="") as file:
        rows = {row["method"]: row for row in csv.DictReader(file)}
    assert (rows["angle"]["status"], rows["angle"]["unlabelled"]) == ("ok", "all")
    log = next((folder / "grid" / "runs").glob("a_angle_*/*/metrics.jsonl")).read_text()
    assert own_loss in log  # the value of the loss at each step


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no_such_module:LOSS", "cannot be imported .*no_such_module.*write MODULE:NAME of a file in"),
        ("tcs.criteria.losses:NOTHING", "cannot be imported .*NOTHING"),
        ("tcs.criteria.losses:find_loss", r"which is a function; it must be a tcs\.criteria\.base\.Loss"),
    ],
)
def test_what_is_no_loss_is_refused_by_name(name, message):
    with pytest.raises(ConfigError, match=message):
        parse_loss(f"ce + {name}")
