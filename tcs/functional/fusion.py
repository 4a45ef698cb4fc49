"""ReviewKD's student side: maps fused from deep to shallow, each brought to its teacher level's shape.

`ReviewFusion` owns its weights: its start draws from torch's global generator, as torch's own layers do (wrap the construction
in `torch.random.fork_rng`). `fuse` is the same with the weights of every level as arguments; `start_fusion` starts them.

Legend: B batch, S student channels, M middle channels, T teacher channels, H height, W width. 2 and 33 are sizes.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import cast

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from tcs.errors import ConfigError
from tcs.functional.checks import require_dtype, require_shapes
from tcs.functional.precision import full_precision
from tcs.functional.regressors import as_kernel, as_map, batch_normalised

Size = tuple[int, int]


@dataclasses.dataclass(frozen=True, kw_only=True)
class FusionWeights:
    """What one level trains: in the authors' code conv1 (reduce) and conv2 (expand), each with its norm, and att_conv (gates).

    `reduce_MS` may be (M, S, 1, 1), `gates_2M` (2, 2 M) or (2, 2 M, 1, 1); the deepest level has no gates.
    """

    reduce_MS: Tensor
    reduce_scale_M: Tensor
    reduce_shift_M: Tensor
    expand_TM33: Tensor
    expand_scale_T: Tensor
    expand_shift_T: Tensor
    gates_2M: Tensor | None = None
    gates_bias_2: Tensor | None = None

    def trained(self) -> list[Tensor]:
        """All of its tensors, for an optimiser."""
        return [tensor for tensor in vars(self).values() if tensor is not None]


class FusionLevel(nn.Module):
    """One attention-based fusion: reduce to M channels, mix with the deeper residual, put out T channels."""

    def __init__(self, channels_s: int, channels_m: int, channels_t: int, fuse: bool) -> None:
        super().__init__()
        reduce = nn.Conv2d(channels_s, channels_m, 1, bias=False)
        expand = nn.Conv2d(channels_m, channels_t, 3, padding=1, bias=False)
        self.reduce = nn.Sequential(reduce, nn.BatchNorm2d(channels_m))
        self.expand = nn.Sequential(expand, nn.BatchNorm2d(channels_t))
        self.gates = nn.Conv2d(2 * channels_m, 2, 1) if fuse else None
        nn.init.kaiming_uniform_(reduce.weight, a=1)
        nn.init.kaiming_uniform_(expand.weight, a=1)

    def forward(self, f_s_BSHW: Tensor, residual_BMHW: Tensor | None, size_t: Size) -> tuple[Tensor, Tensor]:
        """The level's output (B, T, *size_t) and the residual (B, M, *size_t) for the next shallower level."""
        fused = _mixed(self.reduce(f_s_BSHW), residual_BMHW, self.gates, size_t)
        return self.expand(fused), fused

    def weights(self) -> FusionWeights:
        """The parameters themselves, so that training one trains the other."""
        reduce, expand, gates = (
            dict(part.named_parameters()) for part in (self.reduce, self.expand, self.gates or nn.Module())
        )
        return FusionWeights(
            reduce_MS=reduce["0.weight"],
            reduce_scale_M=reduce["1.weight"],
            reduce_shift_M=reduce["1.bias"],
            expand_TM33=expand["0.weight"],
            expand_scale_T=expand["1.weight"],
            expand_shift_T=expand["1.bias"],
            gates_2M=gates.get("weight"),
            gates_bias_2=gates.get("bias"),
        )


def _mixed(
    reduced_BMHW: Tensor, residual_BMHW: Tensor | None, gates: Callable[[Tensor], Tensor] | None, size_t: Size
) -> Tensor:
    """(B, M, *size_t): the level's reduced map, mixed with the deeper residual where there are gates."""
    fused = reduced_BMHW
    if gates is not None:
        assert residual_BMHW is not None  # only the deepest level has none
        deeper = F.interpolate(residual_BMHW, size=fused.shape[2:], mode="nearest")
        gates_B2HW = torch.sigmoid(gates(torch.cat([fused, deeper], dim=1)))
        fused = fused * gates_B2HW[:, :1] + deeper * gates_B2HW[:, 1:]
    return fused if tuple(fused.shape[2:]) == tuple(size_t) else F.interpolate(fused, size=size_t, mode="nearest")


