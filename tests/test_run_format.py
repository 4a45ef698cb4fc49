"""Runs that earlier releases left behind: finished ones are recognised, stopped ones go on; and what tells a later format is refused. 5 s.

`fixtures/run_v1` holds a store, its targets, and three folders of one ViT trained from them for 6 steps: `finished`, `stopped`
after the state of step 3, and `pixels` (the reference same-pixels). Their files carry no format number.
"""

import json
import os
import pathlib
import re
import shutil
from typing import Any

import pytest
import safetensors.torch
import torch

from tcs.artefact import plain_json
from tcs.checkpoint import load_resume, save_resume
from tcs.cli import main
from tcs.config.train import LATER, TrainConfig, option_defaults
from tcs.errors import ArtefactError, shown
from tcs.grid.same_pixels import train_same_pixels
from tcs.inference.runs import load_student
from tcs.plain_files import FORMAT, load_record
from tcs.training.data import open_data
from tcs.training.metrics import load_metrics

VIT = "vit_tiny_patch16_224,img_size=8,patch_size=4,embed_dim=4,depth=1,num_heads=1"
FIXTURE = pathlib.Path(__file__).parent / "fixtures" / "run_v1"


@pytest.fixture
def runs(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """A copy of the fixture that may be trained in; its paths are relative."""
    shutil.copytree(FIXTURE, tmp_path / "runs")
    monkeypatch.chdir(tmp_path / "runs")
    return tmp_path / "runs"


def student_of(run: pathlib.Path) -> pathlib.Path:
    (folder,) = (path for path in run.iterdir() if path.is_dir())
    return folder


def contents(folder: pathlib.Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def command(*arguments: str) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*arguments])
    assert not ended.value.code


