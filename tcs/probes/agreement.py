"""Neighbour_agreement, teacher_r2, knn_top1 (the pure half of training/monitor.py)."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tcs.errors import DataError, DivergedError
from tcs.probes.ridge import fit_ridge_targets, knn_accuracy

Array = NDArray[np.floating[Any]]

F64 = NDArray[np.float64]

NEIGHBOURS = 10

BLOCK_ROWS = 512

LEAST_ROWS = 4  # two halves of two rows: the fewest that a ridge regression takes

ROUNDING = 1e-6  # of a column's largest value: less spread than this is the float32 rounding of a constant

TIE_DECIMALS = 9  # equal rows give cosines that differ by float64 rounding


def neighbour_agreement(student_NS: Array, teacher_ND: Array, k: int = NEIGHBOURS) -> tuple[float, float]:
    """Mean share of the teacher's k nearest rows that are the student's k nearest too, and what chance gives: k / (N - 1).

    Nearest by cosine of centred rows, the row itself left out; k is at most N - 1, where both numbers are 1 and say nothing.
    Rows that tie for the last places hold them in equal shares, as if drawn, so that a student whose features are all the
    same agrees exactly at chance. DataError for fewer than two rows.
    """
    _check_rows("rows of a student", len(student_NS), len(teacher_ND), 2)
    _check_student(student_NS)
    _check_teacher(teacher_ND)
    total = len(teacher_ND)
    k = min(k, total - 1)
    student_NS, teacher_ND = _unit_rows(_centred(student_NS)), _unit_rows(_centred(teacher_ND))
    shared = 0.0
    for start in range(0, total, BLOCK_ROWS):
        rows_B = np.arange(start, min(start + BLOCK_ROWS, total))
        shared += float((_nearest(student_NS, rows_B, k) * _nearest(teacher_ND, rows_B, k)).sum())
    return shared / (total * k), k / (total - 1)


def _nearest(unit_NS: F64, rows_B: NDArray[np.int64], k: int) -> F64:
    """For each of `rows_B`, 1 at its k nearest other rows and 0 elsewhere (B, N); ties for the last places share them."""
    similar_BN = np.round(unit_NS[rows_B] @ unit_NS.T, TIE_DECIMALS)
    similar_BN[np.arange(len(rows_B)), rows_B] = -np.inf
    last_B1 = np.partition(similar_BN, -k, axis=1)[:, -k, None]
    nearer_BN, tied_BN = similar_BN > last_B1, similar_BN == last_B1
    places_B1 = k - nearer_BN.sum(axis=1, keepdims=True)
    weights_BN: F64 = nearer_BN + tied_BN * (places_B1 / tied_BN.sum(axis=1, keepdims=True))
    return weights_BN


def teacher_r2(student_NS: Array, teacher_NK: Array) -> float:
    """Share of the teacher's variance, over all its columns, that a ridge regression on the student's features explains.

    Fitted on every second row and scored on the others, both ways round (fixed halves: rows of a store often stand class by
    class). Errors are counted against the mean of the fitted half, so a constant student gets 0, not less; a negative value
    is worse than that mean. 0 where the teacher's rows do not vary. DataError for fewer than four rows.
    """
    _check_rows("rows of a student", len(student_NS), len(teacher_NK), LEAST_ROWS)
    _check_student(student_NS)
    _check_teacher(teacher_NK)
    student_NS, teacher_NK = _centred(student_NS), _centred(teacher_NK)
    missed = total = 0.0
    for fitted, scored in (slice(0, None, 2), slice(1, None, 2)), (slice(1, None, 2), slice(0, None, 2)):
        weight_KS, bias_K = fit_ridge_targets(student_NS[fitted], teacher_NK[fitted])
        missed += float(((teacher_NK[scored] - student_NS[scored] @ weight_KS.T - bias_K) ** 2).sum())
        total += float(((teacher_NK[scored] - teacher_NK[fitted].mean(0)) ** 2).sum())
    return 1 - missed / total if total > 0 else 0.0


def knn_top1(student_NS: Array, labels_N: NDArray[np.int64]) -> float:
    """Top-1 accuracy in percent of a k-NN vote (`tcs.probes.ridge.knn_accuracy`), each half of the labelled rows voting for the other.

    Rows with label -1 take no part; DataError where fewer than four are left.
    """
    _check_rows("rows of a student", len(student_NS), len(labels_N), LEAST_ROWS)
    _check_student(student_NS)
    known_N = labels_N >= 0
    x_NS, labels_N = _centred(student_NS)[known_N], labels_N[known_N]
    if len(labels_N) < LEAST_ROWS:
        raise DataError(f"{len(labels_N)} of the rows have a label; a k-NN vote needs {LEAST_ROWS} or more.")
    even, odd = slice(0, None, 2), slice(1, None, 2)
    odd_right = knn_accuracy(x_NS[even], labels_N[even], x_NS[odd], labels_N[odd]) * len(labels_N[odd])
    even_right = knn_accuracy(x_NS[odd], labels_N[odd], x_NS[even], labels_N[even]) * len(labels_N[even])
    return (odd_right + even_right) / len(labels_N)


def _centred(x_NS: Array) -> F64:
    """Rows minus their mean, float64; columns that are constant but for rounding become exactly 0."""
    x_NS = np.asarray(x_NS, np.float64)
    centred_NS: F64 = x_NS - x_NS.mean(axis=0)
    constant_S = np.abs(centred_NS).max(axis=0) <= ROUNDING * np.abs(x_NS).max(axis=0)
    centred_NS[:, constant_S] = 0.0
    return centred_NS


def _unit_rows(x_NS: F64) -> F64:
    """Rows of length 1; rows that are 0 stay 0, equally far from all."""
    lengths_N1 = np.linalg.norm(x_NS, axis=1, keepdims=True)
    unit_NS: F64 = np.divide(x_NS, lengths_N1, out=np.zeros_like(x_NS), where=lengths_N1 > 0)
    return unit_NS


def _check_rows(what: str, count: int, expected: int, least: int) -> None:
    if count != expected or expected < least:
        raise DataError(
            f"{count} {what} for {expected} held-out rows; it takes one for each row, and {least} rows or more."
        )


def _check_teacher(teacher_ND: Array) -> None:
    if not np.isfinite(teacher_ND).all():
        raise DataError(
            "cached rows of the teacher hold NaN or Inf; check the store with tcs cache verify, or extract with --dtype float32."
        )


def _check_student(student_NS: Array) -> None:
    broken = np.count_nonzero(~np.isfinite(student_NS).all(axis=1))
    if broken:
        raise DivergedError(
            f"features of the student are NaN or Inf in {broken:,} of {len(student_NS):,} held-out rows; lower --lr and train again."
        )
