"""What a process has loaded after it has done one thing or another, told by one fresh interpreter that is led from light to heavy.

Modules stay loaded: what is missing after a later step was missing after all earlier ones. A step that is to see nothing of the
others, or leave nothing to them, is done in a fork of its own.
"""

import dataclasses
import json
import os
import pathlib
import subprocess
import sys
from collections.abc import Mapping

import pytest
import yaml
from artefacts import make_store, make_targets
from bound_names import BOUND
from grid_folders import usual_rows, write_rows

from tcs.config.train import TrainConfig
from tcs.training.train import train

ROOT = pathlib.Path(__file__).parents[1]
STUDENT = "resnet18,layers=(1,1,1,1),channels=(4,4,8,8)"
LEADER = """
import json, os, sys
def loaded_after(code):
    told = os.dup(1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    try:
        exec(code, {"__name__": "__main__"})
        return sorted(sys.modules)
    except BaseException as error:
        return f"{type(error).__name__}: {error}"
    finally:
        sys.stdout.flush()
        os.dup2(told, 1)
def apart(code):
    reader, writer = os.pipe()
    if not os.fork():
        with open(writer, "w") as file:
            json.dump(loaded_after(code), file)
            file.flush()
            os._exit(0)
    os.close(writer)
    with open(reader) as file:
        found = json.load(file)
    os.wait()
    return found
found = {}
for name, code, is_apart in json.load(sys.stdin):
    found[name] = (apart if is_apart else loaded_after)(code)
print(json.dumps(found))
"""
HELP = """
import click.testing
from tcs.cli import COMMANDS, group
from tcs.cli.cache import SUBCOMMANDS
for name in [None, *COMMANDS, *(f"cache {name}" for name in SUBCOMMANDS)]:
    result = click.testing.CliRunner().invoke(group, [*(name or "").split(), "--help"])
    assert result.exit_code == 0 and "Usage" in result.output, (name, result.output)
"""
COMMAND = """
from tcs.cli import main
try:
    main({})
except SystemExit as end:
    assert end.code == 0, end.code
"""
PLAIN_TIMM = """
import timm, tcs.students.zoo
from safetensors.torch import load_file
model = timm.create_model({name!r}, num_classes=3)
model.load_state_dict(load_file({path!r}))
assert sum(value.double().sum() for value in model.state_dict().values()) != 0
"""
BY_NAME = "from tcs.teacher.source import require_known_teacher\nrequire_known_teacher('cifar_resnet8')"
FUNCTIONS = """
import tcs.functional.crd
from tcs.functional import crd, lsh
assert (crd.__name__, lsh.__name__) == ("crd", "lsh")
"""
STAGES = (
    "import tcs.training.train, tcs.grid.run, tcs.evaluation.students, tcs.evaluation.probe, "
    "tcs.inference.prediction, tcs.inference.latency"
)
GRID = """
from tcs.config.evaluate import FewshotConfig
from tcs.grid.run import fewshot
assert fewshot(FewshotConfig(recipe={recipe!r}, out={out!r})) == 0
"""
PACKAGE = """
import functools, importlib
found = importlib.import_module({package!r})
for name in {names!r}:
    functools.reduce(getattr, name.removeprefix({package!r} + ".").split("."), found)
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Step:
    """One thing to do; `apart` in a fork, which leaves nothing to the others."""

    code: str
    apart: bool = False


def steps(folder: pathlib.Path) -> Mapping[str, Step]:
    """From light to heavy. `folder` has train.store, test.store, pca.h5, small/ (a run of cifar_resnet8), recipe.yaml and rows/ (of a
    grid)."""
    store = str(folder / "train.store")
    (small,) = (folder / "small").glob("*/folded.safetensors")
    name = json.loads(small.with_name("config.json").read_text())["student"]["name"]
    options = [store, "--targets", str(folder / "pca.h5"), "--out", str(folder / "run"), "--model", STUDENT]
    options += ["--method", "tcs+elsh", "--shots", "4", "--steps", "10", "--img-size", "16"]
    packages = {name: Step(code=PACKAGE.format(package=name, names=names)) for name, names in BOUND.items()}
    return {
        "import cache": Step(code="import cache", apart=True),
        **{
            name: dataclasses.replace(step, apart=True)
            for name, step in packages.items()
            if not name.startswith("torch")
        },
        "help": Step(code=HELP),
        "tcs --help": Step(code=COMMAND.format(["--help"])),
        "cache info": Step(code=COMMAND.format(["cache", "info", store])),
        "methods": Step(code=COMMAND.format(["methods", "vid"])),
        "report": Step(code=COMMAND.format(["report", str(folder / "rows")])),
        **{name: step for name, step in packages.items() if name.startswith("torch")},
        "functions": Step(code=FUNCTIONS, apart=True),
        "timm": Step(code="import timm"),
        "plain timm": Step(code=PLAIN_TIMM.format(name=name, path=str(small)), apart=True),
        "by name": Step(code=BY_NAME, apart=True),
        "import stages": Step(code=STAGES),
        "train": Step(code=COMMAND.format(["train", *options])),
        "grid": Step(code=GRID.format(recipe=str(folder / "recipe.yaml"), out=str(folder / "grid"))),
    }


def lead(given: Mapping[str, Step]) -> dict[str, list[str] | str]:
    """Names of all modules that are loaded after each step, or the error that ended it."""
    environment = {name: value for name, value in os.environ.items() if name not in ("RANK", "WORLD_SIZE")}
    told = json.dumps([(name, step.code, step.apart) for name, step in given.items()])
    run = subprocess.run(
        [sys.executable, "-c", LEADER],
        cwd=ROOT,
        env=environment,
        input=told,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    found: dict[str, list[str] | str] = json.loads(run.stdout)
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("loading")
    make_store(folder / "train.store")
    make_store(folder / "test.store", seed=9, rows=30)
    make_targets(folder)
    small = {"models": ("cifar_resnet8",), "method": "labels", "shots": 4, "steps": 1, "batch_size": 8}
    train(TrainConfig(store=str(folder / "train.store"), out=str(folder / "small"), **small))
    recipe = {"train": str(folder / "train.store"), "test": str(folder / "test.store"), "students": [STUDENT]}
    recipe |= {"methods": ["labels"], "shots": [4], "seeds": [0], "unlabelled": [20], "references": ["same-pixels"]}
    recipe |= {"options": {"img_size": 16, "steps": 3, "batch_size": 16}}
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    write_rows(folder / "rows", usual_rows(), yaml.safe_dump(recipe | {"targets": str(folder / "pca.h5")}))
    return folder


@pytest.fixture(scope="module")
def loaded(folder: pathlib.Path) -> dict[str, set[str]]:
    found = lead(steps(folder))
    failed = {name: modules for name, modules in found.items() if isinstance(modules, str)}
    assert failed == {}
    return {name: set(modules) for name, modules in found.items()}


TEACHERS = ("tcs.teacher", "tcs.extraction", "tcs.pretraining", "faiss")


def test_store_loads_neither_tcs_nor_torch(loaded: dict[str, set[str]]) -> None:
    assert "cache.reader" in loaded["import cache"]
    assert not loaded["import cache"] & {"tcs", "torch", "timm", "faiss", "sklearn", "PIL"}


@pytest.mark.parametrize("package", BOUND)
def test_a_package_alone_binds_the_submodules_that_are_reached_through_it(
    loaded: dict[str, set[str]], package: str
) -> None:
    assert set(BOUND[package]) <= loaded[package]


def test_help_of_every_command_loads_nothing_heavy(loaded: dict[str, set[str]]) -> None:
    assert "tcs.cli.train" in loaded["help"]
    assert not loaded["help"] & {"torch", "timm", "faiss", "sklearn", "h5py", "numpy", "PIL"}


@pytest.mark.parametrize(
    ("step", "used"),
    [
        ("tcs --help", "tcs.cli"),
        ("cache info", "cache.reader"),
        ("methods", "tcs.methods.catalogue"),
        ("report", "tcs.coordinates.targets"),
    ],
)
def test_what_runs_no_model_needs_no_torch(loaded: dict[str, set[str]], step: str, used: str) -> None:
    assert used in loaded[step]
    assert not loaded[step] & {"torch", "timm", "sklearn", "faiss", "scipy.stats"}


def test_a_name_is_the_function_though_its_module_was_imported_first(loaded: dict[str, set[str]]) -> None:
    assert {"tcs.functional.crd", "tcs.functional.lsh"} <= loaded["functions"]


def test_plain_timm_loads_a_small_image_student(loaded: dict[str, set[str]]) -> None:
    assert "tcs.training" not in loaded["plain timm"]
    assert "tcs.students.zoo" in loaded["plain timm"]


def test_a_small_image_student_is_a_known_teacher_by_its_name_alone(loaded: dict[str, set[str]]) -> None:
    assert "tcs.teacher.source" in loaded["by name"]


@pytest.mark.parametrize(
    ("step", "used"),
    [
        ("import stages", "tcs.training.trainer"),
        ("train", "tcs.training.trainer"),
        ("grid", "tcs.grid.pixel_trainer"),
    ],
)
def test_training_loads_neither_teacher_nor_faiss(loaded: dict[str, set[str]], step: str, used: str) -> None:
    assert used in loaded[step]
    assert not {name for name in loaded[step] if name.startswith(TEACHERS)}


def test_the_files_of_the_steps_are_there(folder: pathlib.Path, loaded: dict[str, set[str]]) -> None:
    assert list((folder / "run").glob("*/folded.safetensors"))
    assert (folder / "grid" / "results.csv").exists()
    assert (folder / "rows" / "report.md").exists()


def test_a_step_that_fails_is_told_and_the_others_go_on() -> None:
    found = lead({"bad": Step(code="1 / 0"), "apart": Step(code="import zoneinfo", apart=True), "good": Step(code="")})
    assert found["bad"] == "ZeroDivisionError: division by zero"
    assert "zoneinfo" in found["apart"]
    assert "zoneinfo" not in found["good"]
