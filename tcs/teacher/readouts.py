"""What is read from a model in one pass: class token, average, timm's own pre-logits vector, the map itself, inner blocks.

| name | what |
|---|---|
| `cls`, `avg`, `map` | of the last features, after the final norm: token 0, the mean over positions, all positions |
| `pool` | timm's own `forward_head(pre_logits=True)` |
| `blockN.cls`, `blockN.avg`, `blockN.map` | of a token network's block N, counted from 0, before any norm |
| `blockN+norm.cls` ... | the same behind the network's final norm |
| `stageN.avg`, `stageN.map` | of a network of stages; N counts as in timm's `feature_info` |

Where a model norms after pooling (timm's ``fc_norm``, ConvNeXt's ``head.norm``), cls, avg and map are taken before that
norm and pool after it. `global_pool` is never passed to timm: it would swap a trained final norm for an untrained one.

Legend: B batch, L tokens, D teacher dims, H W height and width of a map.
"""

import dataclasses
import inspect
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from tcs.errors import ConfigError, ModelError, did_you_mean

READOUTS = ("cls", "avg", "pool", "map")
LAYER_PATTERN = re.compile(r"(block|stage)(0|[1-9][0-9]*)(\+norm)?\.(cls|avg|map)")
GRAMMAR = f"{', '.join(READOUTS)}, or of an inner layer block3.cls, block3+norm.avg, stage2.map and so on"

# Two ways to the same features, compared at loading: rounding is far below this share of the largest value.
SAME_SHARE = 1e-3
Layer = tuple[torch.Tensor, torch.Tensor | None]  # map (B, D, H, W), and prefix tokens (B, P, D) where there are any


@dataclasses.dataclass(frozen=True, kw_only=True)
class Spec:
    """A readout's name taken apart: `kind` is one of READOUTS, `layer` its block or stage (None: the last features)."""

    kind: str
    layer: int | None = None
    word: str | None = None
    is_normed: bool = False


def parse_readout(name: str) -> Spec:
    """The parts of a readout's name; ConfigError where it is none."""
    if name in READOUTS:
        return Spec(kind=name)
    found = LAYER_PATTERN.fullmatch(name)
    if found is None:
        raise ConfigError(f"--readout is '{name}'; it must be one of {GRAMMAR}.{did_you_mean(name, READOUTS)}")
    return Spec(kind=found[4], layer=int(found[2]), word=found[1], is_normed=found[3] is not None)


def require_readouts(names: Sequence[str]) -> None:
    """Raise ConfigError unless every name is a readout's, each at most once, and inner layers all with or without norm."""
    specs = [parse_readout(name) for name in names]
    if len(set(names)) < len(names):
        raise ConfigError(f"--readout names {', '.join(names)}; each may stand there once.")
    if len({spec.is_normed for spec in specs if spec.layer is not None}) > 1:
        raise ConfigError(
            f"--readout names {', '.join(names)}; one pass gives inner layers with +norm or without, not both."
        )
    if any(spec.is_normed and spec.word == "stage" for spec in specs):
        raise ConfigError(f"--readout names {', '.join(names)}; stages have no norm of their own, leave out +norm.")


def reads_layers(names: Sequence[str]) -> bool:
    """Whether any of the readouts is of an inner block or stage."""
    return any(parse_readout(name).layer is not None for name in names)


def read_features(model: nn.Module, images_B3HW: torch.Tensor, names: Sequence[str]) -> dict[str, torch.Tensor]:
    """The readouts `names` of a batch from one forward pass, each float32: (B, D), maps (B, H, W, D); D may differ.

    ModelError where a readout does not exist for the model (no class token, an unknown layout, no such block).
    """
    specs = {name: parse_readout(name) for name in names}
    layers = sorted({spec.layer for spec in specs.values() if spec.layer is not None})
    inner: Mapping[int, Layer] = {}
    if not layers:
        last = model.forward_features(images_B3HW)  # type: ignore[operator]
    else:
        norm = any(spec.is_normed for spec in specs.values())
        last, inner = _with_layers(model, images_B3HW, layers, norm=norm)
        _require_words(model, specs, last)
    found = {}
    for name, spec in specs.items():
        if spec.layer is None:
            found[name] = _read_last(model, last, name, images_B3HW)
        else:
            found[name] = _read_layer(model, inner[spec.layer], name, spec)
    return {name: value.float() for name, value in found.items()}


