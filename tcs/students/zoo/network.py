"""The one network of the small-image students: a stem, stages and a head, with the interface of a timm model.

Legend: B batch rows, F channels of a map, C classes, S channels that the head pools. A map is (B, F, height, width).
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch.nn.functional as F  # noqa: N812
from timm.layers import create_classifier
from torch import Tensor, nn


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stage:
    """Blocks of one resolution: `channels` of the map that they give, `reduction` of its sides against the image's."""

    blocks: Sequence[nn.Module]
    channels: int
    reduction: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Layers:
    """What a family builds. After the last stage come `norm` (pre-activation networks) and `last` (a 1x1 convolution to `width`)."""

    stem: nn.Module
    stages: Sequence[Stage]
    norm: nn.Module = dataclasses.field(default_factory=nn.Identity)
    last: nn.Module = dataclasses.field(default_factory=nn.Identity)
    width: int


def convolution(
    channels_in: int, channels_out: int, kernel: int, *, stride: int = 1, groups: int = 1, bias: bool = False
) -> nn.Conv2d:
    """A convolution that keeps the size of the map at stride 1 and halves it (rounded up) at stride 2."""
    return nn.Conv2d(channels_in, channels_out, kernel, stride, padding=kernel // 2, groups=groups, bias=bias)


def conv_norm(
    channels_in: int, channels_out: int, kernel: int, *, stride: int = 1, groups: int = 1, relu: bool = True
) -> nn.Sequential:
    """Convolution without bias, batch normalisation and, unless `relu` is False, ReLU."""
    layers = [
        convolution(channels_in, channels_out, kernel, stride=stride, groups=groups),
        nn.BatchNorm2d(channels_out),
        *([nn.ReLU(inplace=True)] if relu else []),
    ]
    return nn.Sequential(*layers)


class SmallImageNet(nn.Module):
    """Stem, stages, global pooling and one Linear(S, C): a timm model whose layers the function `layers` builds.

    `layers` takes the number of input channels. `drop_rate` is that of a dropout before the classifier. The random start is
    drawn from torch's generator, as timm's models do; `tcs.students.student.build_student` seeds it.
    """

    def __init__(
        self,
        layers: Callable[[int], Layers],
        num_classes: int = 100,
        in_chans: int = 3,
        global_pool: str = "avg",
        drop_rate: float = 0.0,
    ) -> None:
        super().__init__()
        made = layers(in_chans)
        self.in_chans, self.drop_rate = in_chans, drop_rate
        self.num_features = self.head_hidden_size = made.width
        self.stem = made.stem
        self.stages = nn.ModuleList(nn.Sequential(*stage.blocks) for stage in made.stages)
        self.norm, self.last = made.norm, made.last
        self.feature_info = [
            {"num_chs": stage.channels, "reduction": stage.reduction, "module": f"stages.{index}"}
            for index, stage in enumerate(made.stages)
        ]
        self.num_classes, self.pooling = num_classes, global_pool
        self.global_pool: nn.Module
        self.fc: nn.Module
        self.reset_classifier(num_classes)
        self.apply(_start)

    def forward_features(self, images_BFHW: Tensor) -> Tensor:
        """The last map (B, S, height, width), normalised where the family does that after its stages."""
        maps_BFHW = self.stem(images_BFHW)
        for blocks in self.stages:
            maps_BFHW = blocks(maps_BFHW)
        final_BSHW: Tensor = self.last(self.norm(maps_BFHW))
        return final_BSHW

    def forward_head(self, final_BSHW: Tensor, pre_logits: bool = False) -> Tensor:
        """Logits (B, C) of the last map, or with `pre_logits` the pooled vector (B, S) that the classifier reads."""
        features_BS: Tensor = self.global_pool(final_BSHW)
        if self.drop_rate:
            features_BS = F.dropout(features_BS, p=self.drop_rate, training=self.training)
        if pre_logits:
            return features_BS
        logits_BC: Tensor = self.fc(features_BS)
        return logits_BC

    def forward(self, images_BFHW: Tensor) -> Tensor:
        """Logits (B, C)."""
        return self.forward_head(self.forward_features(images_BFHW))

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | Sequence[int] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
    ) -> Any:
        """(last map, maps of the stages `indices`), as timm does: the last n for an int, all for None. With `norm` the map of the
        last stage is normalised where the family normalises it; `intermediates_only` gives the maps alone.
        """
        assert output_fmt == "NCHW", f"output_fmt is {output_fmt}; these maps are NCHW"
        taken = stage_indices(len(self.stages), indices)
        maps_BFHW = self.stem(x)
        found = []
        for index, blocks in enumerate(self.stages):
            if stop_early and intermediates_only and index > max(taken):
                break
            maps_BFHW = blocks(maps_BFHW)
            if index in taken:
                is_last = index == len(self.stages) - 1
                found.append(self.norm(maps_BFHW) if norm and is_last else maps_BFHW)
        if intermediates_only:
            return found
        return self.last(self.norm(maps_BFHW)), found

    def prune_intermediate_layers(
        self, indices: int | Sequence[int] = 1, prune_norm: bool = False, prune_head: bool = True
    ) -> list[int]:
        """Drop what the maps of `indices` do not need, and return them as numbers from 0."""
        taken = stage_indices(len(self.stages), indices)
        whole = max(taken) == len(self.stages) - 1
        self.stages = self.stages[: max(taken) + 1]
        if prune_norm or not whole:
            self.norm = nn.Identity()
        if prune_head:
            self.last = nn.Identity()
            self.reset_classifier(0, "")
        return taken

    def get_classifier(self) -> nn.Module:
        """The classifier: a Linear, or an Identity for num_classes=0."""
        return self.fc

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """A new classifier of `num_classes` (0 for none), with another pooling if `global_pool` names one ('' for none)."""
        self.num_classes = num_classes
        self.pooling = self.pooling if global_pool is None else global_pool
        self.global_pool, self.fc = create_classifier(self.num_features, num_classes, pool_type=self.pooling)

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Patterns by which timm's optimisers find the depth of a parameter."""
        stages = r"^stages\.(\d+)" if coarse else [(r"^stages\.(\d+)\.(\d+)", None), (r"^(?:norm|last)", (99999,))]
        return {"stem": r"^stem", "blocks": stages}

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """These networks are too small to need it. AssertionError if asked to, as timm's own VGG."""
        assert not enable, "gradient checkpointing is not supported"


def stage_indices(stages: int, indices: int | Sequence[int] | None) -> list[int]:
    """Stage numbers from 0: all for None, the last n for an int, the given ones (negative from the end) for a sequence."""
    if indices is None:
        return list(range(stages))
    taken = list(range(-indices, 0)) if isinstance(indices, int) else list(indices)
    assert taken, f"indices are {indices}; ask for one stage or more"
    assert all(-stages <= index < stages for index in taken), f"indices are {indices}; there are {stages} stages"
    return [index % stages for index in taken]


def _start(module: nn.Module) -> None:
    """He et al. 2015 (arXiv 1502.01852, eq. 14): variance 2 / (k^2 x outputs that one input reaches); zero bias."""
    if isinstance(module, nn.Conv2d):
        fan_out = module.kernel_size[0] * module.kernel_size[1] * module.out_channels // module.groups
        nn.init.normal_(module.weight, std=math.sqrt(2 / fan_out))
        if module.bias is not None:
            nn.init.zeros_(module.bias)
