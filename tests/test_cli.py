"""The command line: lazy, with exit codes, one-line errors, and JSON that is alone on stdout."""

import importlib
import json
import pathlib
import subprocess
import sys

import click
import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file

import cache
from tcs.cli import COMMANDS, group, main
from tcs.cli.cache import SUBCOMMANDS
from tcs.cli.extract import parse_key_map, parse_kwargs
from tcs.config.extract import ExtractConfig
from tcs.errors import ModelError
from tcs.extraction.extract import extract

ROOT = pathlib.Path(__file__).parents[1]


def tcs(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Run `tcs` in this process: exit code, stdout, stderr."""
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    output = capsys.readouterr()
    assert isinstance(ended.value.code, int)
    return ended.value.code, output.out, output.err


@pytest.fixture(scope="module")
def arguments(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """`tcs extract` of six images with a tiny CNN, without --out."""
    folder = tmp_path_factory.mktemp("cli")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        save_file(timm.create_model("test_resnet", num_classes=0).state_dict(), folder / "w.safetensors")
    for i in range(6):
        path = folder / f"data/c{i % 2}/{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(i).integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(path)
    checkpoint = str(folder / "w.safetensors")
    options = ["--teacher", "test_resnet", "--teacher-checkpoint", checkpoint, "--img-size", "32", "-j", "0"]
    return ["extract", str(folder / "data"), *options]


def test_table_of_commands_is_complete_and_each_module_has_its_command() -> None:
    tables = {"tcs.cli": COMMANDS, "tcs.cli.cache": SUBCOMMANDS}
    for package, table in tables.items():
        names = {path.stem for path in (ROOT / package.replace(".", "/")).glob("*.py")} - {
            "__init__",
            "config_file",
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
        ("extrac", "No such command 'extrac'. Did you mean extract, train or export?"),
        ("cache verfy", "No such command 'verfy'. Did you mean verify?"),
        ("help extrac", "No such command 'extrac'. Did you mean extract, train or export?"),
        ("help cache verfy", "No such command 'verfy'. Did you mean verify?"),
        ("help fit it", "'tcs fit' has no commands of its own; type tcs fit --help."),
        ("zzz", "No such command 'zzz'."),
    ],
)
def test_a_command_that_is_none_is_told_with_the_nearest(
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


def test_teacher_kwargs_are_literals_or_text() -> None:
    context, option = click.Context(group), click.Option(["--teacher-kwargs"])
    given = ["layers=(1,1,2,1)", "name=plain text", "on=True", "rate=0.5", "equation=a=b"]
    assert parse_kwargs(context, option, given) == {
        "layers": (1, 1, 2, 1),
        "name": "plain text",
        "on": True,
        "rate": 0.5,
        "equation": "a=b",
    }
    for wrong in ("layers", "=3", "a b=3"):
        with pytest.raises(click.BadParameter, match=f"'{wrong}' must be NAME=VALUE, for example layers="):
            parse_kwargs(context, option, [wrong])


def test_key_map_texts_keep_their_order() -> None:
    context, option = click.Context(click.Command("x")), click.Option(["--key-map"])
    given = ["module.trunk.=", "head.=-", "a=b"]
    assert list(parse_key_map(context, option, given).items()) == [("module.trunk.", ""), ("head.", "-"), ("a", "b")]
    for wrong in (["head."], ["=new"], ["a=b", "a=c"]):
        with pytest.raises(click.BadParameter, match=f"'{wrong[-1]}' must be OLD=NEW, each OLD once"):
            parse_key_map(context, option, wrong)


def test_teacher_of_the_users_own_reaches_the_store(
    capsys: pytest.CaptureFixture[str], tmp_path: pathlib.Path, arguments: list[str]
) -> None:
    model = timm.create_model("test_resnet", num_classes=0)
    state = {f"net.trunk.{key}": value for key, value in model.state_dict().items()}
    torch.save({"one": state, "two": {"text": torch.ones(1)}}, tmp_path / "w.pth")
    options = ["--teacher-checkpoint", str(tmp_path / "w.pth"), "--checkpoint-key", "one", "--key-map", "net.trunk.="]
    code, out, err = tcs(
        capsys, *arguments, *options, "--compute-dtype", "bfloat16", "--out", str(tmp_path / "s"), "--json"
    )
    assert code == 0, err
    found = json.loads(out)
    assert found["made_from"]["compute_dtype"] == "bfloat16"
    assert found["provenance"]["teacher"]["licence"] == "unknown"
    assert found["provenance"]["teacher"]["weights"]["checkpoint_key"] == "one"
    assert found["provenance"]["config"]["key_map"] == {"net.trunk.": ""}
    assert "teacher test_resnet: licence unknown: ask whoever made the weights; 32x32 " in err
    assert "weights w.pth: " in err
    code, _, err = tcs(
        capsys, *arguments, "--teacher-checkpoint", str(tmp_path / "w.pth"), "--out", str(tmp_path / "x")
    )
    assert (code, err.count("\n")) == (1, 1)
    assert "w.pth holds several dicts of tensors: 'one', 'two'; name the teacher's with --checkpoint-key." in err


def test_a_teacher_that_prints_leaves_stdout_to_the_results(
    capsys: pytest.CaptureFixture[str], tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    (tmp_path / "loud.py").write_text(
        "import timm\nprint('imported')\ndef teacher():\n    print('made')\n"
        "    model = timm.create_model('test_resnet', num_classes=0)\n"
        "    model.register_forward_hook(print)\n    model.conv1.register_forward_hook(lambda *_: print('run'))\n    return model\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    options = ["--mean", "0", "0", "0", "--std", "1", "1", "1", "--crop-pct", "1", "--interpolation", "bilinear"]
    line = [
        *arguments[:2],
        "--teacher",
        "loud:teacher",
        "--img-size",
        "32",
        "-j",
        "0",
        *options,
        "--out",
        "s",
        "--json",
    ]
    for more in (["--dry-run"], []):
        code, out, err = tcs(capsys, *line, *more)
        assert code == 0, err
        assert json.loads(out)
        assert "made\n" in err
        assert "run\n" in err


def test_results_that_cannot_be_written_are_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("click.echo", full)
    code, _, err = tcs(capsys, "methods", "--json")
    assert (code, err) == (
        1,
        "Error: No space left on device; correct that, and run the same command again to resume.\n",
    )


def test_options_reach_the_store(
    capsys: pytest.CaptureFixture[str], tmp_path: pathlib.Path, arguments: list[str]
) -> None:
    options = ["--readout", "avg", "--readout", "pool", "--mean", "0", "0", "0", "--std", "1", "1", "1"]
    options += ["--crop-pct", "1", "--interpolation", "bilinear", "--dtype", "float32", "--images", "none"]
    options += ["--teacher-kwargs", "drop_path_rate=0.1", "--labels", "none", "--rows-per-shard", "4"]
    code, out, err = tcs(capsys, *arguments, "--out", str(tmp_path / "s"), *options, "--json")
    assert code == 0, err
    found = json.loads(out)
    assert found["readouts"] == {
        name: {"dims": 96, "dtype": "float32", "grid": None, "shape": [96]} for name in ("avg", "pool")
    }
    assert found["made_from"]["teacher_kwargs"] == {"drop_path_rate": 0.1}
    assert found["made_from"]["preprocessing"]["mean"] == [0.0, 0.0, 0.0]
    assert (found["images"], found["classes"], found["shards"], found["quarantine"]) == ("none", [], 2, [])
    assert found["identity"] == cache.open(tmp_path / "s").identity


def test_dry_run_json_is_the_cost(
    capsys: pytest.CaptureFixture[str], tmp_path: pathlib.Path, arguments: list[str]
) -> None:
    code, out, _ = tcs(capsys, *arguments, "--out", str(tmp_path / "s"), "--dry-run", "--json")
    assert code == 0
    assert {key: json.loads(out)[key] for key in ("images", "shards")} == {"images": 6, "shards": 1}
    assert not (tmp_path / "s").exists()


def test_maps_are_asked_for_projected_and_told(
    capsys: pytest.CaptureFixture[str], tmp_path: pathlib.Path, arguments: list[str]
) -> None:
    options = ["--readout", "avg", "--readout", "map", "--readout", "stage2.map", "--map-size", "2x1"]
    options += ["--project", "map=8", "--project", "stage2.map=4", "--projection", "pca", "--seed", "3"]
    code, out, err = tcs(capsys, *arguments, "--out", str(tmp_path / "s"), *options, "--json")
    assert code == 0, err
    found = json.loads(out)
    assert {name: (item["dims"], item["grid"]) for name, item in found["readouts"].items()} == {
        "avg": (96, None),
        "map": (8, [2, 1]),
        "stage2.map": (4, [2, 1]),
    }
    assert found["views"] is None
    assert found["constants"]["projection/map/matrix"] == [96, 8]
    assert found["made_from"]["projections"]["map"]["seed"] == 3
    assert "map (2 x 1 x 8 x float16)" in tcs(capsys, "cache", "info", str(tmp_path / "s"))[1]
    for wrong, message in (
        (["--project", "map"], "'map' must be READOUT=DIMS, as map=64, once a readout"),
        (["--project", "map=8", "--project", "map=9"], "'map=9' must be READOUT=DIMS"),
        (["--map-size", "2x"], "'2x' must be HEIGHTxWIDTH in positions, as 7x7"),
        (["--map-size", "axb"], "'axb' must be HEIGHTxWIDTH in positions, as 7x7"),
    ):
        code, _, err = tcs(capsys, *arguments, "--out", str(tmp_path / "t"), *wrong, "--dry-run")
        assert code == 2
        assert message in err


def test_views_are_asked_for_and_told(
    capsys: pytest.CaptureFixture[str], tmp_path: pathlib.Path, arguments: list[str]
) -> None:
    options = ["--views", "2", "--view-scale", "0.3", "0.9", "--view-ratio", "1", "1", "--hflip", "0"]
    options += ["--color-jitter", "0.2", "--grayscale-prob", "0.1", "--seed", "5"]
    code, out, err = tcs(capsys, *arguments, "--out", str(tmp_path / "s"), *options, "--json")
    assert code == 0, err
    found = json.loads(out)
    assert (found["views"]["count"], found["views"]["parameters"][:2]) == (2, ["top", "left"])
    policy = found["made_from"]["views"]
    assert (policy["scale"], policy["ratio"], policy["hflip"], policy["seed"]) == ([0.3, 0.9], [1.0, 1.0], 0.0, 5)
    assert (policy["jitter"], policy["grayscale"]) == (0.2, 0.1)
    assert "avg (2 x 96 x float16)" in tcs(capsys, "cache", "info", str(tmp_path / "s"))[1]


def test_cache_info_tells_the_same_to_people_and_programs(
    capsys: pytest.CaptureFixture[str], tmp_path: pathlib.Path, arguments: list[str]
) -> None:
    store = str(tmp_path / "s")
    assert tcs(capsys, *arguments, "--out", store)[:2] == (0, "")
    code, out, err = tcs(capsys, "cache", "info", store)
    assert (code, err) == (0, "")
    lines = dict(line.split("\t") for line in out.splitlines())
    found = json.loads(tcs(capsys, "cache", "info", store, "--json")[1])
    assert lines["identity"] == found["identity"] == cache.open(store).identity
    assert (lines["rows"], lines["state"]) == ("6 in 1 shards; 0 without a label", "closed")
    assert (lines["classes"], found["classes"]) == ("2 (3 rows each): c0, c1", ["c0", "c1"])
    assert lines["preprocessing"].startswith("32 x 32, interpolation ")
    assert lines["licence"] == "unknown (of the teacher's weights)"
    assert (lines["readouts"], lines["quarantine"], lines["teacher"]) == ("avg (96 x float16)", "none", "test_resnet")
    assert found["bytes"] == sum(path.stat().st_size for path in (tmp_path / "s").glob("shard-*.h5"))
    assert (found["rows"], found["labelled"]) == (6, 6)
    assert lines["gate avg"].startswith("rows 6, constant dims ")
