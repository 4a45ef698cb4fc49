"""Numbers of held-out rows, against loops and scikit-learn. Legend: N rows, S student dims, D teacher dims."""

import itertools
from fractions import Fraction

import numpy as np
import pytest
import torch
from sklearn.linear_model import RidgeCV
from sklearn.neighbors import KNeighborsClassifier, NearestNeighbors

from tcs.config.train import TrainConfig, may_score_labels
from tcs.errors import DataError, DivergedError
from tcs.probes.agreement import knn_top1, neighbour_agreement, teacher_r2
from tcs.training.monitor import Monitor


def pair(rows: int = 200, dims: int = 12, width: int = 8, noise: float = 0.5, seed: int = 0):
    """A teacher far from the origin, and a student that sees some of its axes, moved and noisy."""
    rng = np.random.default_rng(seed)
    teacher = rng.standard_normal((rows, dims)) * np.linspace(2, 0.3, dims) + 20
    student = (teacher - 20) @ rng.standard_normal((dims, width)) + noise * rng.standard_normal((rows, width)) + 7
    return student, teacher


def shared_neighbours(student, teacher, k):
    """scikit-learn's nearest rows by cosine, counted in a loop."""
    sets = []
    for x in (student, teacher):
        x = x - x.mean(0)
        found = NearestNeighbors(n_neighbors=k, metric="cosine", algorithm="brute").fit(x).kneighbors()[1]
        sets.append([set(row) for row in found.tolist()])
    return np.mean([len(ours & theirs) / k for ours, theirs in zip(*sets, strict=True)])


@pytest.mark.parametrize(("rows", "k"), [(200, 10), (60, 1), (60, 59), (600, 10)])
def test_agreement_is_that_of_scikit_learns_neighbours(rows: int, k: int) -> None:
    student, teacher = pair(rows)
    agreement, chance = neighbour_agreement(student, teacher, k)
    assert agreement == pytest.approx(shared_neighbours(student, teacher, k), abs=1e-12)
    assert chance == k / (rows - 1)
    assert agreement > 3 * chance or k == 59


def expected_when_ties_are_drawn(student, teacher, k):
    """Exact mean over every way to fill the k places, in whole-number coordinates on a line: 2-d rows, no rounding."""
    total = Fraction(0)
    for row in range(len(student)):
        choices = []
        for x in (student, teacher):
            others = [other for other in range(len(x)) if other != row]
            unit = x / np.linalg.norm(x, axis=1, keepdims=True)
            near = {other: round(float(unit[row] @ unit[other]), 9) for other in others}
            best = max(sum(near[other] for other in chosen) for chosen in itertools.combinations(others, k))
            choices.append(
                [
                    set(chosen)
                    for chosen in itertools.combinations(others, k)
                    if abs(sum(near[other] for other in chosen) - best) < 1e-8
                ]
            )
        shares = [Fraction(len(ours & theirs), k) for ours in choices[0] for theirs in choices[1]]
        total += sum(shares, Fraction(0)) / len(shares)
    return float(total / len(student))


def test_rows_that_tie_hold_the_last_places_in_equal_shares() -> None:
    corners = np.array([[1, 1], [1, -1], [-1, 1], [-1, -1]], float)
    student = corners[[0, 0, 0, 1, 1, 2, 2, 3, 3, 3]] * [1, 2]
    student -= student.mean(0)
    teacher = np.random.default_rng(1).standard_normal((10, 2))
    teacher -= teacher.mean(0)
    for k in (1, 2, 3):
        expected = expected_when_ties_are_drawn(student, teacher, k)
        assert neighbour_agreement(student, teacher, k)[0] == pytest.approx(expected, abs=1e-9)


def r2_by_scikit_learn(student, teacher):
    """RidgeCV's own leave-one-out over the same penalties, and the errors summed in a loop."""
    missed = total = 0.0
    odd = np.arange(len(student)) % 2 == 1
    for fitted, scored in ((odd, ~odd), (~odd, odd)):
        x, y = student[fitted], teacher[fitted]
        scale = ((x - x.mean(0)) ** 2).sum() / x.shape[1]
        model = RidgeCV(alphas=10.0 ** np.arange(-6, 4.25, 0.5) * scale).fit(x, y)
        for features, truth in zip(student[scored], teacher[scored], strict=True):
            missed += ((truth - model.predict(features[None])[0]) ** 2).sum()
            total += ((truth - y.mean(0)) ** 2).sum()
    return 1 - missed / total


