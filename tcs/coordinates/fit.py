"""`tcs fit`: from a store to a coordinate system, with its ceiling curve and (where a split is named) its selection."""

import dataclasses
import pathlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

import cache
from tcs.artefact import is_finished, made_once, teacher_identity_of, tell_other_rules
from tcs.config.coordinates import FitConfig
from tcs.config.extract import as_json
from tcs.coordinates.axes import block_weights, weighed
from tcs.coordinates.build import build_coordinates
from tcs.coordinates.ceiling import LabelledFeatures, ceiling_curve, possible_shots
from tcs.coordinates.lineage import grown_since
from tcs.coordinates.moments import streaming_moments
from tcs.coordinates.pool_selection import LabelledPool, select_from_pool
from tcs.coordinates.selection import Selection, select_coordinates
from tcs.coordinates.stores import open_stores
from tcs.coordinates.system import (
    CoordinateSystem,
    load_coordinates,
    require_coordinates_file,
    resolve_components,
    save_coordinates,
)
from tcs.coordinates.transductive import Ground, transductive_ceiling
from tcs.coordinates.vectors import ChosenVectors, EveryVector, WeighedVectors, mapped_rows, row_vectors
from tcs.metrics import are_known, count_known
from tcs.pool_labels.options import PoolLabelOptions
from tcs.runtime import environment, say
from tcs.splits.relabelling import relabelled
from tcs.splits.shots import Split, split_of

LABELS = "labels"
LEAST_LABELLED_ROWS = 20  # below it a held-out fifth says nothing


def fit(config: FitConfig) -> CoordinateSystem:
    """Fit, measure, write `config.out`, and return what was written.

    Principal axes of the cached features, and the coordinates of them that a task needs: TCS (Zhou, Zhu and Wu 2024, arXiv 2412.09388).
    Every position of a map and every view of an image is a row of the fit; ceiling and selection see one vector an image, of its
    first view, and a line says so.
    The output of the same recipe on the same store is returned as it is. ArtefactError where `config.out` holds
    something else; `overwrite` replaces a coordinate system, never another file. ConfigError and DataError come from
    the parts: too many components, features that are not finite, a split that cannot be drawn.
    """
    store = relabelled(open_stores(config.store, config.also), config.split_file)
    store.features(config.readout)  # one that the store lacks is told first
    readout = config.readout if config.readout is not None else next(iter(store.readouts))
    is_split = config.shots is not None or config.split_file is not None
    split, test = split_of(store, config) if is_split else None, _test_store(config, store, readout)
    recipe = _recipe(config, store, readout, split, test)
    out = pathlib.Path(config.out)
    return made_once(
        out,
        lambda: _kept(config, out, store, recipe),
        lambda: _fitted(config, store, readout, split, test, recipe),
    )


def _kept(config: FitConfig, out: pathlib.Path, store: cache.Store, recipe: dict[str, Any]) -> CoordinateSystem | None:
    """What is at `out` and is to be kept; None where there is nothing, or it is to be replaced. ArtefactError where it is another."""
    if not out.exists():
        return None
    require_coordinates_file(out)
    if not config.overwrite and _is_finished(out, found := load_coordinates(out), store, recipe):
        return found
    return None


def _fitted(
    config: FitConfig,
    store: cache.Store,
    readout: str,
    split: Split | None,
    test: tuple[cache.Store, LabelledFeatures] | None,
    recipe: dict[str, Any],
) -> CoordinateSystem:
    """The system, fitted, measured, written."""
    if (views := store.manifest.plan.views) is not None:
        say(f"Axes are fitted to all {views.count} views of each image; ceiling and selection read the first of them.")
    vectors = EveryVector(store.features(readout))
    mean_D, covariance_DD = streaming_moments(vectors)
    system = dataclasses.replace(
        build_coordinates(
            mean_D,
            covariance_DD,
            len(vectors),
            config.method,
            config.components,
            config.power,
            config.seed,
            store.widths(readout),
            vectors,
        ),
        readout=readout,
        store_identity=store.identity,
        teacher_identity=teacher_identity_of(store, readout),
        config=recipe | _labels_of(store),
    )
    ceiling = _ceiling(store, system, mean_D, covariance_DD, config, test)
    selection = None if split is None else _select(system, store, split, config)
    system = dataclasses.replace(system, ceiling=ceiling, selection=selection)
    save_coordinates(pathlib.Path(config.out), system, environment() | {"options": as_json(config)})
    return system


def _labels_of(store: cache.Store) -> dict[str, Any]:
    """Which labels the ceiling was measured with, where they came after the store: the axes read none, so are as good with others."""
    return {} if store.manifest.later_labels is None else {LABELS: store.labelled_identity}


def _is_finished(out: pathlib.Path, found: CoordinateSystem, store: cache.Store, recipe: dict[str, Any]) -> bool:
    """Whether the axes at `out` are those of the recipe, and a line on it; ArtefactError where they were made otherwise."""
    if (told := grown_since(store, found.store_identity)) is not None:
        say(f"{out} was {told}.")
    recorded = {name: value for name, value in found.config.items() if name != LABELS}
    is_finished(out, recorded, recipe)
    say(f"{out} is already there, made with the same options; nothing to do.")
    if _labels_of(store) != {name: value for name, value in found.config.items() if name == LABELS}:
        say(f"{store.path} has other labels since: the axes stay, and --overwrite measures their ceiling anew.")
    return True


