"""In which memory layout of images a teacher's pass is the faster one: a table of architectures, as they were measured.

The table is made from `benchmarks/results/memory-layout/results.csv` (python -m benchmarks.memory_layout), a row an architecture:
processor time of a forward pass in the default layout by that in channels_last. A family, the module of `timm.models` that an
architecture is of, stands here where each of its rows gained at least `LEAST_GAIN`. A family is judged by the rows there are, most by one:
its other architectures follow it unmeasured. A family without a row keeps the default layout.
"""

import torch
from torch import nn

LEAST_GAIN = 1.1
FAMILIES = (
    "cspnet densenet dla efficientformer efficientnet fastvit ghostnet hrnet inception_v3 maxxvit metaformer "
    "mobilenetv3 nfnet regnet repvit resnet resnetv2 rexnet starnet tiny_vit vgg vovnet"
)
CHANNELS_LAST_FAMILIES = frozenset(FAMILIES.split())


def is_faster_channels_last(model: nn.Module, device: torch.device) -> bool:
    """Whether channels_last was measured to be faster for the architecture's family. False on devices other than the CPU: not measured."""
    return device.type == "cpu" and family_of(model) in CHANNELS_LAST_FAMILIES


def family_of(model: nn.Module) -> str | None:
    """The module of `timm.models` that the model's class is of; None for what is not timm's."""
    package, _, family = type(model).__module__.rpartition(".")
    return family if package == "timm.models" else None
