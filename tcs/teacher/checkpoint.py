"""Weights of a teacher from a local file into its model, complete or refused, with a report of what was taken.

Of a file tensors only are read: nothing that a pickle could run is ever run, and no network is used.
"""

import argparse
import contextlib
import dataclasses
import pathlib
import warnings
from collections.abc import Mapping
from typing import Any

import timm
import torch
from safetensors.torch import load_file
from torch import nn

from tcs.errors import ModelError, first_line, listed
from tcs.ordinary import require_ordinary
from tcs.teacher.hub import build, quiet_timm
from tcs.teacher.layouts import Encoder, Tensors, find_container, find_encoder
from tcs.teacher.weights import (
    COUNTER,
    POOLED_NORMS,
    SHOWN_KEYS,
    Load,
    WeightsReport,
    classifier_prefixes,
    digest_of_values,
    recorded_loads,
)

SAFETENSORS = ".safetensors"


def read_file(path: pathlib.Path) -> Any:
    """What a .safetensors or torch file holds, on the CPU. ModelError where it is absent, damaged or has objects in it."""
    if not path.is_file():
        raise ModelError(f"--teacher-checkpoint {path} is not a file; give a .safetensors or .pth file.")
    try:
        return load_file(str(path)) if path.suffix == SAFETENSORS else _read_torch(path)
    except Exception as error:  # a damaged file, a pickle with code in it, a file of another kind
        raise ModelError(_refusal(path, error)) from error


def _read_torch(path: pathlib.Path) -> Any:
    # Training scripts save their options beside the weights. A Namespace is a bag of attributes: building one runs
    # nothing but its own empty constructor, and whatever lies in it is under the same rule.
    with torch.serialization.safe_globals([argparse.Namespace]), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of pickle protocols; what cannot be read is refused below
        require_ordinary(path)
        return torch.load(path, map_location="cpu", weights_only=True)


def _refusal(path: pathlib.Path, error: Exception) -> str:
    objects = _objects_in(path)
    if objects:
        return (
            f"--teacher-checkpoint {path} holds Python objects besides tensors ({', '.join(objects[:3])}), and loading"
            " those could run code; if you trust the file, save its tensors alone: docs/how-to/teachers.md has the three lines."
        )
    return (
        f"--teacher-checkpoint {path} cannot be read ({first_line(error).partition('. ')[0]}); it must be a"
        " safetensors file, or a torch file of tensors only."
    )


def _objects_in(path: pathlib.Path) -> list[str]:
    """The classes and functions that the file's pickle would call, read without calling them; none where unreadable."""
    with contextlib.suppress(Exception), torch.serialization.safe_globals([argparse.Namespace]):
        return sorted(torch.serialization.get_unsafe_globals_in_checkpoint(path))
    return []


def from_file(
    name: str, kwargs: Mapping[str, Any], path: pathlib.Path, *, checkpoint_key: str | None, key_map: Mapping[str, str]
) -> tuple[nn.Module, WeightsReport]:
    """The timm model `name`, without classifier, filled from `path`; heads and other networks in the file are left out.

    timm's own conversions apply (other key names, position embeddings of another image size). ModelError unless then
    every weight of the model is in the file, in its shape, and nothing else; see POOLED_NORMS for what may be missing.
    """
    empty = build(name, kwargs)
    own = empty.state_dict()
    report, encoder = _select(path, empty, checkpoint_key, key_map)
    overlay = {"state_dict": dict(encoder.tensors), "source": "", "num_classes": 0, "label_offset": 0}
    with recorded_loads() as loads:
        try:
            with quiet_timm():
                model: nn.Module = timm.create_model(
                    name, pretrained=True, num_classes=0, pretrained_cfg_overlay=overlay, **kwargs
                )
        except Exception as error:  # torch raises RuntimeError, timm's conversions KeyError and more on foreign keys
            given = loads[-1].given if loads else encoder.tensors
            raise ModelError(_mismatch(path, name, own, given, error)) from error
    model.pretrained_cfg.pop("state_dict", None)  # type: ignore[operator, union-attr]
    if not loads:
        raise ModelError(f"teacher {name} is not filled by timm from a state dict; it cannot be used with a file.")
    return model, _checked(path, name, own, report, encoder.tensors, loads[-1])


