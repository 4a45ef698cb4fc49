"""What a training run is made of, before any tensor: its numbers, and the phases that its method goes through."""

import dataclasses

from tcs.config.augment import AugmentConfig
from tcs.config.extract import as_json
from tcs.config.optimiser import OptimiserConfig
from tcs.config.train import TrainConfig
from tcs.criteria.losses import LossTerm, mimics, parse_loss, reads
from tcs.errors import ConfigError
from tcs.methods.named import PROBE_START, Method
from tcs.training.batches import BatchPlan, plan_batches


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """The numbers of a training run. `steps` is the budget, `batch_size` is global, `gates` is how many coordinates stay
    open in the end (None: no gates)."""

    method: Method
    steps: int
    batch_size: int = 128
    labelled_share: float | None = None
    mimic_view: str = "same"
    warmup_phase_share: float = 0.1
    pretrained: bool = False
    seed: int = 42
    gates: int | None = None
    optimiser: OptimiserConfig = dataclasses.field(default_factory=OptimiserConfig)
    augment: AugmentConfig = dataclasses.field(default_factory=AugmentConfig)


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
        raise ConfigError(
            f"--steps is {recipe.steps}, and the warm-up phase takes {end} of them (--warmup-phase-share is "
            f"{recipe.warmup_phase_share}); use more steps or a smaller share."
        )
    return (
        Phase(name="warm-up", start=0, stop=end, terms=parse_loss(method.warm_up), refit=False),
        Phase(name="main", start=end, stop=recipe.steps, terms=main, refit=refit),
    )


def plan_stages(recipe: Recipe, labelled_rows: int, pool_rows: int) -> list[tuple[int, BatchPlan]]:
    """(last step + 1, how its batches are split) of each phase. ConfigError where a part of a batch would be too small."""
    return [(phase.stop, _plan_batch(recipe, phase, labelled_rows, pool_rows)) for phase in plan_phases(recipe)]


def _plan_batch(recipe: Recipe, phase: Phase, labelled_rows: int, pool_rows: int) -> BatchPlan:
    mimicking = mimics(phase.terms)
    plan = plan_batches(
        recipe.batch_size,
        recipe.labelled_share,
        labelled_rows=labelled_rows,
        pool_rows=pool_rows,
        reads_labels="labels" in reads(phase.terms),
        mimics=mimicking,
        separate_views=recipe.mimic_view == "clean",
        seed=recipe.seed,
    )
    if plan.rows < 2:
        raise ConfigError(
            f"a batch has {plan.rows} row(s); batch normalisation needs 2 or more. Use a larger --batch-size."
        )
    parts = recipe.optimiser.grad_accum_steps
    if plan.rows < 2 * parts:
        raise ConfigError(
            f"--grad-accum-steps is {parts}, for a batch of {plan.rows} rows; batch normalisation needs 2 or more in each part. "
            f"Use {plan.rows // 2} parts or fewer."
        )
    mimic_rows = plan.pool if recipe.mimic_view == "clean" else plan.rows
    if mimicking and mimic_rows < 2:
        raise ConfigError(
            f"a batch has {mimic_rows} row(s) in its clean view; losses that compare rows need 2 or more. Use a larger "
            "--batch-size or a smaller --labelled-share."
        )
    return plan


DEFAULT_STEPS = 2000


def make_recipe(config: TrainConfig, method: Method, labelled_rows: int, rows: int) -> Recipe:
    """The numbers of `config`; --epochs counts passes over the larger stream: the pool's share of a batch, where there is one."""
    values = as_json(config)
    own = ("batch_size", "labelled_share", "mimic_view", "warmup_phase_share", "pretrained", "seed")
    recipe = Recipe(
        method=method,
        steps=config.steps or DEFAULT_STEPS,
        optimiser=OptimiserConfig(**{field.name: values[field.name] for field in dataclasses.fields(OptimiserConfig)}),
        augment=AugmentConfig(**{field.name: values[field.name] for field in dataclasses.fields(AugmentConfig)}),
        **{name: values[name] for name in own},
    )
    if config.epochs is None:
        return recipe
    plan = plan_stages(recipe, labelled_rows, rows)[-1][1]
    stream_rows, drawn = (plan.pool_rows, plan.pool) if plan.pool else (plan.labelled_rows, plan.labelled)
    return dataclasses.replace(recipe, steps=max(1, config.epochs * stream_rows // drawn))
