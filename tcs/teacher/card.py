"""A teacher as a card tells it (JSON): what `tcs pretrain` writes beside its weights, and what a person may write by hand."""

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any

from cache import digest_of_bytes
from tcs.config.extract import DEFAULT_READOUTS, ExtractConfig
from tcs.config.plain import with_tuples
from tcs.errors import ArtefactError, ConfigError
from tcs.plain_files import check_format, load_mapping, require_parts
from tcs.teacher.source import parse_source

REMEDY = "give a card that tcs pretrain wrote, or write one by docs/how-to/teachers.md"
OPTIONAL: Mapping[str, Any] = {
    "teacher_kwargs": dict,
    "weights": str,
    "weights_digest": str,
    "readout": str,
    "img_size": int,
    "mean": list,
    "std": list,
    "crop_pct": int | float,
    "interpolation": str,
}
PREPROCESSING = ("img_size", "mean", "std", "crop_pct", "interpolation")


def with_card(config: ExtractConfig) -> ExtractConfig:
    """The configuration with the teacher of its card, where it names one; what it says itself of preprocessing and readouts goes before.

    ArtefactError for a card that cannot be read or followed, for weights that are not there or are not those that it tells of, and
    for a card that names Python code, which is run for whoever names it and for no file.
    """
    if config.teacher_card is None:
        return config
    path = pathlib.Path(config.teacher_card)
    card = load_mapping(path, {"teacher": str}, REMEDY)
    check_format(path, card)
    require_parts(path, card, {name: kind for name, kind in OPTIONAL.items() if name in card}, REMEDY)
    if parse_source(card["teacher"]).kind == "factory":
        raise ArtefactError(
            f"{path} names the Python function {card['teacher']}, and no code is run for a file; give it with --teacher."
        )
    told = {
        name: value
        for name, value in with_tuples(card).items()
        if name in PREPROCESSING and getattr(config, name) is None
    }
    if "readout" in card and config.readouts == DEFAULT_READOUTS:
        told["readouts"] = (card["readout"],)
    try:
        return dataclasses.replace(
            config,
            teacher_card=None,
            teacher=card["teacher"],
            teacher_kwargs=with_tuples(card.get("teacher_kwargs", {})),
            teacher_checkpoint=_weights(path, card),
            **told,
        )
    except ConfigError as error:
        raise ArtefactError(f"{path} cannot be followed: {error}") from error


def _weights(path: pathlib.Path, card: Mapping[str, Any]) -> str | None:
    """The file of weights beside the card, held against its digest; None where it names none."""
    if "weights" not in card:
        return None
    weights = path.parent / card["weights"]
    if not weights.is_file():
        raise ArtefactError(f"{weights}, which {path} names, is missing; put it beside the card.")
    if "weights_digest" in card and digest_of_bytes(weights.read_bytes()) != card["weights_digest"]:
        raise ArtefactError(
            f"{weights} holds other weights than those that {path} tells of; give the two files that were made together."
        )
    return str(weights)
