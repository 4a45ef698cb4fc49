"""What a training run is made of, before any tensor: its numbers, and the phases that its method goes through."""

import dataclasses

from tcs.errors import ConfigError
from tcs.losses import LossTerm, parse_loss
from tcs.methods import PROBE_START, Method


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """The numbers of a training run. `steps` is the budget, `batch_size` is global, `padding` is in pixels, `gates`
    is how many coordinates stay open in the end (None: no gates)."""

    method: Method
    steps: int
    batch_size: int = 128
    labelled_share: float | None = None
    mimic_view: str = "same"
    padding: int = 0
    hflip: float = 0.0
    opt: str = "adamw"
    lr: float = 2e-3
    clip_grad: float | None = 1.0
    weight_decay: float = 0.05
    warmup_share: float = 0.05
    warmup_phase_share: float = 0.1
    pretrained: bool = False
    channels_last: bool = True
    seed: int = 42
    gates: int | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Phase:
    """Steps [start, stop) with one loss; `refit` fits the projection by ridge regression before the first of them."""

    name: str
    start: int
    stop: int
    terms: tuple[LossTerm, ...]
    refit: bool


def plan_phases(recipe: Recipe) -> tuple[Phase, ...]:
    """The phases of a recipe. A pretrained student already knows something: it is refitted at once, without a warm-up phase."""
    method = recipe.method
    main = parse_loss(method.loss)
    refit = method.classifier == PROBE_START
    if not method.warm_up or recipe.pretrained:
        return (Phase(name="main", start=0, stop=recipe.steps, terms=main, refit=refit),)
    end = max(1, round(recipe.warmup_phase_share * recipe.steps))
    if end >= recipe.steps:
        raise ConfigError(f"--steps is {recipe.steps}; a method with a warm-up phase needs at least {end + 1}.")
    return (
        Phase(name="warm-up", start=0, stop=end, terms=parse_loss(method.warm_up), refit=False),
        Phase(name="main", start=end, stop=recipe.steps, terms=main, refit=refit),
    )
