"""The stage `tcs probe`: how well a head on compressed cached features classifies, without any student.

Features f (D) are projected to g = R'f (K), a linear head is fitted on g with the backbone frozen, and W R' is scored on
another store as one linear map. R is Gaussian N(0, 1/K) (`jl`, Johnson-Lindenstrauss, the head of arXiv 2512.23410), the
first K columns of a random rotation (`orthogonal`), the first K principal axes (`pca`), or the K principal axes that an
elimination with a ridge probe on the split's labels keeps (`selection`). Principal axes come from all rows of the
training store, labelled or not, and never from the test store; the head `transductive` reads them as well
(tcs.evaluation.transductive). The first K columns of one D x D draw are taken for every K, so that a curve over K is of
one draw.

Legend: N rows of the store, M scored rows, D features, K coordinates, H heads.
"""

import dataclasses
import pathlib
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

import cache
from tcs.config.evaluate import COMPRESSIONS, TRANSDUCTIVE, ProbeConfig
from tcs.coordinates.axes import jl_projection, principal_axes, random_axes
from tcs.coordinates.moments import streaming_moments
from tcs.coordinates.selection import rank_from_gram
from tcs.errors import require
from tcs.evaluation.probe_cost import planned_curves, planned_sizes, say_cost
from tcs.evaluation.probe_stores import ProbedStores, count_hits, open_stores, read_rows
from tcs.evaluation.transductive import SplitPool, TransductiveHead, fit_transductive, pools_of, spreading_recipe
from tcs.probes.gram import Gram
from tcs.probes.heads import READS_ROWS, HeadOptions, LinearHead, SplitRows, fit_head
from tcs.reporting.compression import (
    UNCOMPRESSED,
    Compression,
    head_parameters,
    load_finished,
    write_compression,
)
from tcs.runtime import environment, pick_device, progress_bar, say
from tcs.splits.shots import Split, choose_split

F64 = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class _Fitted:
    """One head as a linear map of the features, and where it comes from."""

    projection: str
    components: int
    seed: int
    split: Split
    head: LinearHead
    seconds: float
    spread: TransductiveHead | None = None


def measure_compression(config: ProbeConfig) -> Compression:
    """Fit and score every head that the options ask for; the results of the same options in `config.out` are read instead.

    Raises ArtefactError where `config.out` holds something else or the stores are not of one teacher, DataError for stores
    without labels or with views, one store given twice, or classes that the training store lacks, ConfigError for more
    coordinates than features.
    """
    stores = open_stores(config)
    sizes = _sizes(config, stores.dims)
    splits = _splits(config, stores.train)
    recipe = _recipe(config, stores, sizes, splits)
    finished = load_finished(config.out, recipe, config.overwrite)
    if finished is not None:
        say(f"{config.out} holds these very results; they are read, not measured again.")
        return Compression(rows=finished["rows"], recipe=recipe, environment=finished["environment"])
    pick_device(config.device)
    pools = pools_of(stores, splits) if config.head == TRANSDUCTIVE else {}
    say_cost(config, stores, sizes, splits, pools)
    fitted = list(_fit_heads(config, stores, sizes, splits, pools))
    hits_H2 = count_hits(stores, [entry.head for entry in fitted])
    facts = environment()
    common = _common(stores, str(facts["commit"] or ""))
    rows = [_row(entry, hits_2.tolist(), config, stores, common) for entry, hits_2 in zip(fitted, hits_H2, strict=True)]
    return Compression(rows=rows, recipe=recipe, environment=facts)


def probe(config: ProbeConfig) -> Compression:
    """Fit heads on the features of `config.store`, whole and compressed, and score them on those of `config.test`.

    Returns a `Compression`: its `rows` are mappings, one a projection, number of coordinates and seed (`top1` in percent), its
    `recipe` says what they are of.
    Tables and a figure are written into `config.out` where that is named; the results of the same options there are read instead.

    Raises ArtefactError where `config.out` holds something else or the stores are not of one teacher, DataError for stores
    without labels or with views, one store given twice, or classes that the training store lacks, ConfigError for more
    coordinates than features, and where matplotlib is missing (the tables are written before).
    """
    result = measure_compression(config)
    if config.out is not None:
        write_compression(result, pathlib.Path(config.out))
    return result


def _sizes(config: ProbeConfig, dims: int) -> tuple[int, ...]:
    """The asked numbers of coordinates K, falling; a compression c gives round(D / c). Unasked, those that D dims allow."""
    for size in config.dims:
        require(size <= dims, f"--dims is {size}, and the features have {dims} dims; it must be from 1 to {dims}.")
    if config.dims:
        return tuple(sorted(set(config.dims), reverse=True))
    ratios = config.compressions or [ratio for ratio in COMPRESSIONS if ratio <= dims] or [1.0]
    for ratio in ratios:
        require(
            ratio <= dims,
            f"--compression is {ratio:g}, and the features have {dims} dims; it must be from 1 to {dims}.",
        )
    return tuple(sorted({round(dims / ratio) for ratio in ratios}, reverse=True))


def _splits(config: ProbeConfig, store: cache.Store) -> list[Split]:
    """A split for every seed; the very same one where seeds do not change it."""
    seeds = config.seeds if config.shots is not None and config.split_seed is None else (config.split_seed or 0,)
    drawn = [
        choose_split(
            store.keys,
            store.labels_N,
            store.classes,
            shots=config.shots,
            split_seed=seed,
            split_file=config.split_file,
        )
        for seed in seeds
    ]
    return drawn if len(drawn) == len(config.seeds) else drawn * len(config.seeds)


