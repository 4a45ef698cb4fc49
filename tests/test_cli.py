"""The command line: lazy, with exit codes, one-line errors, and JSON that is alone on stdout."""

import importlib
import pathlib
import re
import subprocess
import sys

import click
import pytest
from command_line import extraction_arguments, tcs

from tcs.cli import COMMANDS, group
from tcs.cli.cache import SUBCOMMANDS
from tcs.cli.extra_arguments import REMEDIES
from tcs.config.extract import ExtractConfig
from tcs.errors import ModelError
from tcs.extraction.extract import extract

ROOT = pathlib.Path(__file__).parents[1]


@pytest.fixture(scope="module")
def arguments(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return extraction_arguments(tmp_path_factory.mktemp("cli"))


def test_table_of_commands_is_complete_and_each_module_has_its_command() -> None:
    tables = {"tcs.cli": COMMANDS, "tcs.cli.cache": SUBCOMMANDS}
    for package, table in tables.items():
        names = {path.stem for path in (ROOT / package.replace(".", "/")).glob("*.py")} - {
            "__init__",
            "completion",
            "config_file",
            "failures",
            "interrupts",
            "extra_arguments",
            "lazy_group",
            "train_options",
        }
        assert {module for module, _ in table.values()} - set(tables) == {f"{package}.{name}" for name in names}
        for module, _ in table.values():
            assert isinstance(importlib.import_module(module).command, click.Command)


def test_help_version_and_wrong_usage_have_their_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = tcs(capsys, "--help")
    assert code == 0
    assert all(f"  {name} " in out for name in COMMANDS)
    assert tcs(capsys, "--version")[0] == 0
    code, _, err = tcs(capsys, "extrakt")
    assert code == 2
    assert "No such command 'extrakt'" in err
    code, _, err = tcs(capsys, "extract")
    assert code == 2
    assert "Missing argument 'DATA'" in err
    assert tcs(capsys)[0] == 2


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("extrac", "No such command 'extrac'. Did you mean extract, pretrain or train?"),
        ("cache verfy", "No such command 'verfy'. Did you mean verify?"),
        ("help extrac", "No such command 'extrac'. Did you mean extract, pretrain or train?"),
        ("help cache verfy", "No such command 'verfy'. Did you mean verify?"),
        ("help fit it", "'tcs fit' has no commands of its own; type tcs fit --help."),
        ("zzz", "No such command 'zzz'."),
        ("train a.store --learning-rate 1", "No such option '--learning-rate'. Did you mean '--lr'?"),
        ("extract photos --image-size 64", "No such option '--image-size'. Did you mean '--img-size'?"),
    ],
)
def test_a_command_or_option_that_is_none_is_told_with_the_nearest(
    capsys: pytest.CaptureFixture[str], line: str, message: str
) -> None:
    code, out, err = tcs(capsys, *line.split())
    assert (code, out, err.splitlines()[-1]) == (2, "", f"Error: {message}")


@pytest.mark.parametrize("line", ["", "train", "cache", "cache verify", "help"])
def test_help_of_a_command_is_the_commands_help(capsys: pytest.CaptureFixture[str], line: str) -> None:
    expected = tcs(capsys, *line.split(), "--help")
    assert expected[1].startswith(f"Usage: tcs {line}".rstrip())
    assert tcs(capsys, "help", *line.split()) == expected


def test_errors_of_user_and_store_are_one_line_with_exit_code_1(
    capsys: pytest.CaptureFixture[str], tmp_path: pathlib.Path, arguments: list[str]
) -> None:
    missing = str(tmp_path / "missing")
    for line in (["cache", "info", missing], ["extract", missing, "--out", missing, "--teacher", "test_resnet"]):
        code, out, err = tcs(capsys, *line)
        assert (code, out) == (1, "")
        assert err.startswith("Error: ")
        assert err.count("\n") == 1
        assert missing in err
    code, _, err = tcs(capsys, *arguments, "--out", missing, "--images", "resized")
    assert (code, err.startswith("Error: --images is 'resized'; it must be original, none, or resized:PX")) == (1, True)


def test_command_line_and_python_raise_the_same_error(
    capsys: pytest.CaptureFixture[str], tmp_path: pathlib.Path, arguments: list[str]
) -> None:
    data, checkpoint = arguments[1], arguments[5]
    with pytest.raises(ModelError, match="does not fit test_vit") as error:
        extract(ExtractConfig(data=data, out=str(tmp_path / "s"), teacher="test_vit", teacher_checkpoint=checkpoint))
    swapped = [argument.replace("test_resnet", "test_vit") for argument in arguments[:6]]
    assert tcs(capsys, *swapped, "--out", str(tmp_path / "s")) == (1, "", f"Error: {error.value}\n")


