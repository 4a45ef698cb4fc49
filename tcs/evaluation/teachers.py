"""`tcs probe` with several stores: which teacher to take, by probes of few labels and of all, on the same splits and images.

Every teacher's vectors are classified by ridge probes of k-shot splits, by the transductive probe of the same splits (labels spread in
the first 128 principal coordinates), by k nearest neighbours and by a ridge probe of all labels, the ceiling.

Legend: N rows of a training store, n of a split, M scored rows, B rows of a block, D features, K coordinates, C classes.
"""

import dataclasses
import itertools
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tcs.config.teachers import CompareConfig
from tcs.coordinates.axes import effective_rank, principal_axes
from tcs.coordinates.from_store import COMPONENTS
from tcs.coordinates.moments import streaming_moments
from tcs.evaluation.probe_stores import BLOCK_ROWS, read_rows
from tcs.evaluation.teacher_stores import TeacherStores, linear_cka, open_teachers
from tcs.evaluation.transductive import fit_transductive, pools_of, spreading_recipe
from tcs.probes.heads import HeadOptions, LinearHead
from tcs.probes.ridge import fit_ridge, knn_classes
from tcs.reporting.compression import load_finished
from tcs.reporting.intervals import t_interval
from tcs.reporting.teachers import (
    CEILING,
    KNN,
    RECORD,
    RIDGE,
    TRANSDUCTIVE,
    TeacherComparison,
    split_differences,
    write_teachers,
)
from tcs.runtime import environment, pick_device, progress_bar, say, seed_for
from tcs.splits.shots import Split, all_labelled, k_shot_split

KNN_NEIGHBOURS = 20
MOST_KNN_ROWS = 50_000

F64 = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class _Measured:
    """A teacher: rows of results, what is right (M,) where there is no split, facts, and moments for the alignment."""

    rows: list[dict[str, Any]]
    right: dict[str, Bools]
    facts: dict[str, Any]
    mean_D: F64
    norm: float


def compare_teachers(config: CompareConfig) -> TeacherComparison:
    """Compare the teachers of `config.stores`; returns a `TeacherComparison`.

    Table, rows and figure are written into `config.out` where that is named; the results of the same options there are read instead.

    Raises what `tcs.probe` raises for a pair of stores; SchemaError or IdentityError, naming both stores, where images, labels or
    classes of two teachers differ; ConfigError where matplotlib is missing (the tables are written before).
    """
    teachers = open_teachers(config)
    splits = _splits(config, teachers[0])
    recipe = _recipe(config, teachers, splits)
    finished = load_finished(config.out, recipe, config.overwrite, RECORD)
    if finished is not None:
        say(f"{config.out} holds these very results; they are read, not measured again.")
        return TeacherComparison.from_record(finished)
    pick_device(config.device)
    found = _compared(config, teachers, splits, recipe)
    if config.out is not None:
        write_teachers(found, pathlib.Path(config.out))
    return found


def _compared(
    config: CompareConfig, teachers: Sequence[TeacherStores], splits: dict[int, list[Split]], recipe: dict[str, Any]
) -> TeacherComparison:
    with progress_bar(len(teachers), "probing teachers", "teachers") as bar:
        measured = []
        for teacher in teachers:
            measured.append(_measure(config, teacher, splits))
            bar.advance(1)
    rows = [row for item in measured for row in item.rows]
    names = [teacher.name for teacher in teachers]
    return TeacherComparison(
        teachers=[item.facts for item in measured],
        rows=rows,
        differences=[*split_differences(names, rows), *_image_differences(names, measured)],
        cka=_alignments(teachers, measured),
        recipe=recipe,
        environment=environment(),
    )


def _splits(config: CompareConfig, first: TeacherStores) -> dict[int, list[Split]]:
    """shots -> a split for every seed: of keys and labels, so those of every teacher."""
    train = first.stores.train
    return {
        shots: [k_shot_split(train.keys, train.labels_N, train.classes, shots, seed) for seed in config.seeds]
        for shots in config.shots
    }


def _recipe(config: CompareConfig, teachers: Sequence[TeacherStores], splits: dict[int, list[Split]]) -> dict[str, Any]:
    return {
        "stores": [teacher.stores.train.labelled_identity for teacher in teachers],
        "test stores": [teacher.stores.test.labelled_identity for teacher in teachers],
        "readouts": [teacher.readout for teacher in teachers],
        "shots": list(config.shots),
        "seeds": list(config.seeds),
        "splits": {str(shots): [split.digest for split in drawn] for shots, drawn in splits.items()},
        "spreading": spreading_recipe(),
        "coordinates": COMPONENTS,
        "neighbours": KNN_NEIGHBOURS,
    }


def _measure(config: CompareConfig, teacher: TeacherStores, splits: dict[int, list[Split]]) -> _Measured:
    stores = teacher.stores
    mean_D, covariance_DD = streaming_moments(stores.vectors(stores.train))
    axes_DD, spectrum_D = principal_axes(covariance_DD)
    heads = list(_few_shot_heads(config, teacher, splits, axes_DD[:, :COMPONENTS]))
    train = stores.train
    every = all_labelled(train.keys, train.labels_N, train.classes)
    weight_CK, bias_C, _ = read_rows(stores, every, keep=False).gram.ridge()
    right_HM = _right_answers(teacher, [*(head for _, head in heads), LinearHead(weight_CK=weight_CK, bias_C=bias_C)])
    right = {CEILING: right_HM[-1], KNN: _knn_right(teacher, every)}
    alone = {"shots": "all", "seed": "", "labelled": len(every.rows_n), "split_id": every.digest, "fell_back": ""}
    common = {"teacher": teacher.name, "cache_id": train.labelled_identity, "test_id": stores.test.labelled_identity}
    told = [(place, hits_M) for (place, _), hits_M in zip(heads, right_HM, strict=False)]
    told += [({"measure": measure, **alone}, hits_M) for measure, hits_M in right.items()]
    return _Measured(
        rows=[common | place | {"top1": round(100 * float(hits_M.mean()), 4)} for place, hits_M in told],
        right=right,
        facts=_facts(teacher, spectrum_D),
        mean_D=mean_D,
        norm=float(np.linalg.norm(covariance_DD)),
    )


