"""Weights of a teacher: from the Hub or a local file into a timm model, complete or refused, and their digest."""

import hashlib
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any

import timm
import torch
from timm.models import load_state_dict
from torch import nn

from tcs.errors import ModelError

SHOWN_KEYS = 3
# Batch norm counts its training steps; features do not depend on it, and old files lack it.
COUNTER = "num_batches_tracked"


def from_hub(name: str, kwargs: Mapping[str, Any]) -> nn.Module:
    """The timm model `name` with its published weights, all of them (ModelError otherwise; needs the network once).

    `num_classes` is left alone: naming another number makes timm load non-strictly, and a gap would pass unseen.
    """
    try:
        model: nn.Module = timm.create_model(name, pretrained=True, **kwargs)
    except Exception as error:  # the Hub client and timm raise nearly everything here
        raise ModelError(
            f"the weights of teacher {name} could not be loaded ({first_line(error)}); check the connection and"
            " --teacher-kwargs, or give a local file with --teacher-checkpoint."
        ) from error
    return model


def from_file(name: str, kwargs: Mapping[str, Any], path: pathlib.Path) -> nn.Module:
    """The timm model `name`, without classifier, filled from `path`. A classifier in the file is left out.

    timm's own conversions apply (other key names, position embeddings of another image size). ModelError unless then
    every weight of the model is in the file, in its shape, and nothing else.
    """
    state = _read_state(path)
    empty = build(name, kwargs)
    prefixes = classifier_prefixes(empty)
    state = {key: value for key, value in state.items() if not key.startswith(prefixes)}
    overlay = {"state_dict": dict(state), "source": "", "num_classes": 0, "label_offset": 0}
    try:
        model: nn.Module = timm.create_model(
            name, pretrained=True, num_classes=0, pretrained_cfg_overlay=overlay, **kwargs
        )
    except Exception as error:  # torch raises RuntimeError, timm's conversions KeyError and more on foreign keys
        raise ModelError(_mismatch(path, name, empty.state_dict(), state, error)) from error
    model.pretrained_cfg.pop("state_dict", None)  # type: ignore[operator, union-attr]
    return model


def build(name: str, kwargs: Mapping[str, Any]) -> nn.Module:
    """The timm model `name` with random weights and without classifier; ModelError where the kwargs do not fit."""
    try:
        model: nn.Module = timm.create_model(name, pretrained=False, num_classes=0, **kwargs)
    except Exception as error:  # whatever the architecture's constructor makes of foreign kwargs
        raise ModelError(
            f"teacher {name} cannot be built with {dict(kwargs)} ({first_line(error)}); correct --teacher-kwargs."
        ) from error
    return model


def classifier_prefixes(model: nn.Module) -> tuple[str, ...]:
    """How the names of the classifier's weights begin, with the dot."""
    config: Mapping[str, Any] = getattr(model, "pretrained_cfg", None) or {}
    names = config.get("classifier") or ()
    return tuple(f"{name}." for name in ((names,) if isinstance(names, str) else names))


def digest_of_weights(model: nn.Module) -> str:
    """BLAKE2b over names, shapes, dtypes and bytes of the state dict, sorted by name, classifier and counters left out.

    So a file with and one without its classifier, or in float16 and widened, give the same teacher the same digest.
    """
    prefixes = classifier_prefixes(model)
    digest = hashlib.blake2b(digest_size=16)
    for key, value in sorted(model.state_dict().items()):
        if key.startswith(prefixes) or key.endswith(COUNTER):
            continue
        array = value.detach().cpu().contiguous()
        digest.update(f"{key}\0{tuple(array.shape)}\0{array.dtype}\0".encode())
        digest.update(array.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def first_line(error: BaseException) -> str:
    """The first line of an error's text, shortened, for use inside a message of ours."""
    lines = str(error).strip().splitlines()
    return (lines[0] if lines else type(error).__name__)[:200]


def _read_state(path: pathlib.Path) -> dict[str, torch.Tensor]:
    if not path.is_file():
        raise ModelError(f"--teacher-checkpoint {path} is not a file; give a .safetensors or .pth file.")
    try:
        state = load_state_dict(str(path), weights_only=True)
    except Exception as error:  # a damaged file, a pickle with code in it, a file of another kind
        raise ModelError(
            f"--teacher-checkpoint {path} cannot be read ({first_line(error).partition('. ')[0]}); it must be a"
            " safetensors file, or a torch file of tensors only."
        ) from error
    if not isinstance(state, dict) or not state or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise ModelError(f"--teacher-checkpoint {path} holds no state dict; give a file of named tensors.")
    return state


def _mismatch(
    path: pathlib.Path,
    name: str,
    wanted: Mapping[str, torch.Tensor],
    found: Mapping[str, torch.Tensor],
    error: Exception,
) -> str:
    shared = wanted.keys() & found.keys()
    counts = (
        ("missing", [key for key in wanted if key not in found]),
        ("of another shape", [key for key in wanted if key in shared and wanted[key].shape != found[key].shape]),
        ("unknown to it", [key for key in found if key not in wanted]),
    )
    weights = [(what, [key for key in keys if not key.endswith(COUNTER)]) for what, keys in counts]
    parts = [f"{len(keys)} {what} ({_some(keys)})" for what, keys in weights if keys]
    detail = "; ".join(parts) or first_line(error)
    return (
        f"--teacher-checkpoint {path.name} does not fit {name}: {detail}. Only a classifier may be absent or left over;"
        " check --teacher, --teacher-kwargs and --img-size, or rename the keys."
    )


def _some(keys: Iterable[str]) -> str:
    keys = list(keys)
    return ", ".join(keys[:SHOWN_KEYS]) + (", ..." if len(keys) > SHOWN_KEYS else "")
