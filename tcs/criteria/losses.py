"""Every loss by name, in one table. The strings that compose them are read by `tcs.criteria.terms`, without torch.

What is told of them without torch stands in `embedded/losses.json`; `python -m tcs.criteria.described` writes it from this table.
"""

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
from tcs.criteria.own import own_loss
from tcs.criteria.terms import LossTerm
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


def find_loss(name: str) -> Loss:
    """The loss called `name`: of the table, or `package.module:NAME`, an object `Loss` of a module that can be imported.

    ConfigError, naming what is missing, where there is none.
    """
    return LOSSES[name] if name in LOSSES else own_loss(name)


def reads_student_maps(terms: Sequence[LossTerm]) -> bool:
    """Whether any term reads the student's maps."""
    return any(find_loss(term.name).student_maps for term in terms)


def reads_student_head(terms: Sequence[LossTerm]) -> bool:
    """Whether any term reads the student's classifier as it is."""
    return any(find_loss(term.name).student_head for term in terms)


def needs_second_head(terms: Sequence[LossTerm]) -> bool:
    """Whether any term trains a second classifier of the student."""
    return any(find_loss(term.name).second_head for term in terms)


def check_dims(terms: Sequence[LossTerm], student_dims: int, teacher_dims: int) -> None:
    """ConfigError where a term cannot be built for a student and a teacher so wide."""
    for check in (find_loss(term.name).check_dims for term in terms):
        if check is not None:
            check(student_dims, teacher_dims)


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