@pytest.mark.parametrize(("rows", "width", "noise"), [(200, 8, 0.5), (41, 30, 0.1), (60, 3, 20.0)])
def test_r2_is_that_of_scikit_learns_ridge(rows: int, width: int, noise: float) -> None:
    student, teacher = pair(rows, width=width, noise=noise)
    assert teacher_r2(student, teacher) == pytest.approx(r2_by_scikit_learn(student, teacher), abs=1e-6)


def test_a_student_that_is_the_teacher_gets_full_marks() -> None:
    _, teacher = pair()
    assert neighbour_agreement(teacher, teacher)[0] == pytest.approx(1)
    assert teacher_r2(teacher, teacher) == pytest.approx(1, abs=1e-6)


COLLAPSED = {
    "zero": np.zeros((200, 8), np.float32),
    "constant": np.full((200, 8), 0.1, np.float32),
    "constant float64": np.full((200, 8), 1 / 3),
    "constant but for rounding": (1 + 1e-7 * np.random.default_rng(0).integers(-2, 3, (200, 8))).astype(np.float32),
    "wider than the rows are many": np.full((200, 300), 0.7, np.float32),
    "large": np.full((200, 8), 3e30, np.float32),
    "half": np.full((200, 8), 0.1, np.float16),
}


@pytest.mark.parametrize("name", COLLAPSED)
def test_a_collapsed_student_agrees_exactly_at_chance_and_explains_nothing(name: str) -> None:
    student, (_, teacher) = COLLAPSED[name], pair()
    agreement, chance = neighbour_agreement(student, teacher)
    assert agreement == pytest.approx(chance, rel=1e-12)
    assert teacher_r2(student, teacher) == 0
    assert 0 <= knn_top1(student, np.arange(200) % 4) <= 50


def test_dead_columns_change_nothing() -> None:
    student, teacher = pair()
    padded = np.concatenate([student, np.full((200, 3), 1e6), np.zeros((200, 1))], axis=1)
    assert neighbour_agreement(padded, teacher) == pytest.approx(neighbour_agreement(student, teacher))
    # the penalties are relative to the mean variance of a column, which dead columns lower
    assert teacher_r2(padded, teacher) == pytest.approx(teacher_r2(student, teacher), abs=1e-3)


def test_a_teacher_that_does_not_vary_gives_nothing_to_agree_with() -> None:
    student, _ = pair()
    teacher = np.full((200, 5), 0.1, np.float16)
    agreement, chance = neighbour_agreement(student, teacher)
    assert agreement == pytest.approx(chance, rel=1e-12)
    assert teacher_r2(student, teacher) == 0


def test_random_features_score_at_chance() -> None:
    rng = np.random.default_rng(0)
    teacher = rng.standard_normal((1000, 20)) + 4
    for _ in range(3):
        student = rng.standard_normal((1000, 16))
        agreement, chance = neighbour_agreement(student, teacher)
        # 10,000 places, each right with probability 10 / 999: one standard deviation is 0.001
        assert abs(agreement - chance) < 0.005
        assert abs(teacher_r2(student, teacher)) < 0.02


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e4])
def test_rotation_scale_and_place_of_the_student_do_not_matter(scale: float) -> None:
    student, teacher = pair()
    rotation = np.linalg.qr(np.random.default_rng(2).standard_normal((8, 8)))[0]
    moved = scale * (student @ rotation) - 3 * scale
    assert neighbour_agreement(moved, teacher) == pytest.approx(neighbour_agreement(student, teacher), abs=1e-9)
    assert teacher_r2(moved, teacher) == pytest.approx(teacher_r2(student, teacher), abs=1e-6)


def test_half_precision_rows_are_read_as_they_are() -> None:
    student, teacher = pair()
    half = teacher.astype(np.float16)
    assert neighbour_agreement(student, half) == neighbour_agreement(student, half.astype(np.float64))
    assert teacher_r2(student, half) == teacher_r2(student, half.astype(np.float64))
    assert neighbour_agreement(student, half)[0] == pytest.approx(neighbour_agreement(student, teacher)[0], abs=0.05)


def test_rows_in_blocks_give_the_same_agreement(monkeypatch: pytest.MonkeyPatch) -> None:
    student, teacher = pair()
    whole = neighbour_agreement(student, teacher)
    monkeypatch.setattr("tcs.probes.agreement.BLOCK_ROWS", 7)
    assert neighbour_agreement(student, teacher) == pytest.approx(whole, abs=1e-12)


