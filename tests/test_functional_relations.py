"""rkd, pkt, sp and cc against the authors' numbers, against loops, and at awkward points. Legend: B rows, S and T dims."""

import math

import pytest
import torch
from published import check_parity, draw, finite_gradient, published
from torch.autograd import gradcheck

from tcs.errors import ConfigError
from tcs.functional.relations import cc, pkt, rkd, rkd_angle, rkd_distance, sp

LOSSES = {"rkd_distance": rkd_distance, "rkd_angle": rkd_angle, "rkd": rkd, "pkt": pkt, "sp": sp, "cc": cc}


def dot(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True))


def smooth_l1(x):
    return 0.5 * x * x if abs(x) < 1 else abs(x) - 0.5


def minus(a, b):
    return [x - y for x, y in zip(a, b, strict=True)]


def sides(batch=5, student=3, teacher=4):
    return draw(batch, student, seed=0), draw(batch, teacher, seed=1) * 2


@pytest.mark.parametrize(("case", "w_d", "w_a"), [("full", 25, 50), ("dist", 1, 0), ("angle", 0, 1)])
def test_rkd_has_the_published_numbers(case, w_d, w_a):
    arrays = published("rkd")
    assert arrays[f"{case}_wd_wa"].tolist() == [w_d, w_a]
    check_parity(arrays, lambda s, t: rkd(s, t, w_d, w_a), ["f_s", "f_t"], f"{case}_loss", {"f_s": f"{case}_grad_f_s"})


def relative_distances(rows):
    table = [
        [math.sqrt(max(dot(minus(a, b), minus(a, b)), 1e-12)) * (i != j) for j, b in enumerate(rows)]
        for i, a in enumerate(rows)
    ]
    positive = [v for row in table for v in row if v > 0]
    return [[v / (sum(positive) / len(positive)) for v in row] for row in table]


def test_rkd_distance_is_a_loop_over_pairs():
    s, t = sides()
    a, b = relative_distances(s.tolist()), relative_distances(t.tolist())
    expected = sum(smooth_l1(a[i][j] - b[i][j]) for i in range(5) for j in range(5)) / 25
    assert float(rkd_distance(s, t)) == pytest.approx(expected, rel=1e-12)


def test_identical_rows_count_as_a_distance_of_a_millionth():
    s, t = sides()
    s[1] = s[0]
    a, b = relative_distances(s.tolist()), relative_distances(t.tolist())
    assert a[0][1] == pytest.approx(0, abs=1e-5)
    assert a[0][1] > 0
    expected = sum(smooth_l1(a[i][j] - b[i][j]) for i in range(5) for j in range(5)) / 25
    assert rkd_distance(s, t).item() == pytest.approx(expected, rel=1e-12)


def test_rkd_distance_keeps_its_digits_far_from_the_origin():
    s, t = sides()
    assert float(rkd_distance(s + 1e4, t)) == pytest.approx(float(rkd_distance(s, t)), rel=1e-10)


def angle(rows, i, j, k):
    a, b = minus(rows[j], rows[i]), minus(rows[k], rows[i])
    return dot(a, b) / (max(math.sqrt(dot(a, a)), 1e-12) * max(math.sqrt(dot(b, b)), 1e-12))


def test_rkd_angle_is_a_loop_over_triplets():
    s, t = (x.tolist() for x in sides())
    triplets = [(i, j, k) for i in range(5) for j in range(5) for k in range(5)]
    expected = sum(smooth_l1(angle(s, *ijk) - angle(t, *ijk)) for ijk in triplets) / 125
    assert float(rkd_angle(*sides())) == pytest.approx(expected, rel=1e-12)


def affinities(rows):
    unit = [[v / (math.sqrt(dot(row, row)) + 1e-7) for v in row] for row in rows]
    table = [[(dot(a, b) + 1) / 2 for b in unit] for a in unit]
    return [[v / sum(row) for v in row] for row in table]


def test_pkt_is_a_loop_over_pairs():
    s, t = sides()
    p, q = affinities(s.tolist()), affinities(t.tolist())
    expected = sum(q[i][j] * math.log((q[i][j] + 1e-7) / (p[i][j] + 1e-7)) for i in range(5) for j in range(5)) / 25
    assert float(pkt(s, t)) == pytest.approx(expected, rel=1e-11)


