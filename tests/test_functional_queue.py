"""The similarity queue against loops. Legend: B rows, Q queue rows, T dims."""

import math

import pytest
import torch
from published import draw, finite_gradient
from torch.autograd import gradcheck

from tcs.errors import ConfigError
from tcs.functional.queue import FeatureQueue, push, queue_kl, similarity_kl, start_queue


def unit(row):
    length = math.sqrt(sum(v * v for v in row))
    return [v / length for v in row]


def softmax(values):
    top = max(values)
    weights = [math.exp(v - top) for v in values]
    return [w / sum(weights) for w in weights]


def test_kl_is_a_loop_over_rows_and_queue():
    s, t, queue = draw(4, 3, seed=0), draw(4, 3, seed=1), draw(6, 3, seed=2)
    total = 0.0
    for a, b in zip(s.tolist(), t.tolist(), strict=True):
        p, q = (
            softmax([sum(x * y for x, y in zip(unit(row), anchor, strict=True)) / 0.07 for anchor in queue.tolist()])
            for row in (b, a)
        )
        total += sum(x * math.log(x / y) for x, y in zip(p, q, strict=True))
    assert similarity_kl(s, t, queue).item() == pytest.approx(total / 4, rel=1e-11)


def test_push_puts_the_newest_first_and_drops_the_oldest():
    queue = start_queue(4, 2)
    empty = queue.rows_QT.clone()
    batches = [draw(3, 2, seed=i) for i in (3, 4)]
    once = push(queue, batches[0])
    twice = push(once, batches[1])
    assert torch.equal(queue.rows_QT, empty)
    assert (queue.filled, once.filled, twice.filled) == (0, 3, 4)
    expected = [unit(row) for row in [*batches[1].tolist(), *batches[0].tolist()]][:4]
    for found, row in zip(twice.rows_QT.tolist(), expected, strict=True):
        assert found == pytest.approx(row, rel=1e-6)


def test_of_a_batch_larger_than_the_queue_the_first_rows_stay():
    batch = draw(5, 2, seed=5)
    queue = push(start_queue(3, 2), batch)
    assert queue.filled == 3
    assert torch.allclose(queue.rows_QT.double(), batch[:3] / batch[:3].norm(dim=1, keepdim=True))


def test_rows_never_filled_take_no_part():
    s, t = draw(4, 3, seed=6), draw(4, 3, seed=7)
    small, large = push(start_queue(4, 3), t), push(start_queue(100, 3), t)
    assert queue_kl(s, t, small).item() == queue_kl(s, t, large).item()
    assert queue_kl(t, t, small).item() == pytest.approx(0, abs=1e-12)


def test_gradient_is_right_and_stops_at_the_teacher():
    s, t, rows = draw(4, 3, seed=8, grad=True), draw(4, 3, seed=9, grad=True), draw(5, 3, seed=10, grad=True)
    assert gradcheck(lambda x: similarity_kl(x, t.detach(), rows.detach(), 0.5), (s,))
    similarity_kl(s, t, rows).backward()
    assert t.grad is None
    assert rows.grad is None
    assert not push(start_queue(4, 3), t).rows_QT.requires_grad


def test_awkward_rows_are_finite():
    t = draw(4, 3, seed=11, dtype=torch.float32)
    queue = push(start_queue(4, 3), t)
    for s in (t, torch.zeros_like(t), t[:1].repeat(4, 1)):
        finite_gradient(lambda x: queue_kl(x, t, queue), s)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: start_queue(1, 3), "queue has 1 rows"),
        (lambda x: queue_kl(x, x, start_queue(4, 3)), "queue has 0 filled rows; push teacher features"),
        (lambda x: push(start_queue(4, 3), x[:, :2]), r"shape \(2, 2\) are pushed on a queue of 3 dims"),
        (lambda x: queue_kl(x, x[:1], FeatureQueue(rows_QT=x, filled=2)), "compares entry by entry"),
        (lambda x: queue_kl(x, x, FeatureQueue(rows_QT=x, filled=2), 0.0), "temperature of queue_kl is 0.0"),
        (lambda x: similarity_kl(x[None], x[None], x), "pool maps first"),
    ],
)
def test_what_makes_no_sense_is_refused(call, message):
    with pytest.raises(ConfigError, match=message):
        call(torch.ones(2, 3))