def _recipe(config: ProbeConfig, stores: ProbedStores, sizes: Sequence[int], splits: Sequence[Split]) -> dict[str, Any]:
    recipe: dict[str, Any] = {
        "store": stores.train.labelled_identity,
        "test store": stores.test.labelled_identity,
        "readout": stores.readout,
        "projections": list(config.projections),
        "dims": list(sizes),
        "head": config.head,
        "splits": [split.digest for split in splits],
        "seeds": list(config.seeds),
    }
    if config.head == TRANSDUCTIVE:
        return recipe | {"spreading": spreading_recipe()}
    return recipe | ({"copies": config.copies} if config.head == "ibm2" else {})


def _fit_heads(
    config: ProbeConfig,
    stores: ProbedStores,
    sizes: Sequence[int],
    splits: Sequence[Split],
    pools: Mapping[str, SplitPool],
) -> Iterator[_Fitted]:
    """Every head, split by split; `pools` has those of the head `transductive`, by the digest of their split."""
    basis_DD = _principal_basis(config, stores)
    held: tuple[Split, SplitRows] | None = None
    with progress_bar(len(planned_sizes(config, stores.dims, sizes, splits)), "fitting heads", "heads") as bar:
        for projection, seed, split in planned_curves(config, splits):
            if held is None or held[0] is not split:
                held = split, read_rows(stores, split, config.head in READS_ROWS)
            rows, pool = held[1], pools.get(split.digest)
            options = HeadOptions(seed=seed, copies=config.copies, device=config.device)
            for axes_DK in projection_axes(projection, seed, sizes, rows.gram, basis_DD):
                started = time.perf_counter()
                spread = None if pool is None else fit_transductive(pool, axes_DK, options)
                head = fit_head(config.head, rows, axes_DK, options) if spread is None else spread.head
                seconds = time.perf_counter() - started
                bar.advance(1)
                yield _Fitted(
                    projection=projection,
                    components=axes_DK.shape[1],
                    seed=seed,
                    split=split,
                    head=head.merged(axes_DK),
                    seconds=seconds,
                    spread=spread,
                )


def _principal_basis(config: ProbeConfig, stores: ProbedStores) -> F64 | None:
    """Principal axes (D, D) of all rows of the training store, where a projection asks for them."""
    if not {"pca", "selection"} & set(config.projections):
        return None
    _, covariance_DD = streaming_moments(stores.vectors(stores.train))
    return principal_axes(covariance_DD)[0]


def projection_axes(
    projection: str, seed: int, sizes: Sequence[int], gram: Gram, basis_DD: F64 | None
) -> Iterator[F64]:
    """R (D, K) of one projection for every K of `sizes`, or the one identity of UNCOMPRESSED. `basis_DD`: principal axes."""
    dims = len(gram.mean_K)
    if projection == UNCOMPRESSED:
        yield np.eye(dims)
    elif projection == "jl":
        yield from (jl_projection(dims, size, seed) for size in sizes)
    elif projection == "orthogonal":
        draw_DD = random_axes(dims, seed)
        yield from (draw_DD[:, :size] for size in sizes)
    else:
        assert basis_DD is not None
        firsts = {size: np.arange(size) for size in sizes}
        active = firsts if projection == "pca" else rank_from_gram(gram.mapped(basis_DD), sizes)
        yield from (basis_DD[:, active[size]] for size in sizes)


def _common(stores: ProbedStores, commit: str) -> dict[str, Any]:
    """The columns that all rows share."""
    return {
        "rows": len(stores.scored_M),
        "seen": stores.seen,
        "readout": stores.readout,
        "teacher": str(stores.train.manifest.plan.identity.get("teacher", "")),
        "cache_id": stores.train.labelled_identity,
        "test_id": stores.test.labelled_identity,
        "commit": commit,
    }


def _row(
    entry: _Fitted, hits: Sequence[int], config: ProbeConfig, stores: ProbedStores, common: Mapping[str, Any]
) -> dict[str, Any]:
    is_all = config.shots is None and config.split_file is None
    top1, top5 = (round(100 * count / len(stores.scored_M), 4) for count in hits)
    return {
        "model": "teacher",
        "method": entry.projection,
        "head": config.head,
        "components": entry.components,
        "compression": round(stores.dims / entry.components, 4),
        "labelled": len(entry.split.rows_n),
        "shots": "all" if is_all else entry.split.shots or "",
        "seed": entry.seed,
        "split_id": entry.split.digest,
        "top1": top1,
        "top1_err": round(100 - top1, 4),
        "top5": top5,
        "top5_err": round(100 - top5, 4),
        **head_parameters(stores.dims, entry.components, len(stores.train.classes), entry.projection),
        "fit_s": round(entry.seconds, 4),
        **_spreading(entry.spread),
        **common,
    }


def _spreading(spread: TransductiveHead | None) -> dict[str, Any]:
    """The columns that only rows of the head `transductive` have."""
    if spread is None:
        return {}
    return {"pool": spread.pool_rows, "estimator": spread.estimator, "fell_back": spread.reason or ""}
