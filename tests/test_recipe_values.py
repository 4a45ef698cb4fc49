"""Values of another type than a recipe's keys take are refused when it is loaded, each in one line with key, value and rule."""

import dataclasses
import re

import pytest
import yaml
from click.testing import CliRunner

from tcs.cli.fewshot import command
from tcs.config.train import TrainConfig, option_defaults
from tcs.errors import ConfigError
from tcs.grid.recipe import cell_config, plan_cells
from tcs.grid.recipe_file import load_grid
from tcs.grid.recipe_values import KINDS, typed

NOT_FOUR = r"steps: 'four'; it must be a whole number, as 4, or null"


def write(folder, text="", **changes):
    """A recipe with `changes`, and lines of YAML as they stand."""
    recipe = {"train": "a.store", "test": "b.store", "students": ["resnet18"], "methods": ["labels"], "shots": [4]}
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe | changes) + text)
    return path


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"options": {"steps": "four"}}, rf"options of recipe .* has {NOT_FOUR}"),
        ({"options": {"steps": 10.5}}, "steps: 10.5; it must be a whole number"),
        ({"options": {"batch_size": True}}, "batch_size: True; it must be a whole number"),
        ({"options": {"batch_size": None}}, r"batch_size: None; it must be a whole number, as 4\."),
        ({"options": {"lr": "fast"}}, r"lr: 'fast'; it must be a number, as 0\.1"),
        ({"options": {"lr": False}}, r"lr: False; it must be a number, as 0\.1"),
        ({"options": {"amp": "on it"}}, "amp: 'on it'; it must be true or false"),
        ({"options": {"amp": 1}}, "amp: 1; it must be true or false"),
        ({"options": {"sched": 3}}, "sched: 3; it must be a text"),
        ({"options": {"opt_betas": [0.9]}}, r"opt_betas: \[0\.9\]; it must be a list of 2 numbers, as \[0\.1, 0\.9\]"),
        ({"options": {"opt_betas": 0.9}}, "opt_betas: 0.9; it must be a list of 2 numbers"),
        ({"options": {"freeze": "stem"}}, "freeze: 'stem'; it must be a list of texts"),
        (
            {"options": {"decay_milestones": [1, "b"]}},
            r"decay_milestones: \[1, 'b'\]; it must be a list of whole numbers",
        ),
        ({"options": {"lr": -1.0}}, r"recipe .*, method 'labels': --lr is -1\.0; it must be a positive number"),
        (
            {"options": {"lr": 1e39}},
            r"method .labels.: --lr is 1e\+39; it must be a positive number, 1,000,000 at most",
        ),
        ({"options": {"steps": 3, "epochs": 2}}, "method 'labels': --steps and --epochs exclude each other"),
        ({"options": ["steps"]}, r"options of recipe .* must be a mapping, as .*, and not \['steps'\]"),
        ({"methods": [{"method": "labels", "steps": "four"}]}, rf"recipe .*, method 'labels', has {NOT_FOUR}"),
        ({"methods": [{"label": "a", "head": "linear", "loss": "l2"}]}, "method 'a': --loss 'l2' trains no classifier"),
        ({"methods": [{"loss": ["ce"]}]}, r"has loss: \['ce'\]; it must be a text"),
        ({"methods": [3]}, "a method of recipe .* must be a mapping, as .*, and not 3"),
        ({"methods": [None]}, "has neither 'method' nor 'loss'"),
        ({"methods": [["labels"]]}, r"a method of recipe .* must be a mapping, as .*, and not \['labels'\]"),
        ({"methods": "labels"}, "methods: 'labels'; it must be a list of at least one"),
        ({"students": "test_vit"}, r"students: 'test_vit'; it must be a list of texts, as \[a, b\]"),
        ({"students": [3]}, r"students: \[3\]; it must be a list of texts"),
        ({"references": "teacher-probe"}, "references: 'teacher-probe'; it must be a list of texts"),
        ({"references": ["ibm2", "ibm2"]}, "names one of its references twice"),
        ({"unlabelled": "all"}, "unlabelled: 'all'; it must be a list of all, none or whole numbers of rows"),
        ({"unlabelled": ["many"]}, r"unlabelled: \['many'\]; it must be a list of all, none or whole numbers"),
        ({"unlabelled": [True]}, r"unlabelled: \[True\]; it must be a list of all, none"),
        ({"unlabelled": [-1]}, r"unlabelled: \[-1\]; it must be a list of all, none"),
        ({"unlabelled": []}, r"unlabelled: \[\]; it must be a list of all, none"),
        ({"unlabelled": None}, "unlabelled: None; it must be a list of all, none"),
        ({"unlabelled": [20, "20"]}, r"names one of its pools \(unlabelled\) twice"),
        ({"seeds": [0, 0]}, "names one of its seeds twice; give each once"),
        ({"seeds": []}, r"seeds: \[\]; it must be a list of whole numbers from 0 up"),
        ({"seeds": [-1]}, r"seeds: \[-1\]; it must be a list of whole numbers from 0 up"),
        ({"shots": [True]}, r"shots: \[True\]; it must be a list of whole numbers"),
        ({"shots": [4, 0]}, r"shots: \[4, 0\]; it must be a list of whole numbers from 1 up"),
        ({"shots": 4}, "shots: 4; it must be a list of whole numbers"),
        ({"train": ["a.store"]}, r"train: \['a\.store'\]; it must be a text"),
        ({"targets": 3}, "targets: 3; it must be a text, or null"),
        ({"data": ["images"]}, r"data: \['images'\]; it must be a text, or null"),
    ],
)
def test_a_wrong_value_is_one_line(tmp_path, changes, message):
    with pytest.raises(ConfigError, match=message) as raised:
        load_grid(write(tmp_path, **changes))
    assert "\n" not in str(raised.value)


