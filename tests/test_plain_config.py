"""What Python code may give a configuration: values of the annotated types, which are recorded as JSON has them."""

import dataclasses
import inspect
import json
import os
import pathlib
import re
from collections.abc import Mapping
from typing import Any, get_origin

import numpy as np
import pytest

import tcs
from tcs.config.augment import AugmentConfig
from tcs.config.extract import FeatureConfig
from tcs.config.optimiser import OptimiserConfig
from tcs.config.plain import kinds_of, with_tuples
from tcs.config.pool import PoolConfig

# Configuration -> what it cannot do without
GIVEN: dict[Any, dict[str, Any]] = {
    tcs.ExtractConfig: {"data": "x", "out": "y", "teacher": "z"},
    tcs.PretrainConfig: {"data": "x", "out": "y.safetensors"},
    tcs.FitConfig: {"store": "x", "out": "y"},
    tcs.TargetsConfig: {"store": "x", "coordinates": "c", "out": "y"},
    tcs.TrainConfig: {"store": "x", "out": "y", "models": ("resnet18",)},
    tcs.EvalConfig: {"run": "x", "store": "y"},
    tcs.PredictConfig: {"model": "x", "paths": ("y",)},
    tcs.LatencyConfig: {"models": ("x",)},
    tcs.ProbeConfig: {"store": "x", "test": "y"},
    tcs.FewshotConfig: {"recipe": "x", "out": "y"},
    tcs.DistillConfig: {
        "out": "y",
        "extract": tcs.ExtractConfig(data="x", out="y", teacher="z"),
        "train": tcs.TrainConfig(store="x", out="y", models=("resnet18",)),
        "fit": tcs.FitConfig(store="x", out="y"),
        "targets": tcs.TargetsConfig(store="x", coordinates="c", out="y"),
    },
    tcs.LabelConfig: {"store": "x", "label_file": "y"},
    tcs.ExportConfig: {"run": "x", "to": "timm", "out": "y"},
    tcs.SuggestConfig: {"store": "x", "n": 4, "out": "y"},
    tcs.AuditConfig: {"store": "x"},
    tcs.LookConfig: {"store": "x"},
    tcs.CompareConfig: {"stores": ("x", "y"), "tests": ("v", "w")},
    tcs.RecomputeConfig: {"store": "x"},
    tcs.UpdateConfig: {"store": "x"},
    tcs.RepairConfig: {"store": "x"},
    tcs.ImportConfig: {"source": "x", "out": "y"},
    AugmentConfig: {},
    FeatureConfig: {},
    OptimiserConfig: {},
    PoolConfig: {},
}


def config_of(kind: Any, **options: Any) -> Any:
    return kind(**GIVEN[kind] | options)


def test_every_public_configuration_is_tried() -> None:
    assert {name for name in tcs.__all__ if name.endswith("Config")} <= {kind.__name__ for kind in GIVEN}


@pytest.mark.parametrize("kind", GIVEN, ids=lambda kind: str(kind.__name__))
def test_no_option_takes_an_object_of_another_type(kind: Any) -> None:
    for field in dataclasses.fields(kind):
        if field.name == "unlabelled":
            continue  # its text says what is wrong, as the command line's does
        with pytest.raises(tcs.ConfigError, match=rf"^{field.name} is \(1\+2j\); it must be .*\.$"):
            config_of(kind, **{field.name: 1 + 2j})


