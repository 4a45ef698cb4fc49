"""args.yaml: a configuration written and read back by `tcs train -c` is the same configuration."""

import dataclasses
import pathlib
import sys
import types
import typing
from typing import Any

import click
import pytest
import yaml
from click.testing import CliRunner

from tcs.cli.train import command
from tcs.config.optimiser import OptimiserConfig
from tcs.config.train import PARTS, TrainConfig, option_defaults
from tcs.training.record import LEFT_OUT, save_args

MANY: dict[str, Any] = {
    "store": "a folder/ö #1.store",
    "out": "null",
    "models": ("resnet18,layers=(1,1,1,1)", "vit_tiny_patch16_224,img_size=32", "1e-3"),
    "targets": "~/t.h5",
    "readout": "no",
    "method": None,
    "head": "tcs",
    "loss": "ce + 0.5*rkd: all",
    "mimic_view": "clean",
    "shots": 16,
    "split_seed": 0,
    "selection": "gates",
    "keep": 12,
    "unlabelled": "10000",
    "steps": 100_000,
    "labelled_share": 1 / 3,
    "crop_padding": 1e-17,
    "hflip": 0.0,
    "opt": "sgd",
    "lr": 1e-3,
    "clip_grad": None,
    "weight_decay": 1e-05,
    "warmup_share": 0.1 + 0.2,
    "pretrained": True,
    "channels_last": False,
    "device": "cuda:1",
}


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[TrainConfig]:
    """The configurations that `tcs train` was called with; a stand-in for tcs.training.train trains nothing and loads no torch."""
    configs: list[TrainConfig] = []
    stand_in = types.SimpleNamespace(train=lambda config: configs.append(config) or [], forecast=lambda config: [])
    monkeypatch.setitem(sys.modules, "tcs.training.train", stand_in)  # type: ignore[arg-type]
    return configs


def run(*arguments: str) -> None:
    result = CliRunner().invoke(command, list(arguments), catch_exceptions=False)
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize(
    "given", [MANY, {"store": "s", "out": "o", "models": ("m",)}, MANY | {"clip_grad": float("inf"), "steps": None}]
)
def test_a_configuration_comes_back_through_its_file(
    tmp_path: pathlib.Path, trained: list[TrainConfig], given: dict[str, Any]
) -> None:
    config = TrainConfig.from_options(given)
    save_args(tmp_path / "args.yaml", config.options())
    run("-c", str(tmp_path / "args.yaml"))
    assert trained == [config]
    save_args(tmp_path / "again.yaml", trained[0].options())
    read = [yaml.safe_load((tmp_path / name).read_text()) for name in ("args.yaml", "again.yaml")]
    assert read[0] == read[1]


def test_the_file_has_every_option_in_order_and_other_readers_of_yaml_see_the_values(tmp_path: pathlib.Path) -> None:
    config = TrainConfig.from_options(MANY)
    save_args(tmp_path / "args.yaml", config.options())
    text = (tmp_path / "args.yaml").read_text()
    found = yaml.safe_load(text)
    names = [name for name in option_defaults() if name not in LEFT_OUT]
    assert list(found) == names
    assert {name: tuple(value) if isinstance(value, list) else value for name, value in found.items()} == {
        name: config.options()[name] for name in names
    }
    assert text.splitlines()[0] == "# All options of this run, resolved. To repeat it: tcs train -c args.yaml"


def test_a_file_never_asks_to_delete(tmp_path: pathlib.Path, trained: list[TrainConfig]) -> None:
    config = TrainConfig(store="s", out="o", models=("m",), overwrite=True)
    save_args(tmp_path / "args.yaml", config.options())
    run("-c", str(tmp_path / "args.yaml"))
    run("-c", str(tmp_path / "args.yaml"), "--overwrite", "--lr", "0.5")
    assert trained == [
        dataclasses.replace(config, overwrite=False),
        dataclasses.replace(config, optimiser=OptimiserConfig(lr=0.5)),
    ]


def nullable_fields() -> list[str]:
    hints: dict[str, Any] = {}
    for kind in (TrainConfig, *PARTS.values()):
        hints |= typing.get_type_hints(kind)
    return [name for name, hint in hints.items() if type(None) in typing.get_args(hint)]


@pytest.mark.parametrize("name", nullable_fields())
def test_every_option_that_may_be_none_is_null_in_a_file(
    tmp_path: pathlib.Path, trained: list[TrainConfig], name: str
) -> None:
    (tmp_path / "run.yaml").write_text(f"store: s\nout: o\nmodels: [m]\n{name}: null\n")
    run("-c", str(tmp_path / "run.yaml"))
    assert trained[0].options()[name] is None


def other_value(option: click.Parameter) -> Any:
    """A value of the option's type that is not its default, hard to get through a file where there is such a one."""
    if isinstance(option.type, click.Choice):
        others = [choice for choice in reversed(option.type.choices) if choice != option.default]
        return tuple(others[:2]) if option.multiple else others[0]
    one = {"integer": 7, "float": 1.5e-07, "boolean": option.default is not True}.get(option.type.name, "1e-3: 'no' #")
    if option.multiple:
        return (one, one)
    return one if option.nargs == 1 else (one,) * option.nargs


def test_every_option_of_the_command_comes_back(tmp_path: pathlib.Path) -> None:
    options = [option for option in command.params if option.expose_value and option.name not in LEFT_OUT]
    given = {str(option.name): other_value(option) for option in options}
    save_args(tmp_path / "args.yaml", given)
    context = command.make_context("train", ["-c", str(tmp_path / "args.yaml")])
    assert {name: context.params[name] for name in given} == given
    assert not context.params["overwrite"]


def test_a_mapping_has_no_form_in_the_file(tmp_path: pathlib.Path) -> None:
    with pytest.raises(AssertionError, match="options of a file are texts and lists of texts"):
        save_args(tmp_path / "args.yaml", {"kwargs": {"a": 1}})
