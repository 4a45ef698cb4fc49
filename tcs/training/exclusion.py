"""Images that a run is to leave out: it reads its store as if it had no such rows, neither with a label nor in the pool.

Legend: N rows of the store, n those that stay.
"""

import dataclasses

import numpy as np

import cache
from tcs.auditing.exclusion import excluded_keys
from tcs.config.train import TrainConfig
from tcs.errors import DataError, listed
from tcs.runtime import say
from tcs.training.data import RunData

MOST_NAMED = 3


def without_excluded(data: RunData, config: TrainConfig) -> RunData:
    """`data` without the images that --exclude names, and a line on how many; `data` itself where there is no such option.

    Splits, pools and held-out rows are drawn, and axes and heads fitted, as on `tcs cache subset` of the store without those images;
    only a targets file, where one is given, is of all rows still. DataError for a table of another store, and where it leaves
    out nothing or everything.
    """
    exclusion = config.exclusion
    if exclusion is None or data.excluded is not None:
        return data
    store = data.store
    dropped = excluded_keys(exclusion, store.keys)
    kinds = ", ".join(exclusion.kinds)
    if not dropped:
        raise DataError(
            f"--exclude {exclusion.exclude} names no image of kind {kinds}; leave it out, or name other kinds with --exclude-kind."
        )
    rows_n = np.array([row for row, key in enumerate(store.keys) if key not in dropped], np.int64)
    if not len(rows_n):
        raise DataError(f"--exclude {exclusion.exclude} names every image; nothing would be left. Exclude fewer.")
    say(
        f"{len(dropped):,} images are left out by {exclusion.exclude} ({kinds}): {listed(sorted(dropped), MOST_NAMED)}."
    )
    targets = data.targets
    return dataclasses.replace(
        data,
        store=store.only(rows_n),
        targets=None if targets is None else dataclasses.replace(targets, only_n=rows_n),
        excluded=cache.digest_of_json(sorted(dropped)),
        fitted={},
        decoded={},
    )