def test_interrupt_is_130_and_says_how_to_resume(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path, arguments: list[str]
) -> None:
    def interrupt(_: ExtractConfig) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("tcs.extraction.extract.extract", interrupt)
    code, _, err = tcs(capsys, *arguments, "--out", str(tmp_path / "s"))
    assert code == 130
    assert err.endswith("stopped; run the same command again to resume.\n")


def test_ranks_beside_rank_0_speak_last_and_under_their_name(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
    waited: list[float] = []
    monkeypatch.setattr("tcs.cli.time.sleep", waited.append)
    for name, value in {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    missing = str(tmp_path / "missing")
    code, _, err = tcs(capsys, "cache", "info", missing)
    assert (code, err.startswith(f"rank 1: Error: {missing} ")) == (1, True)
    assert tcs(capsys, "extract")[0] == 2
    assert waited == [5.0, 5.0]
    monkeypatch.setattr("tcs.cli.group.main", interrupted)
    assert tcs(capsys, "cache", "info", missing) == (130, "", "")
    assert waited == [5.0, 5.0]


def interrupted(**_: object) -> None:
    raise KeyboardInterrupt


def test_wrong_ranks_are_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path, arguments: list[str]
) -> None:
    monkeypatch.setenv("RANK", "7")
    monkeypatch.setenv("WORLD_SIZE", "2")
    code, _, err = tcs(capsys, *arguments, "--out", str(tmp_path / "s"))
    assert (code, err.startswith("Error: RANK is '7'")) == (1, True)
    assert err.count("\n") == 1


def test_python_m_tcs_is_the_command() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "tcs", "--version"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert run.stdout.startswith("tcs, version ")


EVERY_HELP = """
import contextlib, io, sys
for name in ("torch", "timm", "faiss", "h5py", "numpy", "onnxruntime"):
    sys.modules[name] = None  # to import it would raise
from tcs.cli import COMMANDS, group
from tcs.cli.cache import SUBCOMMANDS
lines = [[name] for name in COMMANDS] + [["cache", name] for name in SUBCOMMANDS]
for line in lines:
    with contextlib.redirect_stdout(io.StringIO()) as told:
        group.main([*line, "--help"], prog_name="tcs", standalone_mode=False)
    assert told.getvalue().startswith(f"Usage: tcs {' '.join(line)} "), told.getvalue()
print(len(lines))
"""


def test_help_of_every_command_comes_without_what_the_command_needs() -> None:
    done = subprocess.run([sys.executable, "-c", EVERY_HELP], capture_output=True, text=True, check=False)
    assert (done.stderr, done.stdout) == ("", f"{len(COMMANDS) + len(SUBCOMMANDS)}\n")


def test_results_that_cannot_be_written_are_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("click.echo", full)
    code, _, err = tcs(capsys, "methods", "--json")
    assert (code, err) == (
        1,
        "Error: no space is left on the device; free some, and run the same command again.\n",
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            "fit a.store b.store --out c.safetensors",
            "b.store is more than tcs fit takes (STORE); the store of another teacher of the same images goes with --also b.store.",
        ),
        (
            "train a.store b.store --out run --model resnet18",
            "b.store is more than tcs train takes (STORE); the store of another teacher of the same images goes with --also b.store; "
            "stores of different images are first joined by tcs cache merge.",
        ),
        ("targets a.store c d --out t.h5", "d is more than tcs targets takes (STORE [COORDINATES]); the store of another"),
        ("suggest a.store b.store -n 4 --out s.csv", "b.store is more than tcs suggest takes (STORE); the store of another"),
        ("audit a.store b.store", "b.store is more than tcs audit takes (STORE); a store of test images goes with --test b.store."),
        ("eval run a.store b.store", "b.store is more than tcs eval takes (MODEL DATA); run it once for each."),
        ("demo here", "here is more than tcs demo takes (options alone); its folder is named with --out here."),
        ("cache label a.store l.csv", "l.csv is more than tcs cache label takes (STORE); a file of labels goes with --label-file l.csv."),
        ("cache info a.store b.store", "b.store is more than tcs cache info takes (STORE); run it once for each."),
    ],
)  # fmt: skip
def test_more_arguments_than_a_command_takes_are_told_with_the_way_to_give_them(
    capsys: pytest.CaptureFixture[str], words: str, message: str
) -> None:
    code, out, err = tcs(capsys, *words.split())
    assert (code, out) == (2, "")
    assert err.splitlines()[-1].startswith(f"Error: {message}")


def test_remedies_for_more_arguments_name_options_that_are_there() -> None:
    for name, remedy in REMEDIES.items():
        command: click.Command | None = group
        for word in name.split():
            assert isinstance(command, click.Group)
            command = command.get_command(click.Context(command), word)
        assert command is not None, name
        known = {flag for option in command.params for flag in option.opts}
        assert set(re.findall(r"--[a-z-]+", remedy)) <= known, name
