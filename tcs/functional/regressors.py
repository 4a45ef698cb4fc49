"""Modules between the student (and, for CC and CRD, the teacher) and a loss. All are trained, and dropped after training.

A start draws from torch's global generator, as torch's own layers do: wrap the construction in `torch.random.fork_rng`.

Legend: B batch, C channels of either, S student channels or dims, T teacher channels or dims, E embedding dims, H height, W width.
"""

import dataclasses

import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from tcs.errors import ConfigError
from tcs.functional.checks import require_dtype
from tcs.functional.norms import unit

Size = tuple[int, int]


def as_map(x: Tensor) -> Tensor:
    """A vector (B, C) as a map (B, C, 1, 1); a map unchanged. ConfigError for what is neither."""
    if x.ndim not in (2, 4):
        raise ConfigError(
            f"A loss of maps has an input of shape {tuple(x.shape)}; it takes maps (B, C, H, W), and vectors (B, C) as one position."
        )
    return x[:, :, None, None] if x.ndim == 2 else x


def as_kernel(weight: Tensor) -> Tensor:
    """A matrix (out, in) as a 1 x 1 convolution (out, in, 1, 1); a convolution's weight unchanged."""
    return weight[:, :, None, None] if weight.ndim == 2 else weight


def adapted(f_s: Tensor, weight_TS: Tensor | None, bias_T: Tensor | None = None) -> Tensor:
    """Vectors (B, S) or every position of maps (B, S, H, W) in T dims: W f_s + b; without a weight as they are.

    The weight is a matrix (T, S) or a 1 x 1 convolution's (T, S, 1, 1). ConfigError: shapes, a bias without a weight.
    """
    if weight_TS is None:
        if bias_T is not None:
            raise ConfigError("The adaptor has a bias and no weight; give both, or the weight alone.")
        return f_s
    kernel_TS11 = as_kernel(weight_TS)
    if f_s.ndim not in (2, 4) or kernel_TS11.shape[1:] != (f_s.shape[1], 1, 1):
        shapes = f"{tuple(weight_TS.shape)} for features of shape {tuple(f_s.shape)}"
        raise ConfigError(f"The adaptor's weight is {shapes}; it must be (T, S) for (B, S) or (B, S, H, W).")
    if bias_T is not None and bias_T.shape != kernel_TS11.shape[:1]:
        shapes = f"{tuple(bias_T.shape)} for a weight of shape {tuple(weight_TS.shape)}"
        raise ConfigError(f"The adaptor's bias is {shapes}; it must be (T,), one number for each row of the weight.")
    return F.linear(f_s, kernel_TS11.flatten(1), bias_T) if f_s.ndim == 2 else F.conv2d(f_s, kernel_TS11, bias_T)


@dataclasses.dataclass(frozen=True, kw_only=True)
class HintStep:
    """The geometry of FitNet's convolution between two sizes."""

    kernel: Size
    stride: int = 1
    padding: int = 0
    transposed: bool = False


def hint_step(size_s: Size, size_t: Size) -> HintStep:
    """FitNet's convolution from the student's map size to the teacher's, by RepDistiller's rule on the heights.

    Twice the size: 3 x 3, stride 2, padding 1. Half: transposed 4 x 4, stride 2, padding 1. Otherwise, not smaller: a valid
    kernel of (1 + H_s - H_t, 1 + W_s - W_t). ConfigError for a smaller student map that is not half the size.
    """
    (h_s, w_s), (h_t, w_t) = size_s, size_t
    if h_s == 2 * h_t and w_s == 2 * w_t:
        return HintStep(kernel=(3, 3), stride=2, padding=1)
    if 2 * h_s == h_t and 2 * w_s == w_t:
        return HintStep(kernel=(4, 4), stride=2, padding=1, transposed=True)
    if h_s >= h_t and w_s >= w_t:
        return HintStep(kernel=(1 + h_s - h_t, 1 + w_s - w_t))
    raise ConfigError(
        f"hint has a student map of {size_s} for the teacher's {size_t}; it must be half as large, or not smaller: take an earlier stage."
    )


def hint_convolution(channels_s: int, channels_t: int, size_s: Size, size_t: Size) -> nn.Module:
    """The convolution of `hint_step`, with bias."""
    step = hint_step(size_s, size_t)
    kind = nn.ConvTranspose2d if step.transposed else nn.Conv2d
    return kind(channels_s, channels_t, step.kernel, stride=step.stride, padding=step.padding)


