"""`-c FILE.yaml`: a file of options means what the same options mean on the command line, and is refused like them."""

import pathlib
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from tcs.cli.config_file import config_file_option


def whole_number(_context: click.Context, _option: click.Parameter, given: tuple[str, ...]) -> dict[str, int]:
    """Texts NAME=NUMBER as a mapping."""
    try:
        return {name: int(number) for name, _, number in (text.partition("=") for text in given)}
    except ValueError as error:
        raise click.BadParameter(f"'{given[0]}' must be NAME=NUMBER") from error


@click.command()
@config_file_option(nullable=("clip_grad",))
@click.argument("store", type=click.Path())
@click.option("--out", required=True, type=click.Path())
@click.option("--model", "models", multiple=True, required=True)
@click.option("--steps", type=int)
@click.option("--lr", type=float, default=0.1)
@click.option("--clip-grad", type=float, default=1.0)
@click.option("--scale", type=float, nargs=2)
@click.option("--ratio", type=float, nargs=2, default=(0.75, 1.25))
@click.option("--at", type=int, multiple=True)
@click.option("--named", multiple=True, callback=whole_number)
@click.option("--head", type=click.Choice(["linear", "tcs"]))
@click.option("-b", "--batch-size", type=int, default=128)
@click.option("--unlabelled", default="all")
@click.option("--pretrained", is_flag=True)
@click.option("--channels-last/--no-channels-last", default=True)
@click.pass_obj
def command(seen: dict[str, Any], **options: Any) -> None:
    """Tell the options to the caller."""
    seen |= options


REQUIRED = "store: X.store\nout: run\nmodel: [a]\n"
LINE = ["X.store", "--out", "run", "--model", "a"]


def invoke(folder: pathlib.Path, text: str | bytes, *arguments: str, seen: dict[str, Any] | None = None) -> Result:
    path = folder / "run.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return CliRunner().invoke(command, ["-c", str(path), *arguments], obj=seen)


def read(folder: pathlib.Path, text: str, *arguments: str) -> dict[str, Any]:
    """The options with a file of `text`."""
    seen: dict[str, Any] = {}
    result = invoke(folder, text, *arguments, seen=seen)
    assert result.exit_code == 0, result.output
    return seen


def typed(*arguments: str) -> dict[str, Any]:
    """The options without a file."""
    seen: dict[str, Any] = {}
    assert CliRunner().invoke(command, [*LINE, *arguments], obj=seen).exit_code == 0
    return seen


@pytest.mark.parametrize(
    ("text", "arguments"),
    [
        ("", []),
        ("lr: 1e-3", ["--lr", "1e-3"]),
        ("lr: .inf", ["--lr", "inf"]),
        ("lr: -.Inf", ["--lr", "-inf"]),
        ("lr: '5'", ["--lr", "5"]),
        ("batch-size: 7", ["-b", "7"]),
        ("batch_size: 7", ["-b", "7"]),
        ("steps: null", []),
        ("steps: ~", []),
        ("head: tcs", ["--head", "tcs"]),
        ("scale: [0.5, 1]", ["--scale", "0.5", "1"]),
        ("at: [3, 5]", ["--at", "3", "--at", "5"]),
        ("at: 3", ["--at", "3"]),
        ("at: []", []),
        ("named: [a=1, b=2]", ["--named", "a=1", "--named", "b=2"]),
        ("unlabelled: none", ["--unlabelled", "none"]),
        ("unlabelled: 007", ["--unlabelled", "007"]),
        ("unlabelled: 12:30", ["--unlabelled", "12:30"]),
        ("unlabelled: no", ["--unlabelled", "no"]),
        ("unlabelled: 'null'", ["--unlabelled", "null"]),
        ("unlabelled: 2026-08-14", ["--unlabelled", "2026-08-14"]),
        ("unlabelled: .inf.", ["--unlabelled", ".inf."]),
        ("unlabelled: ''", ["--unlabelled", ""]),
        ("pretrained: true", ["--pretrained"]),
        ("pretrained: false", []),
        ("pretrained: on", ["--pretrained"]),
        ("channels_last: false", ["--no-channels-last"]),
        ("channels-last: yes", ["--channels-last"]),
        ("steps: &x 5\nbatch_size: *x", ["--steps", "5", "-b", "5"]),
    ],
)
def test_a_file_means_what_its_text_means_on_the_command_line(
    tmp_path: pathlib.Path, text: str, arguments: list[str]
) -> None:
    assert read(tmp_path, REQUIRED + text) == typed(*arguments)


