"""Which heads `tcs probe` fits, and what it says of their cost before the first one.

Legend: D features, K coordinates.
"""

from collections.abc import Mapping, Sequence

from tcs.config.evaluate import TRANSDUCTIVE, ProbeConfig
from tcs.evaluation.probe_stores import ProbedStores
from tcs.evaluation.spreading_cost import expected_seconds
from tcs.evaluation.transductive import SplitPool
from tcs.probes.heads import HeadOptions
from tcs.reporting.compression import DRAWN, UNCOMPRESSED
from tcs.runtime import readable_seconds, say
from tcs.splits.shots import Split

SEEDED_HEADS = ("ibm2", TRANSDUCTIVE)  # a seed draws noise, or rows of the pool


def planned_curves(config: ProbeConfig, splits: Sequence[Split]) -> list[tuple[str, int, Split]]:
    """(projection, seed, split) of every curve, split by split; once where no seed can change it."""
    one_split = all(split is splits[0] for split in splits)
    curves = []
    for projection in (UNCOMPRESSED, *config.projections):
        is_fixed = one_split and projection not in DRAWN and config.head not in SEEDED_HEADS
        pairs = list(zip(config.seeds, splits, strict=True))
        curves += [(projection, seed, split) for seed, split in (pairs[:1] if is_fixed else pairs)]
    return sorted(curves, key=lambda curve: config.seeds.index(curve[1]))


def planned_sizes(config: ProbeConfig, dims: int, sizes: Sequence[int], splits: Sequence[Split]) -> list[int]:
    """K of every head that will be fitted: of each curve all of `sizes`, and all D dims of the uncompressed ones."""
    return [
        size
        for projection, _, _ in planned_curves(config, splits)
        for size in ((dims,) if projection == UNCOMPRESSED else sizes)
    ]


def say_cost(
    config: ProbeConfig,
    stores: ProbedStores,
    sizes: Sequence[int],
    splits: Sequence[Split],
    pools: Mapping[str, SplitPool],
) -> None:
    """Rows, heads and scored rows; of the head `transductive` also the minutes, for which two heads are fitted to a part of the pool."""
    labelled, scored = len(splits[0].rows_n), len(stores.scored_M)
    planned = planned_sizes(config, stores.dims, sizes, splits)
    fits = f"{len(planned)} {config.head} heads"
    if config.head == "ibm2":
        fits += f" (each 260 epochs of {labelled:,} rows x {config.copies} noisy copies)"
    if config.head == TRANSDUCTIVE:
        fits += " (each spreads the labels over the rows that have none in use)"
    say(
        f"{len(stores.train):,} rows x {stores.dims} dims of readout {stores.readout} to read, {labelled:,} of them with a"
        f" label in use; {fits}; {scored:,} rows to score."
    )
    if config.head == TRANSDUCTIVE:
        options = HeadOptions(seed=config.seeds[0], copies=config.copies, device=config.device)
        seconds = expected_seconds(pools[splits[0].digest], planned, options)
        say(
            f"these heads take about {readable_seconds(seconds)} in all, by two that were fitted to a part of the pool."
        )
    grid = stores.train.readouts[stores.readout].grid
    if grid is not None:
        say(f"readout {stores.readout} is a map of {grid[0]} x {grid[1]} positions: their average is probed.")
