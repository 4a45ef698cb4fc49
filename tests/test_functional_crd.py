"""CRD against a loop over samples and candidates, its banks and its draws. Legend: N bank rows, B batch, M candidates, E dims."""

import importlib
import math

import pytest
import torch
from published import draw, finite_gradient
from torch.autograd import gradcheck

from tcs.errors import ConfigError
from tcs.functional.crd import TEMPERATURE, crd, crd_normalisers, draw_index, start_bank, update_bank, update_rows

module = importlib.import_module("tcs.functional.crd")  # `tcs.functional.crd` is the function


def sphere(*shape, seed):
    x = draw(*shape, seed=seed)
    return x / x.norm(dim=1, keepdim=True)


def case(batch=4, rows=12, candidates=6, width=5):
    index = torch.randint(rows, (batch, candidates), generator=torch.Generator().manual_seed(0))
    banks = draw(rows, width, seed=3) * 0.5, draw(rows, width, seed=4) * 0.5
    return sphere(batch, width, seed=1), sphere(batch, width, seed=2), *banks, index


def ratios(e, bank, index, z):
    table = []
    for row, picked in zip(e.tolist(), index.tolist(), strict=True):
        dots = [sum(a * b for a, b in zip(row, bank[i].tolist(), strict=True)) for i in picked]
        table.append([math.exp(d / TEMPERATURE) / z for d in dots])
    return table


def loop_contrast(table, rows):
    k = len(table[0]) - 1
    total = 0.0
    for positive, *negatives in table:
        total += math.log(positive / (positive + k / rows + 1e-7))
        total += sum(math.log((k / rows) / (p + k / rows + 1e-7)) for p in negatives)
    return -total / len(table)


def test_temperature_is_the_one_of_a_float32_buffer():
    assert float(torch.tensor(0.07)) == TEMPERATURE


@pytest.mark.parametrize("rows", [12, 60])
def test_crd_is_a_loop_over_candidates(rows):
    e_s, e_t, bank_s, bank_t, index = case(rows=rows)
    expected = loop_contrast(ratios(e_s, bank_t, index, 3.0), rows) + loop_contrast(
        ratios(e_t, bank_s, index, 5.0), rows
    )
    assert crd(e_s, e_t, bank_s, bank_t, index, 3.0, 5.0).item() == pytest.approx(expected, rel=1e-11)
    given = torch.tensor(3.0).double(), torch.tensor(5.0).double()
    assert crd(e_s, e_t, bank_s, bank_t, index, *given).item() == pytest.approx(expected, rel=1e-11)


def test_normalisers_make_the_mean_ratio_of_the_first_batch_one_over_the_rows():
    e_s, e_t, bank_s, bank_t, index = case()
    z_s, z_t = crd_normalisers(e_s, e_t, bank_s, bank_t, index)
    for e, bank, z in ((e_s, bank_t, z_s), (e_t, bank_s, z_t)):
        table = ratios(e, bank, index, 1.0)
        mean = sum(map(sum, table)) / (4 * 6)
        assert z.item() == pytest.approx(mean * 12, rel=1e-12)