def unit_gram(rows):
    table = [[dot(a, b) for b in rows] for a in rows]
    return [[v / math.sqrt(dot(row, row)) for v in row] for row in table]


@pytest.mark.parametrize(("shape_s", "shape_t"), [((5, 3), (5, 4)), ((5, 2, 3, 3), (5, 3, 2, 2))])
def test_sp_is_a_loop_over_pairs_of_flattened_rows(shape_s, shape_t):
    s, t = draw(*shape_s, seed=2), draw(*shape_t, seed=3)
    a, b = unit_gram(s.flatten(1).tolist()), unit_gram(t.flatten(1).tolist())
    expected = sum((a[i][j] - b[i][j]) ** 2 for i in range(5) for j in range(5)) / 25
    assert sp(s, t).shape == ()
    assert float(sp(s, t)) == pytest.approx(expected, rel=1e-12)


def test_cc_is_a_loop_over_neighbours_and_depends_on_the_order():
    s, t = draw(5, 4, seed=4), draw(5, 4, seed=5)
    gaps = [[abs(x - y) for x, y in zip(a, b, strict=True)] for a, b in zip(s.tolist(), t.tolist(), strict=True)]
    expected = sum(dot(gaps[i], gaps[i + 1]) for i in range(4)) / 4
    assert float(cc(s, t)) == pytest.approx(expected, rel=1e-12)
    order = [0, 2, 1, 3, 4]
    assert float(cc(s[order], t[order])) != pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("name", LOSSES)
def test_gradient_is_right(name):
    s, t = draw(5, 4, seed=6, grad=True), draw(5, 4, seed=7)
    assert gradcheck(lambda x: LOSSES[name](x, t), (s,))


@pytest.mark.parametrize("name", LOSSES)
def test_the_teacher_is_a_constant_except_for_the_trained_embedding_of_cc(name):
    s, t = draw(5, 4, seed=8, grad=True), draw(5, 4, seed=9, grad=True)
    LOSSES[name](s, t).backward()
    assert (t.grad is not None) == (name == "cc")


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("case", ["match", "identical rows", "two identical rows", "zero rows", "two rows"])
def test_awkward_points_are_finite_and_tame(name, dtype, case):
    t = draw(6, 4, seed=10, dtype=dtype)
    s = draw(6, 4, seed=11, dtype=dtype)
    if case == "match":
        s = t.clone()
    elif case == "identical rows":
        s = s[:1].repeat(6, 1)
    elif case == "two identical rows":
        s[1] = s[0]
    elif case == "zero rows":
        s[:2] = 0
    else:
        s, t = s[:2], t[:2]
    gradient = finite_gradient(lambda x: LOSSES[name](x, t), s)
    assert gradient.abs().max() < 1e8  # pkt divides a zero row by its epsilon of 1e-7


@pytest.mark.parametrize("name", LOSSES)
def test_half_precision_rows_are_computed_in_float32(name):
    s, t = draw(5, 4, seed=12).half(), draw(5, 4, seed=13).half()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = LOSSES[name](s, t)
    assert found.dtype == torch.float32
    assert float(found) == float(LOSSES[name](s.float(), t.float()))


@pytest.mark.parametrize("name", LOSSES)
def test_a_single_row_has_no_relations(name):
    with pytest.raises(ConfigError, match="compares the rows of a batch and this one has 1; use 2 rows or more"):
        LOSSES[name](torch.zeros(1, 4), torch.zeros(1, 4))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: rkd(torch.zeros(3, 2), torch.zeros(4, 2)), "3 student and 4 teacher rows"),
        (lambda: rkd(torch.zeros(3, 2), torch.zeros(3, 2), 0, 0), "w_d and w_a of rkd are both 0"),
        (lambda: rkd_angle(torch.zeros(3, 2, 2, 2), torch.zeros(3, 2)), r"shape \(3, 2, 2, 2\).*pool maps first"),
        (lambda: pkt(torch.zeros(3, 2, 2, 2), torch.zeros(3, 2)), r"shape \(3, 2, 2, 2\).*pool maps first"),
        (lambda: cc(torch.zeros(3, 2), torch.zeros(3, 4)), r"student \(3, 2\) and teacher \(3, 4\).*same width"),
    ],
)
def test_what_makes_no_sense_is_refused(call, message):
    with pytest.raises(ConfigError, match=message):
        call()
