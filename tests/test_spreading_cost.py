"""What `tcs probe --head transductive` says of its time: counted multiply-adds beside PyTorch's own count, and seconds of a made clock."""

import numpy as np
import pytest
from torch.utils.flop_counter import FlopCounterMode

from tcs.coordinates.vectors import ChosenVectors
from tcs.evaluation import spreading_cost
from tcs.evaluation.spreading_cost import expected_seconds, folds_of, operations, part_of
from tcs.evaluation.transductive import SplitPool, fit_transductive
from tcs.probes.heads import HeadOptions

OPTIONS = HeadOptions(seed=0, copies=1, device="cpu")


def pool(rows: int, dims: int = 12, shots: int = 1, classes: int = 4) -> SplitPool:
    """Rows of Gaussian classes, the first `shots` of each labelled."""
    labels_N = np.arange(rows) % classes
    x_ND = np.random.default_rng(0).normal(size=(classes, dims))[labels_N] * 3
    x_ND += np.random.default_rng(1).normal(size=(rows, dims))
    labelled_M = np.arange(shots * classes)
    return SplitPool(
        vectors=ChosenVectors(x_ND.astype(np.float32), np.arange(rows)),
        labelled_M=labelled_M,
        labels_M=labels_N[labelled_M],
        n_classes=classes,
    )


def counted(part: SplitPool, components: int) -> int:
    """Multiply-adds of matrix products, as PyTorch counts them."""
    with FlopCounterMode(display=False) as counter:
        fit_transductive(part, np.eye(part.vectors.shape[1], components), OPTIONS)
    return counter.get_total_flops() // 2


@pytest.mark.parametrize(("rows", "dims", "shots"), [(600, 96, 1), (600, 96, 4), (1500, 48, 1)])
def test_operations_are_those_that_torch_counts(
    rows: int, dims: int, shots: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spreading_cost, "PICKING", 0)  # no product
    found = pool(rows, dims, shots)
    equations = (1 + folds_of(found)) * 2 * 12 * 2 * dims**3 / 3  # are solved, and not counted by torch
    assert operations(found, dims) - equations == pytest.approx(counted(found, dims), rel=0.35)


def test_seconds_are_told_exactly_where_a_clock_runs_by_the_operations() -> None:
    whole = pool(20_000, dims=40)

    def timed(part: SplitPool, size: int) -> float:
        return 0.25 + 1e-8 * operations(part, size)

    sizes = [40, 8, 8, 20]
    assert expected_seconds(whole, sizes, OPTIONS, timed) == pytest.approx(sum(timed(whole, size) for size in sizes))


def test_where_both_timed_heads_are_one_the_seconds_grow_with_the_operations() -> None:
    whole = pool(500, dims=300)
    taken = expected_seconds(whole, [300, 300], OPTIONS, lambda *_: 3.0)
    assert taken == pytest.approx(2 * 3.0 * operations(whole, 300) / operations(whole, 256))
    assert expected_seconds(whole, [20, 20], OPTIONS, lambda *_: 3.0) == pytest.approx(6.0)


def test_no_timed_head_is_as_dear_as_the_dearest_that_is_asked_for() -> None:
    asked: list[int] = []

    def timed(part: SplitPool, size: int) -> float:
        asked.append(size)
        return operations(part, size)

    expected_seconds(pool(3_000, dims=600), [600, 300], OPTIONS, timed)
    assert asked == [256, 256, 256]


def test_a_clock_that_stumbles_gives_no_negative_seconds() -> None:
    spent = iter([1.0, 2.0, 1.0])
    assert expected_seconds(pool(2_000), [12], OPTIONS, lambda *_: next(spent)) == pytest.approx(2.0)


@pytest.mark.parametrize(("shots", "classes", "folds"), [(1, 4, 0), (2, 4, 2), (16, 4, 4), (4, 1000, 1), (16, 16, 4)])
def test_the_check_spreads_as_often_as_it_has_folds(shots: int, classes: int, folds: int) -> None:
    assert folds_of(pool(20_000, dims=2, shots=shots, classes=classes)) == folds


def test_a_part_holds_the_labelled_rows_and_as_many_others() -> None:
    whole = pool(5_000, shots=100)
    part = part_of(whole, 500)
    assert len(part.vectors) == 800
    every = part.vectors[np.arange(800)]
    np.testing.assert_array_equal(every[part.labelled_M], whole.vectors[whole.labelled_M])
    assert len(part_of(whole, 2_000).vectors) == 2_000
    assert len(part_of(whole, 9_000).vectors) == 5_000


def test_a_part_is_fitted_where_no_clock_is_given() -> None:
    assert 0 < expected_seconds(pool(300), [4, 12], OPTIONS) < 600
