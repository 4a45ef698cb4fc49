"""Students that start from a file of weights, or cannot start from published ones: told before anything is trained."""

import dataclasses
import json

import huggingface_hub.constants
import pytest
import timm
import torch
from artefacts import make_store
from safetensors.torch import save_file

import tcs
from tcs.errors import ConfigError, ModelError
from tcs.students.backbone import parse_student
from tcs.students.start import load_start, require_published_weights
from tcs.students.student import StudentPlan, build_student

STUDENT = "resnet18,layers=(1,1,1,1),channels=(4,4,8,8)"
SPEC = parse_student(STUDENT)


def backbone(classes=3, **more):
    with torch.random.fork_rng():
        torch.manual_seed(len(more) + classes)
        return timm.create_model(SPEC.name, num_classes=classes, **(dict(SPEC.kwargs) | more))


@pytest.fixture(scope="module")
def state():
    return backbone(7).state_dict()


@pytest.mark.parametrize(
    ("name", "wrap"),
    [
        ("w.safetensors", None),
        ("w.pth", lambda state: state),
        ("w.pt", lambda state: {"epoch": 3, "state_dict": {f"module.{key}": value for key, value in state.items()}}),
        ("w.bin", lambda state: {"model": state, "args": "x"}),
    ],
)
def test_all_but_the_classifier_is_the_files(tmp_path, state, name, wrap):
    path = tmp_path / name
    save_file(state, path) if wrap is None else torch.save(wrap(state), path)
    plan = StudentPlan(
        spec=SPEC, n_classes=3, components=None, reads_coordinates=False, image_size=16, pretrained=False, seed=0
    )
    plain, started = build_student(plan), build_student(dataclasses.replace(plan, checkpoint=str(path)))
    for key, value in started.backbone.state_dict().items():
        expected = plain.backbone.state_dict()[key] if key.startswith("fc.") else state[key]
        assert torch.equal(value, expected), key


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (
            lambda state: state.pop("conv1.weight"),
            r"lacks 1 of its \d+ tensors \(conv1.weight\) and has 0 others \(none\)",
        ),
        (lambda state: state.update(more=torch.ones(1)), r"lacks 0 .* and has 1 others \(more\); give a state dict"),
        (
            lambda state: state.update({"conv1.weight": torch.ones(4, 3, 3, 3)}),
            r"has conv1.weight of shape \[4, 3, 3, 3\], and",
        ),
    ],
)
def test_a_file_of_another_student_is_refused_by_name(tmp_path, state, harm, message):
    changed = dict(state)
    harm(changed)
    save_file(changed, tmp_path / "w.safetensors")
    with pytest.raises(ModelError, match=message):
        load_start(backbone(), str(tmp_path / "w.safetensors"), SPEC)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("no.safetensors", None, r"no.safetensors cannot be read \(.*\); give a .safetensors file"),
        ("w.safetensors", b"text", "cannot be read"),
        ("w.pth", b"text", "cannot be read"),
        ("w.pth", {"state_dict": 3}, "holds no state dict, nor one under state_dict or model"),
    ],
)
def test_a_file_without_weights(tmp_path, name, content, message):
    path = tmp_path / name
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(content, path)
    with pytest.raises(ModelError, match=message):
        load_start(backbone(), str(path), SPEC)


def test_a_run_from_a_file_is_told_apart_by_its_bytes(tmp_path, state):
    make_store(tmp_path / "x.store", rows=24)
    save_file(state, tmp_path / "w.safetensors")
    options = {"store": tmp_path / "x.store", "img_size": 16, "batch_size": 8, "steps": 1, "models": (STUDENT,)}
    config = tcs.TrainConfig(
        **options, method="labels", held_out=0, out=tmp_path / "run", student_checkpoint=tmp_path / "w.safetensors"
    )
    (folder,) = tcs.train(config)
    record = json.loads((folder / "config.json").read_text())
    assert record["identity"]["student_weights"]
    assert "student_checkpoint" not in record["identity"]
    save_file(state, tmp_path / "moved.safetensors")
    tcs.train(dataclasses.replace(config, student_checkpoint=str(tmp_path / "moved.safetensors")))  # the same weights
    save_file(backbone(5).state_dict(), tmp_path / "w.safetensors")
    with pytest.raises(tcs.ArtefactError, match="student_weights"):
        tcs.train(config)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pretrained": True}, "--pretrained and --student-checkpoint are two starts; give one of them"),
        ({"models": ("resnet18", "resnet34")}, "--student-checkpoint w.pth is of one student, and there are 2 --model"),
    ],
)
def test_starts_that_exclude_each_other(options, message):
    with pytest.raises(ConfigError, match=message):
        tcs.TrainConfig(**{"store": "x", "out": "y", "models": ("resnet18",), "student_checkpoint": "w.pth"} | options)


def test_published_weights_out_of_reach_are_told_at_once(tmp_path, monkeypatch):
    make_store(tmp_path / "x.store", rows=24)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    config = tcs.TrainConfig(store=tmp_path / "x.store", out=tmp_path / "run", models=("resnet18",), pretrained=True)
    wanted = r"the weights of student 'resnet18' \(timm/resnet18.a1_in1k, model.safetensors\) are not in the local cache .* FILE"
    with pytest.raises(ModelError, match=wanted):
        tcs.train(config)
    assert not (tmp_path / "run").exists()
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    with pytest.raises(ModelError, match=wanted):
        require_published_weights(parse_student("resnet18"))


def test_a_student_without_published_weights():
    with pytest.raises(ModelError, match="timm has no published weights for student 'cifar_resnet20'"):
        require_published_weights(parse_student("cifar_resnet20"))