def require_consistent(model: nn.Module, images_B3HW: torch.Tensor, names: Sequence[str]) -> None:
    """Raise ModelError unless timm's two ways through the model agree on these images, as far as `names` rely on it.

    Inner blocks come from `forward_intermediates`, which is other code than `forward_features`; and a map of tokens relies on
    their order, which some networks permute.
    """
    if not reads_layers(names) and "map" not in names:
        return
    plain = model.forward_features(images_B3HW)  # type: ignore[operator]
    if not torch.isfinite(plain).all():  # which agrees with nothing
        raise ModelError(f"{_name(model)} gives features that are not finite; check its weights and --compute-dtype.")
    if reads_layers(names) and not _agree(plain, _with_layers(model, images_B3HW, [0], norm=False)[0]):
        raise ModelError(
            f"{_name(model)} gives other features when its inner layers are read; leave out the block and stage readouts."
        )
    if "map" in names and plain.ndim == 3 and not _is_in_order(model, plain, images_B3HW):
        raise ModelError(
            f"{_name(model)} does not say where its tokens lie, so --readout map is undefined; use the map of an inner layer."
        )


def _agree(one: torch.Tensor, other: torch.Tensor) -> bool:
    return one.shape == other.shape and bool((one - other).abs().max() <= SAME_SHARE * one.abs().max())


def _is_in_order(model: nn.Module, features_BLD: torch.Tensor, images_B3HW: torch.Tensor) -> bool:
    """Whether the last tokens, laid out in rows, are timm's own map of the last block behind the final norm."""
    last = len(getattr(model, "feature_info", ())) - 1
    try:
        _, inner = _with_layers(model, images_B3HW, [last], norm=True)
    except ModelError:
        return False
    return _agree(_last_map(model, features_BLD, images_B3HW), inner[last][0].permute(0, 2, 3, 1))


def _with_layers(
    model: nn.Module, images_B3HW: torch.Tensor, layers: Sequence[int], *, norm: bool
) -> tuple[torch.Tensor, Mapping[int, Layer]]:
    """The last features, and of each layer the map (B, D, H, W) with the prefix tokens (B, P, D) where there are any."""
    if not hasattr(model, "forward_intermediates"):
        raise ModelError(f"{_name(model)} does not give its inner layers; use {', '.join(READOUTS[:3])}.")
    known = inspect.signature(model.forward_intermediates).parameters  # type: ignore[arg-type]
    has_prefix = _prefix_tokens(model) > 0 and "return_prefix_tokens" in known
    options: dict[str, Any] = {"return_prefix_tokens": True} if has_prefix else {}
    options |= {"stop_early": False} if "stop_early" in known else {}
    try:
        last, found = model.forward_intermediates(images_B3HW, indices=list(layers), norm=norm, **options)  # type: ignore[operator]
    except (AssertionError, TypeError, ValueError) as error:
        raise _no_layer(model, layers, norm, error) from error
    pairs = [item if isinstance(item, tuple) else (item, None) for item in found]
    return last, dict(zip(layers, pairs, strict=True))


def _no_layer(model: nn.Module, layers: Sequence[int], norm: bool, error: Exception) -> ModelError:
    count = len(getattr(model, "feature_info", ()))
    if count and layers[-1] >= count:
        return ModelError(
            f"--readout names layer {layers[-1]}, and {_name(model)} has {count}, counted from 0; use 0 to {count - 1}."
        )
    remedy = "leave out +norm" if norm else "leave out the block and stage readouts"
    reason = (str(error).splitlines() or [type(error).__name__])[0][:100]
    return ModelError(f"{_name(model)} does not give its inner layers so ({reason}); {remedy}.")


def _require_words(model: nn.Module, specs: Mapping[str, Spec], last: torch.Tensor) -> None:
    """Raise ModelError where a token network is asked for a stage, or another network for a block."""
    has_blocks = len(getattr(model, "blocks", ())) == len(model.feature_info)  # type: ignore[arg-type]
    right, wrong = ("block", "stage") if last.ndim == 3 and has_blocks else ("stage", "block")
    for name, spec in specs.items():
        if spec.word == wrong:
            raise ModelError(
                f"{_name(model)} has {right}s, so --readout {name} is undefined; use {right}{name.removeprefix(wrong)}."
            )


