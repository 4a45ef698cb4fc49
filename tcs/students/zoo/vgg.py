"""VGG with batch normalisation for 32-px images (Simonyan and Zisserman 2015, arXiv 1409.1556), as in the CRD benchmark.

Five stages, three poolings between the first four, global pooling and one linear layer instead of the paper's three.
Convolutions keep their bias, which batch normalisation makes idle: the published counts include it.
"""

from torch import nn

from tcs.students.zoo.network import Layers, Stage, convolution

WIDTHS = (64, 128, 256, 512, 512)
POOLED = 3  # stages that begin with a 2x2 max pooling: the second to the fourth


def _layer(channels_in: int, channels_out: int) -> nn.Sequential:
    convolved = convolution(channels_in, channels_out, 3, bias=True)
    return nn.Sequential(convolved, nn.BatchNorm2d(channels_out), nn.ReLU(inplace=True))


def vgg(in_chans: int, *, convolutions: int) -> Layers:
    """Layers of a VGG with `convolutions` in each of its five stages, at 1, 1/2, 1/4, 1/8 and 1/8 of the image's side.

    The first convolution is the stem, and so missing in the first stage.
    """
    stages, channels = [], WIDTHS[0]
    for index, width in enumerate(WIDTHS):
        blocks: list[nn.Module] = [nn.MaxPool2d(2)] if 1 <= index <= POOLED else []
        for _ in range(convolutions if index > 0 else convolutions - 1):
            blocks.append(_layer(channels, width))
            channels = width
        stages.append(Stage(blocks=blocks, channels=width, reduction=2 ** min(index, POOLED)))
    return Layers(stem=_layer(in_chans, WIDTHS[0]), stages=stages, width=channels)