def _few_shot_heads(
    config: CompareConfig, teacher: TeacherStores, splits: dict[int, list[Split]], axes_DK: F64
) -> Iterator[tuple[dict[str, Any], LinearHead]]:
    """The ridge and the transductive probe of every split, as maps of the features, with where they belong in the table."""
    stores = teacher.stores
    vectors, labels_N, classes = stores.vectors(stores.train), stores.train.labels_N, len(stores.train.classes)
    for shots, drawn in splits.items():
        pools = pools_of(stores, drawn)
        for seed, split in zip(config.seeds, drawn, strict=True):
            rows_n = np.sort(split.rows_n)
            place = {"shots": shots, "seed": seed, "labelled": len(rows_n), "split_id": split.digest, "fell_back": ""}
            ridge = fit_ridge(vectors[rows_n].astype(np.float32), labels_N[rows_n], classes)
            yield {"measure": RIDGE, **place}, LinearHead(weight_CK=ridge.weight_CK, bias_C=ridge.bias_C)
            options = HeadOptions(seed=seed, copies=1, device=config.device)
            spread = fit_transductive(pools[split.digest], axes_DK, options)
            place |= {"fell_back": spread.reason or ""}
            yield {"measure": TRANSDUCTIVE, **place}, spread.head.merged(axes_DK)


def _right_answers(teacher: TeacherStores, heads: Sequence[LinearHead]) -> Bools:
    """Whether each head finds the class of each scored row, (H, M); of equal scores the lower class counts. The test store is read once."""
    stores = teacher.stores
    vectors, right_HM = stores.vectors(stores.test), np.empty((len(heads), len(stores.scored_M)), bool)
    for start in range(0, len(stores.scored_M), BLOCK_ROWS):
        at = slice(start, start + BLOCK_ROWS)
        block_BD = vectors[stores.scored_M[at]].astype(np.float32)
        for number, head in enumerate(heads):
            right_HM[number, at] = head.logits(block_BD).argmax(axis=1) == stores.truth_M[at]
    return right_HM


def _knn_right(teacher: TeacherStores, every: Split) -> Bools:
    """The same of k nearest neighbours among the labelled rows, of many a draw, which is the same for every teacher."""
    stores, rows_n = teacher.stores, np.sort(every.rows_n)
    if len(rows_n) > MOST_KNN_ROWS:
        rows_n = np.sort(np.random.default_rng(seed_for(0, "k-NN rows")).choice(rows_n, MOST_KNN_ROWS, replace=False))
    known_nD = stores.vectors(stores.train)[rows_n].astype(np.float32)
    labels_n, vectors = stores.train.labels_N[rows_n], stores.vectors(stores.test)
    found = [
        knn_classes(known_nD, labels_n, vectors[stores.scored_M[start : start + BLOCK_ROWS]], KNN_NEIGHBOURS)
        for start in range(0, len(stores.scored_M), BLOCK_ROWS)
    ]
    right_M: Bools = np.concatenate(found) == stores.truth_M
    return right_M


def _facts(teacher: TeacherStores, spectrum_D: F64) -> dict[str, Any]:
    """What a teacher is and costs; seconds are those that the extraction of its training store recorded, on whatever machine."""
    train = teacher.stores.train
    provenance = train.manifest.provenance if isinstance(train.manifest.provenance, dict) else {}
    run = provenance.get("run") if isinstance(provenance.get("run"), dict) else {}
    seconds = (run or {}).get("teacher_seconds_per_image")
    return {
        "teacher": teacher.name,
        "store": str(train.path),
        "readout": teacher.readout,
        "dims": teacher.stores.dims,
        "effective_rank": round(effective_rank(spectrum_D), 1),
        "seconds_per_image": round(seconds, 6) if isinstance(seconds, int | float) else None,
        "device": str((run or {}).get("device", "")),
        "rows": len(train),
        "scored": len(teacher.stores.scored_M),
        "seen": teacher.stores.seen,
    }


def _image_differences(names: Sequence[str], measured: Sequence[_Measured]) -> Iterator[dict[str, Any]]:
    """Of k-NN and the ceiling, which no split changes: differences paired by scored image."""
    for (first, ours), (second, theirs) in itertools.combinations(zip(names, measured, strict=True), 2):
        for measure in (KNN, CEILING):
            points_M = 100.0 * (ours.right[measure].astype(float) - theirs.right[measure].astype(float))
            interval = t_interval(points_M.tolist())
            yield {
                "first": first,
                "second": second,
                "measure": measure,
                "shots": "all",
                "over": "images",
                "mean": interval.mean,
                "half": interval.half,
                "n": interval.n,
                "p": interval.p,
            }


def _alignments(teachers: Sequence[TeacherStores], measured: Sequence[_Measured]) -> list[dict[str, Any]]:
    """Linear CKA of every two teachers over all rows of the training stores."""
    found = []
    for (one, ours), (other, theirs) in itertools.combinations(zip(teachers, measured, strict=True), 2):
        vectors = [teacher.stores.vectors(teacher.stores.train) for teacher in (one, other)]
        value = linear_cka(vectors[0], vectors[1], ours.mean_D, theirs.mean_D, (ours.norm, theirs.norm))
        found.append({"first": one.name, "second": other.name, "cka": value, "rows": len(vectors[0])})
    return found