def test_a_finished_run_is_recognised_and_left_alone(runs: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = contents(student_of(runs / "finished"))
    assert "format" not in json.loads(before["config.json"])
    command("train", "images.store", "-c", "finished/args.yaml")
    assert "is finished; nothing to do" in capsys.readouterr().err
    assert contents(student_of(runs / "finished")) == before


def test_a_stopped_run_goes_on_to_what_it_would_have_been(runs: pathlib.Path) -> None:
    folder, whole = student_of(runs / "stopped"), student_of(runs / "finished")
    assert "format" not in torch.load(folder / "resume.pt", weights_only=True)
    command("train", "images.store", "-c", "stopped/args.yaml")
    made, expected = (safetensors.torch.load_file(path / "last.safetensors") for path in (folder, whole))
    assert made.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.allclose(made[name], value, atol=1e-4), name
    first, second = (load_metrics(path / "metrics.jsonl", measured=False) for path in (folder, whole))
    assert first[:3] == second[:3]
    assert [row["step"] for row in first] == [1, 2, 3, 4, 5, 6]
    assert first[-1]["loss"] == pytest.approx(second[-1]["loss"], rel=1e-3)


def test_a_finished_reference_of_earlier_views_is_refused_and_scored(
    runs: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = student_of(runs / "pixels")
    before = contents(folder)
    config = TrainConfig.from_options(json.loads(before["config.json"])["config"] | {"method": "labels"})
    with pytest.raises(ArtefactError, match="was made with semantics 1, this command has 2; use another --out"):
        train_same_pixels(config, open_data("images.store", None))
    assert contents(folder) == before
    command("eval", "pixels", "images.store", "--json")
    assert json.loads(capsys.readouterr().out)


def test_a_finished_run_is_scored(runs: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    command("eval", "finished", "images.store", "--json")
    assert json.loads(capsys.readouterr().out)


def test_what_is_written_tells_its_format(runs: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved: list[dict[str, Any]] = []
    monkeypatch.setattr(
        "tcs.training.loop.save_resume",
        lambda path, state: (save_resume(path, state), saved.append(torch.load(path, weights_only=True))),
    )
    command("train", "images.store", "-c", "finished/args.yaml", "--out", "again")
    assert [state["format"] for state in saved] == [FORMAT]
    assert json.loads((student_of(runs / "again") / "config.json").read_text())["format"] == FORMAT


@pytest.mark.parametrize("found", [FORMAT + 1, 0, "1", None])
def test_a_record_of_another_format_is_refused_by_name(
    runs: pathlib.Path, capsys: pytest.CaptureFixture[str], found: object
) -> None:
    path = student_of(runs / "finished") / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": found}))
    told = (
        rf"config\.json is of format {found}, and this release reads no later one than 1; use the release that wrote it"
    )
    for arguments in (["train", "images.store", "-c", "finished/args.yaml"], ["eval", "finished", "images.store"]):
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        assert ended.value.code == 1
        assert re.search(told, capsys.readouterr().err)


def test_a_record_that_is_no_mapping_is_refused(runs: pathlib.Path) -> None:
    (student_of(runs / "finished") / "config.json").write_text("[]")
    told = r"config\.json holds \[\] and must hold a JSON object; remove .* to train this student again"
    with pytest.raises(ArtefactError, match=told):
        load_record(student_of(runs / "finished"))


AGAIN = "remove .* to train this student again"
OTHERWISE = f"and no release wrote it so; {AGAIN}"


@pytest.mark.parametrize(
    ("text", "by_train", "by_eval"),
    [
        ('{"format": 1}', f"lacks 'state', {OTHERWISE}", "is not finished; run the same tcs train"),
        ('{"state": "finished"}', f"lacks 'identity', {OTHERWISE}", f"missing required field `identity`.; {AGAIN}"),
        (
            '{"state": "finished", "identity": []}',
            rf"has \[\] for 'identity', {OTHERWISE}",
            r"got `array` - at `\$.identity`",
        ),
        (
            '{"state": "finished", "identity": {}}',
            "was made with",
            r"missing required field `model` - at `\$.identity`",
        ),
        ('{"format": 1, "sta', rf"cannot be read \(.*\); {AGAIN}", rf"cannot be read \(.*\); {AGAIN}"),
        (
            "[]",
            rf"holds \[\] and must hold a JSON object; {AGAIN}",
            rf"holds \[\] and must hold a JSON object; {AGAIN}",
        ),
    ],
)
def test_a_broken_record_of_a_known_format_is_one_line(
    runs: pathlib.Path, capsys: pytest.CaptureFixture[str], text: str, by_train: str, by_eval: str
) -> None:
    (student_of(runs / "finished") / "config.json").write_text(text)
    train, evaluate = ["train", "images.store", "-c", "finished/args.yaml"], ["eval", "finished", "images.store"]
    for arguments, told in ((train, by_train), (evaluate, by_eval)):
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        assert ended.value.code == 1
        assert re.search(rf"^Error: .*{told}.*\n\Z", capsys.readouterr().err, re.MULTILINE)


def test_a_resume_file_that_holds_no_state_is_refused(tmp_path: pathlib.Path) -> None:
    torch.save([1, 2], tmp_path / "resume.pt")
    with pytest.raises(ArtefactError, match=r"resume\.pt holds no state; delete it to start this student again"):
        load_resume(tmp_path / "resume.pt")


def test_a_state_of_a_later_release_is_refused_by_name(runs: pathlib.Path) -> None:
    path = student_of(runs / "stopped") / "resume.pt"
    torch.save(torch.load(path, weights_only=True) | {"format": FORMAT + 1}, path)
    with pytest.raises(ArtefactError, match=r"resume\.pt is of format 2, and this release reads no later one than 1"):
        load_resume(path)


def test_flat_options_and_their_configuration_are_each_others_inverse() -> None:
    options = json.loads((student_of(FIXTURE / "finished") / "config.json").read_text())["config"]
    config = TrainConfig.from_options(options)
    later = plain_json({name: option_defaults()[name] for name in LATER})  # options that these runs did not have
    assert not later.keys() & options.keys()
    assert plain_json(config.options()) == options | later
    assert TrainConfig.from_options(config.options()) == config
    assert (config.optimiser.opt_betas, config.augment.color_jitter, config.models) == ((0.8, 0.95), 0.2, (VIT,))
    assert list(config.options()) == list(option_defaults())
    with pytest.raises(TypeError, match="has no option 'learning_rate'"):
        TrainConfig.from_options(options | {"learning_rate": 1.0})


def changed(runs: pathlib.Path, **changes: object) -> pathlib.Path:
    folder = student_of(runs / "finished")
    record = json.loads((folder / "config.json").read_text())
    record["student"] |= changes
    (folder / "config.json").write_text(json.dumps(record))
    return folder


def test_numbers_that_no_architecture_takes_are_refused_before_anything_is_built(runs: pathlib.Path) -> None:
    kwargs = json.loads((student_of(runs / "finished") / "config.json").read_text())["student"]["kwargs"]
    folder = changed(runs, kwargs=kwargs | {"layers": [1, 10**12, 1, 1]})
    with pytest.raises(ArtefactError, match=r"the number 1e\+12, and no architecture takes one above 100,000; remove"):
        load_student(folder)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"image_size": 100_000}, r"`int` <= 8192 - at `\$\.student\.image_size`"),
        ({"image_size": True}, r"got `bool` - at `\$\.student\.image_size`"),
        ({"mean": [0.5, 0.5]}, r"length >= 3 - at `\$\.student\.mean`"),
        (
            {"std": [0.5, 0.0, 0.5]},
            r"`float` > 0.0 - at `\$\.student\.std\[1\]`|`float` > 0.0 - at `\$\.student\.std\[...\]`",
        ),
        ({"name": "no_such_net"}, r"names the architecture 'no_such_net', which this timm does not have"),
        ({"name": "hf-hub:someone/net"}, r"the weights .* do not fit what config.json beside them says"),
    ],
)
def test_a_student_of_impossible_facts_is_one_line(runs: pathlib.Path, changes: dict[str, object], told: str) -> None:
    with pytest.raises(ArtefactError, match=told):
        load_student(changed(runs, **changes))


def test_stores_that_a_run_has_read_are_names(runs: pathlib.Path) -> None:
    path = student_of(runs / "finished") / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"stores_read": [-1]}))
    with pytest.raises(ArtefactError, match=r"Expected `str`, got `int` - at `\$\.stores_read\[0\]`"):
        load_student(path.parent)


def test_a_pipe_in_the_place_of_a_record_is_not_waited_for(tmp_path: pathlib.Path) -> None:
    os.mkfifo(tmp_path / "config.json")
    with pytest.raises(
        ArtefactError, match=r"config\.json is a pipe, a device or a socket, and must be an ordinary file"
    ):
        load_record(tmp_path)


def test_values_of_files_are_shown_in_one_line() -> None:
    assert shown("a\x1b[31m\nb\u2028\u00e4") == "a\\x1b[31m\\nb\\u2028\u00e4"
    assert shown({"a": 1}, 4) == "{'a'"
