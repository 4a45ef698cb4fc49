"""Teachers: readouts against hand computation, preprocessing, refusals, compute dtypes."""

import pathlib
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from teachers import config, images, saved, seeded

from tcs.errors import ConfigError, ModelError
from tcs.teacher.hub import build
from tcs.teacher.model import load_teacher
from tcs.teacher.readouts import read_features
from tcs.teacher.source import require_known_teacher

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def vit(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    return saved(tmp_path_factory.mktemp("weights"), "test_vit", num_classes=0)


@torch.inference_mode()
def test_readouts_of_a_vit_are_tokens_after_the_final_norm() -> None:
    model = seeded("test_vit", num_classes=0)
    assert model.num_prefix_tokens == 1
    x_B3HW = images(160)
    tokens_BLD = model.pos_drop(model._pos_embed(model.patch_embed(x_B3HW)))
    tokens_BLD = model.norm(model.blocks(tokens_BLD))
    found = read_features(model, x_B3HW, ("cls", "avg", "pool"))
    torch.testing.assert_close(found["cls"], tokens_BLD[:, 0])
    torch.testing.assert_close(found["avg"], sum(tokens_BLD[:, i] for i in range(1, 101)) / 100)
    torch.testing.assert_close(found["pool"], model(x_B3HW))


@torch.inference_mode()
def test_register_tokens_count_neither_as_class_token_nor_into_the_average() -> None:
    model = seeded("test_vit", num_classes=0, class_token=True, reg_tokens=3)
    assert model.num_prefix_tokens == 4
    tokens_BLD = model.forward_features(images(160))
    found = read_features(model, images(160), ("cls", "avg"))
    torch.testing.assert_close(found["avg"], tokens_BLD[:, 4:].mean(1))
    torch.testing.assert_close(found["cls"], tokens_BLD[:, 0])
    registers_only = seeded("test_vit2", num_classes=0)  # one register, no class token
    with pytest.raises(
        ModelError, match="test_vit2 has no class token, so --readout cls is undefined; use avg or pool"
    ):
        read_features(registers_only, images(160), ("cls",))


@torch.inference_mode()
def test_average_of_a_cnn_is_over_positions_in_either_layout() -> None:
    for name, axes in (("test_resnet", (2, 3)), ("test_mambaout", (1, 2)), ("test_convnext", (2, 3))):
        model = seeded(name, num_classes=0)
        features = model.forward_features(images(96)).numpy()
        assert features.ndim == 4
        found = read_features(model, images(96), ("avg", "pool"))
        np.testing.assert_allclose(found["avg"].numpy(), features.mean(axes), rtol=1e-4, atol=1e-5)
        assert found["avg"].shape == (3, model.num_features)
        torch.testing.assert_close(found["pool"], model.forward_head(torch.from_numpy(features), pre_logits=True))
    with pytest.raises(ModelError, match="test_convnext has no class token"):
        read_features(model, images(96), ("cls",))


@torch.inference_mode()
def test_layouts_that_do_not_say_what_they_are_leave_only_pool() -> None:
    model = seeded("test_vit", num_classes=0)
    model.num_prefix_tokens = 0
    model.forward_features = lambda x: torch.zeros(3, 101, 64)
    with pytest.raises(ModelError, match="test_vit does not say which tokens are patches; use --readout pool"):
        read_features(model, images(160), ("avg",))
    model = seeded("test_resnet", num_classes=0)
    model.num_features = 7
    with pytest.raises(ModelError, match=r"test_resnet gives features of shape \(3, 96, 3, 3\), a layout avg does not"):
        read_features(model, images(96), ("avg",))
    model.forward_features = lambda x: [x]
    with pytest.raises(ModelError, match="test_resnet has no single feature map, so --readout avg is undefined"):
        read_features(model, images(96), ("avg",))


def test_teacher_is_frozen_and_its_widths_are_measured(vit: pathlib.Path) -> None:
    teacher = load_teacher(config(vit, readouts=("cls", "avg")))
    assert teacher.readouts == {"cls": 64, "avg": 64}
    assert not teacher.model.training
    assert not any(value.requires_grad for value in teacher.model.parameters())
    found = teacher.features(images(160))
    assert {name: (value.shape, value.dtype) for name, value in found.items()} == {
        "cls": ((3, 64), torch.float32),
        "avg": ((3, 64), torch.float32),
    }


def test_preprocessing_is_timms_and_every_part_can_be_overridden(vit: pathlib.Path) -> None:
    assert load_teacher(config(vit)).preprocessing == {
        "input_size": [3, 160, 160],
        "interpolation": "bicubic",
        "mean": [0.5, 0.5, 0.5],
        "std": [0.5, 0.5, 0.5],
        "crop_pct": 0.95,
        "crop_mode": "center",
    }
    mean, std = (0.1, 0.2, 0.3), (1.0, 2.0, 3.0)
    teacher = load_teacher(config(vit, img_size=64, crop_pct=1.0, interpolation="bilinear", mean=mean, std=std))
    assert teacher.preprocessing == {
        "input_size": [3, 64, 64],
        "interpolation": "bilinear",
        "mean": list(mean),
        "std": list(std),
        "crop_pct": 1.0,
        "crop_mode": "center",
    }
    assert teacher.identity["preprocessing"] == teacher.preprocessing
    grey = teacher.transform(Image.new("RGB", (100, 64), "#808080"))
    expected = (torch.tensor(128 / 255) - torch.tensor(mean)) / torch.tensor(std)
    torch.testing.assert_close(grey, expected[:, None, None].expand(3, 64, 64))


def test_timm_is_asked_once_a_process_whether_a_model_takes_an_image_size(
    vit: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []
    monkeypatch.setattr("tcs.teacher.model._BUILT", set())
    monkeypatch.setattr("tcs.teacher.model.build", lambda *given: asked.append(given))
    for side in (64, 96, 64):
        assert load_teacher(config(vit, img_size=side)).preprocessing["input_size"] == [3, side, side]
    assert asked == [("test_vit", {"img_size": 64}), ("test_vit", {"img_size": 96})]


def test_img_size_reshapes_a_vit_and_only_enlarges_the_input_of_a_cnn(
    vit: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    teacher = load_teacher(config(vit, img_size=96))
    assert teacher.model.pos_embed.shape == (1, 37, 64)  # 6 x 6 patches of 16 and the class token
    assert load_teacher(config(vit, teacher_kwargs={"img_size": 96})).preprocessing["input_size"] == [3, 96, 96]
    cnn = load_teacher(config(saved(tmp_path, "test_resnet", num_classes=0), "test_resnet", img_size=96))
    assert cnn.input_shape == (3, 96, 96)
    with pytest.raises(ConfigError, match=r"--img-size 96 and --teacher-kwargs img_size=64 differ; give one of them"):
        load_teacher(config(vit, img_size=96, teacher_kwargs={"img_size": 64}))


def test_unknown_names_come_with_the_nearest_ones(vit: pathlib.Path) -> None:
    with pytest.raises(ModelError, match=r"teacher 'resnet81' is not a timm model; .* Did you mean resnet18"):
        load_teacher(config(vit, "resnet81"))
    with pytest.raises(ModelError, match=r"unknown weight tag; resnet18 has a1_in1k, .* Did you mean a1_in1k"):
        require_known_teacher("resnet18.a1_in1")
    require_known_teacher("resnet18.a1_in1k")
    require_known_teacher("hf-hub:owner/name")
    with pytest.raises(
        ConfigError, match=r"--readout is 'pol'; it must be one of cls, avg, pool, map, or of .* Did you mean pool\?"
    ):
        load_teacher(config(vit, readouts=("pol",)))
    with pytest.raises(ConfigError, match=r"--readout names avg, avg; each may stand there once"):
        load_teacher(config(vit, readouts=("avg", "avg")))


def test_impossible_options_are_refused(vit: pathlib.Path) -> None:
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"interpolation": "bicubc"}, r"--interpolation is 'bicubc'; it must be one of .* Did you mean bicubic\?"),
        ({"crop_pct": 1.5}, "--crop-pct is 1.5; it must lie above 0 and at most at 1"),
        ({"img_size": 0}, "--img-size is 0; it must be one whole number of pixels, from 1 to 8192"),
        ({"img_size": 8193}, "--img-size is 8193; it must be one whole number of pixels"),
        ({"std": (1.0, 0.0, 1.0)}, r"--std is .*; it must be three finite numbers above 0"),
        ({"mean": (float("nan"), 0.0, 1.0)}, r"--mean is .*; it must be three finite numbers"),
        (
            {"teacher_kwargs": {"global_pool": "avg"}},
            "--teacher-kwargs global_pool is settled by tcs extract; leave it",
        ),
        (
            {"teacher_kwargs": {"pretrained_strict": False}},
            "--teacher-kwargs pretrained_strict is settled by tcs extract",
        ),
        ({"teacher_kwargs": {"depth": {6}}}, r"--teacher-kwargs .*depth.* cannot be recorded \(.*\); use numbers"),
        ({"device": "cuda:99"}, "--device is 'cuda:99', which this machine cannot use"),
    ]
    for options, message in wrong:
        with pytest.raises((ConfigError, ModelError), match=message):
            load_teacher(config(vit, **options))


