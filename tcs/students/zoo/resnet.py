"""ResNets for 32-px images (He et al. 2016, arXiv 1512.03385, section 4.2), and the wider ones of the CRD benchmark.

Depth is 6n + 2. Where the size of a map changes, the shortcut is a 1x1 convolution (the paper's option B), as in the
benchmark (Tian et al. 2020, arXiv 1910.10699).

Legend: B batch rows, F channels.
"""

from torch import Tensor, nn

from tcs.students.zoo.network import Layers, Stage, conv_norm

Widths = tuple[int, int, int, int]
THIN: Widths = (16, 16, 32, 64)  # stem and stages of the paper
WIDE: Widths = (32, 64, 128, 256)  # the benchmark's "x4": stages four times as wide, the stem twice


class BasicBlock(nn.Module):
    """relu(conv-bn-relu-conv-bn(x) + shortcut(x)); the paper's figure 2."""

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            conv_norm(channels_in, channels_out, 3, stride=stride),
            conv_norm(channels_out, channels_out, 3, relu=False),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels_in != channels_out:
            self.shortcut = conv_norm(channels_in, channels_out, 1, stride=stride, relu=False)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, maps_BFHW: Tensor) -> Tensor:
        """The map after this block."""
        out: Tensor = self.relu(self.residual(maps_BFHW) + self.shortcut(maps_BFHW))
        return out


def resnet(in_chans: int, *, depth: int, widths: Widths = THIN) -> Layers:
    """Layers of a ResNet of `depth` 6n + 2 with three stages of n blocks, at 1, 1/2 and 1/4 of the image's side."""
    blocks, rest = divmod(depth - 2, 6)
    assert rest == 0, f"depth is {depth}, not 6n + 2"
    stages, channels = [], widths[0]
    for index, width in enumerate(widths[1:]):
        first = BasicBlock(channels, width, stride=1 if index == 0 else 2)
        others = [BasicBlock(width, width, stride=1) for _ in range(blocks - 1)]
        stages.append(Stage(blocks=[first, *others], channels=width, reduction=2**index))
        channels = width
    return Layers(stem=conv_norm(in_chans, widths[0], 3), stages=stages, width=channels)
