"""Which readouts of an extraction are projected, and by what: a seeded matrix, axes fitted to a sample, or another store's.

Whatever stands in the plan of the store on disk is used again: fitted axes are not the same to the last bit on every device.

Legend: D teacher dims, d projected dims, M vectors of the sample, n images of a batch.
"""

import contextlib
import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

import cache
from tcs.config.extract import FITTED_PROJECTIONS, ExtractConfig
from tcs.errors import ConfigError, DataError, did_you_mean
from tcs.extraction.decoding import Collate, ImagePositions
from tcs.extraction.workers import decoded_batches
from tcs.runtime import progress_bar, say, seed_for
from tcs.teacher.model import Teacher
from tcs.teacher.projection import Projection, fitted_projection, orthogonal_projection, stored_projection

NAMES = {"pca": "PCA", "autoencoder": "Auto-encoder"}
SAMPLE_VECTORS = 65_536
SAMPLE_BATCH = 32  # not --batch-size: the sample's arithmetic should not depend on it
Facts = Mapping[str, Mapping[str, Any]]


def projection_facts(config: ExtractConfig, teacher: Teacher, images: int) -> dict[str, dict[str, Any]]:
    """For each projected readout what decides its projection, as JSON; part of the store's identity.

    ConfigError where a readout is not extracted, or has fewer dims than asked for.
    """
    if config.projection_from is not None:
        return _facts_of_source(config, teacher)
    facts = {}
    for readout, dims in config.project.items():
        if readout not in teacher.readouts:
            hint = did_you_mean(readout, teacher.readouts)
            raise ConfigError(f"--project names {readout}, which no --readout names; add --readout {readout}.{hint}")
        width = teacher.readouts[readout]
        if not 1 <= dims <= width:
            raise ConfigError(f"--project {readout}={dims}: {readout} has {width} dims; use 1 to {width}.")
        facts[readout] = {"method": config.projection, "dims": dims, "of": width, "seed": config.seed}
        if config.projection in FITTED_PROJECTIONS:
            positions = int(np.prod(teacher.grids.get(readout, (1, 1))))
            sampled = min(config.projection_images, images, SAMPLE_VECTORS)
            facts[readout] |= {"images": sampled, "positions": max(1, min(positions, SAMPLE_VECTORS // sampled))}
    return facts


def _source(config: ExtractConfig) -> cache.Store:
    return cache.open(pathlib.Path(config.projection_from or ""))


def _facts_of_source(config: ExtractConfig, teacher: Teacher) -> dict[str, dict[str, Any]]:
    """The facts recorded in --projection-from, for the readouts of this extraction."""
    store = _source(config)
    theirs = store.manifest.plan.identity
    odd = [
        name for name in ("teacher", "teacher_weights", "preprocessing") if theirs.get(name) != teacher.identity[name]
    ]
    if odd:
        raise ConfigError(
            f"--projection-from {store.path} is of another teacher ({', '.join(odd)} differs); name a store of this one."
        )
    facts = {name: dict(fact) for name, fact in theirs.get("projections", {}).items() if name in teacher.readouts}
    if not facts:
        raise ConfigError(
            f"--projection-from {store.path} projects none of {', '.join(teacher.readouts)}; give --project instead."
        )
    return facts


def find_projections(
    config: ExtractConfig, teacher: Teacher, positions: ImagePositions, facts: Facts
) -> dict[str, Projection]:
    """The projections that `facts` describe: from the store on disk, from --projection-from, or made now.

    DataError where none of the sampled images can be read.
    """
    stored = None if config.overwrite else cache.stored_plan(config.out)
    if config.projection_from is not None:
        constants = _source(config).manifest.plan.constants
    elif stored is not None and stored.identity.get("projections") == facts:
        constants = stored.constants
    else:
        return _made(config, teacher, positions, facts)
    return _stored(constants, facts)


def projections_of(plan: cache.Plan) -> dict[str, Projection]:
    """The projections that stand in the plan of a store."""
    return _stored(plan.constants, plan.identity.get("projections", {}))


def _stored(constants: Mapping[str, cache.Constant], facts: Facts) -> dict[str, Projection]:
    found = {readout: stored_projection(constants, readout) for readout in facts}
    return {readout: projection for readout, projection in found.items() if projection is not None}


def _made(config: ExtractConfig, teacher: Teacher, positions: ImagePositions, facts: Facts) -> dict[str, Projection]:
    fitted = {readout: fact for readout, fact in facts.items() if fact["method"] in FITTED_PROJECTIONS}
    samples = _sample(teacher, positions, fitted, config) if fitted else {}
    made = {}
    for readout, fact in facts.items():
        if readout in samples:
            made[readout] = fitted_projection(samples[readout], fact["dims"], fact["method"], fact["seed"])
            share = 100 * (made[readout].share or 0)
            say(
                f"{NAMES[fact['method']]} of {readout}: {fact['dims']} of {fact['of']} dims hold {share:.1f} % of the variance of"
                f" {len(samples[readout]):,} vectors from {fact['images']} images."
            )
        else:
            made[readout] = orthogonal_projection(fact["of"], fact["dims"], fact["seed"], readout)
    return made


def _sample(
    teacher: Teacher, positions: ImagePositions, facts: Facts, config: ExtractConfig
) -> dict[str, NDArray[np.float32]]:
    """float32 (M, D) of each readout: some positions of some images (of several views the first), drawn by the seed."""
    wanted = next(iter(facts.values()))["images"]
    generator = np.random.default_rng(seed_for(config.seed, "projection images"))
    chosen = np.sort(generator.choice(len(positions), wanted, replace=False)).tolist()
    batches = [chosen[start : start + SAMPLE_BATCH] for start in range(0, wanted, SAMPLE_BATCH)]
    bare = dataclasses.replace(teacher, readouts={name: teacher.readouts[name] for name in facts}, projections={})
    parts: dict[str, list[NDArray[np.float32]]] = {name: [] for name in facts}
    stream = decoded_batches(
        positions, batches, Collate(SAMPLE_BATCH, teacher.input_shape, config.views or 1), config.workers
    )
    with contextlib.closing(stream), progress_bar(wanted, "projection sample", "images") as bar:
        for batch in stream:
            found = bare.features(batch.images_VB3HW[0])
            for row, item in enumerate(batch.items):
                for name, fact in facts.items():
                    if item.reason is None:
                        parts[name].append(_drawn(found[name][row].numpy(), fact, item.position))
            bar.advance(len(batch.items))
    if not any(parts.values()):
        raise DataError(
            f"none of the {wanted} images drawn for --projection {config.projection} can be read; check the images."
        )
    return {name: np.concatenate(vectors) for name, vectors in parts.items()}


def _drawn(feature: NDArray[np.float32], fact: Mapping[str, Any], position: int) -> NDArray[np.float32]:
    """Some of an image's vectors: (positions, D)."""
    vectors_PD = feature.reshape(-1, feature.shape[-1])
    generator = np.random.default_rng(seed_for(fact["seed"], "projection positions", position))
    places = np.sort(generator.choice(len(vectors_PD), fact["positions"], replace=False))
    drawn_PD: NDArray[np.float32] = vectors_PD[places]
    return drawn_PD


def constants_of(projections: Mapping[str, Projection]) -> dict[str, cache.Constant]:
    """All constants for the plan."""
    return {name: item for readout, made in projections.items() for name, item in made.constants(readout).items()}


def projected(teacher: Teacher, projections: Mapping[str, Projection]) -> Teacher:
    """The teacher with its features projected, and the widths they have then."""
    widths = {name: projection.dims for name, projection in projections.items()}
    return dataclasses.replace(teacher, projections=projections, readouts={**teacher.readouts, **widths})


def widths_of(readouts: Mapping[str, int], facts: Facts) -> dict[str, int]:
    """The stored width of each readout."""
    return {name: int(facts[name]["dims"]) if name in facts else width for name, width in readouts.items()}
