"""Readouts of a module that timm did not make: what its forward returns, by name.

Legend: B batch, D teacher dims.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import nn

from tcs.errors import ModelError, did_you_mean

SINGLE = "pool"  # the readout that a lone tensor is


def has_feature_map(model: nn.Module) -> bool:
    """Whether the module has timm's two halves of a forward pass, from which every readout is computed."""
    return all(callable(getattr(model, half, None)) for half in ("forward_features", "forward_head"))


def read_outputs(model: nn.Module, images_B3HW: torch.Tensor, names: Sequence[str]) -> dict[str, torch.Tensor]:
    """The readouts `names` of a batch, each float32 (B, D): the tensor that forward returns is `pool`, a dict names its own.

    ModelError for a name that is not there, or for anything but B vectors: a map is averaged by whoever knows how.
    """
    output = model(images_B3HW)
    found = output if isinstance(output, Mapping) else {SINGLE: output}
    absent = [name for name in names if name not in found]
    if absent:
        hint = did_you_mean(absent[0], map(str, found))
        raise ModelError(
            f"{type(model).__name__} has no forward_features and forward_head, and its forward gives"
            f" {', '.join(map(str, found))}, not --readout {absent[0]}.{hint}"
        )
    return {name: _vectors(found[name], name, images_B3HW.shape[0], type(model).__name__).float() for name in names}


def _vectors(value: object, name: str, batch: int, owner: str) -> torch.Tensor:
    if not isinstance(value, torch.Tensor):
        raise ModelError(
            f"{owner} gives {type(value).__name__} for readout {name}; its forward must give a tensor (B, D)."
        )
    if value.ndim != 2 or value.shape[0] != batch or not value.shape[1] or not value.is_floating_point():
        raise ModelError(
            f"{owner} gives {value.dtype} of shape {tuple(value.shape)} for readout {name} of {batch} images;"
            " it must be numbers (B, D): pool maps or tokens in the module's forward."
        )
    return value
