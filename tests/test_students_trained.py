"""Small-image students in use: registration, start, a step, folding, export and `tcs train`. Legend: B batch rows, C classes."""

import json
import pathlib

import pytest
import timm.models
import torch
from artefacts import make_store
from torch import nn

from tcs.config.train import TrainConfig
from tcs.errors import ModelError
from tcs.students.backbone import create_backbone, measured_maps, parse_student
from tcs.students.student import StudentPlan, build_student, normalisation
from tcs.students.zoo.cifar import STUDENTS, register
from tcs.training.jobs import image_size
from tcs.training.train import train

FAMILIES = (
    "cifar_resnet8",
    "cifar_wrn_16_1",
    "cifar_mobilenetv2",
    "cifar_shufflenetv1",
    "cifar_shufflenetv2",
    "cifar_vgg8",
)


def plan(name: str, seed: int = 0) -> StudentPlan:
    spec = parse_student(name)
    return StudentPlan(
        spec=spec, n_classes=5, components=6, reads_coordinates=True, image_size=32, pretrained=False, seed=seed
    )


def images(rows: int = 2) -> torch.Tensor:
    return torch.randn(rows, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def test_registering_again_changes_nothing_and_takes_a_name_back() -> None:
    entry = timm.model_entrypoint("cifar_vgg8")
    register()
    assert timm.model_entrypoint("cifar_vgg8") is entry
    assert set(timm.list_models(module="cifar")) == set(timm.list_models("cifar_*")) == set(STUDENTS)

    def cifar_vgg8() -> nn.Module:
        return nn.Identity()

    with pytest.warns(UserWarning, match="Overwriting cifar_vgg8"):
        timm.models.register_model(cifar_vgg8)
    with pytest.warns(UserWarning, match="Overwriting cifar_vgg8"):
        register()
    assert create_backbone(parse_student("cifar_vgg8"), 3).num_classes == 3


@pytest.mark.parametrize("name", list(STUDENTS))
def test_every_student_is_built_at_its_own_size_and_folds(name: str) -> None:
    assert image_size(parse_student(name)) == 32
    student = build_student(plan(name)).eval()
    maps = measured_maps(student.backbone, parse_student(name), 32, 3)
    assert [channels for channels, _, _ in maps] == [info["num_chs"] for info in student.backbone.feature_info][-3:]
    plain = timm.create_model(name, num_classes=5).eval()
    plain.load_state_dict(student.folded_state())
    with torch.no_grad():
        expected_BC, found_BC = student(images()).logits_BC, plain(images())
    assert torch.allclose(found_BC, expected_BC, atol=1e-4 * float(expected_BC.abs().max()))
    assert float(expected_BC.std()) > 1e-4


def test_normalisation_is_that_of_cifar_100() -> None:
    mean, std = normalisation(create_backbone(parse_student("cifar_resnet20"), 3))
    assert (mean, std) == ((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761))


@pytest.mark.parametrize("name", FAMILIES)
def test_the_start_is_a_function_of_seed_and_name(name: str) -> None:
    torch.manual_seed(1)
    first = build_student(plan(name)).state_dict()
    torch.manual_seed(2)
    again, other = build_student(plan(name)).state_dict(), build_student(plan(name, seed=1)).state_dict()
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not torch.equal(first["backbone.stem.0.weight"], other["backbone.stem.0.weight"])


def test_convolutions_start_with_the_variance_of_he() -> None:
    torch.manual_seed(0)
    stem, depthwise = timm.create_model("cifar_vgg13").stem[0], timm.create_model("cifar_mobilenetv2").stages[2][0]
    assert float(stem.weight.detach().std()) == pytest.approx((2 / (9 * 64)) ** 0.5, rel=0.1)
    assert not stem.bias.any()
    assert float(depthwise.residual[1][0].weight.detach().std()) == pytest.approx((2 / 9) ** 0.5, rel=0.1)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_few_steps_lower_the_loss(name: str) -> None:
    torch.manual_seed(0)
    model, labels_B = timm.create_model(name, num_classes=4), torch.arange(8) % 4
    optimiser = torch.optim.AdamW(model.parameters(), lr=0.001)
    losses = []
    for _ in range(6):
        optimiser.zero_grad()
        loss = nn.functional.cross_entropy(model(images(8)), labels_B)
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.8 * losses[0]
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize("name", FAMILIES)
def test_torch_export_gives_the_same_logits_for_any_number_of_rows(name: str) -> None:
    model = timm.create_model(name, num_classes=4).eval()
    rows = torch.export.Dim("rows", min=1, max=64)
    program = torch.export.export(model, (images(3),), dynamic_shapes=({0: rows},))
    with torch.no_grad():
        assert torch.allclose(program.module()(images(5)), model(images(5)), atol=1e-5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cifar_resnet21", "Did you mean .*cifar_resnet20"),
        ("cifar_resnet20,depth=14", "cannot be built: TypeError: .*'depth'"),
    ],
)
def test_unknown_names_and_arguments_are_refused(text: str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        create_backbone(parse_student(text), 3)


def test_there_are_no_pretrained_weights() -> None:
    with pytest.raises(ModelError, match="No pretrained weights exist for cifar_resnet20"):
        create_backbone(parse_student("cifar_resnet20"), 3, pretrained=True)


def test_more_maps_than_stages_are_refused() -> None:
    spec = parse_student("cifar_resnet8")
    with pytest.raises(ModelError, match=r"cannot give the maps of its last 4 stages .*there are 3 stages"):
        measured_maps(create_backbone(spec, 3), spec, 32, 4)


def test_tcs_train_trains_one(tmp_path: pathlib.Path) -> None:
    make_store(tmp_path / "train.store")
    config = TrainConfig(
        store=str(tmp_path / "train.store"),
        out=str(tmp_path / "run"),
        models=("cifar_resnet8",),
        method="labels",
        shots=4,
        steps=4,
        batch_size=8,
        seed=3,
    )
    (path,) = train(config)
    record = json.loads((path / "config.json").read_text())
    assert record["student"]["image_size"] == 32
    assert record["student"]["parameters"] == 83892 - 97 * 65
