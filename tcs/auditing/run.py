"""`tcs audit`: from a store (and stores of test images) to what is wrong with its data.

Legend: N rows of the audited store, L labelled ones, K coordinates, k neighbours.
"""

import pathlib
from collections import Counter
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

import cache
from tcs.artefact import teacher_identity_of, tell_other_rules, write_same
from tcs.auditing.findings import AuditFinding, ordered, table_bytes
from tcs.auditing.labels import Suspicion, suspect_labels
from tcs.auditing.neighbours import Neighbours, find_neighbours, nearest_of
from tcs.auditing.outliers import OUTLIER_SCORE, class_facts, outlier_scores
from tcs.auditing.page import page_bytes
from tcs.auditing.result import Audit, Confusion
from tcs.auditing.space import PointSpace, directions, fit_space
from tcs.config.audit import AuditConfig
from tcs.coordinates.vectors import row_vectors
from tcs.runtime import say

NEIGHBOURS = 10

F32 = NDArray[np.float32]
Ints = NDArray[np.int64]


def audit(config: AuditConfig) -> Audit:
    """What is wrong with the data of `config.store`, written to every `config.out`. A pure function of the stores on one machine.

    Labels are judged by a ridge probe (Hoerl and Kennard 1970) that was fitted without the image, and by the nearest images; copies
    and outliers by their cosines, classes by size and spread.
    A store without labels, or of one class, has no label errors, and a note says so; against a test store of another teacher exact
    copies alone are looked for. ArtefactError for an output that is there and differs, DataError for features that are not finite
    or a single row, CacheError for what is no store.
    """
    store = cache.open(config.store)
    tests = [cache.open(path) for path in config.test]
    for test in tests:
        tell_other_rules(store, test)
    readout = _readout(store, config.readout)
    found = _Auditor(config, store, readout).found(tests)
    for out in config.out:
        path = pathlib.Path(out)
        data = table_bytes(found.findings) if path.suffix.lower() == ".csv" else page_bytes(found, store, tests, config)
        write_same(path, data, maker="this audit finds", overwrite=config.overwrite)
    return found


def _readout(store: cache.Store, name: str | None) -> str:
    store.features(name)  # refuses an unknown name, or none among several
    return name if name is not None else next(iter(store.readouts))


