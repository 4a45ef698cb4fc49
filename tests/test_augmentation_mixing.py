"""Mixup and CutMix against a loop over rows; labels are mixed as the pixels are. 0.5 s."""

import numpy as np
import pytest
import torch
from pictures import noise_pictures
from scipy import stats
from torch import Tensor

from tcs.augmentation.mixing import Mix, MixPolicy, draw_mix, mix_pairs, soft_labels
from tcs.errors import ConfigError, DataError

KINDS = [
    {"mixup": 0.8},
    {"cutmix": 1.0},
    {"mixup": 0.8, "cutmix": 1.0},
    {"mixup": 0.2, "cutmix": 0.5, "mixup_prob": 0.5, "mixup_switch_prob": 0.3},
]


def drawn(rows: int = 9, size: int = 15, seed: int = 0, **options: float) -> Mix:
    return draw_mix(MixPolicy(**options), rows, size, torch.Generator().manual_seed(seed))


def mixed_by_hand(images: Tensor, mix: Mix) -> np.ndarray:
    """Row after row, pixel boxes by slices."""
    source, result = images.numpy(), images.numpy().copy()
    for row in range(len(mix)):
        other = source[len(mix) - 1 - row]
        top, bottom, left, right = mix.boxes_L4[row].tolist()
        if (bottom - top) * (right - left) > 0:
            result[row][:, top:bottom, left:right] = other[:, top:bottom, left:right]
        else:
            own = mix.own_L[row].numpy()
            result[row] = np.rint(source[row] * own + other * (np.float32(1) - own)).astype(np.uint8)
    return result


def mixed_with_partners(images: Tensor, mix: Mix) -> Tensor:
    return mix_pairs(images, images[mix.partner_L], mix)


@pytest.mark.parametrize("options", KINDS)
@pytest.mark.parametrize("rows", [1, 8, 9])
def test_images_equal_a_loop(options: dict[str, float], rows: int) -> None:
    images, mix = noise_pictures(rows, 15), drawn(rows, **options)
    assert np.array_equal(mixed_with_partners(images, mix).numpy(), mixed_by_hand(images, mix))
    assert torch.equal(images, noise_pictures(rows, 15))


@pytest.mark.parametrize("options", KINDS)
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_soft_labels_equal_a_loop(options: dict[str, float], smoothing: float) -> None:
    mix, labels = drawn(**options), torch.tensor([0, 3, 1, 1, 2, 4, 0, 2, 3])
    expected = np.zeros((9, 5))
    for row in range(9):
        for label, share in ((labels[row], mix.own_L[row]), (labels[8 - row], 1 - mix.own_L[row])):
            expected[row] += float(share) * smoothing / 5
            expected[row, label] += float(share) * (1 - smoothing)
    soft = soft_labels(labels, mix, 5, smoothing)
    assert soft.dtype == torch.float32
    np.testing.assert_allclose(soft, expected, atol=1e-6)
    np.testing.assert_allclose(soft.sum(1), 1, atol=1e-6)


def test_the_share_of_cutmix_is_the_area_that_is_left() -> None:
    mix = drawn(200, 15, cutmix=1.0)
    generator = torch.Generator().manual_seed(0)
    shares = torch.rand(200, generator=generator, dtype=torch.float64)  # Beta(1, 1) is uniform
    centres = (15 * torch.rand(200, 2, generator=generator, dtype=torch.float64)).int()
    for row, (share, (down, across)) in enumerate(zip(shares.tolist(), centres.tolist(), strict=True)):
        side = int(15 * (1 - share) ** 0.5)
        pasted = np.zeros((15, 15), bool)
        pasted[
            max(0, down - side // 2) : down - side // 2 + side, max(0, across - side // 2) : across - side // 2 + side
        ] = 1
        assert float(mix.own_L[row]) == pytest.approx(1 - pasted.mean(), abs=1e-6)
        own, other = torch.zeros(1, 3, 15, 15, dtype=torch.uint8), torch.ones(1, 3, 15, 15, dtype=torch.uint8)
        assert np.array_equal(mix_pairs(own, other, mix.rows(slice(row, row + 1)))[0, 0], pasted)


@pytest.mark.parametrize("alpha", [0.2, 1.0, 3.0])
def test_shares_follow_the_beta_distribution(alpha: float) -> None:
    own = drawn(4000, mixup=alpha).own_L.double().numpy()
    assert stats.kstest(own, stats.beta(alpha, alpha).cdf).pvalue > 0.01


def test_rows_are_mixed_and_switched_in_their_shares() -> None:
    mix = drawn(4000, 224, mixup=0.8, cutmix=1.0, mixup_prob=0.6, mixup_switch_prob=0.25)
    is_cut = mix.boxes_L4[:, 1] > mix.boxes_L4[:, 0]
    assert (mix.own_L < 1).float().mean() == pytest.approx(0.6, abs=0.03)
    assert is_cut.float().mean() == pytest.approx(0.6 * 0.25, abs=0.02)


def test_draws_are_a_function_of_their_generator_and_off_draws_nothing() -> None:
    first, again, other = (drawn(seed=seed, mixup=0.8, cutmix=1.0) for seed in (0, 0, 1))
    assert torch.equal(first.own_L, again.own_L)
    assert torch.equal(first.boxes_L4, again.boxes_L4)
    assert not torch.equal(first.own_L, other.own_L)
    generator = torch.Generator().manual_seed(0)
    before = generator.get_state()
    off = draw_mix(MixPolicy(), 4, 15, generator)
    assert torch.equal(generator.get_state(), before)
    images = noise_pictures(4, 15)
    assert torch.equal(mixed_with_partners(images, off), images)
    assert soft_labels(torch.tensor([1, 0, 1, 2]), off, 3).tolist() == [[0, 1, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]]


def test_a_rank_mixes_its_own_rows_from_pairs() -> None:
    images, mix = noise_pictures(9, 15), drawn(mixup=0.8, cutmix=1.0)
    whole = mixed_with_partners(images, mix)
    for index in (slice(3, 6), torch.tensor([8, 0])):
        mine = mix.rows(index)
        assert len(mine) == len(whole[index])
        assert torch.equal(mix_pairs(images[index], images[mine.partner_L], mine), whole[index])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mixup": -1}, r"--mixup is -1; it must be an alpha of 0 \(off\) or more"),
        ({"cutmix": float("nan")}, "--cutmix is nan; it must be an alpha"),
        ({"mixup": 1, "mixup_prob": 2}, "--mixup-prob is 2; it must lie between 0 and 1"),
        ({"mixup": 1, "cutmix": 1, "mixup_switch_prob": -1}, "--mixup-switch-prob is -1; it must lie between 0 and 1"),
        ({"mixup_prob": 0.5}, "--mixup-prob has no effect without --mixup or --cutmix; add --mixup"),
        ({"mixup": 1, "mixup_switch_prob": 0.3}, "--mixup-switch-prob has no effect without both"),
    ],
)
def test_a_policy_that_makes_no_sense_is_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        MixPolicy(**options)


def test_what_does_not_fit_the_draws_is_refused() -> None:
    mix = drawn(9, 15, mixup=0.8)
    with pytest.raises(DataError, match="8 labels are to be mixed by draws of 9 rows; draw for the labelled rows"):
        soft_labels(torch.zeros(8, dtype=torch.int64), mix, 5)
    for labels in (torch.arange(9) - 1, torch.arange(9)):
        with pytest.raises(DataError, match=r"labels from -?\d to \d are to be mixed with 8 classes; leave unlabelled"):
            soft_labels(labels, mix, 8)
