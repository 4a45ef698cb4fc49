"""What a run does when, before any tensor: how many steps it has, its phases, and how the batches of each are split."""

import dataclasses

from tcs.config.train import TrainConfig
from tcs.criteria.terms import LossTerm, mimics, parse_loss, reads
from tcs.errors import ConfigError
from tcs.methods.named import PROBE_START, Method
from tcs.training.batches import BatchPlan, plan_batches

DEFAULT_STEPS = 2000


@dataclasses.dataclass(frozen=True, kw_only=True)
class Phase:
    """Steps [start, stop) with one loss; `refit` fits the projection by ridge regression before the first of them."""

    name: str
    start: int
    stop: int
    terms: tuple[LossTerm, ...]
    refit: bool


def plan_phases(config: TrainConfig, method: Method, steps: int) -> tuple[Phase, ...]:
    """The phases of `steps` steps. A pretrained student already knows something: it is refitted at once, without a warm-up."""
    main = parse_loss(method.loss)
    refit = method.classifier == PROBE_START
    if not method.warm_up or config.starts_trained:
        return (Phase(name="main", start=0, stop=steps, terms=main, refit=refit),)
    end = max(1, round(config.warmup_phase_share * steps))
    if end >= steps:
        raise ConfigError(
            f"--steps is {steps}, and the warm-up phase takes {end} of them (--warmup-phase-share is "
            f"{config.warmup_phase_share}); use more steps or a smaller share."
        )
    return (
        Phase(name="warm-up", start=0, stop=end, terms=parse_loss(method.warm_up), refit=False),
        Phase(name="main", start=end, stop=steps, terms=main, refit=refit),
    )


def plan_stages(
    config: TrainConfig, method: Method, steps: int, labelled_rows: int, pool_rows: int
) -> tuple[tuple[int, BatchPlan], ...]:
    """(last step + 1, how its batches are split) of each phase. ConfigError where a part of a batch would be too small."""
    phases = plan_phases(config, method, steps)
    return tuple((phase.stop, _plan_batch(config, phase, labelled_rows, pool_rows)) for phase in phases)


def count_steps(config: TrainConfig, method: Method, labelled_rows: int, pool_rows: int) -> int:
    """The steps of a run; --epochs counts passes over the larger stream: the pool's share of a batch, where there is one."""
    if config.epochs is None:
        return config.steps or DEFAULT_STEPS
    plan = plan_stages(config, method, DEFAULT_STEPS, labelled_rows, pool_rows)[-1][1]
    stream_rows, drawn = (plan.pool_rows, plan.pool) if plan.pool else (plan.labelled_rows, plan.labelled)
    return max(1, config.epochs * stream_rows // drawn)


def _plan_batch(config: TrainConfig, phase: Phase, labelled_rows: int, pool_rows: int) -> BatchPlan:
    mimicking = mimics(phase.terms)
    plan = plan_batches(
        config.batch_size,
        config.labelled_share,
        labelled_rows=labelled_rows,
        pool_rows=pool_rows,
        reads_labels="labels" in reads(phase.terms),
        mimics=mimicking,
        separate_views=config.mimic_view == "clean",
        seed=config.seed,
    )
    if plan.rows < 2:
        raise ConfigError(
            f"a batch has {plan.rows} row(s); batch normalisation needs 2 or more. Use a larger --batch-size."
        )
    parts = config.optimiser.grad_accum_steps
    if plan.rows < 2 * parts:
        raise ConfigError(
            f"--grad-accum-steps is {parts}, for a batch of {plan.rows} rows; batch normalisation needs 2 or more in each part. "
            f"Use {plan.rows // 2} parts or fewer."
        )
    mimic_rows = plan.pool if config.mimic_view == "clean" else plan.rows
    if mimicking and mimic_rows < 2:
        raise ConfigError(
            f"a batch has {mimic_rows} row(s) in its clean view; losses that compare rows need 2 or more. Use a larger "
            "--batch-size or a smaller --labelled-share."
        )
    return plan