def _read_last(model: nn.Module, features: torch.Tensor, name: str, images_B3HW: torch.Tensor) -> torch.Tensor:
    if name == "pool":
        pooled: torch.Tensor = model.forward_head(features, pre_logits=True)  # type: ignore[operator]
        return pooled.flatten(1)
    if not isinstance(features, torch.Tensor):
        raise ModelError(f"{_name(model)} has no single feature map, so --readout {name} is undefined; use pool.")
    if name == "cls":
        return _class_token(model, features)
    if name == "avg":
        return _average(model, features)
    return _last_map(model, features, images_B3HW)


def _read_layer(model: nn.Module, layer: Layer, name: str, spec: Spec) -> torch.Tensor:
    map_BDHW, prefix_BPD = layer
    if spec.kind == "map":
        return map_BDHW.permute(0, 2, 3, 1)
    if spec.kind == "avg":
        return map_BDHW.mean(dim=(2, 3))
    if prefix_BPD is None or not _has_class_token(model):
        raise ModelError(f"{_name(model)} has no class token, so --readout {name} is undefined; use avg or map.")
    return prefix_BPD[:, 0]


def _class_token(model: nn.Module, features_BLD: torch.Tensor) -> torch.Tensor:
    if features_BLD.ndim != 3 or not _has_class_token(model) or _prefix_tokens(model) < 1:
        raise ModelError(f"{_name(model)} has no class token, so --readout cls is undefined; use avg or pool.")
    return features_BLD[:, 0]


def _patch_tokens(model: nn.Module, features_BLD: torch.Tensor) -> torch.Tensor:
    if _has_class_token(model) and not _prefix_tokens(model):
        raise ModelError(f"{_name(model)} does not say which tokens are patches; use --readout pool.")
    return features_BLD[:, _prefix_tokens(model) :]


def _average(model: nn.Module, features: torch.Tensor) -> torch.Tensor:
    """Mean over the patch tokens of (B, L, D), or over the positions of (B, D, H, W) or (B, H, W, D)."""
    if features.ndim == 3:
        return _patch_tokens(model, features).mean(dim=1)
    return features.mean(dim=(1, 2) if _is_channels_last(model, features, "avg") else (2, 3))


def _last_map(model: nn.Module, features: torch.Tensor, images_B3HW: torch.Tensor) -> torch.Tensor:
    """(B, H, W, D): the patch tokens in rows and columns, or the map with its dims last."""
    if features.ndim != 3:
        return features if _is_channels_last(model, features, "map") else features.permute(0, 2, 3, 1)
    tokens_BLD = _patch_tokens(model, features)
    height, width = _grid(model, images_B3HW, tokens_BLD.shape[1])
    if height * width != tokens_BLD.shape[1]:
        raise ModelError(
            f"{_name(model)} ends with {tokens_BLD.shape[1]} tokens, and its patches are {height} x {width}, so --readout map"
            " is undefined; use the map of an inner layer."
        )
    return tokens_BLD.reshape(len(tokens_BLD), height, width, -1)


def _grid(model: nn.Module, images_B3HW: torch.Tensor, tokens: int) -> tuple[int, int]:
    """How many rows and columns of patches these images have; a square where the model does not say."""
    embed: Any = getattr(model, "patch_embed", None)
    if hasattr(embed, "dynamic_feat_size"):
        height, width = embed.dynamic_feat_size(tuple(images_B3HW.shape[-2:]))
    else:
        height, width = getattr(embed, "grid_size", None) or (math.isqrt(tokens), math.isqrt(tokens))
    return int(height), int(width)


def _is_channels_last(model: nn.Module, features: torch.Tensor, name: str) -> bool:
    """Whether the last features are (B, H, W, D); ModelError where they are neither that nor (B, D, H, W)."""
    channels_last = getattr(model, "output_fmt", "NCHW") == "NHWC"
    width = features.shape[-1 if channels_last else 1] if features.ndim == 4 else None
    if width != model.num_features:
        shape = tuple(features.shape)
        raise ModelError(f"{_name(model)} gives features of shape {shape}, a layout {name} does not know; use pool.")
    return channels_last


def _has_class_token(model: nn.Module) -> bool:
    """timm keeps the token on the model, or (NaFlex) on its `embeds`."""
    holders = (model, getattr(model, "embeds", None))
    return any(getattr(holder, "cls_token", None) is not None for holder in holders)


def _prefix_tokens(model: nn.Module) -> int:
    return int(getattr(model, "num_prefix_tokens", 0) or 0)


def _name(model: nn.Module) -> str:
    config = getattr(model, "pretrained_cfg", None) or {}
    return str(config.get("architecture") or type(model).__name__)
