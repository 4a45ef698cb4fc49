"""Published weights of a teacher, by timm's own loader: from the Hub, its local cache, or a folder that timm saved."""

import contextlib
import io
import json
import logging
import os
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import timm
from torch import nn

from tcs.errors import ModelError, first_line
from tcs.hub import WEIGHT_FILES
from tcs.ordinary import read_text
from tcs.students.bounds import built, require_no_file, sketched
from tcs.teacher.weights import COUNTER, POOLED_NORMS, WeightsReport, classifier_prefixes, recorded_loads

NOT_AT_HAND = (
    "they are not in the local cache, and the Hub cannot be reached",
    "connect once, or give a local file with --teacher-checkpoint",
)

# The client's exceptions by name (its class tree has moved between versions), particular ones first: what, and the remedy.
HUB_ERRORS = (
    (
        "GatedRepoError",
        "access to the repository is not granted (403)",
        "accept its terms on its page and log in with `hf auth login`, or give a local file with --teacher-checkpoint",
    ),
    (
        "RepositoryNotFoundError",
        "no such repository, or a private one",
        "check the name, or log in with `hf auth login`",
    ),
    ("RevisionNotFoundError", "no such revision", "check what follows the @"),
    ("LocalEntryNotFoundError", *NOT_AT_HAND),
    ("OfflineModeIsEnabled", "the Hub is switched off", "unset HF_HUB_OFFLINE once, or use --teacher-checkpoint"),
    (
        "EntryNotFoundError",
        "the repository lacks timm's files",
        "use a repository with config.json and model.safetensors",
    ),
    ("HFValidationError", "that is no repository's name", "write hf-hub:owner/name"),
)


def from_hub(name: str, kwargs: Mapping[str, Any]) -> tuple[nn.Module, WeightsReport]:
    """The timm model `name` with its published weights, all of them (ModelError otherwise; needs the network once).

    `num_classes` is left alone: naming another number makes timm load non-strictly.
    """
    _require_no_file(kwargs)
    with recorded_loads() as loads:
        try:
            with quiet_timm():
                model = built(lambda: timm.create_model(name, pretrained=True, **kwargs), kwargs)
        except Exception as error:  # the Hub client and timm raise nearly everything here
            raise ModelError(hub_refusal(name, error)) from error
    report = WeightsReport(file=name, matched=len(model.state_dict()))
    if not loads:  # a reader of the architecture's own, for other formats
        return model, report
    load, prefixes = loads[-1], classifier_prefixes(model)
    missing = tuple(key for key in load.missing if not key.startswith(prefixes) and not key.endswith(COUNTER))
    gaps = [key for key in missing if not key.startswith(POOLED_NORMS)]
    if gaps or (load.strict and load.unexpected):
        raise ModelError(
            f"the published weights of teacher {name} do not fit it: {len(gaps)} missing, {len(load.unexpected)} unknown"
            f" to it ({', '.join([*gaps, *load.unexpected][:3])}); correct --teacher-kwargs."
        )
    left_out = {"unknown to timm's model": load.unexpected} if load.unexpected else {}
    matched = report.matched - len(load.missing)
    return model, WeightsReport(file=name, matched=matched, missing=missing, left_out=left_out)


@contextlib.contextmanager
def quiet_timm() -> Iterator[None]:
    """Keep timm's own remarks on the weights off the terminal (it prints, and logs every unknown key): we report for it."""
    logger = logging.getLogger("timm")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # printed while DINOv3 is converted
            yield
    finally:
        logger.setLevel(level)


def hub_refusal(name: str, error: Exception) -> str:
    """One line on why the weights or the configuration of `name` could not be had."""
    known = _hub_error(error)
    if known is not None:
        return refusal(name, *known)
    if _is_foreign_config(error):
        return f"the config.json of teacher {name} names no timm architecture; use timm's copy of the model, if it has one."
    return (
        f"the weights of teacher {name} could not be loaded ({first_line(error)}); check the connection and"
        " --teacher-kwargs, or give a local file with --teacher-checkpoint."
    )


def refusal(name: str, what: str, remedy: str) -> str:
    """The line that says what keeps the weights of `name` away, and the remedy."""
    offline = " (HF_HUB_OFFLINE is set)" if os.environ.get("HF_HUB_OFFLINE") else ""
    return f"the weights of teacher {name} could not be loaded: {what}{offline}; {remedy}."


def _hub_error(error: Exception) -> tuple[str, str] | None:
    """What happened and the remedy, where the Hub's client raised the error."""
    classes = {cls.__name__ for cls in type(error).__mro__}
    return next(((what, remedy) for cls, what, remedy in HUB_ERRORS if cls in classes), None)


def _is_foreign_config(error: Exception) -> bool:
    """Whether timm has met a config.json that another library wrote."""
    return isinstance(error, KeyError) and error.args == ("architecture",)


def build(name: str, kwargs: Mapping[str, Any]) -> nn.Module:
    """The timm model `name` with random weights and without classifier; ModelError where the kwargs do not fit."""
    _require_no_file(kwargs)

    def create() -> nn.Module:
        model: nn.Module = timm.create_model(name, pretrained=False, num_classes=0, **kwargs)
        return model

    try:
        if ":" not in name:  # else the config of its repository is read, once
            sketched(create, kwargs)
        return built(create, kwargs)
    except Exception as error:  # whatever the architecture's constructor makes of foreign kwargs
        if _hub_error(error) or _is_foreign_config(error):
            raise ModelError(hub_refusal(name, error)) from error
        raise ModelError(
            f"teacher {name} cannot be built with {dict(kwargs)} ({first_line(error)}); correct --teacher-kwargs."
        ) from error


def _require_no_file(kwargs: Mapping[str, Any]) -> None:
    require_no_file(kwargs, "--teacher-kwargs", "--teacher-checkpoint")


def read_folder(folder: pathlib.Path) -> tuple[str, dict[str, Any]]:
    """Architecture and constructor arguments in the config.json of a folder that timm saved. ModelError otherwise."""
    path = folder / "config.json"
    try:
        content = json.loads(read_text(path))
        return str(content["architecture"]), dict(content.get("model_args") or {})
    except OSError as error:
        raise ModelError(
            f"teacher local-dir:{folder} has no readable config.json; give a folder in timm's layout"
            " (config.json, model.safetensors), or a timm name with --teacher-checkpoint."
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(
            f"{path} names no timm architecture; give a folder in timm's layout, or a timm name"
            " with --teacher-checkpoint."
        ) from error


def weights_in(folder: pathlib.Path) -> pathlib.Path:
    """The weights file of such a folder; ModelError where there is none."""
    for name in WEIGHT_FILES:
        if (folder / name).is_file():
            return folder / name
    raise ModelError(
        f"teacher local-dir:{folder} holds neither {' nor '.join(WEIGHT_FILES)}; name a file with --teacher-checkpoint."
    )
