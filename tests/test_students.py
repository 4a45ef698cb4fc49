"""Small-image students: published and hand-counted parameters, topology, timm's interface. Legend: B batch rows, F channels."""

import functools
import itertools
from collections.abc import Callable

import pytest
import timm.optim
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from tcs.students.zoo.cifar import STUDENTS
from tcs.students.zoo.network import Layers, SmallImageNet, stage_indices
from tcs.students.zoo.resnet import resnet
from tcs.students.zoo.shufflenet import SplitBlock, shuffle
from tcs.students.zoo.wide_resnet import wide_resnet

FAMILIES = (
    "cifar_resnet8",
    "cifar_wrn_16_1",
    "cifar_mobilenetv2",
    "cifar_shufflenetv1",
    "cifar_shufflenetv2",
    "cifar_vgg8",
)
# Parameters in millions with 100 classes. Published: ResNet-20 to 56 and ShuffleNetV2 in the table of
# github.com/chenyaofo/pytorch-cifar-models (d1c8e99), ResNet-56 and WRN-16-2 in Heo et al. 2019 (arXiv 1904.01866). The others
# are the usual roundings for the CRD benchmark; of those the counts by hand below are the proof.
PUBLISHED = {
    "cifar_resnet20": 0.28,
    "cifar_resnet32": 0.47,
    "cifar_resnet44": 0.67,
    "cifar_resnet56": 0.86,
    "cifar_resnet110": 1.74,
    "cifar_resnet8x4": 1.23,
    "cifar_resnet32x4": 7.43,
    "cifar_wrn_16_1": 0.18,
    "cifar_wrn_16_2": 0.70,
    "cifar_wrn_40_1": 0.57,
    "cifar_wrn_40_2": 2.26,
    "cifar_mobilenetv2": 0.81,
    "cifar_shufflenetv1": 0.95,
    "cifar_shufflenetv2": 1.36,
    "cifar_vgg8": 3.97,
    "cifar_vgg13": 9.46,
}
# Exact, with 10 classes: github.com/karanchahal/distiller (00f387e), models/model_factory.py, resnet*_sm and WRN*.
PUBLISHED_10 = {
    "cifar_resnet8": 78042,
    "cifar_resnet14": 175258,
    "cifar_resnet20": 272474,
    "cifar_resnet32": 466906,
    "cifar_resnet44": 661338,
    "cifar_resnet56": 855770,
    "cifar_resnet110": 1730714,
    "cifar_wrn_16_1": 175066,
    "cifar_wrn_16_2": 691674,
    "cifar_wrn_40_1": 563930,
}
PUBLISHED_10_WRN = {
    (10, 4): 1198810,
    (28, 2): 1467610,
    (16, 4): 2748890,
    (40, 4): 8949210,
}  # (depth, factor), same source
# Millions, one 32-px image, 100 classes: the table of chenyaofo/pytorch-cifar-models.
PUBLISHED_MULTIPLY_ADDS = {
    "cifar_resnet20": 40.82,
    "cifar_resnet32": 69.13,
    "cifar_resnet44": 97.44,
    "cifar_resnet56": 125.75,
}
THREE = ((16, 32), (32, 16), (64, 8))
# Stages: channels and side of their maps at 32 px.
MAPS = {
    "cifar_resnet8": THREE,
    "cifar_resnet8x4": ((64, 32), (128, 16), (256, 8)),
    "cifar_wrn_16_1": THREE,
    "cifar_wrn_40_2": ((32, 32), (64, 16), (128, 8)),
    "cifar_mobilenetv2": ((12, 16), (16, 8), (48, 4), (160, 2)),
    "cifar_shufflenetv1": ((240, 16), (480, 8), (960, 4)),
    "cifar_shufflenetv2": ((116, 16), (232, 8), (464, 4)),
    "cifar_vgg8": ((64, 32), (128, 16), (256, 8), (512, 4), (512, 4)),
}


def images(rows: int = 2, channels: int = 3, side: int = 32) -> torch.Tensor:
    return torch.randn(rows, channels, side, side, generator=torch.Generator().manual_seed(0))


def parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def cn(channels_in: int, channels_out: int, kernel: int, groups: int = 1) -> int:
    """Parameters of a convolution without bias and its batch normalisation."""
    return channels_in // groups * channels_out * kernel**2 + 2 * channels_out


def resnet_count(blocks: int, stem: int, *widths: int) -> int:
    total, channels = cn(3, stem, 3), stem
    for width in widths:
        shortcut = 0 if channels == width else cn(channels, width, 1)
        total += shortcut + cn(channels, width, 3) + (2 * blocks - 1) * cn(width, width, 3)
        channels = width
    return total + 100 * channels + 100


