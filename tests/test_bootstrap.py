"""The hierarchical bootstrap against a slow loop, and how often its interval holds the truth on data of a known one."""

import numpy as np
import pytest

from tcs.reporting.bootstrap import draw_weights, hierarchical_bootstrap


def slow_means(hits_SN, seed, resamples):
    """The mean of each resample, image by image, from the drawn weights."""
    shares_BS, counts_BN = draw_weights(hits_SN.shape, seed, 0, resamples)
    means = []
    for share_S, count_N in zip(shares_BS, counts_BN, strict=True):
        total = 0.0
        for split, share in enumerate(share_S):
            for image, count in enumerate(count_N):
                total += float(share) * float(count) * float(hits_SN[split, image])
        means.append(total / hits_SN.shape[1])
    return means


def test_it_is_the_slow_loop():
    hits_SN = (np.random.default_rng(3).random((3, 17)) < 0.6).astype(np.float64)
    found = hierarchical_bootstrap(hits_SN, seed=5, resamples=40)
    low, high = np.percentile(slow_means(hits_SN, 5, 40), (2.5, 97.5))
    assert (found.low, found.high) == pytest.approx((100 * low, 100 * high), abs=1e-4)
    assert found.mean == pytest.approx(100 * hits_SN.mean())
    assert (found.splits, found.images) == (3, 17)


def test_blocks_of_draws_cover_all_resamples(monkeypatch):
    monkeypatch.setattr("tcs.reporting.bootstrap.BLOCK_CELLS", 17 * 7)
    starts = []
    original = draw_weights
    monkeypatch.setattr(
        "tcs.reporting.bootstrap.draw_weights", lambda *given: (starts.append(given[2:]), original(*given))[1]
    )
    hierarchical_bootstrap(np.ones((3, 17)), resamples=40)
    assert starts == [(0, 7), (7, 7), (14, 7), (21, 7), (28, 7), (35, 5)]


def test_weights_draw_one_split_fewer_and_every_image_once_on_average():
    shares_BS, counts_BN = draw_weights((4, 50), 1, 0, 300)
    assert shares_BS.sum(axis=1) == pytest.approx(np.ones(300))
    assert set(np.unique(np.round(shares_BS * 3))) == {0, 1, 2, 3}  # of 4 splits 3 are drawn
    assert (counts_BN.sum(axis=1) == 50).all()
    assert counts_BN.mean(axis=0) == pytest.approx(np.ones(50), abs=0.25)


def test_same_seed_same_interval_and_another_seed_another():
    hits_SN = (np.random.default_rng(0).random((4, 60)) < 0.5).astype(np.float64)
    assert hierarchical_bootstrap(hits_SN, 1) == hierarchical_bootstrap(hits_SN, 1)
    assert hierarchical_bootstrap(hits_SN, 1) != hierarchical_bootstrap(hits_SN, 2)


def test_one_split_draws_images_alone():
    hits_1N = (np.arange(400) % 4 > 0).astype(np.float64)[None]
    found = hierarchical_bootstrap(hits_1N)
    assert found.mean == 75
    half = 100 * 1.96 * np.sqrt(0.75 * 0.25 / 400)  # of a binomial
    assert (found.high - found.low) / 2 == pytest.approx(half, rel=0.1)


def test_the_interval_holds_the_truth_about_as_often_as_it_says():
    """Splits and images both move the accuracy: p = 0.6 + split + image. The mean of many of both is 0.6."""
    generator, held = np.random.default_rng(12), 0
    for trial in range(150):
        p_SN = 0.6 + generator.normal(0, 0.05, (10, 1)) + generator.uniform(-0.3, 0.3, (1, 200))
        hits_SN = (generator.random((10, 200)) < p_SN).astype(np.float64)
        found = hierarchical_bootstrap(hits_SN, seed=trial, resamples=300)
        held += found.low <= 60 <= found.high
    assert 0.90 <= held / 150 <= 0.995


def test_an_interval_over_images_alone_would_not(monkeypatch):
    """The same data: drawing images and keeping the splits misses the truth far too often."""
    generator, held = np.random.default_rng(12), 0
    for trial in range(60):
        p_SN = 0.6 + generator.normal(0, 0.08, (5, 1)) + np.zeros((1, 400))
        hits_SN = (generator.random((5, 400)) < p_SN).astype(np.float64)
        found = hierarchical_bootstrap(hits_SN.mean(axis=0, keepdims=True), seed=trial, resamples=300)
        held += found.low <= 60 <= found.high
    assert held / 60 < 0.7


def test_nothing_to_draw_from_is_refused():
    with pytest.raises(ValueError, match=r"hits of shape \(0, 5\) hold no image"):
        hierarchical_bootstrap(np.zeros((0, 5)))
