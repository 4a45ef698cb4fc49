"""The strings that compose losses, ``ce + 1.0*elsh``, and what their terms read. Nothing here needs torch.

What is known of the losses of the table stands in `embedded/losses.json`, which a test holds against `tcs.criteria.losses.LOSSES`; a
loss of one's own is imported.
"""

import dataclasses
import functools
import importlib.resources
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from tcs.criteria.own import own_loss
from tcs.errors import ConfigError, did_you_mean

TOLD = importlib.resources.files("tcs") / "embedded" / "losses.json"


@functools.cache
def told_losses() -> Mapping[str, Mapping[str, Any]]:
    """What is told of each loss of the table, in its order: JSON objects by name, as `tcs.criteria.described` wrote them."""
    told: list[dict[str, Any]] = json.loads(TOLD.read_text(encoding="utf-8"))
    return {fact["name"]: fact for fact in told}


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


def _parse_term(part: str, text: str) -> LossTerm:
    match = re.fullmatch(r"\s*(?:([0-9.eE-]+)\s*\*\s*)?([a-z0-9_-]+|[\w.]+:\w+)\s*", part)
    if match is None:
        raise ConfigError(f"--loss is '{text}'; '{part.strip()}' is not NAME or WEIGHT*NAME, as in 'ce + 1.0*elsh'.")
    weight, name = match.groups()
    if ":" not in name and name not in told_losses():
        raise ConfigError(
            f"--loss names '{name}', which is no loss.{did_you_mean(name, told_losses())} tcs methods lists them."
        )
    if ":" in name:
        own_loss(name)  # refused here, where there is none
    try:
        value = float(weight) if weight else 1.0
    except ValueError as error:
        raise ConfigError(f"--loss is '{text}'; the weight '{weight}' is not a number.") from error
    if not 0 < value < float("inf"):
        raise ConfigError(f"--loss is '{text}'; the weight {weight} must be a positive number.")
    return LossTerm(name=name, weight=value)


def reads(terms: Sequence[LossTerm]) -> frozenset[str]:
    """Everything that the terms read of the cache: a subset of `tcs.criteria.base.CACHED`."""
    return frozenset().union(*(_needs(term.name) for term in terms))


def _needs(name: str) -> frozenset[str]:
    return frozenset(told_losses()[name]["needs"]) if name in told_losses() else own_loss(name).reads


def mimics(terms: Sequence[LossTerm]) -> bool:
    """Whether any term sees all rows of a step. Where none does, only labelled rows are drawn."""
    return any(_rows(term.name) == "mimic" for term in terms)


def _rows(name: str) -> str:
    return str(told_losses()[name]["rows"]) if name in told_losses() else own_loss(name).rows


def reaches_classifier(name: str) -> bool:
    """Whether a loss reaches the classifier; with none that does it must come from elsewhere. One of one's own counts as none."""
    return name in told_losses() and bool(told_losses()[name]["classifier"])
