"""ShuffleNets for 32-px images, as in the CRD benchmark: the stem is a 1x1 convolution, and nothing is pooled before the stages.

V1: Zhang et al. 2018, arXiv 1707.01083, figure 2 and table 1 (three groups); unlike the paper, and like the benchmark, a ReLU
follows the depthwise convolution. V2: Ma et al. 2018, arXiv 1807.11164, figure 3 and table 5.

Legend: B batch rows, F channels.
"""

import torch
from torch import Tensor, nn

from tcs.students.zoo.network import Layers, Stage, conv_norm

STEM = 24
BLOCKS = (4, 8, 4)  # of each stage, in both versions


def shuffle(maps_BFHW: Tensor, groups: int) -> Tensor:
    """Channel shuffle: channel (g, i) of `groups` x F / groups becomes channel (i, g)."""
    batch, channels, height, width = maps_BFHW.shape
    grouped = maps_BFHW.reshape(batch, groups, channels // groups, height, width)
    return grouped.transpose(1, 2).reshape(batch, channels, height, width)


class GroupedBlock(nn.Module):
    """V1: grouped 1x1, shuffle, depthwise 3x3, grouped 1x1. At stride 2 the averaged input is concatenated, else it is added."""

    def __init__(self, channels_in: int, channels_out: int, stride: int, groups: int, first_groups: int) -> None:
        super().__init__()
        made = channels_out - channels_in if stride == 2 else channels_out  # the rest comes by the shortcut
        inner = made // 4
        self.groups = first_groups
        self.squeeze = conv_norm(channels_in, inner, 1, groups=first_groups)
        self.expand = nn.Sequential(
            conv_norm(inner, inner, 3, stride=stride, groups=inner),
            conv_norm(inner, made, 1, groups=groups, relu=False),
        )
        self.pool = nn.AvgPool2d(3, stride=2, padding=1) if stride == 2 else None
        self.relu = nn.ReLU(inplace=True)

    def forward(self, maps_BFHW: Tensor) -> Tensor:
        """The map after this block."""
        made_BFHW: Tensor = self.expand(shuffle(self.squeeze(maps_BFHW), self.groups))
        if self.pool is None:
            out: Tensor = self.relu(made_BFHW + maps_BFHW)
        else:
            out = self.relu(torch.cat([made_BFHW, self.pool(maps_BFHW)], dim=1))
        return out


def shufflenet_v1(in_chans: int, *, groups: int, widths: tuple[int, int, int]) -> Layers:
    """Layers of ShuffleNet: three stages at 1/2, 1/4 and 1/8 of the side. The first grouped convolution has one group (section 3.2)."""
    stages, channels = [], STEM
    for index, (width, count) in enumerate(zip(widths, BLOCKS, strict=True)):
        blocks = [GroupedBlock(channels, width, 2, groups, 1 if index == 0 else groups)]
        blocks += [GroupedBlock(width, width, 1, groups, groups) for _ in range(count - 1)]
        stages.append(Stage(blocks=blocks, channels=width, reduction=2 ** (index + 1)))
        channels = width
    return Layers(stem=conv_norm(in_chans, STEM, 1), stages=stages, width=channels)


def _branch(channels_in: int, channels_out: int, stride: int) -> nn.Sequential:
    """V2's working branch: 1x1, depthwise 3x3, 1x1."""
    return nn.Sequential(
        conv_norm(channels_in, channels_out, 1),
        conv_norm(channels_out, channels_out, 3, stride=stride, groups=channels_out, relu=False),
        conv_norm(channels_out, channels_out, 1),
    )


class SplitBlock(nn.Module):
    """V2, stride 1: one half of the channels passes, the other goes through the branch; then both are shuffled (figure 3c)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.branch = _branch(channels // 2, channels // 2, 1)

    def forward(self, maps_BFHW: Tensor) -> Tensor:
        """The map after this block."""
        kept, worked = maps_BFHW.chunk(2, dim=1)
        return shuffle(torch.cat([kept, self.branch(worked)], dim=1), 2)


class DownBlock(nn.Module):
    """V2, stride 2: both branches see all channels and give half of the new ones each (figure 3d)."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.shortcut = nn.Sequential(
            conv_norm(channels_in, channels_in, 3, stride=2, groups=channels_in, relu=False),
            conv_norm(channels_in, channels_out // 2, 1),
        )
        self.branch = _branch(channels_in, channels_out // 2, 2)

    def forward(self, maps_BFHW: Tensor) -> Tensor:
        """The map after this block, with half the height and width."""
        return shuffle(torch.cat([self.shortcut(maps_BFHW), self.branch(maps_BFHW)], dim=1), 2)


def shufflenet_v2(in_chans: int, *, widths: tuple[int, int, int], last: int) -> Layers:
    """Layers of ShuffleNetV2: three stages at 1/2, 1/4 and 1/8 of the side, and a 1x1 convolution to `last` channels."""
    stages, channels = [], STEM
    for index, (width, count) in enumerate(zip(widths, BLOCKS, strict=True)):
        blocks = [DownBlock(channels, width), *(SplitBlock(width) for _ in range(count - 1))]
        stages.append(Stage(blocks=blocks, channels=width, reduction=2 ** (index + 1)))
        channels = width
    stem = conv_norm(in_chans, STEM, 1)
    return Layers(stem=stem, stages=stages, last=conv_norm(channels, last, 1), width=last)