@pytest.mark.parametrize(
    ("kind", "option", "value", "message"),
    [
        (tcs.ProbeConfig, "seeds", 3, r"seeds is 3, a single one; it must be a tuple or list, as \[3\]\."),
        (tcs.ProbeConfig, "dims", 4, r"dims is 4, a single one; it must be a tuple or list, as \[4\]\."),
        (tcs.ProbeConfig, "compressions", 2.5, r"compressions is 2\.5, a single one; it must be a tuple or list, as \[2\.5\]\."),
        (tcs.ProbeConfig, "dims", "48", r"dims is '48'; it must be a tuple of whole numbers\."),
        (tcs.ProbeConfig, "dims", ("4",), r"dims is \('4',\); it must be a tuple of whole numbers\."),
        (tcs.FitConfig, "ceiling_shots", 4, r"ceiling_shots is 4, a single one; it must be a tuple or list, as \[4\]\."),
        (tcs.ProbeConfig, "dims", np.ones((2, 1)), r"dims is array\(\[\[1\.\], \[1\.\]\]\); it must be a tuple of whole numbers\."),
        (tcs.TrainConfig, "models", 3, r"models is 3; it must be a tuple of texts\."),
        (tcs.TrainConfig, "shots", "4", r"shots is '4'; it must be a whole number or None\."),
        (tcs.TrainConfig, "shots", 4.0, r"shots is 4\.0; it must be a whole number or None\."),
        (tcs.TrainConfig, "shots", True, r"shots is True; it must be a whole number or None\."),
        (tcs.TrainConfig, "steps", (4,), r"steps is \(4,\); it must be a whole number or None\."),
        (tcs.TrainConfig, "dry_run", 1, r"dry_run is 1; it must be True or False\."),
        (tcs.TrainConfig, "store", None, r"store is None; it must be a path\."),
        (tcs.TrainConfig, "store", b"x", r"store is b'x'; it must be a path\."),
        (tcs.TrainConfig, "optimiser", 1, r"optimiser is 1; it must be an OptimiserConfig\."),
        (tcs.TrainConfig, "pool", None, r"pool is None; it must be a PoolConfig\."),
        (OptimiserConfig, "lr", "1e-3", r"lr is '1e-3'; it must be a number\."),
        (OptimiserConfig, "lr", True, r"lr is True; it must be a number\."),
        (OptimiserConfig, "clip_grad", "1", r"clip_grad is '1'; it must be a number or None\."),
        (OptimiserConfig, "opt_betas", 0.9, r"opt_betas is 0\.9; it must be a tuple of 2 numbers or None\."),
        (tcs.ExtractConfig, "mean", (0.5, 0.5), r"mean is \(0\.5, 0\.5\); it must be a tuple of 3 numbers or None\."),
        (tcs.ExtractConfig, "view_scale", 1, r"view_scale is 1; it must be a tuple of 2 numbers\."),
        (tcs.ExtractConfig, "project", "avg=4", r"project is 'avg=4'; it must be a mapping of texts to whole numbers\."),
        (tcs.ExtractConfig, "project", {"avg": "4"}, r"project is {'avg': '4'}; it must be a mapping of texts to whole"),
        (tcs.ExtractConfig, "teacher_kwargs", {1: 2}, r"teacher_kwargs is {1: 2}; it must be a mapping of texts to values\."),
    ],
)  # fmt: skip
def test_a_value_of_another_type_is_refused_in_one_line(kind: Any, option: str, value: Any, message: str) -> None:
    with pytest.raises(tcs.ConfigError, match=f"^{message}") as caught:
        config_of(kind, **{option: value})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", [tcs.FitConfig, tcs.TargetsConfig, tcs.SuggestConfig, tcs.PredictConfig])
@pytest.mark.parametrize(
    ("out", "remedy"), [("new/", "new/NAME"), ("a/b//", "a/b/NAME"), ("/", r"\./NAME"), ("", r"\./NAME")]
)
def test_no_file_is_written_in_the_place_of_a_folder(kind: Any, out: str, remedy: str) -> None:
    message = rf"^--out is '{out}', the name of a folder, and a file is written; name a file, as {remedy}\.$"
    with pytest.raises(tcs.ConfigError, match=message):
        config_of(kind, out=out)


def test_no_sheet_is_written_in_the_place_of_a_folder() -> None:
    with pytest.raises(tcs.ConfigError, match=r"^--sheet is 'a\.png/', the name of a folder, and a file is written"):
        config_of(tcs.SuggestConfig, sheet="a.png/")


def test_numbers_of_numpy_and_lists_are_recorded_as_python_has_them() -> None:
    config = config_of(
        tcs.ProbeConfig, shots=np.int64(4), seeds=[np.int32(0), 1], dims=range(2, 4), test=pathlib.Path("a") / "b"
    )
    assert (config.shots, config.seeds, config.dims, config.test) == (4, (0, 1), (2, 3), "a/b")
    recorded = json.loads(json.dumps(dataclasses.asdict(config)))
    assert (recorded["seeds"], recorded["dims"]) == ([0, 1], [2, 3])
    rates = OptimiserConfig(lr=np.float32(0.5), weight_decay=np.int64(0), warmup_share=0)  # type: ignore[arg-type]
    assert [(type(value), value) for value in (rates.lr, rates.weight_decay, rates.warmup_share)] == [
        (float, 0.5),
        (int, 0),
        (int, 0),
    ]
    projected = config_of(tcs.ExtractConfig, project={"avg": np.int64(8)})
    assert type(projected.project["avg"]) is int


