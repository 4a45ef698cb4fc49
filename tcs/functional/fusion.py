"""ReviewKD's student side: maps fused from deep to shallow, each brought to its teacher level's shape.

A start draws from torch's global generator, as torch's own layers do: wrap the construction in `torch.random.fork_rng`.

Legend: B batch, S student channels, M middle channels, T teacher channels, H height, W width.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F  # noqa: N812  (torch's own convention)
from torch import Tensor, nn

from tcs.errors import ConfigError
from tcs.functional.regressors import as_map

Size = tuple[int, int]


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
        fused: Tensor = self.reduce(f_s_BSHW)
        if self.gates is not None:
            assert residual_BMHW is not None  # only the deepest level has none
            deeper = F.interpolate(residual_BMHW, size=fused.shape[2:], mode="nearest")
            gates_B2HW = torch.sigmoid(self.gates(torch.cat([fused, deeper], dim=1)))
            fused = fused * gates_B2HW[:, :1] + deeper * gates_B2HW[:, 1:]
        if tuple(fused.shape[2:]) != tuple(size_t):
            fused = F.interpolate(fused, size=size_t, mode="nearest")
        return self.expand(fused), fused


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
        outputs: list[Tensor] = []
        residual: Tensor | None = None
        for level, maps, size in reversed(list(zip(self.levels, maps_s, sizes_t, strict=True))):
            output, residual = level(as_map(maps), residual, size)
            outputs.insert(0, output)
        return outputs
