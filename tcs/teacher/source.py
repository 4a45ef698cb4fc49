"""Where a teacher comes from: timm's registry, the Hub, a local folder, or a Python function of the user's own."""

import dataclasses
import hashlib
import importlib
import inspect
import pathlib
import re
import sys
from collections.abc import Mapping
from typing import Any

import timm
from torch import nn

from tcs.errors import ModelError, did_you_mean, first_line
from tcs.ordinary import read_ordinary
from tcs.students.zoo.cifar import register

HUB_PREFIXES = ("hf-hub", "hf_hub")
FOLDER_PREFIX = "local-dir"
FACTORY_PATTERN = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")


@dataclasses.dataclass(frozen=True, kw_only=True)
class TeacherSource:
    """A parsed --teacher: `kind` is timm, hf-hub, local-dir or factory; `rest` is what follows the colon (timm: all)."""

    kind: str
    spec: str
    rest: str


def parse_source(spec: str) -> TeacherSource:
    """What `spec` names. ModelError unless it is of one of the four kinds; nothing is imported, read or fetched."""
    prefix, colon, rest = spec.partition(":")
    if not colon:
        return TeacherSource(kind="timm", spec=spec, rest=spec)
    if prefix in (*HUB_PREFIXES, FOLDER_PREFIX) and rest:
        return TeacherSource(kind="hf-hub" if prefix in HUB_PREFIXES else prefix, spec=spec, rest=rest)
    if FACTORY_PATTERN.fullmatch(spec) and prefix not in (*HUB_PREFIXES, FOLDER_PREFIX):
        return TeacherSource(kind="factory", spec=spec, rest=rest)
    raise ModelError(
        f"teacher '{spec}' is none of: a timm name, hf-hub:owner/name, local-dir:FOLDER, package.module:function."
    )


def teacher_to_run(recorded: str, named: str | None) -> str:
    """The teacher to load again for a store whose provenance records `recorded`; `named` is the user's own --teacher.

    ModelError where the record is a Python function and the user has not named it: a store is data, and importing a
    module that it names would run code of whoever made the store.
    """
    if named is not None:
        return named
    if parse_source(recorded).kind == "factory":
        raise ModelError(
            f"the store's teacher is {recorded}, Python code that only you can ask for;"
            f" if you trust it, name it: --teacher {recorded}."
        )
    return recorded


def require_known_teacher(name: str) -> None:
    """Raise ModelError, with the nearest names, unless timm knows the architecture and the tag of its weights.

    timm knows the small-image students of `tcs.students.zoo` from here on: a trained one may teach another.
    """
    register()
    if parse_source(name).kind != "timm":
        return
    if "/" in name or "\\" in name:
        raise ModelError(
            f"teacher '{name}' is no timm name; write hf-hub:{name} for the Hub, local-dir:{name} for a folder."
        )
    architecture, _, tag = name.partition(".")
    if not timm.is_model(architecture):
        hint = did_you_mean(architecture, timm.list_models())
        raise ModelError(f"teacher '{name}' is not a timm model; see timm.list_models().{hint}")
    tags = [
        known.partition(".")[2] for known in timm.list_pretrained(architecture + "*") if _is_of(known, architecture)
    ]
    if tag and tag not in tags:
        raise ModelError(
            f"teacher '{name}' has an unknown weight tag; {architecture} has {', '.join(tags) or 'none'}."
            f"{did_you_mean(tag, tags)}"
        )


def _is_of(name: str, architecture: str) -> bool:
    return name.partition(".")[0] == architecture


def make_module(source: TeacherSource, kwargs: Mapping[str, Any]) -> tuple[nn.Module, dict[str, str]]:
    """Call the user's function; the float32 module that it returns, and what can be recorded about the code.

    The function's module is imported from the current folder or from what is installed, and runs as any code does.
    ModelError where the import, the call or its result fails.
    """
    name, _, attribute = source.spec.partition(":")
    function = _imported(source.spec, name, attribute)
    try:
        module = function(**kwargs)
    except (Exception, SystemExit) as error:  # whatever the user's code raises
        raise ModelError(
            f"teacher {source.spec} fails with {dict(kwargs)} ({type(error).__name__}: {first_line(error)});"
            " correct it or --teacher-kwargs."
        ) from error
    if not isinstance(module, nn.Module):
        raise ModelError(f"teacher {source.spec} returns {type(module).__name__}; it must return a torch.nn.Module.")
    return module.float(), _code_of(function)


def _imported(spec: str, name: str, attribute: str) -> Any:
    here = str(pathlib.Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)  # as `python -m` has it; left there, for the module may import its neighbours later
    try:
        module = importlib.import_module(name)
    except (Exception, SystemExit) as error:  # whatever the user's module raises while it is imported
        raise ModelError(
            f"teacher {spec} cannot be imported ({type(error).__name__}: {first_line(error)}); run from the folder"
            " that holds its module, or install it."
        ) from error
    function = getattr(module, attribute, None)
    if not callable(function):
        names = [known for known, value in vars(module).items() if callable(value) and not known.startswith("_")]
        raise ModelError(f"teacher {spec}: {name} has no function {attribute}.{did_you_mean(attribute, names)}")
    return function


def _code_of(function: Any) -> dict[str, str]:
    """The digest of the file that defines the function. What else it imports is not recorded, and cannot be proved."""
    try:
        path = pathlib.Path(inspect.getsourcefile(function) or "")
        digest = hashlib.blake2b(read_ordinary(path), digest_size=16).hexdigest()
    except (OSError, TypeError):
        return {"file": "", "digest": "unknown"}
    return {"file": path.name, "digest": digest}
