"""Students: parsing, folding, refusal. Legend: B batch rows, S student width, K coordinates, C classes."""

import pytest
import timm
import torch

from tcs.errors import ConfigError, ModelError
from tcs.students.backbone import StudentSpec, create_backbone, measured_width, parse_student, pre_logits
from tcs.students.student import Student, StudentPlan, build_student, normalisation

TINY = "resnet18,layers=(1,1,1,1),channels=(8,8,16,16)"
TEST_MODELS = [name for name in timm.list_models("test_*") if "clip" not in name]
FAMILIES = [
    "mobilenetv3_small_050",
    "mobilenetv2_035",
    "efficientnet_lite0",
    "resnet10t",
    "regnetx_002",
    "convnext_atto",
    "mobilevit_xxs",
    "deit_tiny_distilled_patch16_224,img_size=64",
    "swin_tiny_patch4_window7_224,img_size=64,window_size=2,depths=(1,1,1,1)",
    "ghostnet_050",
    "mobilenetv4_conv_small_035",
    "repvgg_a0",
]


def size_of(spec: StudentSpec) -> int:
    """The side of images for a student: a small one, unless its weights are of one size."""
    settings = timm.get_pretrained_cfg(spec.name)
    fixed = settings.input_size[-1] if settings.fixed_input_size else 64
    return int(spec.kwargs.get("img_size", fixed))


def plan(
    text: str, *, size: int, classes: int = 5, components: int | None = 6, coordinates: bool = True, seed: int = 0
) -> StudentPlan:
    return StudentPlan(
        spec=parse_student(text),
        n_classes=classes,
        components=components,
        reads_coordinates=coordinates,
        image_size=size,
        pretrained=False,
        seed=seed,
    )


def test_a_student_is_a_name_and_arguments() -> None:
    spec = parse_student("vit_tiny_patch16_224,img_size=32,depths=(1,2),act_layer=gelu,flag=True")
    assert spec.name == "vit_tiny_patch16_224"
    assert spec.kwargs == {"img_size": 32, "depths": (1, 2), "act_layer": "gelu", "flag": True}
    assert parse_student("resnet18,layers=(1,1)").folder == "resnet18-layers-1-1"


@pytest.mark.parametrize("text", ["resnet18,layers", "resnet18,=3", "resnet18,a b=3"])
def test_arguments_without_a_value_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="is not k=v"):
        parse_student(text)


def test_unknown_students_are_refused_with_the_nearest_names() -> None:
    with pytest.raises(ModelError, match=r"timm .* does not have. Did you mean .*resnet18"):
        create_backbone(parse_student("resnet-18"), 3)
    with pytest.raises(ModelError, match="cannot be built: TypeError"):
        create_backbone(parse_student("resnet18,colour=3"), 3)
    with pytest.raises(ModelError, match=r"No pretrained weights exist .*, or leave --pretrained out"):
        create_backbone(parse_student("cifar_resnet20"), 3, pretrained=True)


def trained(student: Student, size: int) -> Student:
    """A few steps, so that batch statistics, selection and weights are no longer those of a start."""
    student.select(torch.tensor([0, 2, 3]))
    optimiser = torch.optim.SGD(student.parameters(), lr=0.05)
    generator = torch.Generator().manual_seed(1)
    student.train()
    for _ in range(2):
        optimiser.zero_grad()
        student(torch.randn(4, 3, size, size, generator=generator)).logits_BC.square().mean().backward()
        optimiser.step()
    return student.eval()


@pytest.mark.parametrize("text", TEST_MODELS + FAMILIES)
def test_the_folded_timm_model_equals_the_student(text: str) -> None:
    spec = parse_student(text)
    size = size_of(spec)
    torch.manual_seed(0)
    student = trained(build_student(plan(text, size=size)), size)
    plain = timm.create_model(spec.name, num_classes=5, **spec.kwargs)
    plain.load_state_dict(student.folded_state())
    images = torch.randn(3, 3, size, size, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        expected, found = student(images).logits_BC, plain.eval()(images)
    assert torch.allclose(found, expected, atol=1e-4 * float(expected.abs().max()), rtol=1e-4)
    assert float(expected.std()) > 1e-4


def test_the_linear_head_is_the_timm_classifier() -> None:
    student = trained(build_student(plan(TINY, size=32, coordinates=False)), 32)
    assert torch.equal(student.folded_state()["fc.weight"], student.classifier.weight)


def test_the_width_is_measured() -> None:
    spec = parse_student("mobilenetv3_small_050")
    backbone = create_backbone(spec, 5)
    assert measured_width(backbone, spec, 32) == backbone.get_classifier().in_features != backbone.num_features


def test_a_model_whose_head_is_no_linear_map_is_refused_before_training() -> None:
    with pytest.raises(ModelError, match=r"cannot be folded: its classifier is a .*use for example resnet18"):
        build_student(plan("levit_128s", size=224))


def test_a_head_that_is_linear_but_not_on_the_pre_logits_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "tcs.students.backbone.pre_logits", lambda backbone, images: pre_logits(backbone, images).square()
    )
    with pytest.raises(ModelError, match="its logits differ from a linear map of its pre-logits"):
        build_student(plan(TINY, size=32))


def test_images_of_the_wrong_size_are_refused_with_the_remedy() -> None:
    with pytest.raises(ModelError, match=r"cannot take 32-px images.*vit_tiny_patch16_224,img_size=32"):
        build_student(plan("vit_tiny_patch16_224", size=32))


def test_arguments_that_break_the_forward_pass_are_one_line() -> None:
    with pytest.raises(
        ModelError, match=r"cannot be run \(AttributeError: .*layer4.*\); check its k=v arguments"
    ) as found:
        build_student(plan("resnet18,layers=(1,1,1),channels=(4,4,8)", size=32))
    assert "\n" not in str(found.value)


@pytest.mark.parametrize("text", [*TEST_MODELS, *FAMILIES, "levit_128s"])
def test_without_classes_the_export_is_timms_headless_model(text: str) -> None:
    spec = parse_student(text)
    size = size_of(spec)
    student = build_student(plan(text, size=size, classes=0, coordinates=False)).eval()
    plain = timm.create_model(spec.name, num_classes=0, **spec.kwargs).eval()
    plain.load_state_dict(student.folded_state())
    images = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        output, found = student(images), plain(images)
    assert torch.equal(found, output.features_BS)
    assert output.logits_BC.shape == (2, 0)
    assert output.z_BK is not None
    assert not any(key.startswith("classifier") for key in student.state_dict())


def test_a_headless_model_that_gives_other_features_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "tcs.students.backbone.pre_logits", lambda backbone, images: pre_logits(backbone, images).square()
    )
    with pytest.raises(
        ModelError, match=r"'resnet18,.*' cannot go without a classifier: its output with num_classes=0"
    ):
        build_student(plan(TINY, size=32, classes=0, coordinates=False))


def test_the_start_depends_on_seed_and_name_alone() -> None:
    torch.manual_seed(1)
    first = build_student(plan(TINY, size=32)).state_dict()
    torch.manual_seed(2)
    state = torch.random.get_rng_state()
    again = build_student(plan(TINY, size=32)).state_dict()
    assert torch.equal(state, torch.random.get_rng_state())
    assert all(torch.equal(first[key], again[key]) for key in first)
    other = build_student(plan(TINY, size=32, seed=1)).state_dict()
    assert not torch.equal(first["projection.weight"], other["projection.weight"])


def test_normalisation_is_that_of_timm() -> None:
    assert normalisation(create_backbone(parse_student(TINY), 2))[0] == (0.485, 0.456, 0.406)
