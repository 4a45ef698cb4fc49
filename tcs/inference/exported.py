"""Folders with a timm model: those of `tcs export`, and any that are made for the Hugging Face Hub.

The weights are `model.safetensors`. With the card of `tcs export` beside them (`tcs.json`) it is a student of ours; without it
`config.json` says what timm needs, and timm's own preprocessing is used.
"""

import json
import pathlib
from collections.abc import Mapping
from typing import Any

import timm
import timm.data
import torch
from torch import nn

from tcs.checkpoint import count_values, load_weights
from tcs.config.pixels import PixelRules
from tcs.config.plain import with_tuples
from tcs.errors import ArtefactError, ModelError
from tcs.images.decode import Square, decode_told
from tcs.inference.card import EXPORT_AGAIN, FILE, Card, read_card
from tcs.inference.model import UsableModel, of_module
from tcs.ordinary import read_ordinary
from tcs.plain_files import CONFIG
from tcs.runtime import say
from tcs.schemas.check import require_schema
from tcs.schemas.exports import TimmImages
from tcs.students.backbone import StudentSpec, create_backbone, first_line
from tcs.students.bounds import built, room_of_weights, values_of
from tcs.students.zoo.cifar import register

WEIGHTS = "model.safetensors"
ARCHITECTURE = "architecture"  # the key by which config.json is timm's, and not a student's of a run


def is_exported(folder: pathlib.Path) -> bool:
    """Whether `folder` holds an exported model: by its card, or by a config.json, which those of runs differ from."""
    if (folder / FILE).is_file():
        return True
    try:
        content = json.loads(read_ordinary(folder / CONFIG))
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and ARCHITECTURE in content


def open_exported(folder: pathlib.Path, device: torch.device) -> UsableModel:
    """The model in `folder`. ArtefactError where its weights are missing, of another model, or its preprocessing is none of ours."""
    if not (folder / WEIGHTS).is_file():
        raise ArtefactError(f"{folder} says what its model is, and has no {WEIGHTS}; export the model again.")
    return _with_card(folder, device) if (folder / FILE).is_file() else _without_card(folder, device)


def _with_card(folder: pathlib.Path, device: torch.device) -> UsableModel:
    card = read_card(read_ordinary(folder / FILE), folder / FILE)
    spec = StudentSpec(text=card.architecture, name=card.architecture, kwargs=with_tuples(card.kwargs))
    weights = load_weights(folder / WEIGHTS)
    try:
        model = create_backbone(spec, len(card.classes), room=room_of_weights(values_of(weights)))
    except ModelError as error:
        if error.__cause__ is None:  # timm does not know it, which is told as of any model
            raise
        raise ArtefactError(
            f"{folder / FILE} gives {card.architecture} arguments that it cannot be built with ({first_line(error.__cause__)}); "
            f"{EXPORT_AGAIN}."
        ) from error
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise ArtefactError(f"{folder / WEIGHTS} does not fit {card.architecture} ({first_line(error)}).") from error
    return of_module(folder.resolve().name, folder, model, card, device)


def _without_card(folder: pathlib.Path, device: torch.device) -> UsableModel:
    register()
    try:
        room = room_of_weights(count_values(folder / WEIGHTS))
        model = built(lambda: timm.create_model(f"local-dir:{folder}", pretrained=True), _arguments_in(folder), room)
    except Exception as error:  # of any type, by what is wrong with the file or the names in it
        raise ArtefactError(f"timm cannot load {folder} ({first_line(error)}); export the model again.") from error
    facts = _image_facts(model, folder)
    card = Card(
        architecture=str(model.pretrained_cfg["architecture"]),  # type: ignore[index]
        classes=_class_names(model, folder),
        size=facts["input_size"][1],
        mean=tuple(facts["mean"]),
        std=tuple(facts["std"]),
        rules=PixelRules(),
    )
    return of_module(folder.resolve().name, folder, model, card, device, make_pixels=TimmPixels(facts))


def _image_facts(model: nn.Module, folder: pathlib.Path) -> Mapping[str, Any]:
    """How timm makes images for the model. ArtefactError where it cannot, and for images that are no squares of three colours."""
    try:
        facts: dict[str, Any] = timm.data.resolve_model_data_config(model)
        listed_facts = {name: list(value) if isinstance(value, tuple) else value for name, value in facts.items()}
    except Exception as error:  # of any type, by what the file has for a number
        raise ArtefactError(
            f"timm cannot tell the images of {folder} ({first_line(error)}); export the model again."
        ) from error
    require_schema(folder / CONFIG, listed_facts, TimmImages, "export the model again")
    colours, height, width = facts["input_size"]
    if height != width or colours != 3:
        raise ArtefactError(
            f"{folder} takes images of {facts['input_size']}, and only squares of 3 colours can be made."
        )
    try:
        _ = TimmPixels(facts)
    except Exception as error:  # as for a name of an interpolation that there is not
        raise ArtefactError(
            f"timm cannot make the images of {folder} ({first_line(error)}); export the model again."
        ) from error
    return facts


def _arguments_in(folder: pathlib.Path) -> Mapping[str, Any]:
    """What the config.json of a folder of timm's layout gives to the architecture."""
    arguments = json.loads(read_ordinary(folder / CONFIG)).get("model_args") or {}
    return dict(arguments)


def _class_names(model: nn.Module, folder: pathlib.Path) -> tuple[str, ...]:
    count, names = int(model.num_classes), model.pretrained_cfg.get("label_names")  # type: ignore[arg-type,union-attr,operator]
    if isinstance(names, list | tuple) and len(names) == count:
        return tuple(str(name) for name in names)
    if count:
        say(f"{folder} does not name its {count:,} classes: they are called by their numbers, 0 to {count - 1}.")
    return tuple(str(number) for number in range(count))


class TimmPixels:
    """timm's evaluation transform of a model, up to its uint8 pixels: resize, crop, interpolation as its config says."""

    def __init__(self, facts: Mapping[str, Any]) -> None:
        """`facts` as timm resolves them of a model."""
        names = ("input_size", "interpolation", "crop_pct", "crop_mode")
        self._transform = timm.data.create_transform(**{name: facts[name] for name in names}, normalize=False)

    def __call__(self, data: bytes, rules: PixelRules) -> Square:
        """The pixels of the bytes of an image file, and what was done; BadImageError."""
        decoded = decode_told(data, rules)
        return Square(self._transform(decoded.image).permute(1, 2, 0).numpy(), decoded.done)