def test_fewer_rows_than_neighbours() -> None:
    student, teacher = pair(5)
    assert neighbour_agreement(student, teacher) == (1, 1)
    assert np.isfinite(teacher_r2(student, teacher))
    assert neighbour_agreement(*pair(2)) == (1, 1)


def test_top1_is_that_of_scikit_learns_vote() -> None:
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 4, 301)
    student = rng.standard_normal((4, 6))[labels] + rng.standard_normal((301, 6)) + 9
    some = np.where(rng.random(301) < 0.2, -1, labels)
    for given in (labels, some):
        x, y = (student - student.mean(0))[given >= 0], given[given >= 0]
        right = 0.0
        for fitted, scored in ((slice(0, None, 2), slice(1, None, 2)), (slice(1, None, 2), slice(0, None, 2))):
            vote = KNeighborsClassifier(20, metric="cosine", weights=lambda far: np.exp(-far / 0.07), algorithm="brute")
            right += vote.fit(x[fitted], y[fitted]).score(x[scored], y[scored]) * len(y[scored])
        assert knn_top1(student, given) == pytest.approx(100 * right / len(y))


def monitor(labels=None, **changes) -> Monitor:
    _, teacher = pair()
    parts = {"images_N3HW": torch.zeros(200, 3, 4, 4, dtype=torch.uint8), "teacher_ND": teacher, "labels_N": labels}
    return Monitor(**parts | changes)


def test_a_monitor_scores_a_student_under_fixed_names() -> None:
    student, teacher = pair()
    scores = monitor().score(student)
    assert list(scores) == ["held_out_knn_agreement", "held_out_knn_chance", "held_out_r2"]
    agreement, chance = neighbour_agreement(student, teacher)
    assert list(scores.values()) == pytest.approx([agreement, chance, teacher_r2(student, teacher)], abs=5e-5)
    labels = np.arange(200) % 2
    labelled = monitor(labels).score(student)
    assert labelled == scores | {"held_out_knn_top1": pytest.approx(knn_top1(student, labels), abs=5e-5)}
    assert list(monitor(np.full(200, -1)).score(student)) == list(scores)
    assert monitor(neighbours=3).score(student)["held_out_knn_chance"] == round(3 / 199, 4)


def test_no_score_is_negative_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tcs.training.monitor.teacher_r2", lambda *_: -1e-9)
    assert str(monitor().score(pair()[0])["held_out_r2"]) == "0.0"


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_features_that_are_not_finite_are_named(value: float) -> None:
    student, teacher = pair()
    student[[3, 7], 2] = value
    message = r"features of the student are NaN or Inf in 2 of 200 held-out rows; lower --lr"
    for score in (
        lambda: monitor().score(student),
        lambda: neighbour_agreement(student, teacher),
        lambda: teacher_r2(student, teacher),
        lambda: knn_top1(student, np.zeros(200, np.int64)),
    ):
        with pytest.raises(DivergedError, match=message):
            score()


def test_parts_that_do_not_belong_together_are_refused() -> None:
    student, teacher = pair()
    with pytest.raises(DataError, match=r"199 rows of a student for 200 held-out rows; it takes one for each row"):
        neighbour_agreement(student[1:], teacher)
    with pytest.raises(DataError, match=r"1 rows of a student for 1 held-out rows; .* 2 rows or more"):
        neighbour_agreement(student[:1], teacher[:1])
    with pytest.raises(DataError, match=r"3 rows of a student for 3 held-out rows; .* 4 rows or more"):
        teacher_r2(student[:3], teacher[:3])
    with pytest.raises(DataError, match="200 images for 100 held-out rows"):
        monitor(teacher_ND=teacher[:100])
    with pytest.raises(DataError, match="100 labels for 200 held-out rows"):
        monitor(np.zeros(100, np.int64))
    with pytest.raises(DataError, match="3 of the rows have a label; a k-NN vote needs 4 or more"):
        knn_top1(student, np.where(np.arange(200) < 3, 0, -1))
    teacher[0, 0] = np.nan
    with pytest.raises(DataError, match="cached rows of the teacher hold NaN or Inf"):
        monitor(teacher_ND=teacher)


@pytest.mark.parametrize(("options", "may"), [({}, True), ({"shots": 16}, False), ({"split_file": "split.txt"}, False)])
def test_labels_are_read_only_by_runs_that_are_given_all_of_them(options: dict, may: bool) -> None:
    assert may_score_labels(TrainConfig(store="s", out="o", models=("resnet18",), **options)) is may