def test_the_command_line_wins_and_the_file_fills_the_rest(tmp_path: pathlib.Path) -> None:
    text = "store: Y.store\nmodels: [b, c]\nlr: 7\nsteps: 3\nchannels_last: false\npretrained: true\nclip_grad: null\nout: o"
    assert read(tmp_path, text) == typed() | {
        "store": "Y.store",
        "models": ("b", "c"),
        "out": "o",
        "lr": 7.0,
        "steps": 3,
        "channels_last": False,
        "pretrained": True,
        "clip_grad": None,
    }
    line = [*LINE, "--lr", "0.1", "--steps", "9", "--channels-last", "--clip-grad", "1.0"]
    assert read(tmp_path, text, *line) == typed("--steps", "9", "--pretrained")


def test_help_shows_the_defaults_of_the_file(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "context_settings", {"show_default": True})
    assert "[default: 1e-3]" in invoke(tmp_path, "lr: 1e-3", "--help").output


def test_what_is_required_may_stand_in_either_place(tmp_path: pathlib.Path) -> None:
    for text, line, missing in (
        ("out: run\nmodel: a", [], "Missing argument 'STORE'."),
        ("store: X\nmodel: a", [], "Missing option '--out'."),
        ("store: X\nout: null\nmodel: a", [], "Missing option '--out'."),
        ("store: X\nout: run\nmodel: []", [], "Missing option '--model'."),
    ):
        result = invoke(tmp_path, text, *line)
        assert (result.exit_code, result.output.splitlines()[-1]) == (2, f"Error: {missing}")
    assert read(tmp_path, "out: run\nmodels: a", "X.store") == typed()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("lrr: 1", "'lrr': no such option. Did you mean lr?"),
        ("batchsize: 1", "'batchsize': no such option. Did you mean batch_size?"),
        ("3: 1", "'3': no such option."),
        ("[a]: 1", "'?': no such option."),
        ("help: true", "'help': no such option."),
        ("config: other.yaml", "'config': no such option."),
        ("<<: 1", "'<<': no such option."),
        ("no-channels-last: true", "'no-channels-last': write channels_last: false."),
        ("no_pretrained: true", "'no_pretrained': no such option. Did you mean pretrained?"),
        ("lr: fast", "'lr': 'fast' is not a valid float."),
        ("lr: true", "'lr': 'true' is not a valid float."),
        ("steps: 10.5", "'steps': '10.5' is not a valid integer."),
        ("steps: 1e3", "'steps': '1e3' is not a valid integer."),
        ("steps: true", "'steps': 'true' is not a valid integer."),
        ("at: [1, x]", "'at': 'x' is not a valid integer."),
        ("head: tsc", "'head': 'tsc' is not one of 'linear', 'tcs'."),
        ("pretrained: maybe", "'pretrained': 'maybe' is not a valid boolean"),
        ("pretrained: null", "'pretrained': it cannot be null; give a value, or leave the line out."),
        ("lr: null", "'lr': it cannot be null; give a value, or leave the line out."),
        ("at: null", "'at': it cannot be null"),
        ("ratio: null", "'ratio': it cannot be null"),
        ("steps: [3]", "'steps': it takes one value, and this is a list."),
        ("steps: []", "'steps': it takes one value, and this is a list."),
        ("at: [[1, 2]]", "'at': it takes one value, and this is a list."),
        ("at: [null]", "'at': 'null' is no plain value"),
        ("at: [{a: 1}]", "'at': it takes one value, and this is a mapping."),
        ("scale: 0.5", "'scale': it takes several values; write them as a list, [a, b]."),
        ("scale: [0.5]", "'scale': Takes 2 values but 1 was given."),
        ("scale: [1, 2, 3]", "'scale': Takes 2 values but 3 were given."),
        ("named: [a]", "'named': 'a' must be NAME=NUMBER"),
        ("optimiser: {lr: 0.1}", "'optimiser': options are not grouped; write each on a line of its own, as lr: 0.1."),
        ("lr: {value: 0.1}", "'lr': options are not grouped"),
        ("lr: !!python/name:os.system ''", "'lr': '' is no plain value; write a text or a number."),
        ("lr: !mine 3", "'lr': '3' is no plain value"),
        ("lr: 1\nlr: 2", "line 5, 'lr': the option is given twice; give it once."),
        ("batch-size: 1\nbatch_size: 1", "line 5, 'batch_size': the option is given twice"),
        ("models: [b]", "'models': the option is given twice"),
        ("clip-grad: null\nclip_grad: 1", "line 5, 'clip_grad': the option is given twice"),
    ],
)
def test_what_is_wrong_in_a_file_is_one_line_with_file_line_and_key(
    tmp_path: pathlib.Path, line: str, message: str
) -> None:
    result = invoke(tmp_path, REQUIRED + line)
    assert result.exit_code == 2
    error = result.output.splitlines()[-1]
    place = "" if message.startswith("line") else "line 4, "
    assert error.startswith(f"Error: {tmp_path / 'run.yaml'}, {place}{message}"), error
    assert result.output.startswith("Usage: ")