def test_image_too_small_for_the_teacher_is_one_line(tmp_path: pathlib.Path) -> None:
    path = saved(tmp_path, "test_convnext", num_classes=0)
    with pytest.raises(
        ModelError, match=r"test_convnext cannot process an image of 3x2x2 \(.*\); choose another --img-s"
    ):
        load_teacher(config(path, "test_convnext", img_size=2))


def test_unknown_kwargs_name_the_teacher() -> None:
    with pytest.raises(ModelError, match=r"teacher test_vit cannot be built with {'depht': 1} \(.*depht.*\); correct"):
        build("test_vit", {"depht": 1})


@pytest.mark.parametrize(("dtype", "tolerance"), [("bfloat16", 0.05), ("float16", 0.01)])
def test_other_compute_dtypes_are_close_and_another_identity(vit: pathlib.Path, dtype: str, tolerance: float) -> None:
    plain = load_teacher(config(vit, readouts=("cls", "avg", "pool")))
    other = load_teacher(config(vit, readouts=("cls", "avg", "pool"), compute_dtype=dtype))
    changed = {name for name in plain.identity if plain.identity[name] != other.identity[name]}
    assert (changed, other.identity["compute_dtype"]) == ({"compute_dtype"}, dtype)
    reference, found = plain.features(images(160)), other.features(images(160))
    for name, value in found.items():
        assert value.dtype == torch.float32
        assert not torch.equal(value, reference[name])
        assert (value - reference[name]).norm() < tolerance * reference[name].norm()
    assert {value.dtype for value in other.model.parameters()} == {torch.float32}


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_teacher_on_a_gpu_is_close_to_the_cpu(vit: pathlib.Path, dtype: str) -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    plain = load_teacher(config(vit)).features(images(160))["avg"]
    found = load_teacher(config(vit, device="cuda:0", compute_dtype=dtype)).features(images(160))["avg"]
    assert (found - plain).norm() < (1e-5 if dtype == "float32" else 0.05) * plain.norm()
