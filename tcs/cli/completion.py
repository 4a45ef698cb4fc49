"""What a shell completes the values of options to. Nothing here imports torch, so that an answer comes before it is missed.

Names of methods, losses and own students stand in `embedded/names.json`, which a test holds against the tables; those of timm's
models are read from its sources.
"""

import importlib.resources
import importlib.util
import json
import pathlib
import re

import click

from tcs.config.export import FORMATS

NAMES = importlib.resources.files("tcs") / "embedded" / "names.json"
REGISTERED = re.compile(r"^@register_model\s*\ndef (\w+)\(", re.MULTILINE)
LAST_TERM = re.compile(r"(?:.*[+*])?\s*")  # what stands before the name of the last loss in a sum


def own_names(kind: str) -> list[str]:
    """`methods`, `losses`, `others` (what else `tcs methods` tells of) or `students`."""
    names: list[str] = json.loads(NAMES.read_text())[kind]
    return names


def timm_names() -> list[str]:
    """The architectures that timm registers; none where it is not installed."""
    found = importlib.util.find_spec("timm")
    places = list(found.submodule_search_locations or ()) if found is not None else []
    files = [file for place in places for file in sorted(pathlib.Path(place, "models").glob("*.py"))]
    return [name for file in files for name in REGISTERED.findall(file.read_text(encoding="utf-8"))]


def complete_method(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    """Values of --method."""
    return _beginning(own_names("methods"), incomplete)


def complete_loss(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    """Values of --loss: the last name of a sum, as `ce+0.5*rk`."""
    match = LAST_TERM.match(incomplete)
    before = match.group() if match else ""
    return [before + name for name in _beginning(own_names("losses"), incomplete.removeprefix(before))]


def complete_student(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    """Values of --model where students are trained."""
    return _beginning([*own_names("students"), *timm_names()], incomplete)


def complete_teacher(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    """Values of --teacher and --against."""
    return _beginning(timm_names(), incomplete)


def complete_fact(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    """What `tcs methods` tells about."""
    return _beginning([name for kind in ("methods", "losses", "others") for name in own_names(kind)], incomplete)


def complete_format(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    """Values of --export."""
    return _beginning(list(FORMATS), incomplete)


def _beginning(names: list[str], incomplete: str) -> list[str]:
    return sorted(name for name in names if name.startswith(incomplete))
