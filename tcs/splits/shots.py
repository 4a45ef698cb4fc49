"""Which rows of a store carry a label in a run: k-shot splits, and split files.

A k-shot split is a pure function of the labelled keys, k and the split seed. Rows of a class are ranked by a hash of
(split seed, class name, key) and the first k are taken, so that neither row order, shard layout nor machine matters,
and the split of k shots lies inside the split of k + 1.

Shapes: N rows of the store, n rows of the split. Labels are indexes into `classes`; -1 means no label.
"""

import dataclasses
import hashlib
import itertools
import pathlib
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

import cache
from tcs.config.names import finder
from tcs.errors import DataError, did_you_mean
from tcs.runtime import say
from tcs.splits.counts import counted, rows_of_classes
from tcs.splits.label_file import LabelLine, read_label_lines, resolved_rows
from tcs.splits.ranking import Ints, best_ranked

UNLABELLED = -1


@dataclasses.dataclass(frozen=True, kw_only=True)
class Split:
    """Labelled rows of one store.

    `rows_n` (int64) is sorted by class, then by rank inside the class. `shots` is the number of rows a class where
    every class has as many, else None; `split_seed` is None where the rows were not drawn. `digest` names the set of
    (class, key) pairs: a selection fitted on one split is refused by another.
    """

    rows_n: NDArray[np.int64]
    shots: int | None
    split_seed: int | None
    digest: str


class SplitOptions(Protocol):
    """The options of a command that say which rows carry a label."""

    @property
    def shots(self) -> int | None:
        """Rows a class; None where they are not drawn."""

    @property
    def split_seed(self) -> int | None:
        """The seed of the draw; None for `seed`."""

    @property
    def split_file(self) -> str | None:
        """A file that names the rows."""

    @property
    def seed(self) -> int:
        """The seed of the command."""


def split_seed_of(options: SplitOptions) -> int:
    """The seed by which a command draws rows: its own one for splits, or else its seed."""
    return options.seed if options.split_seed is None else options.split_seed


def split_of(store: cache.Store, options: SplitOptions) -> Split:
    """The split of `store` that the options of a command name, of classes with fewer labels than `shots` all they have.

    One line tells how many that are; DataError where no class has so many. Tables that compare shots (`tcs fewshot`, `tcs probe`,
    ceilings) ask for `k_shot_split`, which refuses such classes: their column says k.
    """
    if options.shots is not None and options.split_file is None:
        require_shots(options.shots, rows_of_classes(store.labels_N, store.classes))
        split = named_split(store, options)
        _tell_fewer(split, store, options.shots)
        return split
    return named_split(store, options)


def named_split(store: cache.Store, options: SplitOptions) -> Split:
    """The same split, without a line and without a check of `shots`."""
    if options.shots is not None and options.split_file is None:
        return up_to_k_split(store.keys, store.labels_N, store.classes, options.shots, split_seed_of(options))
    return choose_split(
        store.keys,
        store.labels_N,
        store.classes,
        shots=options.shots,
        split_seed=split_seed_of(options),
        split_file=options.split_file,
    )


def k_shot_split(
    keys: Sequence[str], labels_N: NDArray[np.integer], classes: Sequence[str], shots: int, split_seed: int
) -> Split:
    """The `shots` best-ranked rows of every class; DataError where a class has fewer, or nothing is labelled."""
    by_class = _rows_by_class(labels_N, classes)
    _refuse_short(shots, {classes[label]: len(rows) for label, rows in enumerate(by_class)})
    return up_to_k_split(keys, labels_N, classes, shots, split_seed)


def require_shots(shots: int, rows: Mapping[str, int]) -> None:
    """DataError where no class has as many labelled `rows` as `shots`: that is more likely a slip than up to so many."""
    if rows and 0 < max(rows.values()) < shots:
        _refuse_short(shots, rows)


def _refuse_short(shots: int, rows: Mapping[str, int]) -> None:
    short = [(count, name) for name, count in rows.items() if count < shots]
    if short:
        count, name = min(short)
        raise DataError(
            f"class '{name}' has {count} labelled images, fewer than the {shots} shots asked"
            f" ({len(short)} of {len(rows)} classes have too few); use --shots {max(count, 1)} or fewer,"
            " or leave that class out of the store."
        )


def up_to_k_split(
    keys: Sequence[str], labels_N: NDArray[np.integer], classes: Sequence[str], shots: int, split_seed: int
) -> Split:
    """The `shots` best-ranked rows of every class, of a class with fewer all of them; DataError where fewer than two have any."""
    by_class = _rows_by_class(labels_N, classes)
    ranked = [best_ranked(rows, keys, classes[label], split_seed, shots) for label, rows in enumerate(by_class)]
    return _split([rows.tolist() for rows in ranked], keys, labels_N, classes, split_seed)


def _tell_fewer(split: Split, store: cache.Store, shots: int) -> None:
    """Say so where a class has fewer labelled rows than asked for."""
    rows = rows_of_classes(store.labels_N[split.rows_n], store.classes)
    fewer = {name: count for name, count in rows.items() if count < shots}
    if fewer:
        say(
            f"--shots {shots} is up to {shots}: {len(fewer)} of {len(rows)} classes have fewer labels, and give all of them "
            f"({counted(fewer)}); {len(split.rows_n):,} labelled images in all."
        )