def wrn_count(blocks: int, factor: int) -> int:
    total, channels = 3 * 16 * 9, 16
    for width in (16 * factor, 32 * factor, 64 * factor):
        shortcut = 0 if channels == width else channels * width
        norms = 2 * channels + 2 * width * (2 * blocks - 1)
        total += shortcut + norms + 9 * (channels * width + (2 * blocks - 1) * width * width)
        channels = width
    return total + 2 * channels + 100 * channels + 100


def mobilenet_count() -> int:
    def block(channels_in: int, channels_out: int, times: int) -> int:
        inner = channels_in * times
        return cn(channels_in, inner, 1) + cn(inner, inner, 3, inner) + cn(inner, channels_out, 1)

    widths = [8, *[12] * 2, *[16] * 3, *[32] * 4, *[48] * 3, *[80] * 3, 160]
    total = cn(3, 16, 3) + block(16, 8, 1)
    total += sum(block(before, after, 6) for before, after in itertools.pairwise(widths))
    return total + cn(160, 1280, 1) + 1280 * 100 + 100


def shufflenet_v1_count() -> int:
    def block(channels_in: int, made: int, first: int) -> int:
        inner = made // 4
        return cn(channels_in, inner, 1, first) + cn(inner, inner, 3, inner) + cn(inner, made, 1, 3)

    down = block(24, 240 - 24, 1) + block(240, 480 - 240, 3) + block(480, 960 - 480, 3)
    same = 3 * block(240, 240, 3) + 7 * block(480, 480, 3) + 3 * block(960, 960, 3)
    return cn(3, 24, 1) + down + same + 960 * 100 + 100


def shufflenet_v2_count() -> int:
    total, channels = cn(3, 24, 1), 24
    for half, more in ((58, 3), (116, 7), (232, 3)):
        shortcut = cn(channels, channels, 3, channels) + cn(channels, half, 1)
        branch = cn(channels, half, 1) + cn(half, half, 3, half) + cn(half, half, 1)
        total += shortcut + branch + more * (2 * cn(half, half, 1) + cn(half, half, 3, half))
        channels = 2 * half
    return total + cn(464, 1024, 1) + 1024 * 100 + 100


def vgg_count(convolutions: int) -> int:
    total, channels = 0, 3
    for width in (64, 128, 256, 512, 512):
        total += cn(channels, width, 3) + (convolutions - 1) * cn(width, width, 3) + convolutions * width
        channels = width
    return total + 512 * 100 + 100


