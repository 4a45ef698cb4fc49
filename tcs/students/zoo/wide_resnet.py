"""Wide residual networks for 32-px images (Zagoruyko and Komodakis 2016, arXiv 1605.07146, table 1): WRN-depth-factor.

Blocks are pre-activated (B(3,3)); depth is 6n + 4.

Legend: B batch rows, F channels.
"""

from torch import Tensor, nn

from tcs.students.zoo.network import Layers, Stage, convolution


def norm_relu(channels: int) -> nn.Sequential:
    """Batch normalisation and ReLU."""
    return nn.Sequential(nn.BatchNorm2d(channels), nn.ReLU(inplace=True))


class PreActivationBlock(nn.Module):
    """conv-bn-relu-conv(a) + x with a = relu(bn(x)); where the shape changes, a 1x1 convolution of a stands in for x."""

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        self.activation = norm_relu(channels_in)
        self.residual = nn.Sequential(
            convolution(channels_in, channels_out, 3, stride=stride),
            norm_relu(channels_out),
            convolution(channels_out, channels_out, 3),
        )
        changes = stride != 1 or channels_in != channels_out
        self.shortcut = convolution(channels_in, channels_out, 1, stride=stride) if changes else None

    def forward(self, maps_BFHW: Tensor) -> Tensor:
        """The map after this block, not yet normalised."""
        active_BFHW: Tensor = self.activation(maps_BFHW)
        residual_BFHW: Tensor = self.residual(active_BFHW)
        return residual_BFHW + (maps_BFHW if self.shortcut is None else self.shortcut(active_BFHW))


def wide_resnet(in_chans: int, *, depth: int, factor: int) -> Layers:
    """Layers of a WRN of `depth` 6n + 4 with three stages of n blocks, 16, 32 and 64 times `factor` channels wide."""
    blocks, rest = divmod(depth - 4, 6)
    assert rest == 0, f"depth is {depth}, not 6n + 4"
    stages, channels = [], 16
    for index, width in enumerate((16 * factor, 32 * factor, 64 * factor)):
        first = PreActivationBlock(channels, width, stride=1 if index == 0 else 2)
        others = [PreActivationBlock(width, width, stride=1) for _ in range(blocks - 1)]
        stages.append(Stage(blocks=[first, *others], channels=width, reduction=2**index))
        channels = width
    stem = nn.Sequential(convolution(in_chans, 16, 3))
    return Layers(stem=stem, stages=stages, norm=norm_relu(channels), width=channels)