def all_labelled(keys: Sequence[str], labels_N: NDArray[np.integer], classes: Sequence[str]) -> Split:
    """Every labelled row, ranked by key inside its class; DataError where fewer than two classes have rows."""
    by_class = [sorted(rows.tolist(), key=keys.__getitem__) for rows in _rows_by_class(labels_N, classes)]
    return _split(by_class, keys, labels_N, classes, None)


def without_labels() -> Split:
    """The split of a run that reads no label: it has no row."""
    return _split([], (), np.empty(0, np.int64), (), None)


def leave_out(
    split: Split,
    dropped_d: NDArray[np.int64],
    keys: Sequence[str],
    labels_N: NDArray[np.integer],
    classes: Sequence[str],
) -> Split:
    """`split` without the rows `dropped_d`, in the same order; DataError where a class of it would lose its last row."""
    kept_n = split.rows_n[~np.isin(split.rows_n, dropped_d)]
    lost = sorted(set(labels_N[split.rows_n].tolist()) - set(labels_N[kept_n].tolist()))
    if lost:
        raise DataError(
            f"--held-out takes every labelled row of class '{classes[lost[0]]}' ({len(lost)} classes in all); use a smaller"
            " number, or 0."
        )
    return _split([kept_n.tolist()], keys, labels_N, classes, split.split_seed)


def choose_split(
    keys: Sequence[str],
    labels_N: NDArray[np.integer],
    classes: Sequence[str],
    *,
    shots: int | None,
    split_seed: int,
    split_file: str | None,
) -> Split:
    """The split that the options name: a file, `shots` rows a class, or (neither given) every labelled row."""
    if split_file is not None:
        return read_split_file(split_file, keys, labels_N, classes)
    if shots is not None:
        return k_shot_split(keys, labels_N, classes, shots, split_seed)
    return all_labelled(keys, labels_N, classes)


def read_split_file(
    path: str | pathlib.Path, keys: Sequence[str], labels_N: NDArray[np.integer], classes: Sequence[str]
) -> Split:
    """The split that a file names, rows of a class in the order of the file: `class key` lines, or a table that `tcs suggest`
    wrote, with its column `class` filled in (tcs.splits.label_file reads both)."""
    find = finder(classes)
    lines = [line.spelled(find) for line in read_label_lines(path)]
    label_of = {name: label for label, name in enumerate(classes)}
    for line in lines:
        _check_class(line, label_of)
    by_class: list[list[int]] = [[] for _ in classes]
    for line, row in resolved_rows(lines, keys):
        _check_label(line, label_of[line.name], int(labels_N[row]), classes)
        by_class[label_of[line.name]].append(row)
    missing = [name for name, rows in zip(classes, by_class, strict=True) if not rows]
    if missing:
        raise DataError(
            f"{path} has no row for class '{missing[0]}' ({len(missing)} of {len(classes)} classes are missing);"
            " every class of the store needs at least one line."
        )
    return _split(by_class, keys, labels_N, classes, None)


def _rows_by_class(labels_N: NDArray[np.integer], classes: Sequence[str]) -> list[Ints]:
    """The rows of each class, rising; DataError where fewer than two classes have any."""
    labels_N = np.asarray(labels_N)
    order_N = np.argsort(labels_N, kind="stable")
    starts = np.searchsorted(labels_N[order_N], np.arange(len(classes) + 1))
    by_class = [order_N[start:stop] for start, stop in itertools.pairwise(starts.tolist())]
    filled = [name for name, rows in zip(classes, by_class, strict=True) if len(rows)]
    if not filled:
        raise DataError(
            f"none of the {len(labels_N)} rows has a label; extract with one folder a class, or go without shots."
        )
    if len(filled) == 1:
        raise DataError(f"all labelled rows are of one class, '{filled[0]}'; a split needs two classes or more.")
    return by_class


def _split(
    by_class: list[list[int]],
    keys: Sequence[str],
    labels_N: NDArray[np.integer],
    classes: Sequence[str],
    split_seed: int | None,
) -> Split:
    rows = [row for rows in by_class for row in rows]
    sizes = set(Counter(int(labels_N[row]) for row in rows).values())
    lines = sorted(f"{classes[labels_N[row]]}\0{keys[row]}\n" for row in rows)
    digest = hashlib.blake2b("".join(lines).encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()
    shots = sizes.pop() if len(sizes) == 1 else None
    return Split(rows_n=np.array(rows, np.int64), shots=shots, split_seed=split_seed, digest=digest)


def _check_class(line: LabelLine, label_of: dict[str, int]) -> None:
    if line.name not in label_of:
        raise DataError(
            f"{line.place} names class '{line.name}', which the store lacks.{did_you_mean(line.name, label_of)}"
        )


def _check_label(line: LabelLine, label: int, stored: int, classes: Sequence[str]) -> None:
    if stored == label:
        return
    holds = "no label for it" if stored == UNLABELLED else f"'{classes[stored]}'"
    raise DataError(
        f"{line.place} gives '{line.key}' the class '{classes[label]}', but the store holds {holds}; correct the file."
    )
