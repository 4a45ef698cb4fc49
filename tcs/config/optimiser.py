"""Options of `tcs train` that say how a student is optimised, by timm's names. Pure standard library."""

import dataclasses
import math

from tcs.config.plain import take_plain
from tcs.errors import refuse_idle, require, require_choice

SCHEDULES = ("cosine", "tanh", "step", "multistep", "poly", "constant")
DECAYING = ("step", "multistep", "poly")  # what --decay-rate is read by
ENDING = ("cosine", "tanh", "poly")  # what --min-lr is read by
CLIP_MODES = ("norm", "value", "agc")
AMP_DTYPES = ("bfloat16", "float16")
LARGEST_RATE = 1e6  # far beyond any of use, and far below what float32, in which it is multiplied, can hold


def require_rate(lr: float) -> None:
    """ConfigError where `lr` is no learning rate."""
    require(0 < lr <= LARGEST_RATE, f"--lr is {lr}; it must be a positive number, {LARGEST_RATE:,.0f} at most.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class OptimiserConfig:
    """Optimiser, schedule, precision and averaging. Steps count updates of the weights; `decay_milestones` are steps."""

    opt: str = "adamw"
    lr: float = 2e-3
    momentum: float = 0.9
    weight_decay: float = 0.05
    opt_eps: float | None = None
    opt_betas: tuple[float, float] | None = None
    layer_decay: float | None = None
    clip_grad: float | None = 1.0
    clip_mode: str = "norm"
    sched: str = "cosine"
    min_lr: float = 0.0
    warmup_lr: float | None = None
    warmup_share: float = 0.05
    decay_steps: int | None = None
    decay_milestones: tuple[int, ...] = ()
    decay_rate: float = 0.1
    grad_accum_steps: int = 1
    amp: bool = False
    amp_dtype: str = "bfloat16"
    channels_last: bool = True
    torchcompile: str | None = None
    model_ema: bool = False
    model_ema_decay: float = 0.9998
    model_ema_warmup: bool = False
    freeze: tuple[str, ...] = ()
    sync_bn: bool = False

    def __post_init__(self) -> None:
        take_plain(self)
        require_rate(self.lr)
        require(
            math.isfinite(self.weight_decay) and self.weight_decay >= 0,
            f"--weight-decay is {self.weight_decay}; it must be 0 or more.",
        )
        require(0 <= self.momentum < 1, f"--momentum is {self.momentum}; it must lie from 0 to below 1.")
        require(self.opt_eps is None or self.opt_eps > 0, f"--opt-eps is {self.opt_eps}; it must be above 0.")
        require(
            self.opt_betas is None or all(0 <= beta < 1 for beta in self.opt_betas),
            f"--opt-betas is {self.opt_betas}; both must lie from 0 to below 1.",
        )
        require(
            self.layer_decay is None or 0 < self.layer_decay <= 1,
            f"--layer-decay is {self.layer_decay}; it must lie above 0 and at most at 1.",
        )
        require(
            self.clip_grad is None or self.clip_grad >= 0,
            f"--clip-grad is {self.clip_grad}; it must be above 0, or 0 for no clipping.",
        )
        require_choice(self.clip_mode, CLIP_MODES, "--clip-mode")
        require_choice(self.amp_dtype, AMP_DTYPES, "--amp-dtype")
        require(self.grad_accum_steps >= 1, f"--grad-accum-steps is {self.grad_accum_steps}; it must be 1 or more.")
        require(
            0 < self.model_ema_decay < 1,
            f"--model-ema-decay is {self.model_ema_decay}; it must lie between 0 and 1.",
        )
        require("" not in self.freeze, "--freeze is empty; name a part of the student, or leave it out.")
        self._check_schedule()
        self._refuse_idle_options()

    def _check_schedule(self) -> None:
        require_choice(self.sched, SCHEDULES, "--sched")
        require(0 <= self.min_lr <= self.lr, f"--min-lr is {self.min_lr}; it must lie between 0 and --lr ({self.lr}).")
        require(
            self.warmup_lr is None or 0 <= self.warmup_lr <= self.lr,
            f"--warmup-lr is {self.warmup_lr}; it must lie between 0 and --lr ({self.lr}).",
        )
        require(0 <= self.warmup_share < 1, f"--warmup-share is {self.warmup_share}; it must lie from 0 to below 1.")
        require(self.decay_rate > 0, f"--decay-rate is {self.decay_rate}; it must be above 0.")
        require(
            (self.sched == "step") == (self.decay_steps is not None)
            and (self.decay_steps is None or self.decay_steps >= 1),
            f"--decay-steps is {self.decay_steps} and --sched '{self.sched}'; give a number of 1 or more with --sched step, "
            "and only there.",
        )
        require(
            (self.sched == "multistep") == bool(self.decay_milestones) and all(at >= 1 for at in self.decay_milestones),
            f"--decay-milestones is {list(self.decay_milestones)} and --sched '{self.sched}'; give steps of 1 or more with "
            "--sched multistep, and only there.",
        )

    def _refuse_idle_options(self) -> None:
        """Raise ConfigError for an option that would change nothing: what it acts on is not asked for."""
        conditions = (
            (("amp_dtype",), self.amp, "--amp"),
            (("model_ema_decay", "model_ema_warmup"), self.model_ema, "--model-ema"),
            (("clip_mode",), bool(self.clip_grad), "a --clip-grad above 0"),
            (("warmup_lr",), self.warmup_share > 0, "a --warmup-share above 0"),
            (("decay_rate",), self.sched in DECAYING, f"a --sched that decays ({', '.join(DECAYING)})"),
            (("min_lr",), self.sched in ENDING, f"a --sched that ends there ({', '.join(ENDING)})"),
        )
        refuse_idle(self, conditions)