def recorded_or_refused(kind: Any, options: dict[str, Any]) -> tuple[bool, str]:
    """The record of a configuration, True before it; or what it says of the options."""
    try:
        return True, json.dumps(dataclasses.asdict(config_of(kind, **options)))
    except tcs.ConfigError as error:
        return False, str(error)


def as_given(kind: Any, path: Any) -> Any:
    """A value of the annotation `kind` that is of this path."""
    origin = get_origin(kind)
    return (path, path) if origin is tuple else {"avg": path} if origin is Mapping else path


@pytest.mark.parametrize("kind", GIVEN, ids=lambda kind: str(kind.__name__))
def test_a_path_is_recorded_as_its_text(kind: Any) -> None:
    """Each option that is a path, alone and beside what the configuration cannot do without."""
    for field in dataclasses.fields(kind):
        if os.PathLike.__name__ in str(field.type):
            one = next(each for each in kinds_of(field.type) if os.PathLike.__name__ in str(each))
            texts, paths = ({field.name: as_given(one, place)} for place in ("a/b.csv", pathlib.Path("a/b.csv")))
            assert recorded_or_refused(kind, paths) == recorded_or_refused(kind, texts), field.name


def test_paths_are_marked_and_other_texts_are_not() -> None:
    marked = {
        f"{kind.__name__}.{field.name}"
        for kind in (tcs.FitConfig, tcs.EvalConfig, tcs.LatencyConfig)
        for field in dataclasses.fields(kind)
        if os.PathLike.__name__ in str(field.type)
    }
    fit = ["store", "out", "also", "split_file", "ceiling_test", "ceiling_test_also"]
    assert marked == {
        *(f"FitConfig.{name}" for name in fit),
        *(f"EvalConfig.{name}" for name in ["run", "store", "probe", "data", "data_dir", "out", "errors"]),
        "LatencyConfig.models",
    }
    assert recorded_or_refused(tcs.FitConfig, {"out": pathlib.Path("a") / "c"})[0]


def test_a_list_at_the_default_is_no_idle_option() -> None:
    assert FeatureConfig(view_scale=[0.2, 1.0]) == FeatureConfig()  # type: ignore[arg-type]


def own_parameters(stage: Any) -> Any:
    """The parameters of the function that is decorated to take the options of its configuration as well."""
    return inspect.signature(inspect.unwrap(stage)).parameters


STAGES = [
    name
    for name in tcs.__all__
    if inspect.isfunction(getattr(tcs, name)) and "config" in own_parameters(getattr(tcs, name))
]


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_takes_no_object_but_its_configuration(name: str) -> None:
    stage = getattr(tcs, name)
    kind = own_parameters(stage)["config"].annotation
    others = (1, None, kind, config_of(tcs.FitConfig if kind is tcs.EvalConfig else tcs.EvalConfig))
    for given in others:
        words = rf"it must be an? {kind.__name__}: write tcs\.{kind.__name__}\(\.\.\.\) for it\.$"
        with pytest.raises(TypeError, match=rf"^config is {re.escape(repr(given)[:200])}; {words}"):
            stage(given)


def test_every_configuration_of_a_stage_is_refused_elsewhere() -> None:
    taken = {own_parameters(getattr(tcs, name))["config"].annotation for name in STAGES}
    assert {kind.__name__ for kind in taken} == {name for name in tcs.__all__ if name.endswith("Config")}


def test_an_object_of_several_lines_is_named_in_one() -> None:
    with pytest.raises(TypeError, match=r"^config is array\(\[\[1\.\], \[1\.\]\]\); it must be a TrainConfig: "):
        tcs.train(np.ones((2, 1)))  # type: ignore[arg-type]


def test_lists_that_were_tuples_are_tuples_again() -> None:
    kwargs = {"layers": (1, 2), "depth": 3, "nested": {"a": [1]}}
    assert with_tuples(json.loads(json.dumps(kwargs))) == kwargs
