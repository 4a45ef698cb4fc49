"""Weights of teachers: from files of many kinds and the hub, complete or refused, one identity however they come."""

import argparse
import pathlib
from typing import Any

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from teachers import config, images, saved, seeded

from tcs.errors import ConfigError, ModelError
from tcs.teacher.hub import from_hub
from tcs.teacher.model import load_teacher
from tcs.teacher.weights import WeightsReport, digest_of_weights


@pytest.fixture(scope="module")
def vit(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    return saved(tmp_path_factory.mktemp("weights"), "test_vit", num_classes=0)


def test_weights_from_a_file_give_the_saved_models_features(vit: pathlib.Path) -> None:
    teacher = load_teacher(config(vit, readouts=("pool",)))
    with torch.inference_mode():
        torch.testing.assert_close(
            teacher.features(images(160))["pool"], seeded("test_vit", num_classes=0)(images(160))
        )


def test_classifier_in_the_file_and_containers_and_half_precision_change_nothing(
    vit: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    plain = load_teacher(config(vit)).identity["teacher_weights"]
    with_classifier = {**seeded("test_vit", num_classes=0).state_dict(), "head.weight": torch.ones(5, 64)}
    torch.save({"state_dict": {f"module.{key}": value for key, value in with_classifier.items()}}, tmp_path / "c.pth")
    assert load_teacher(config(tmp_path / "c.pth")).identity["teacher_weights"] == plain
    half = {key: value.half() for key, value in with_classifier.items()}
    widened = {key: value.half().float() for key, value in with_classifier.items()}
    save_file(half, tmp_path / "half.safetensors")
    save_file(widened, tmp_path / "wide.safetensors")
    digests = {
        load_teacher(config(tmp_path / f"{name}.safetensors")).identity["teacher_weights"] for name in ("half", "wide")
    }
    assert len(digests) == 1
    assert plain not in digests


def test_digest_changes_with_any_weight_and_not_with_the_classifier() -> None:
    model = seeded("test_resnet", num_classes=10)
    before = digest_of_weights(model)
    with torch.no_grad():
        model.fc.weight.add_(1)
    assert digest_of_weights(model) == before
    with torch.no_grad():
        model.layer1[0].bn1.running_mean[0] += 1e-7
    assert digest_of_weights(model) != before


def test_incomplete_or_foreign_weights_are_refused_with_counts_and_first_keys(
    vit: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    state = seeded("test_vit", num_classes=0).state_dict()
    del state["norm.weight"], state["norm.bias"]
    save_file(state, tmp_path / "gap.safetensors")
    with pytest.raises(
        ModelError, match=r"does not fit test_vit: 2 missing \(norm.weight, norm.bias\). Only a classif"
    ):
        load_teacher(config(tmp_path / "gap.safetensors"))
    with pytest.raises(
        ModelError, match=r"does not fit test_resnet: \d+ missing \(conv1.0.weight, .* and \d+ more\); \d+ unknown"
    ):
        load_teacher(config(vit, "test_resnet"))
    with pytest.raises(ModelError, match=r"2 of another shape|\d+ of another shape \(cls_token, "):
        load_teacher(config(vit, teacher_kwargs={"embed_dim": 32, "num_heads": 2}))
    deeper = saved(tmp_path, "test_vit", num_classes=0, depth=8)
    with pytest.raises(ModelError, match=r"does not fit test_vit: \d+ unknown to it \(blocks\.6\."):
        load_teacher(config(deeper))


def test_quantised_weights_are_refused_and_timm_logs_nothing(
    tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    state = seeded("test_vit", num_classes=0).state_dict()
    save_file(state | {"norm.weight": state["norm.weight"].to(torch.int8)}, tmp_path / "int8.safetensors")
    with pytest.raises(
        ModelError, match=r"int8.safetensors holds torch.int8 for 1 weights of test_vit \(norm.weight\)"
    ):
        load_teacher(config(tmp_path / "int8.safetensors"))
    save_file(state | {"odd.weight": torch.ones(2)}, tmp_path / "odd.safetensors")
    with pytest.raises(ModelError, match=r"does not fit test_vit: 1 unknown to it \(odd.weight\)"):
        load_teacher(config(tmp_path / "odd.safetensors"))
    assert not caplog.records
    assert capfd.readouterr() == ("", "")


def test_files_that_are_no_weights_are_refused(tmp_path: pathlib.Path) -> None:
    with pytest.raises(ModelError, match=r"--teacher-checkpoint .*gone.pth is not a file"):
        load_teacher(config(tmp_path / "gone.pth"))
    (tmp_path / "text.pth").write_text("no weights")
    with pytest.raises(
        ModelError, match=r"text.pth cannot be read \(.*\); it must be a safetensors file, or a torch file"
    ):
        load_teacher(config(tmp_path / "text.pth"))
    (tmp_path / "text.safetensors").write_text("no weights")
    with pytest.raises(ModelError, match=r"text.safetensors cannot be read"):
        load_teacher(config(tmp_path / "text.safetensors"))
    torch.save({"epoch": 3}, tmp_path / "numbers.pth")
    with pytest.raises(ModelError, match=r"numbers.pth holds no state dict; give a file of named tensors"):
        load_teacher(config(tmp_path / "numbers.pth"))


class Payload:
    """Pickled, this would run code on loading."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (pathlib.Path.touch, (pathlib.Path("pwned"),))


def test_pickled_code_is_never_run(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"weights": Payload()}, tmp_path / "evil.pth")
    with pytest.raises(
        ModelError, match=r"evil.pth holds Python objects besides tensors \(.*pathlib\.(_local\.)?Path.*; if you trust"
    ):
        load_teacher(config(tmp_path / "evil.pth"))
    assert not (tmp_path / "pwned").exists()


def test_hub_weights_are_asked_for_strictly(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}

    def create_model(name: str, **kwargs: Any) -> torch.nn.Module:
        asked.update(kwargs, name=name)
        raise OSError("no connection\nsecond line")

    monkeypatch.setattr(timm, "create_model", create_model)
    with pytest.raises(
        ModelError, match=r"weights of teacher test_vit could not be loaded \(no connection\); check"
    ) as error:
        from_hub("test_vit", {"img_size": 64})
    assert asked == {"name": "test_vit", "pretrained": True, "img_size": 64}  # num_classes=0 would load non-strictly
    assert "\n" not in str(error.value)


def test_hub_and_file_of_the_same_weights_are_one_identity(vit: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    published = seeded("test_vit", num_classes=0)
    published.reset_classifier(1000)
    from_file = load_teacher(config(vit, readouts=("cls",)))
    monkeypatch.setattr("tcs.teacher.model.from_hub", lambda name, kwargs: (published, WeightsReport(file=name)))
    from_the_hub = load_teacher(config(None, readouts=("cls",)))
    assert from_the_hub.identity == from_file.identity
    torch.testing.assert_close(from_the_hub.features(images(160)), from_file.features(images(160)))


def test_file_options_need_a_file_and_a_known_dtype(vit: pathlib.Path) -> None:
    for options in ({"checkpoint_key": "teacher"}, {"key_map": {"a.": ""}}):
        with pytest.raises(
            ConfigError, match="--checkpoint-key and --key-map say how a file is read; give the file with"
        ):
            config(None, **options)
    with pytest.raises(ConfigError, match=r"--compute-dtype is 'bfloat'; it must be one of .* Did you mean bfloat16"):
        config(vit, compute_dtype="bfloat")


def test_training_options_in_a_file_are_read_as_data_and_other_objects_refused(
    vit: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    plain = load_teacher(config(vit)).identity
    state = seeded("test_vit", num_classes=0).state_dict()
    options = argparse.Namespace(arch="vit", lr=0.1, nested=argparse.Namespace(out_dim=65536))
    torch.save({"teacher": state, "args": options, "epoch": 3}, tmp_path / "args.pth")
    assert load_teacher(config(tmp_path / "args.pth")).identity == plain
    torch.save({"teacher": state, "best": np.float64(71.5)}, tmp_path / "numpy.pth")
    with pytest.raises(
        ModelError, match=r"numpy.pth holds Python objects besides tensors \(numpy.*docs/how-to/teachers.md"
    ) as error:
        load_teacher(config(tmp_path / "numpy.pth"))
    assert "\n" not in str(error.value)
    torch.save({"teacher": state, "args": argparse.Namespace(run=Payload())}, tmp_path / "evil.pth")
    with pytest.raises(ModelError, match=r"evil.pth holds Python objects"):
        load_teacher(config(tmp_path / "evil.pth"))
    torch.save({"state_dict": state, "args": options}, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    assert load_teacher(config(tmp_path / "old.pth")).identity == plain


def test_key_map_and_checkpoint_key_reach_the_file(vit: pathlib.Path, tmp_path: pathlib.Path) -> None:
    state = seeded("test_vit", num_classes=0).state_dict()
    content = {"left": {f"vision.trunk.{key}": value for key, value in state.items()} | {"text.a": torch.ones(1)}}
    torch.save(content | {"right": {"a": torch.ones(1)}}, tmp_path / "two.pth")
    teacher = load_teacher(
        config(tmp_path / "two.pth", checkpoint_key="left", key_map={"vision.trunk.": "", "text.": "-"})
    )
    assert teacher.identity == load_teacher(config(vit)).identity
    recorded = teacher.provenance["weights"]
    assert (recorded["checkpoint_key"], recorded["passed_over"]) == ("left", ("right",))
    assert recorded["key_map"] == {"vision.trunk.": "", "text.": "-"}
    assert recorded["left_out"] == {"by --key-map": {"keys": 1, "first": ["text.a"]}}
    assert teacher.weights.describe() == (
        "weights two.pth: 78 tensors (layout key-map); from 'left'; not from right; left out: 1 by --key-map (text.a)."
    )
