"""PoolLabelOptions: how labels are spread. The defaults were chosen on development splits (benchmarks/heads.py)."""

import dataclasses
import math
from collections.abc import Mapping, Sequence

from tcs.errors import ConfigError, did_you_mean, require, require_choice

RIDGE = "ridge"

ESTIMATORS = ("ridge-em", "gaussian-em", "propagation", "mutual-information", "average")

BALANCES = ("none", "half", "uniform", "estimated", "given")

PRIOR_TOLERANCE = 1e-3  # of a sum of 1: what decimals on a command line are off by


@dataclasses.dataclass(frozen=True, kw_only=True)
class PoolLabelOptions:
    """`estimator` is one of ESTIMATORS, or "ridge": the ridge probe of the labelled rows, which spreads nothing.

    `balance` says how many rows of the pool each class is thought to have: as many as the scores say ("none"), equally many
    ("uniform"), half of the way there ("half"), as EM estimates with half of its weight on equal shares ("estimated"), or
    `class_prior` ("given"; shares of the C classes that sum to 1). `sharpness`: the standard deviation of the logits whose
    softmax are the soft labels. `label_weight`: weight of all labelled rows beside that of the pool, as a share of it, for each
    label a class has (labels are to be trusted more the more there are), 1 at most. `penalty`: of the ridge, as a share of the
    mean eigenvalue. `shrinkage`: of the shared covariance, towards a multiple of the identity. `safety`: fall back to the ridge
    probe where a check says that spreading hurts. ConfigError for a value outside its range.
    """

    estimator: str = "average"
    balance: str = "half"
    class_prior: tuple[float, ...] | None = None
    sharpness: float = 6.0
    rounds: int = 12
    label_weight: float = 0.04
    penalty: float = 1e-2
    shrinkage: float = 0.3
    neighbours: int = 15
    safety: bool = True
    seed: int = 42

    def __post_init__(self) -> None:
        require_choice(self.estimator, (RIDGE, *ESTIMATORS), "estimator")
        require_choice(self.balance, BALANCES, "balance")
        require(
            (self.balance == "given") == (self.class_prior is not None),
            f"balance is '{self.balance}' and a class prior is {'not ' if self.class_prior is None else ''}given; "
            "balance 'given' and the prior belong together: give both or neither.",
        )
        for name in ("sharpness", "label_weight", "penalty"):
            value = getattr(self, name)
            require(value > 0 and math.isfinite(value), f"{name} is {value}; it must be positive and finite.")
        for name in ("rounds", "neighbours"):
            require(getattr(self, name) >= 1, f"{name} is {getattr(self, name)}; it must be 1 or more.")
        require(0 < self.shrinkage <= 1, f"shrinkage is {self.shrinkage}; it must lie above 0 and be 1 at most.")
        if self.class_prior is not None:
            _check_prior(self.class_prior)


def prior_of(shares: Mapping[str, float], classes: Sequence[str]) -> tuple[float, ...]:
    """The shares by class name as a prior in the order of `classes`; ConfigError for unknown or missing names."""
    unknown = [name for name in shares if name not in classes]
    if unknown:
        raise ConfigError(
            f"the class prior names '{unknown[0]}', which is no class of the run; use the names of its {len(classes)} "
            f"classes.{did_you_mean(unknown[0], classes)}"
        )
    missing = [name for name in classes if name not in shares]
    if missing:
        raise ConfigError(
            f"the class prior lacks '{missing[0]}' ({len(missing)} of {len(classes)} classes are missing); give every "
            "class its share."
        )
    prior = tuple(float(shares[name]) for name in classes)
    _check_prior(prior)
    return prior


def _check_prior(prior: tuple[float, ...]) -> None:
    bad = [share for share in prior if not (share > 0 and math.isfinite(share))]
    require(not bad, f"the class prior holds {bad[0] if bad else 0}; every class needs a share above 0.")
    total = math.fsum(prior)
    require(
        abs(total - 1) <= PRIOR_TOLERANCE,
        f"the class prior sums to {total:.4g}; the shares of all classes must sum to 1: divide them by {total:.4g}.",
    )
