"""What is read from a model's last feature map: class token, average, or timm's own pre-logits vector.

Letters: B batch, L tokens, D teacher dims, H W height and width. Everything is computed from ``forward_features``.
Where a model norms after pooling (timm's ``fc_norm``, ConvNeXt's ``head.norm``), cls and avg are taken before that norm
and pool after it. `global_pool` is never passed to timm: it would swap a trained final norm for an untrained one.
"""

from collections.abc import Sequence

import torch
from torch import nn

from tcs.errors import ConfigError, ModelError, did_you_mean

READOUTS = ("cls", "avg", "pool")


def require_readouts(names: Sequence[str]) -> None:
    """Raise ConfigError unless every name is one of READOUTS, each at most once."""
    for name in names:
        if name not in READOUTS:
            hint = did_you_mean(name, READOUTS)
            raise ConfigError(f"--readout is '{name}'; it must be one of {', '.join(READOUTS)}.{hint}")
    if len(set(names)) < len(names):
        raise ConfigError(f"--readout names {', '.join(names)}; each may stand there once.")


def read_features(model: nn.Module, images_B3HW: torch.Tensor, names: Sequence[str]) -> dict[str, torch.Tensor]:
    """The readouts `names` of a batch, each float32 (B, D); D may differ between them.

    ModelError where a readout does not exist for the model (no class token, an unknown layout).
    """
    features = model.forward_features(images_B3HW)  # type: ignore[operator]
    return {name: _read(model, features, name).float() for name in names}


def _read(model: nn.Module, features: torch.Tensor, name: str) -> torch.Tensor:
    if name == "pool":
        pooled: torch.Tensor = model.forward_head(features, pre_logits=True)  # type: ignore[operator]
        return pooled.flatten(1)
    if not isinstance(features, torch.Tensor):
        raise ModelError(f"{_name(model)} has no single feature map, so --readout {name} is undefined; use pool.")
    if name == "cls":
        return _class_token(model, features)
    return _average(model, features)


def _class_token(model: nn.Module, features_BLD: torch.Tensor) -> torch.Tensor:
    if features_BLD.ndim != 3 or not _has_class_token(model) or _prefix_tokens(model) < 1:
        raise ModelError(f"{_name(model)} has no class token, so --readout cls is undefined; use avg or pool.")
    return features_BLD[:, 0]


def _average(model: nn.Module, features: torch.Tensor) -> torch.Tensor:
    """Mean over the patch tokens of (B, L, D), or over the positions of (B, D, H, W) or (B, H, W, D)."""
    if features.ndim == 3:
        if _has_class_token(model) and not _prefix_tokens(model):
            raise ModelError(f"{_name(model)} does not say which tokens are patches; use --readout pool.")
        return features[:, _prefix_tokens(model) :].mean(dim=1)
    channels_last = getattr(model, "output_fmt", "NCHW") == "NHWC"
    width = features.shape[-1 if channels_last else 1] if features.ndim == 4 else None
    if width != model.num_features:
        shape = tuple(features.shape)
        raise ModelError(f"{_name(model)} gives features of shape {shape}, a layout avg does not know; use pool.")
    return features.mean(dim=(1, 2) if channels_last else (2, 3))


def _has_class_token(model: nn.Module) -> bool:
    """timm keeps the token on the model, or (NaFlex) on its `embeds`."""
    holders = (model, getattr(model, "embeds", None))
    return any(getattr(holder, "cls_token", None) is not None for holder in holders)


def _prefix_tokens(model: nn.Module) -> int:
    return int(getattr(model, "num_prefix_tokens", 0) or 0)


def _name(model: nn.Module) -> str:
    config = getattr(model, "pretrained_cfg", None) or {}
    return str(config.get("architecture") or type(model).__name__)