class _Auditor:
    """One store while it is looked at."""

    def __init__(self, config: AuditConfig, store: cache.Store, readout: str) -> None:
        vectors = row_vectors(store, readout)
        self._config, self._store, self._readout = config, store, readout
        self._space: PointSpace = fit_space(vectors)
        self._points_NK: F32 = self._space.points(vectors)
        self._directions_NK: F32 = directions(self._points_NK)
        self._labels_N: Ints = store.labels_N.astype(np.int64)
        self._groups_N: Ints = _groups(store)
        self._near: Neighbours = find_neighbours(self._directions_NK, self._groups_N, self._labels_N, NEIGHBOURS)
        self._notes: list[str] = []

    def found(self, tests: list[cache.Store]) -> Audit:
        """Everything, in order."""
        if not self._directions_NK.any():
            self._notes.append("all features are equal: near copies, label errors and outliers cannot be told.")
        suspicion = self._suspicion()
        lines = [*self._label_errors(suspicion), *self._exact(), *self._near_copies(), *self._outliers()]
        for path, test in zip(self._config.test, tests, strict=True):
            lines += self._leaks(path, test)
        for note in self._notes:
            say(note)
        return Audit(
            store=self._config.store,
            rows=len(self._store),
            labelled=int((self._labels_N >= 0).sum()),
            findings=ordered(lines),
            confusions=self._confusions(suspicion),
            classes=class_facts(self._points_NK, self._labels_N, tuple(self._store.classes)),
            notes=tuple(self._notes),
        )

    def _line(self, kind: str, row: int, score: float, **more: str) -> AuditFinding:
        return AuditFinding(kind=kind, key=self._store.keys[row], label=self._name(row), score=score, **more)

    def _name(self, row: int) -> str:
        return self._store.classes[self._labels_N[row]] if self._labels_N[row] >= 0 else ""

    def _suspicion(self) -> Suspicion | None:
        present = np.unique(self._labels_N[self._labels_N >= 0])
        if len(present) < 2:
            why = "its labelled images are of one class" if len(present) else "it has no labels"
            self._notes.append(f"no label errors are looked for in {self._config.store}: {why}.")
            return None
        classes = len(self._store.classes)
        return suspect_labels(self._points_NK, self._labels_N, self._groups_N, self._near.rows_Nk, classes)

    def _label_errors(self, suspicion: Suspicion | None) -> Iterator[AuditFinding]:
        """Every labelled row once."""
        if suspicion is None:
            return
        for row, other, score in zip(
            suspicion.rows_L.tolist(), suspicion.suggested_L.tolist(), suspicion.scores_L.tolist(), strict=True
        ):
            yield self._line("label-error", row, score, suggested=self._store.classes[other])

    def _exact(self) -> Iterator[AuditFinding]:
        """Rows that an earlier row is byte for byte; every row of a group that carries two classes is a conflict."""
        for rows in _members(self._groups_N):
            classes = {int(label) for label in self._labels_N[rows].tolist()} - {-1}
            for place, row in enumerate(rows):
                if len(classes) > 1:
                    other = next((one for one in rows if self._labels_N[one] != self._labels_N[row]), rows[0])
                    yield self._line("conflict", row, 1.0, other_key=self._store.keys[other])
                elif place:
                    yield self._line("duplicate", row, 1.0, other_key=self._store.keys[rows[0]])

    def _near_copies(self) -> Iterator[AuditFinding]:
        """Rows with a near copy of another class, else those with an earlier near copy."""
        for row in range(len(self._store)):
            for kind, near in (("conflict", self._near.other), ("near-duplicate", self._near.earlier)):
                if near.cosines_N[row] >= self._config.near:
                    key = self._store.keys[near.rows_N[row]]
                    yield self._line(kind, row, float(near.cosines_N[row]), other_key=key)
                    break

    def _outliers(self) -> Iterator[AuditFinding]:
        scores_N = outlier_scores(self._near.cosines_Nk)
        for row in np.flatnonzero(scores_N >= OUTLIER_SCORE).tolist():
            yield self._line("outlier", row, float(scores_N[row]))

    def _leaks(self, path: str, test: cache.Store) -> Iterator[AuditFinding]:
        """Rows that are images of a test store, or near copies of one; a row once a store."""
        keys = {test.hashes_N16[row].tobytes(): test.keys[row] for row in range(len(test) - 1, -1, -1)}
        exact = {
            row: keys[digest]
            for row in range(len(self._store))
            if (digest := self._store.hashes_N16[row].tobytes()) in keys
        }
        for row, key in exact.items():
            yield self._line("leak", row, 1.0, other_key=key, other_store=path)
        if not self._is_comparable(test):
            self._notes.append(
                f"{path} holds features of another teacher: exact copies of its images are found, near ones are not looked for."
            )
            return
        near = nearest_of(self._directions_NK, directions(self._space.points(row_vectors(test, self._readout))))
        for row in np.flatnonzero(near.cosines_N >= self._config.near).tolist():
            if row not in exact:
                other = test.keys[near.rows_N[row]]
                yield self._line("leak", row, float(near.cosines_N[row]), other_key=other, other_store=path)

    def _is_comparable(self, test: cache.Store) -> bool:
        is_there = self._readout in test.readouts
        return is_there and teacher_identity_of(self._store, self._readout) == teacher_identity_of(test, self._readout)

    def _confusions(self, suspicion: Suspicion | None) -> tuple[Confusion, ...]:
        """Pairs of classes that the out-of-fold probe mixes up, the largest share first."""
        if suspicion is None:
            return ()
        labels_L, names = self._labels_N[suspicion.rows_L], self._store.classes
        sizes = np.bincount(labels_L, minlength=len(names))
        pairs = Counter(zip(labels_L.tolist(), suspicion.predicted_L.tolist(), strict=True))
        found = [
            Confusion(label=names[label], taken_for=names[taken], images=images, rows=int(sizes[label]))
            for (label, taken), images in pairs.items()
            if label != taken
        ]
        return tuple(sorted(found, key=lambda item: (-item.images / item.rows, item.label, item.taken_for)))


def _groups(store: cache.Store) -> Ints:
    """A number for every row, equal for rows with the same bytes, int64 (N,)."""
    groups_N: Ints = np.unique(store.hashes_N16, axis=0, return_inverse=True)[1].reshape(-1).astype(np.int64)
    return groups_N


def _members(groups_N: Ints) -> Iterator[list[int]]:
    """The rows of every group of two or more, in their order."""
    order_N = np.argsort(groups_N, kind="stable")
    starts = np.flatnonzero(np.diff(groups_N[order_N], prepend=-1))
    for rows in np.split(order_N, starts[1:]):
        if len(rows) > 1:
            yield rows.tolist()
