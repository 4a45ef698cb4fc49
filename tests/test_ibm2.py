"""IbM2 end to end on toy features, and its trainings against loops. Legend: N support rows, C classes, D dims."""

import math

import numpy as np
import pytest
import torch

from tcs.errors import ConfigError, DataError
from tcs.functional.ibm2 import cosine_logits, noisy_copies, support_std
from tcs.probes.ibm2 import Ibm2Recipe, fit_ibm2

QUICK = Ibm2Recipe(copies=20)


def toy(rows=12, dims=8, spread=0.6, seed=0):
    generator = np.random.default_rng(seed)
    labels = np.arange(rows) % 3
    return (3 * np.eye(3, dims)[labels] + spread * generator.standard_normal((rows, dims))).astype(np.float32), labels


def trained_by_hand(weights, x, labels, epochs, lr, batch):
    """Adam by its formulas on autograd's gradients of the smoothed loss of one whole batch; weights are (v, g)."""
    weights = [w.clone().requires_grad_() for w in weights]
    first, second = ([torch.zeros_like(w) for w in weights] for _ in range(2))
    for step in range(epochs):
        v, g = weights
        cosine = (x / (x.norm(dim=1, keepdim=True) + 1e-5)) @ (v / v.norm(dim=1, keepdim=True)).T
        log_p = (10 * g * cosine).log_softmax(1)
        loss = -(0.9 * log_p[torch.arange(len(x)), labels] + 0.1 * log_p.mean(1)).mean()
        rate = lr * batch / 256 * (1 + math.cos(math.pi * step / epochs)) / 2
        for i, gradient in enumerate(torch.autograd.grad(loss, weights)):
            first[i] = 0.9 * first[i] + 0.1 * gradient
            second[i] = 0.999 * second[i] + 0.001 * gradient**2
            scaled = (first[i] / (1 - 0.9 ** (step + 1))) / ((second[i] / (1 - 0.999 ** (step + 1))).sqrt() + 1e-8)
            weights[i] = (weights[i] - rate * scaled).detach().requires_grad_()
    return weights


def test_a_training_without_noise_is_adam_on_the_smoothed_loss(monkeypatch):
    """With the search bound to answer zero, the final head is the baseline: the same recipe without noise."""
    from tcs.probes import ibm2

    x, labels = toy()
    found = ibm2.EpsilonSearch(epsilon=0.0, threshold=0.9, tried=())
    monkeypatch.setattr(ibm2, "search_epsilon", lambda accuracy_at, clean: found)
    head = fit_ibm2(x, labels, 3, seed=3, recipe=Ibm2Recipe(epochs=7, lr=0.1, batch_size=64))
    start = ibm2._CosineHead(3, 8, 3, torch.device("cpu"))
    assert torch.allclose(start.gains_C, start.directions_CD.norm(dim=1))
    assert start.directions_CD.abs().max() <= 1 / math.sqrt(8)
    unit = torch.from_numpy(x / np.linalg.norm(x, axis=1, keepdims=True))
    parts = [start.directions_CD.detach(), start.gains_C.detach()]
    v, g = trained_by_hand(parts, unit, torch.from_numpy(labels), 7, 0.1, 64)
    expected = (10 * g[:, None] * v / v.norm(dim=1, keepdim=True)).detach().numpy()
    np.testing.assert_allclose(head.weight_CD, expected, rtol=1e-4, atol=1e-5)


def test_gradients_of_chunks_add_up_to_those_of_all_copies(monkeypatch):
    from tcs.probes import ibm2

    x, labels = toy(dims=16)
    fit = ibm2._Fit(x, labels, 3, 0, QUICK, torch.device("cpu"))
    fit._chunk_rows = 5  # 12 rows: chunks of 5, 5 and 2
    head, generator = fit._new_head(), torch.Generator().manual_seed(9)
    fit._add_gradients(head, torch.arange(12), 1.5, generator)
    found = [head.directions_CD.grad.clone(), head.gains_C.grad.clone()]
    unit = torch.from_numpy(x / np.linalg.norm(x, axis=1, keepdims=True))
    generator = torch.Generator().manual_seed(9)
    parts = [noisy_copies(part, support_std(unit), 1.5, generator, 20) for part in unit.split(5)]
    head.directions_CD.grad = head.gains_C.grad = None
    logits = cosine_logits(torch.cat(parts), head.directions_CD, head.gains_C)
    repeated = torch.from_numpy(labels).repeat_interleave(20)
    torch.nn.functional.cross_entropy(logits, repeated, label_smoothing=0.1).backward()
    torch.testing.assert_close(found, [head.directions_CD.grad, head.gains_C.grad], rtol=1e-4, atol=1e-6)


def test_the_noise_found_is_where_the_support_is_just_fitted():
    x, labels = toy()
    head = fit_ibm2(x, labels, 3, seed=0, recipe=QUICK)
    assert head.clean_accuracy == 1
    assert head.search.threshold == 0.9
    assert len(head.search.tried) == 8
    assert head.search.tried[0][0] == 5.0
    held = [epsilon for epsilon, accuracy in head.search.tried if accuracy > 0.9]
    lost = [epsilon for epsilon, accuracy in head.search.tried if accuracy <= 0.9]
    assert max(held) < head.search.epsilon < min(lost)
    assert 0.2 < head.search.epsilon < 5
    test_x, test_labels = toy(rows=300, seed=1)
    assert ((test_x @ head.weight_CD.T).argmax(1) == test_labels).mean() > 0.95


def test_closer_classes_bear_less_noise():
    near, far = (fit_ibm2(*toy(spread=spread), 3, seed=0, recipe=QUICK).search.epsilon for spread in (1.5, 0.3))
    assert near < far


def test_a_seed_decides_everything_and_lengths_of_features_nothing():
    x, labels = toy()
    first, again, longer, other = (
        fit_ibm2(rows, labels, 3, seed=seed, recipe=QUICK) for rows, seed in ((x, 0), (x, 0), (4 * x, 0), (x, 1))
    )
    np.testing.assert_array_equal(first.weight_CD, again.weight_CD)
    np.testing.assert_allclose(first.weight_CD, longer.weight_CD, rtol=1e-4)
    assert np.abs(first.weight_CD - other.weight_CD).max() > 1e-3


def test_the_published_numbers_are_the_defaults():
    recipe = Ibm2Recipe()
    assert (recipe.copies, recipe.epochs, recipe.lr, recipe.batch_size, recipe.smoothing) == (200, 100, 0.05, 256, 0.1)
    assert (recipe.search_epochs, recipe.search_lr) == (20, 1.0)


def test_what_cannot_be_fitted_is_refused():
    x, labels = toy()
    with pytest.raises(DataError, match="IbM2 met features that are not finite"):
        fit_ibm2(np.where(x > 2, np.nan, x), labels, 3, seed=0)
    with pytest.raises(ConfigError, match="support has 1 rows"):
        fit_ibm2(x[:1], labels[:1], 3, seed=0)
    with pytest.raises(ConfigError, match="--copies is 0; it must be 1 or more"):
        Ibm2Recipe(copies=0)
    with pytest.raises(ConfigError, match="epochs and search_epochs of IbM2 must be 1 or more"):
        Ibm2Recipe(search_epochs=0)
    with pytest.raises(ConfigError, match="batch_size of IbM2 is 0"):
        Ibm2Recipe(batch_size=0)
