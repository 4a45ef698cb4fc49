"""MobileNetV2 at half width for 32-px images (Sandler et al. 2018, arXiv 1801.04381, table 2), as in the CRD benchmark.

One of the paper's five strides is missing, that of the 24 channels: 32 px become 2. Widths are halved and not rounded to
multiples of 8, the first block has its 1x1 convolution though it expands nothing, and ReLU stands for ReLU6; the published
0.81 M parameters hold for that.

Legend: B batch rows, F channels.
"""

from torch import Tensor, nn

from tcs.students.zoo.network import Layers, Stage, conv_norm

EXPANSION = 6
LAST = 1280  # the paper leaves the last convolution at full width for factors below 1

# (channels at full width, blocks, stride of the first) of the paper's bottlenecks, grouped by the size of their map
STAGES = (
    ((16, 1, 1), (24, 2, 1)),
    ((32, 3, 2),),
    ((64, 4, 2), (96, 3, 1)),
    ((160, 3, 2), (320, 1, 1)),
)


class InvertedResidual(nn.Module):
    """1x1 expansion, 3x3 depthwise convolution, linear 1x1 projection; plus x where the shape stays (the paper's figure 4d)."""

    def __init__(self, channels_in: int, channels_out: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = channels_in * expansion
        self.residual = nn.Sequential(
            conv_norm(channels_in, inner, 1),
            conv_norm(inner, inner, 3, stride=stride, groups=inner),
            conv_norm(inner, channels_out, 1, relu=False),
        )
        self.adds = stride == 1 and channels_in == channels_out

    def forward(self, maps_BFHW: Tensor) -> Tensor:
        """The map after this block."""
        residual_BFHW: Tensor = self.residual(maps_BFHW)
        return maps_BFHW + residual_BFHW if self.adds else residual_BFHW


def mobilenet_v2(in_chans: int, *, factor: float) -> Layers:
    """Layers of a MobileNetV2 whose channels are `factor` times the paper's, in four stages at 1/2 to 1/16 of the side."""
    stem = channels = int(32 * factor)
    stages, reduction = [], 2
    for groups in STAGES:
        blocks = []
        for full, count, stride in groups:
            reduction *= stride
            for index in range(count):
                width, step = int(full * factor), stride if index == 0 else 1
                blocks.append(InvertedResidual(channels, width, step, 1 if full == 16 else EXPANSION))
                channels = width
        stages.append(Stage(blocks=blocks, channels=channels, reduction=reduction))
    last = conv_norm(channels, LAST, 1)
    return Layers(stem=conv_norm(in_chans, stem, 3, stride=2), stages=stages, last=last, width=LAST)