def fill(
    model: nn.Module, name: str, path: pathlib.Path, *, checkpoint_key: str | None, key_map: Mapping[str, str]
) -> WeightsReport:
    """Fill a module that timm did not make from `path`, in place, by its own names. ModelError as in `from_file`."""
    report, encoder = _select(path, model, checkpoint_key, key_map)
    own = model.state_dict()
    with recorded_loads() as loads:
        try:
            model.load_state_dict(dict(encoder.tensors))
        except RuntimeError as error:
            raise ModelError(_mismatch(path, name, own, encoder.tensors, error)) from error
    return _checked(path, name, own, report, encoder.tensors, loads[-1])


def _select(
    path: pathlib.Path, model: nn.Module, checkpoint_key: str | None, key_map: Mapping[str, str]
) -> tuple[WeightsReport, Encoder]:
    """The encoder's tensors in the file, without any classifier that the model does not have."""
    key, tensors, passed_over = find_container(read_file(path), checkpoint_key, path.name)
    own = model.state_dict().keys()
    encoder = find_encoder(tensors, own, key_map, path.name)
    prefixes = classifier_prefixes(model)
    kept = {name: value for name, value in encoder.tensors.items() if name in own or not name.startswith(prefixes)}
    extra = tuple(name for name in encoder.tensors if name not in kept)
    report = WeightsReport(
        file=path.name,
        checkpoint_key=key,
        passed_over=passed_over,
        layout=encoder.layout,
        prefix=encoder.prefix,
        key_map=dict(key_map),
        left_out={**encoder.left_out, **({"of a classifier": extra} if extra else {})},
    )
    return report, dataclasses.replace(encoder, tensors=kept)


def _checked(
    path: pathlib.Path, name: str, own: Tensors, report: WeightsReport, source: Tensors, load: Load
) -> WeightsReport:
    missing = [key for key in load.missing if not key.endswith(COUNTER)]
    if load.unexpected or not all(key.startswith(POOLED_NORMS) for key in missing):
        raise ModelError(_mismatch(path, name, own, load.given, None))
    _require_same_kind(path, name, own, load.given)
    renamed, converted = _changes(source, load.given)
    matched = len(own) - len(load.missing)
    return dataclasses.replace(report, matched=matched, renamed=renamed, converted=converted, missing=tuple(missing))


def _require_same_kind(path: pathlib.Path, name: str, own: Tensors, given: Tensors) -> None:
    """Raise ModelError where whole numbers (a quantised file) would be cast to weights without a word."""
    whole = [key for key in own if own[key].is_floating_point() and key in given and not given[key].is_floating_point()]
    if whole:
        raise ModelError(
            f"--teacher-checkpoint {path.name} holds {given[whole[0]].dtype} for {len(whole)} weights of {name}"
            f" ({listed(whole, SHOWN_KEYS)}), which are floating-point numbers; give the file from before it was quantised."
        )


def _changes(source: Tensors, given: Tensors) -> tuple[int, tuple[str, ...]]:
    """How many tensors have another name than in the file, and which ones have other values (with their shapes)."""
    kept = {key for key, value in given.items() if key in source and torch.equal(value, source[key])}
    others = {digest_of_values(value) for key, value in source.items() if key not in kept}
    renamed, converted = 0, []
    for key, value in given.items():
        if key in kept:
            continue
        if digest_of_values(value) in others:
            renamed += 1
        else:
            before = f" {_shape(source[key])} -> {_shape(value)}" if key in source else f" {_shape(value)}"
            converted.append(key + before)
    return renamed, tuple(converted)


def _shape(value: torch.Tensor) -> str:
    return "x".join(map(str, value.shape)) or "scalar"


def _mismatch(path: pathlib.Path, name: str, wanted: Tensors, found: Tensors, error: Exception | None) -> str:
    shared = wanted.keys() & found.keys()
    counts = (
        ("missing", [key for key in wanted if key not in found]),
        ("of another shape", [key for key in wanted if key in shared and wanted[key].shape != found[key].shape]),
        ("unknown to it", [key for key in found if key not in wanted]),
    )
    weights = [(what, [key for key in keys if not key.endswith(COUNTER)]) for what, keys in counts]
    parts = [f"{len(keys)} {what} ({listed(keys, SHOWN_KEYS)})" for what, keys in weights if keys]
    detail = "; ".join(parts) or first_line(error or ValueError("no tensors"))
    return (
        f"--teacher-checkpoint {path.name} does not fit {name}: {detail}. Only a classifier may be absent or left over;"
        " check --teacher, --teacher-kwargs and --img-size, or rename with --key-map OLD=NEW."
    )