def _test_store(config: FitConfig, fitted: cache.Store, readout: str) -> tuple[cache.Store, LabelledFeatures] | None:
    """The store of --ceiling-test and its rows."""
    if config.ceiling_test is None:
        return None
    store = open_stores(config.ceiling_test, config.ceiling_test_also)
    tell_other_rules(fitted, store)
    return store, _labelled(store, readout)


def _labelled(store: cache.Store, readout: str) -> LabelledFeatures:
    features = row_vectors(store, readout)
    return LabelledFeatures(features=features, keys=store.keys, labels_N=store.labels_N, classes=store.classes)


def _recipe(
    config: FitConfig,
    store: cache.Store,
    readout: str,
    split: Split | None,
    test: tuple[cache.Store, LabelledFeatures] | None,
) -> dict[str, Any]:
    """What decides the content of the output, with defaults filled in; paths are left out, identities stand for them."""
    return {
        "store": store.identity,
        "readout": readout,
        "method": config.method,
        "components": resolve_components(config.components, store.readouts[readout].dims),
        "power": config.power,
        "seed": config.seed,
        "split": None if split is None else split.digest,
        "ceiling shots": list(config.ceiling_shots),
        "ceiling test store": None if test is None else test[0].labelled_identity,
        # Later than the first files, whose selections are all by ridge.
        **({} if config.selection == "ridge" else {"selection": config.selection}),
    }


def _ceiling(
    store: cache.Store,
    system: CoordinateSystem,
    mean_D: NDArray[np.float64],
    covariance_DD: NDArray[np.float64],
    config: FitConfig,
    test: tuple[cache.Store, LabelledFeatures] | None,
) -> dict[str, Any]:
    """Rows of the curve, a note (None where nothing was left out), and the rows of the transductive probe at the fitted K."""
    labels_N = store.labels_N
    if len(np.unique(labels_N[labels_N >= 0])) < 2 or int((labels_N >= 0).sum()) < LEAST_LABELLED_ROWS:
        return {"rows": [], "note": f"no ceiling: fewer than two classes or {LEAST_LABELLED_ROWS} labelled rows"}
    train = _labelled(store, system.readout)
    shots, note = possible_shots(train, config.ceiling_shots)
    scored = None if test is None else test[1]
    rows = _curve(train, mean_D, covariance_DD, (*shots, None), scored, store.widths(system.readout), system)
    barred_N = None if test is None else are_known(store.hashes_N16, test[0].hashes_N16[test[0].labels_N >= 0])
    ground = Ground(train=train, test=scored, barred_N=barred_N)
    found = {"rows": rows, "note": note, "transductive": transductive_ceiling(ground, system, shots)}
    return found if test is None else found | {"copies": _copies(store, test[0])}


def _copies(store: cache.Store, test: cache.Store) -> dict[str, int]:
    """How many of the scored images are, to the byte, among those that the axes are fitted to."""
    scored_M16 = test.hashes_N16[test.labels_N >= 0]
    return {"images": len(scored_M16), "known": count_known(scored_M16, store.hashes_N16)}


def _curve(
    train: LabelledFeatures,
    mean_D: NDArray[np.float64],
    covariance_DD: NDArray[np.float64],
    shots: tuple[int | None, ...],
    test: LabelledFeatures | None,
    widths: tuple[int, ...],
    system: CoordinateSystem,
) -> list[dict[str, Any]]:
    """The ceiling curve; of several teachers' vectors, weighed as the coordinate system weighs them."""
    if len(widths) == 1:
        return ceiling_curve(train, mean_D, covariance_DD, shots=shots, test=test, fitted=system)
    weights_D = block_weights(covariance_DD, widths)
    return ceiling_curve(
        _weighed(train, weights_D),
        weights_D * mean_D,
        weighed(covariance_DD, weights_D),
        shots=shots,
        test=None if test is None else _weighed(test, weights_D),
        fitted=_of_weighed(system, weights_D),
    )


def _weighed(part: LabelledFeatures, weights_D: NDArray[np.float64]) -> LabelledFeatures:
    return dataclasses.replace(part, features=WeighedVectors(part.features, weights_D))


def _of_weighed(system: CoordinateSystem, weights_D: NDArray[np.float64]) -> CoordinateSystem:
    """The system that maps weighed vectors to the coordinates of `system`."""
    return dataclasses.replace(
        system,
        origin_D=(weights_D * system.origin_D).astype(np.float32),
        basis_DK=(system.basis_DK / weights_D[:, None]).astype(np.float32),
    )


def _select(system: CoordinateSystem, store: cache.Store, split: Split, config: FitConfig) -> Selection:
    if config.selection == "pool":
        return _select_by_pool(system, store, split, config.seed)
    z_nK = system.transform(row_vectors(store, system.readout)[split.rows_n])
    labels_n = store.labels_N[split.rows_n]
    return select_coordinates(z_nK, labels_n, len(store.classes), None, config.seed, split.digest)


def _select_by_pool(system: CoordinateSystem, store: cache.Store, split: Split, seed: int) -> Selection:
    """By the labels of the split, spread over every row of the store; of no other label."""
    every_N = np.arange(len(store))
    vectors = ChosenVectors(row_vectors(store, system.readout), every_N)
    z_NK = mapped_rows(vectors, system.transform, system.components)
    pool = LabelledPool.of_split(z_NK, every_N, split.rows_n, store.labels_N)
    return select_from_pool(pool, PoolLabelOptions(seed=seed), split.digest)