@pytest.mark.parametrize("line", ["lr: fast", "head: tsc"])
def test_a_wrong_value_is_refused_though_the_command_line_sets_the_option(tmp_path: pathlib.Path, line: str) -> None:
    assert invoke(tmp_path, REQUIRED + line, "--lr", "1", "--head", "tcs").exit_code == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "run.yaml must be a mapping from options to values, with lines such as lr: 0.1."),
        ("# nothing\n", "run.yaml must be a mapping"),
        ("- lr\n- 0.1\n", "run.yaml must be a mapping"),
        ("lr 0.1", "run.yaml must be a mapping"),
        ("lr: 0.1: 3", "run.yaml is not YAML: mapping values are not allowed here"),
        ("lr: [", "run.yaml is not YAML: while parsing a flow node"),
        ("lr: 1\n---\nlr: 2", "run.yaml is not YAML: expected a single document"),
        (b"\xff\xfe\x00", "run.yaml is not YAML"),
        (b"PK\x03\x04\x00\x00", "run.yaml is not YAML"),
        ("[" * 900, "run.yaml is not YAML: maximum recursion depth exceeded"),
    ],
)
def test_a_file_that_holds_no_options_is_named(tmp_path: pathlib.Path, text: str | bytes, message: str) -> None:
    result = invoke(tmp_path, text)
    error = result.output.splitlines()[-1]
    assert (result.exit_code, error.startswith(f"Error: {tmp_path}/{message}")) == (2, True), error


def test_a_missing_file_a_folder_and_a_second_file_are_named(tmp_path: pathlib.Path) -> None:
    for arguments, message in (
        (["-c", "nope.yaml"], "Invalid value for '-c' / '--config': File 'nope.yaml' does not exist."),
        (["-c", str(tmp_path)], f"Invalid value for '-c' / '--config': File '{tmp_path}' is a directory."),
        (["-c", __file__, "--config", __file__], "-c is given 2 times; give one file."),
        (["-c"], "Option '-c' requires an argument."),
    ):
        result = CliRunner().invoke(command, arguments)
        assert (result.exit_code, result.output.splitlines()[-1]) == (2, f"Error: {message}")


def test_a_file_that_goes_away_is_named(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_path: str, _most_bytes: int) -> bytes:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("tcs.ordinary.read_ordinary", refuse)
    result = CliRunner().invoke(command, ["-c", __file__])
    assert result.output.splitlines()[-1] == f"Error: {__file__} cannot be read (Input/output error)."
