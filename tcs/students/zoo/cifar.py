"""The table of small-image students, and what makes their names known to timm.

Topologies are those of the CRD benchmark (Tian et al. 2020, arXiv 1910.10699, section 6.1) for 32-px images; the counts of
parameters are in docs/how-to/students.md, and tests hold them. There are no pretrained weights.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import timm
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from torch import nn

from tcs.students.zoo.mobilenet import mobilenet_v2
from tcs.students.zoo.network import Layers, SmallImageNet
from tcs.students.zoo.resnet import WIDE, resnet
from tcs.students.zoo.shufflenet import shufflenet_v1, shufflenet_v2
from tcs.students.zoo.vgg import vgg
from tcs.students.zoo.wide_resnet import wide_resnet

STUDENTS: Mapping[str, Callable[[int], Layers]] = {
    "cifar_resnet8": functools.partial(resnet, depth=8),
    "cifar_resnet14": functools.partial(resnet, depth=14),
    "cifar_resnet20": functools.partial(resnet, depth=20),
    "cifar_resnet32": functools.partial(resnet, depth=32),
    "cifar_resnet44": functools.partial(resnet, depth=44),
    "cifar_resnet56": functools.partial(resnet, depth=56),
    "cifar_resnet110": functools.partial(resnet, depth=110),
    "cifar_resnet8x4": functools.partial(resnet, depth=8, widths=WIDE),
    "cifar_resnet32x4": functools.partial(resnet, depth=32, widths=WIDE),
    "cifar_wrn_16_1": functools.partial(wide_resnet, depth=16, factor=1),
    "cifar_wrn_16_2": functools.partial(wide_resnet, depth=16, factor=2),
    "cifar_wrn_40_1": functools.partial(wide_resnet, depth=40, factor=1),
    "cifar_wrn_40_2": functools.partial(wide_resnet, depth=40, factor=2),
    "cifar_mobilenetv2": functools.partial(mobilenet_v2, factor=0.5),
    "cifar_shufflenetv1": functools.partial(shufflenet_v1, groups=3, widths=(240, 480, 960)),
    "cifar_shufflenetv2": functools.partial(shufflenet_v2, widths=(116, 232, 464), last=1024),
    "cifar_vgg8": functools.partial(vgg, convolutions=1),
    "cifar_vgg13": functools.partial(vgg, convolutions=2),
}

# Mean and standard deviation of CIFAR-100's training pixels, and no resizing, as in the benchmark.
default_cfgs = generate_default_cfgs(  # timm finds it by this name
    {
        name: {
            "num_classes": 100,
            "input_size": (3, 32, 32),
            "interpolation": "bilinear",
            "crop_pct": 1.0,
            "mean": (0.5071, 0.4867, 0.4408),
            "std": (0.2675, 0.2565, 0.2761),
            "first_conv": "stem.0",
            "classifier": "fc",
        }
        for name in STUDENTS
    }
)


def register() -> None:
    """Make the students known to timm; a second call changes nothing. timm warns where it replaces another's model of a name."""
    for name in STUDENTS:
        if not timm.is_model(name) or timm.model_entrypoint(name).__module__ != __name__:
            register_model(_entry_point(name))


def _entry_point(name: str) -> Callable[..., nn.Module]:
    """The function that timm.create_model calls: keyword arguments are timm's own and those of SmallImageNet."""

    def create(pretrained: bool = False, **kwargs: Any) -> nn.Module:
        network = functools.partial(SmallImageNet, STUDENTS[name])
        features = {"feature_cls": "getter", "out_indices": (0, 1, 2)}  # for features_only=True
        model: nn.Module = build_model_with_cfg(network, name, pretrained, feature_cfg=features, **kwargs)
        return model

    create.__name__ = create.__qualname__ = name  # timm registers a function under its name
    return create
