"""`tcs extract` on the command line: its options reach the store, and what it tells of it."""

import json
import pathlib
import sys

import click
import pytest
import timm
import torch
from command_line import extraction_arguments, tcs

import cache
from tcs.cli import group
from tcs.cli.extract import parse_key_map, parse_kwargs


@pytest.fixture(scope="module")
def arguments(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return extraction_arguments(tmp_path_factory.mktemp("cli"))


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
    assert (lines["rows"], lines["state"]) == ("6 in 1 shard; 0 without a label", "closed")
    assert (lines["classes"], found["classes"]) == ("2 (3 rows each): c0, c1", ["c0", "c1"])
    assert lines["preprocessing"].startswith("32 x 32, interpolation ")
    assert lines["licence"] == "unknown (of the teacher's weights)"
    assert (lines["readouts"], lines["quarantine"], lines["teacher"]) == ("avg (96 x float16)", "none", "test_resnet")
    assert found["bytes"] == sum(path.stat().st_size for path in (tmp_path / "s").glob("shard-*.h5"))
    assert (found["rows"], found["labelled"]) == (6, 6)
    assert lines["gate avg"].startswith("rows 6, constant dims ")