class ReviewFusion(nn.Module):
    """ReviewKD's fusion of all levels, shallow to deep as given; the last (deepest) is usually the pooled vector.

    M = min(512, channels of the deepest student level). The outputs meet the teacher's levels in `hcl`.
    """

    def __init__(self, channels_s: Sequence[int], channels_t: Sequence[int]) -> None:
        super().__init__()
        if len(channels_s) != len(channels_t) or not channels_s:
            counts = f"{len(channels_s)} student and {len(channels_t)} teacher levels"
            raise ConfigError(f"ReviewFusion has {counts}; give as many of both.")
        middle = min(512, channels_s[-1])
        last = len(channels_s) - 1
        pairs = enumerate(zip(channels_s, channels_t, strict=True))
        self.levels = nn.ModuleList([FusionLevel(s, middle, t, fuse=index < last) for index, (s, t) in pairs])

    def forward(self, maps_s: Sequence[Tensor], sizes_t: Sequence[Size]) -> list[Tensor]:
        """Student maps (vectors count as 1 x 1) to maps of the teacher's sizes, both from shallow to deep."""
        if not len(maps_s) == len(sizes_t) == len(self.levels):
            counts = f"{len(maps_s)} maps and {len(sizes_t)} sizes"
            raise ConfigError(f"ReviewFusion has {counts} for {len(self.levels)} levels; give one of each for a level.")
        if self.training and maps_s[-1].shape[0] < 2:
            raise ConfigError("ReviewFusion has a batch of 1 row, which has no batch statistics; use 2 rows or more.")
        for maps, level in zip(maps_s, self.levels, strict=True):
            require_dtype(maps, next(level.parameters()), "ReviewFusion")
        outputs: list[Tensor] = []
        residual: Tensor | None = None
        for level, maps, size in reversed(list(zip(self.levels, maps_s, sizes_t, strict=True))):
            output, residual = level(as_map(maps), residual, size)
            outputs.insert(0, output)
        return outputs

    def weights(self) -> tuple[FusionWeights, ...]:
        """The parameters of all levels, shallow to deep, as `fuse` and `reviewkd` take them."""
        return tuple(cast(FusionLevel, level).weights() for level in self.levels)


def start_fusion(channels_s: Sequence[int], channels_t: Sequence[int], seed: int = 0) -> tuple[FusionWeights, ...]:
    """float32 weights of every level, shallow to deep, as `ReviewFusion` starts them; the same for a seed on any device.

    They are leaves that require a gradient: give `trained()` of each to the optimiser. ConfigError: counts.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return ReviewFusion(channels_s, channels_t).weights()


def fuse(maps_s: Sequence[Tensor], sizes_t: Sequence[Size], weights: Sequence[FusionWeights]) -> list[Tensor]:
    """`ReviewFusion` in training, with given weights: all three from shallow to deep. ConfigError: counts, gates, shapes, one row."""
    if not len(maps_s) == len(sizes_t) == len(weights) or not weights:
        counts = f"{len(maps_s)} maps, {len(sizes_t)} sizes and {len(weights)} levels of weights"
        raise ConfigError(f"reviewkd has {counts}; give one of each for a level, shallow to deep.")
    if [level.gates_2M is None for level in weights] != [False] * (len(weights) - 1) + [True]:
        raise ConfigError("reviewkd has gates at wrong levels; every level but the last, deepest one has them.")
    outputs: list[Tensor] = []
    residual: Tensor | None = None
    for level, f_s, size in reversed(list(zip(weights, maps_s, sizes_t, strict=True))):
        output, residual = _given_level(as_map(f_s), residual, size, **vars(level))
        outputs.insert(0, output)
    return outputs


@full_precision
def _given_level(
    f_s_BSHW: Tensor,
    residual_BMHW: Tensor | None,
    size_t: Size,
    reduce_MS: Tensor,
    reduce_scale_M: Tensor,
    reduce_shift_M: Tensor,
    expand_TM33: Tensor,
    expand_scale_T: Tensor,
    expand_shift_T: Tensor,
    gates_2M: Tensor | None,
    gates_bias_2: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """`FusionLevel.forward` with given weights."""
    require_shapes(
        "reviewkd",
        ("a student level", f_s_BSHW, "B S . ."),
        ("reduce_MS", reduce_MS, "M S" if reduce_MS.ndim == 2 else "M S 1 1"),
        ("reduce_scale_M", reduce_scale_M, "M"),
        ("reduce_shift_M", reduce_shift_M, "M"),
        ("expand_TM33", expand_TM33, "T M 3 3"),
        ("expand_scale_T", expand_scale_T, "T"),
        ("expand_shift_T", expand_shift_T, "T"),
        ("the deeper level", residual_BMHW, "B M . ."),
        ("gates_bias_2", gates_bias_2, "2"),
    )
    if gates_2M is not None:
        wide = 2 * len(reduce_scale_M)
        require_shapes("reviewkd", ("gates_2M", gates_2M, f"2 {wide}" if gates_2M.ndim == 2 else f"2 {wide} 1 1"))

    def gates(both: Tensor) -> Tensor:
        assert gates_2M is not None
        return F.conv2d(both, as_kernel(gates_2M), gates_bias_2)

    reduced = batch_normalised(F.conv2d(f_s_BSHW, as_kernel(reduce_MS)), reduce_scale_M, reduce_shift_M)
    fused = _mixed(reduced, residual_BMHW, None if gates_2M is None else gates, size_t)
    return batch_normalised(F.conv2d(fused, expand_TM33, padding=1), expand_scale_T, expand_shift_T), fused
