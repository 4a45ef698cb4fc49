"""Options of `tcs train` about what the teacher's cached rows say of classes: its probe, and labels spread over the pool.

Pure standard library.
"""

import dataclasses
import math

from tcs.config.plain import take_plain
from tcs.errors import refuse_idle, require, require_choice

LOGISTIC, RIDGE, TRANSDUCTIVE = "logistic", "ridge", "transductive"
PROBE_HEADS = (RIDGE, LOGISTIC, TRANSDUCTIVE)
JOINED, EACH = "joined", "each"
POOL_TEACHERS = (JOINED, EACH)
POOL_ESTIMATORS = (RIDGE, "ridge-em", "gaussian-em", "propagation", "mutual-information", "average")


@dataclasses.dataclass(frozen=True, kw_only=True)
class PoolConfig:
    """`probe_head` makes the logits that `kd`, `dist`, `dkd` and `lshl2_s` read: a logistic probe of the labelled rows' features,
    or of their coordinates a ridge probe or one that is spread over the pool (transductive).

    `pool_estimator` spreads labels, and `class_prior` says which share of the pool each class has, as texts NAME=SHARE (none:
    between what the rows say and equal shares). Of several teachers (`also`) labels are spread in the coordinates that all of them
    make together (joined), or in those of each, and the soft labels are averaged (each). The logits whose softmax are the soft labels
    of the loss `pool` are divided by `pool_temperature` first: above 1 they are softer. ConfigError, naming the option, for a value that
    makes no sense.
    """

    probe_head: str = LOGISTIC
    pool_estimator: str = "average"
    class_prior: tuple[str, ...] = ()
    pool_teachers: str = JOINED
    pool_temperature: float = 1.0

    def __post_init__(self) -> None:
        take_plain(self)
        require_choice(self.probe_head, PROBE_HEADS, "--probe-head")
        require_choice(self.pool_estimator, POOL_ESTIMATORS, "--pool-estimator")
        require_choice(self.pool_teachers, POOL_TEACHERS, "--pool-teachers")
        require(
            0 < self.pool_temperature < math.inf,
            f"--pool-temperature is {self.pool_temperature}; it must be above 0 and finite.",
        )
        named = [_share(text)[0] for text in self.class_prior]
        for name in named:
            require(
                named.count(name) == 1, f"--class-prior gives class '{name}' a share twice; give each class one share."
            )
        refuse_idle(
            self, ((("class_prior",), self.pool_estimator != RIDGE, "an estimator that spreads labels; leave it out"),)
        )

    @property
    def shares(self) -> dict[str, float]:
        """The shares of `class_prior` by class name."""
        return dict(_share(text) for text in self.class_prior)


def _share(text: str) -> tuple[str, float]:
    """(NAME, SHARE) of NAME=SHARE; class names may hold '=' themselves."""
    name, _, number = text.rpartition("=")
    try:
        share = float(number)
    except ValueError:
        share = math.nan
    require(
        bool(name) and 0 < share < math.inf,
        f"--class-prior is '{text}'; it must be NAME=SHARE with a share above 0, as cat=0.1.",
    )
    return name, share