def test_gathering_in_blocks_is_the_same_as_taking_all_products(monkeypatch):
    e_s, e_t, bank_s, bank_t, index = case(rows=60)
    monkeypatch.setattr(module, "GATHERED_FLOATS", 3 * 6 * 5)  # a block of three rows, and one of one
    values, gradients = [], []
    for most in (4 * 60, 4 * 60 - 1):
        monkeypatch.setattr(module, "DENSE_FLOATS", most)
        student, teacher = e_s.clone().requires_grad_(), e_t.clone().requires_grad_()
        loss = crd(student, teacher, bank_s, bank_t, index, 3.0, 5.0)
        loss.backward()
        values.append(loss.item())
        gradients.append(torch.stack([student.grad, teacher.grad]))
    assert values[0] == pytest.approx(values[1], rel=1e-13)
    assert torch.allclose(*gradients, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("most", [1 << 26, 0])
def test_gradient_is_right_on_both_sides_and_stops_at_the_banks(monkeypatch, most):
    monkeypatch.setattr(module, "DENSE_FLOATS", most)
    e_s, e_t, bank_s, bank_t, index = case()
    e_s.requires_grad_()
    e_t.requires_grad_()
    assert gradcheck(lambda s, t: crd(s, t, bank_s, bank_t, index, 3.0, 5.0), (e_s, e_t))
    bank_s.requires_grad_()
    crd(e_s, e_t, bank_s, bank_t, index, 3.0, 5.0).backward()
    assert bank_s.grad is None


def test_update_is_the_normalised_mean_of_old_and_new_and_leaves_the_given_bank():
    e_s, _, bank_s, _, _ = case()
    before, rows = bank_s.clone(), torch.tensor([3, 7, 0, 11])
    after = update_bank(bank_s, e_s.requires_grad_(), rows)
    assert torch.equal(bank_s, before)
    assert not after.requires_grad
    for row, new in zip(rows.tolist(), e_s.tolist(), strict=True):
        mean = [0.5 * a + 0.5 * b for a, b in zip(before[row].tolist(), new, strict=True)]
        length = math.sqrt(sum(v * v for v in mean))
        assert after[row].tolist() == pytest.approx([v / length for v in mean], rel=1e-12)
    untouched = [i for i in range(12) if i not in rows.tolist()]
    assert torch.equal(after[untouched], before[untouched])
    assert torch.equal(update_rows(before, e_s, rows), after[rows])


def test_banks_start_uniform_and_are_a_function_of_the_seed():
    bank = start_bank(500, 128, seed=1)
    bound = 1 / math.sqrt(128 / 3)
    assert bound * 0.99 < bank.max() <= bound
    assert -bound <= bank.min() < -bound * 0.99
    assert bank.mean().abs() < 1e-3
    assert torch.equal(bank, start_bank(500, 128, seed=1))


LABELS = torch.tensor([0, 1, 2, 0, 1, 2, 0, 1, 2, 0])


def index_of(rows, negatives, labels=LABELS, relax=False):
    generator = torch.Generator().manual_seed(5)
    return draw_index(torch.tensor(rows), 10, negatives, generator, labels, relax)


def test_negatives_are_of_other_classes_and_distinct_while_there_are_enough():
    index = index_of([0, 4, 8], 6)
    assert index[:, 0].tolist() == [0, 4, 8]
    for row in index.tolist():
        assert all(LABELS[i] != LABELS[row[0]] for i in row[1:])
        assert len(set(row[1:])) == 6
    assert index_of([0], 50)[0, 1:].unique().tolist() == [1, 2, 4, 5, 7, 8]


def test_without_labels_all_other_rows_are_negatives():
    assert sorted(index_of([3], 9, None)[0, 1:].tolist()) == [0, 1, 2, 4, 5, 6, 7, 8, 9]


def test_relaxed_positives_are_of_the_same_class():
    positives = index_of([0] * 40, 2, LABELS, True)[:, 0]
    assert positives.unique().tolist() == [0, 3, 6, 9]


def test_draws_are_a_function_of_the_generator():
    assert torch.equal(index_of([0, 1], 4), index_of([0, 1], 4))


def test_awkward_embeddings_are_finite():
    e_s, e_t, bank_s, bank_t, index = (x.float() if x.is_floating_point() else x for x in case())
    for student in (torch.zeros_like(e_s), e_t, -10 * e_s):
        finite_gradient(lambda x: crd(x, e_t, bank_s, bank_t, index, 3.0, 5.0), student)


def test_an_index_of_int32_serves_as_well():
    e_s, e_t, bank_s, bank_t, index = case()
    expected = crd(e_s, e_t, bank_s, bank_t, index, 3.0, 5.0).item()
    assert crd(e_s, e_t, bank_s, bank_t, index.int(), 3.0, 5.0).item() == expected
    rows = torch.arange(4)
    assert torch.equal(update_bank(bank_s, e_s, rows.int()), update_bank(bank_s, e_s, rows))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda s, t, a, b, i: crd(s[:, :2], t, a, b, i, 1, 1), r"embeddings \(4, 2\) and a bank of \(12, 5\)"),
        (lambda s, t, a, b, i: crd(s, t, a, b, i[:2], 1, 1), r"index of \(2, 6\); it must be \(4, 1 \+ k\)"),
        (lambda s, t, a, b, i: crd(s, t, a, b, i[:, :1], 1, 1), r"index of \(4, 1\)"),
        (lambda s, t, a, b, i: crd(s, t, a, b, i + 12, 1, 1), "bank has 12"),
        (lambda s, t, a, b, i: crd(s, t, a, b, i.double(), 1, 1), r"index of \(4, 6\) floating numbers; it must be"),
        (lambda s, t, a, b, i: crd(s, t, a, b, i, -1.0, 1), "normaliser z_s of crd is -1.0; it must be a positive"),
        (lambda s, t, a, b, i: crd(s, t, a, b, i, 1, 1, 0.0), "temperature of crd is 0.0"),
        (lambda s, t, a, b, i: crd(s, t, a[:11], b, i, 1, 1), r"banks of \(11, 5\) and \(12, 5\); both need one row"),
        (lambda s, t, a, b, i: update_rows(a, s[:2], torch.tensor([0])), "one embedding of the bank's width"),
        (lambda s, t, a, b, i: index_of([0], 0), "asked for 0 negatives"),
        (lambda s, t, a, b, i: index_of([0], 2, None, True), "same class without labels"),
        (lambda s, t, a, b, i: index_of([0], 2, LABELS - 1), "the least -1, for 10 bank rows"),
        (lambda s, t, a, b, i: index_of([0], 2, LABELS[:4]), "4 labels, the least 0, for 10 bank rows"),
        (lambda s, t, a, b, i: index_of([0], 2, LABELS * 0), "no row to draw negatives from"),
    ],
)
def test_what_makes_no_sense_is_refused(call, message):
    with pytest.raises(ConfigError, match=message):
        call(*case())


@pytest.mark.parametrize("negatives", [3, 30])
def test_every_other_row_is_drawn_equally_often_and_never_twice(negatives):
    generator = torch.Generator().manual_seed(7)
    index = draw_index(torch.full((4000,), 5), 41, negatives, generator)
    assert set(index[:, 0].tolist()) == {5}
    assert all(len(set(row)) == negatives for row in index[:, 1:].tolist())
    counts = torch.bincount(index[:, 1:].flatten(), minlength=41)
    assert counts[5] == 0
    expected = 4000 * negatives / 40
    others = counts[torch.arange(41) != 5]
    assert (others - expected).abs().max() < 5 * (expected * (1 - negatives / 40)) ** 0.5