class HintRegressor(nn.Module):
    """FitNet's regressor: convolution by size, batch normalisation (affine), ReLU. Targets below zero cannot be matched."""

    def __init__(self, channels_s: int, channels_t: int, size_s: Size = (1, 1), size_t: Size = (1, 1)) -> None:
        super().__init__()
        self.channels_s = channels_s
        self.convolution = hint_convolution(channels_s, channels_t, size_s, size_t)
        self.norm = nn.BatchNorm2d(channels_t)

    def forward(self, f_s: Tensor) -> Tensor:
        """(B, S, H, W) to (B, T, H_t, W_t), or (B, S) to (B, T)."""
        _require_input(self, f_s, self.channels_s, self.norm.weight)
        regressed = F.relu(_normalised(self.norm, self.convolution(as_map(f_s))))
        return regressed.flatten(1) if f_s.ndim == 2 else regressed

    def weights(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The convolution's weight and bias, the norm's scale and shift, as `fitnet` takes them."""
        weight, bias = self.convolution.parameters()
        return weight, bias, self.norm.weight, self.norm.bias


def _require_input(module: nn.Module, f_s: Tensor, channels_s: int, weight: Tensor) -> None:
    """ConfigError unless a module can read these vectors or maps."""
    owner = type(module).__name__
    if f_s.ndim not in (2, 4) or f_s.shape[1] != channels_s:
        shape = f"an input of shape {tuple(f_s.shape)}"
        raise ConfigError(
            f"{owner} has {shape}; it takes (B, {channels_s}) or (B, {channels_s}, H, W), as it was built."
        )
    require_dtype(f_s, weight, owner)


def _normalised(norm: nn.BatchNorm2d, x_BCHW: Tensor) -> Tensor:
    if norm.training:
        _require_statistics(x_BCHW)
    normalised: Tensor = norm(x_BCHW)
    return normalised


def _require_statistics(x_BCHW: Tensor) -> None:
    if x_BCHW.numel() == x_BCHW.shape[1]:
        raise ConfigError("A batch of 1 pooled row has no batch statistics; use 2 rows or more.")


def batch_normalised(x_BCHW: Tensor, scale_C: Tensor, shift_C: Tensor) -> Tensor:
    """Affine batch normalisation with the batch's own statistics: biased variance, eps 1e-5. ConfigError for a single position."""
    _require_statistics(x_BCHW)
    return F.batch_norm(x_BCHW, None, None, scale_C, shift_C, training=True)


class VidRegressor(nn.Module):
    """VID's mean: 1 x 1 convolutions S to T, T to T, T to T without bias, ReLU between."""

    def __init__(self, channels_s: int, channels_t: int) -> None:
        super().__init__()
        widths = [(channels_s, channels_t), (channels_t, channels_t), (channels_t, channels_t)]
        self.convolutions = nn.ModuleList([nn.Conv2d(a, b, 1, bias=False) for a, b in widths])

    def forward(self, f_s: Tensor, size_t: Size | None = None) -> Tensor:
        """(B, S, H, W) to (B, T, H, W), or (B, S) to (B, T). A map larger than `size_t` is average-pooled to it first."""
        first = self.weights()[0]
        _require_input(self, f_s, first.shape[1], first)
        mu = as_map(f_s)
        if size_t is not None and (mu.shape[2] > size_t[0] or mu.shape[3] > size_t[1]):
            mu = F.adaptive_avg_pool2d(mu, size_t)
        for index, convolution in enumerate(self.convolutions):
            mu = convolution(F.relu(mu) if index else mu)
        return mu.flatten(1) if f_s.ndim == 2 else mu

    def weights(self) -> tuple[Tensor, Tensor, Tensor]:
        """The three convolutions' weights, as `vid_regressed` takes them."""
        first, second, third = self.convolutions.parameters()
        return first, second, third


class ChannelEmbed(nn.Module):
    """ICKD's student embedding: 1 x 1 convolution without bias, batch normalisation (affine), to the teacher's channels."""

    def __init__(self, channels_s: int, channels_t: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(channels_s, channels_t, 1, bias=False)
        self.norm = nn.BatchNorm2d(channels_t)

    def forward(self, f_s_BSHW: Tensor) -> Tensor:
        """(B, S, H, W) to (B, T, H, W)."""
        _require_input(self, f_s_BSHW, self.convolution.in_channels, self.norm.weight)
        return _normalised(self.norm, self.convolution(as_map(f_s_BSHW)))

    def weights(self) -> tuple[Tensor, Tensor, Tensor]:
        """The convolution's weight, the norm's scale and shift, as `ickd` takes them."""
        return self.convolution.weight, self.norm.weight, self.norm.bias


class LinearEmbed(nn.Module):
    """CC's embedding of one side: flatten, linear with bias, to `width` dims. No normalisation."""

    def __init__(self, width_in: int, width: int = 128) -> None:
        super().__init__()
        self.linear = nn.Linear(width_in, width)

    def forward(self, f: Tensor) -> Tensor:
        """(B, ...) to (B, E)."""
        _require_input(self, f.flatten(1), self.linear.in_features, self.linear.weight)
        embedded: Tensor = self.linear(f.flatten(1))
        return embedded

    def weights(self) -> tuple[Tensor, Tensor]:
        """Weight and bias, as `cc_embedded` takes them."""
        return self.linear.weight, self.linear.bias


class UnitEmbed(nn.Module):
    """CRD's embedding of one side: flatten, linear with bias, rows of unit length."""

    def __init__(self, width_in: int, width: int = 128) -> None:
        super().__init__()
        self.linear = nn.Linear(width_in, width)

    def forward(self, f: Tensor) -> Tensor:
        """(B, ...) to (B, E), rows of length 1 (a zero row stays zero)."""
        _require_input(self, f.flatten(1), self.linear.in_features, self.linear.weight)
        return unit(self.linear(f.flatten(1)), dim=1)

    def weights(self) -> tuple[Tensor, Tensor]:
        """Weight and bias, as `crd_embedded` and `crd_step` take them."""
        return self.linear.weight, self.linear.bias
