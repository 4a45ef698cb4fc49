"""How the labels of a run are spread, by its options. Legend: C classes, c those that have a label."""

import math

import numpy as np

import cache
from tcs.config.train import TrainConfig
from tcs.pool_labels.options import PoolLabelOptions, prior_of
from tcs.splits.shots import Split


def label_options(config: TrainConfig, store: cache.Store, split: Split, estimator: str) -> PoolLabelOptions:
    """The options of `estimator` for the labels of `split`; a prior is that of the classes that have a label."""
    pool, classes = config.pool, store.classes
    if not pool.class_prior:
        return PoolLabelOptions(estimator=estimator, seed=config.seed)
    prior_C = prior_of(pool.shares, classes)
    present_c = np.unique(store.labels_N[split.rows_n])
    total = math.fsum(prior_C[label] for label in present_c) if len(present_c) < len(classes) else 1.0
    prior = tuple(prior_C[label] / total for label in present_c)
    return PoolLabelOptions(estimator=estimator, balance="given", class_prior=prior, seed=config.seed)