def test_a_dry_run_refuses_it_too(tmp_path):
    path = write(tmp_path, options={"steps": "four"})
    found = CliRunner().invoke(command, [str(path), "--out", str(tmp_path / "grid"), "--dry-run"])
    assert isinstance(found.exception, ConfigError)
    assert re.search(NOT_FOUR, str(found.exception))
    assert found.stdout == ""


@pytest.mark.parametrize(
    ("text", "message"),
    [("note: 2026-13-45\n", "is not YAML: month must be in"), ("note: \x00\n", "is not YAML"), ("b: [", "is not YAML")],
)
def test_a_file_that_is_no_yaml_is_one_line(tmp_path, text, message):
    with pytest.raises(ConfigError, match=message):
        load_grid(write(tmp_path, text))


def test_a_file_of_other_bytes_than_text_is_refused(tmp_path):
    (tmp_path / "recipe.yaml").write_bytes(b"note: \xff\xfe\n")
    with pytest.raises(ConfigError, match="is not YAML"):
        load_grid(tmp_path / "recipe.yaml")


def test_a_number_may_be_written_as_on_the_command_line(tmp_path):
    grid = load_grid(
        write(tmp_path, "options: {lr: 1e-3, opt_betas: [0.9, 99e-2], clip_grad: null, weight_decay: 0}\n")
    )
    config = cell_config(grid, next(cell for cell in plan_cells(grid) if cell.model != "teacher"), "out", "cpu")
    assert (config.optimiser.lr, config.optimiser.opt_betas) == (0.001, (0.9, 0.99))
    assert (config.optimiser.clip_grad, config.optimiser.weight_decay) == (None, 0)


@pytest.mark.parametrize(
    "name", [name for name, value in option_defaults().items() if value is not dataclasses.MISSING]
)
def test_every_option_takes_its_default_and_refuses_a_mapping(name):
    default = option_defaults()[name]
    given = list(default) if isinstance(default, tuple) else default
    assert typed(given, KINDS[name], name, "recipe") == given
    with pytest.raises(ConfigError, match=rf"recipe has {name}: \{{\}}; it must be "):
        typed({}, KINDS[name], name, "recipe")


def test_the_options_of_a_recipe_are_those_of_a_run():
    assert set(option_defaults()) <= set(KINDS)
    assert KINDS["models"] == tuple[str, ...]
    assert {field.name for field in dataclasses.fields(TrainConfig)} <= set(KINDS)