COUNTED = {
    **{
        f"cifar_resnet{depth}": resnet_count((depth - 2) // 6, 16, 16, 32, 64) for depth in (8, 14, 20, 32, 44, 56, 110)
    },
    "cifar_resnet8x4": resnet_count(1, 32, 64, 128, 256),
    "cifar_resnet32x4": resnet_count(5, 32, 64, 128, 256),
    "cifar_wrn_16_1": wrn_count(2, 1),
    "cifar_wrn_16_2": wrn_count(2, 2),
    "cifar_wrn_40_1": wrn_count(6, 1),
    "cifar_wrn_40_2": wrn_count(6, 2),
    "cifar_mobilenetv2": mobilenet_count(),
    "cifar_shufflenetv1": shufflenet_v1_count(),
    "cifar_shufflenetv2": shufflenet_v2_count(),
    "cifar_vgg8": vgg_count(1),
    "cifar_vgg13": vgg_count(2),
}


@pytest.mark.parametrize("name", list(STUDENTS))
def test_parameters_are_those_counted_by_hand_and_published(name: str) -> None:
    model = timm.create_model(name, num_classes=100)
    assert parameters(model) == COUNTED[name]
    assert round(parameters(model) / 1e6, 2) == PUBLISHED.get(name, round(COUNTED[name] / 1e6, 2))
    model.reset_classifier(10)
    assert parameters(model) == PUBLISHED_10.get(name, COUNTED[name] - 90 * (model.num_features + 1))


@pytest.mark.parametrize("size", list(PUBLISHED_10_WRN))
def test_wide_resnets_of_other_sizes_have_the_published_counts(size: tuple[int, int]) -> None:
    layers = functools.partial(wide_resnet, depth=size[0], factor=size[1])
    assert parameters(SmallImageNet(layers, num_classes=10)) == PUBLISHED_10_WRN[size]


@pytest.mark.parametrize(("name", "millions"), list(PUBLISHED_MULTIPLY_ADDS.items()))
def test_multiply_adds_are_the_published_ones(name: str, millions: float) -> None:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        timm.create_model(name).eval()(images(1))
    assert round(counter.get_total_flops() / 2e6, 2) == millions


@pytest.mark.parametrize(("family", "depth"), [(functools.partial(wide_resnet, factor=1), 20), (resnet, 18)])
def test_impossible_depths_are_refused(family: Callable[..., Layers], depth: int) -> None:
    with pytest.raises(AssertionError, match=rf"depth is {depth}, not 6n \+"):
        family(3, depth=depth)


def test_every_named_depth_is_the_number_of_layers() -> None:
    """ResNet: convolutions beside the shortcuts, and the classifier. WRN (factor > 1): convolutions. VGG: 3 more in the paper."""
    for name in STUDENTS:
        model = timm.create_model(name)
        convolutions = [key for key, part in model.named_modules() if isinstance(part, nn.Conv2d)]
        number = name.removeprefix("cifar_resnet").removeprefix("cifar_wrn_").removeprefix("cifar_vgg")
        depth = number.partition("_" if "wrn" in name else "x")[0]
        if "resnet" in name:
            assert int(depth) == 1 + sum("shortcut" not in key for key in convolutions)
        elif "wrn" in name:
            assert int(depth) == len(convolutions) + (1 if name.endswith("_1") else 0)
        elif "vgg" in name:
            assert int(depth) == len(convolutions) + 3


@pytest.mark.parametrize("name", list(MAPS))
def test_maps_have_the_sizes_of_the_benchmark(name: str) -> None:
    model = timm.create_model(name).eval()
    with torch.no_grad():
        final, maps = model.forward_intermediates(images())
        assert torch.equal(final, model.forward_features(images()))
        logits = model.forward_head(final)
        assert torch.equal(logits, model(images()))
    assert tuple((stage.shape[1], stage.shape[2]) for stage in maps) == MAPS[name]
    assert tuple(logits.shape) == (2, 100)
    assert [info["num_chs"] for info in model.feature_info] == [channels for channels, _ in MAPS[name]]
    assert [info["reduction"] for info in model.feature_info] == [32 // side for _, side in MAPS[name]]
    assert model.num_features == model.head_hidden_size == final.shape[1]


def test_channels_are_shuffled_and_half_of_them_pass() -> None:
    maps_BFHW = torch.arange(12.0).view(1, 12, 1, 1)
    expected = [group * 4 + index for index in range(4) for group in range(3)]
    assert shuffle(maps_BFHW, 3).flatten().tolist() == expected
    block = SplitBlock(12).eval()
    assert block(maps_BFHW)[0, ::2].flatten().tolist() == list(range(6))


def test_only_wide_resnets_are_normalised_after_their_last_stage() -> None:
    model = timm.create_model("cifar_wrn_16_1").eval()
    with torch.no_grad():
        final, raw = model.forward_intermediates(images(), indices=[-1])
        _, normed = model.forward_intermediates(images(), indices=[-1], norm=True)
    assert float(raw[0].min()) < 0 <= float(normed[0].min())
    assert torch.equal(normed[0], final)


@pytest.mark.parametrize("name", FAMILIES)
def test_the_interface_is_that_of_a_timm_model(name: str) -> None:
    model = timm.create_model(name, num_classes=7, in_chans=1, drop_rate=0.5)
    assert model.get_classifier().out_features == model.num_classes == 7
    assert tuple(model(images(channels=1)).shape) == (2, 7)
    pooled = model.forward_head(model.forward_features(images(channels=1)), pre_logits=True)
    assert float((pooled == 0).float().mean()) > 0.2  # dropout
    model.reset_classifier(0, "")
    assert model.eval()(images(channels=1)).ndim == 4
    model.reset_classifier(3, "max")
    assert tuple(model(images(channels=1)).shape) == (2, 3)
    config = model.default_cfg
    assert config["input_size"] == (3, 32, 32)
    assert model.get_submodule(config["first_conv"]).in_channels == 1
    assert isinstance(model.get_submodule(config["classifier"]), nn.Linear)
    with pytest.raises(AssertionError, match="gradient checkpointing is not supported"):
        model.set_grad_checkpointing()


@pytest.mark.parametrize("name", FAMILIES)
def test_timm_extracts_features_and_orders_layers(name: str) -> None:
    extractor = timm.create_model(name, features_only=True, out_indices=(0, 2)).eval()
    with torch.no_grad():
        sizes = tuple((stage.shape[1], stage.shape[2]) for stage in extractor(images()))
    assert sizes == (MAPS[name][0], MAPS[name][2])
    assert tuple(extractor.feature_info.channels()) == (MAPS[name][0][0], MAPS[name][2][0])
    groups = timm.optim.param_groups_layer_decay(timm.create_model(name), layer_decay=0.5)
    assert sum(len(group["params"]) for group in groups) == len(list(timm.create_model(name).parameters()))


def test_stages_are_counted_from_both_ends() -> None:
    assert stage_indices(3, None) == [0, 1, 2]
    assert stage_indices(3, 2) == [1, 2]
    assert stage_indices(3, (-3, 2)) == [0, 2]
    for wrong in (0, 4, (3,)):
        with pytest.raises(AssertionError, match="indices are"):
            stage_indices(3, wrong)
