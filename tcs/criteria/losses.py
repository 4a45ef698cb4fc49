"""Every loss by name, in one table, and the strings that compose them: ``ce + 1.0*elsh``.

A loss of one's own is named by its place, ``ce + 1.0*package.module:NAME``, and imported when it is asked for: no table is added to.
"""

import dataclasses
import functools
import importlib
import pathlib
import re
import sys
from collections.abc import Mapping, Sequence

import torch
from torch import nn

from tcs.criteria import (
    contrastive,
    coordinates,
    customised,
    hashing,
    logits,
    maps,
    orthogonal,
    relations,
    two_heads,
    vectors,
)
from tcs.criteria.base import Criterion, Loss, Setting
from tcs.errors import ConfigError, did_you_mean
from tcs.runtime import seed_for

LOSSES: Mapping[str, Loss] = {
    **logits.LOSSES,
    **two_heads.LOSSES,
    **coordinates.LOSSES,
    **hashing.LOSSES,
    **vectors.LOSSES,
    **customised.LOSSES,
    **orthogonal.LOSSES,
    **relations.LOSSES,
    **contrastive.LOSSES,
    **maps.LOSSES,
}


# The losses that reach the classifier; with none of them it must come from elsewhere.
CLASSIFIER_LOSSES = frozenset(logits.LOSSES)


@dataclasses.dataclass(frozen=True, kw_only=True)
class LossTerm:
    """`weight` times the loss called `name`."""

    name: str
    weight: float


def parse_loss(text: str) -> tuple[LossTerm, ...]:
    """The terms of a loss string such as ``ce + 1.0*elsh``. ConfigError for an unknown name, a bad weight or a name given twice."""
    terms = tuple(_parse_term(part, text) for part in text.split("+"))
    names = [term.name for term in terms]
    if len(set(names)) != len(names):
        raise ConfigError(f"--loss is '{text}'; each loss may stand in it once. Add up the weights instead.")
    return terms


def find_loss(name: str) -> Loss:
    """The loss called `name`: of the table, or `package.module:NAME`, an object `Loss` of a module that can be imported.

    The folder that the command runs in counts as a place to import from. ConfigError, naming what is missing, where there is none.
    """
    return LOSSES[name] if name in LOSSES else _imported(name)


@functools.cache
def _imported(name: str) -> Loss:
    module, _, attribute = name.partition(":")
    here = str(pathlib.Path.cwd())
    sys.path.insert(0, here)  # as `python -m` has it; a console script does not
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            f"--loss names '{name}', which cannot be imported ({error}); write MODULE:NAME of a file in {here}, or of a package that is "
            "installed."
        ) from error
    finally:
        sys.path.remove(here)
    if not isinstance(found, Loss):
        raise ConfigError(
            f"--loss names '{name}', which is a {type(found).__name__}; it must be a tcs.criteria.base.Loss."
        )
    return found


def _parse_term(part: str, text: str) -> LossTerm:
    match = re.fullmatch(r"\s*(?:([0-9.eE-]+)\s*\*\s*)?([a-z0-9_-]+|[\w.]+:\w+)\s*", part)
    if match is None:
        raise ConfigError(f"--loss is '{text}'; '{part.strip()}' is not NAME or WEIGHT*NAME, as in 'ce + 1.0*elsh'.")
    weight, name = match.groups()
    if ":" not in name and name not in LOSSES:
        raise ConfigError(
            f"--loss names '{name}', which is no loss.{did_you_mean(name, LOSSES)} tcs methods lists them."
        )
    find_loss(name)
    try:
        value = float(weight) if weight else 1.0
    except ValueError as error:
        raise ConfigError(f"--loss is '{text}'; the weight '{weight}' is not a number.") from error
    if not 0 < value < float("inf"):
        raise ConfigError(f"--loss is '{text}'; the weight {weight} must be a positive number.")
    return LossTerm(name=name, weight=value)


def reads(terms: Sequence[LossTerm]) -> frozenset[str]:
    """Everything that the terms read of the cache: a subset of `tcs.criteria.base.CACHED`."""
    return frozenset().union(*(find_loss(term.name).reads for term in terms))


def mimics(terms: Sequence[LossTerm]) -> bool:
    """Whether any term sees all rows of a step. Where none does, only labelled rows are drawn."""
    return any(find_loss(term.name).rows == "mimic" for term in terms)


def reads_student_maps(terms: Sequence[LossTerm]) -> bool:
    """Whether any term reads the student's maps."""
    return any(find_loss(term.name).student_maps for term in terms)


def reads_student_head(terms: Sequence[LossTerm]) -> bool:
    """Whether any term reads the student's classifier as it is."""
    return any(find_loss(term.name).student_head for term in terms)


def needs_second_head(terms: Sequence[LossTerm]) -> bool:
    """Whether any term trains a second classifier of the student."""
    return any(find_loss(term.name).second_head for term in terms)


def criterion_key(name: str) -> str:
    """What the criterion of a loss is called among those of a run: torch allows no dot there."""
    return name.replace(".", "/")


def build_criteria(terms: Sequence[LossTerm], setting: Setting) -> nn.ModuleDict:
    """The criterion of every loss that stands in `terms`, once each; its start is a pure function of (seed, name)."""
    criteria: dict[str, Criterion] = {}
    for name in dict.fromkeys(term.name for term in terms):
        with torch.random.fork_rng():
            torch.manual_seed(seed_for(setting.seed, f"loss {name}"))
            criteria[criterion_key(name)] = find_loss(name).make(setting)
    return nn.ModuleDict(criteria)
