"""Legend: B batch rows, K coordinates, H hash bits, C classes."""

import math

import numpy as np
import pytest
import torch

from tcs.functional.coordinates import HashPlanes, coordinate_l2, elsh, hash_logits, unpack_bits


def planes(hash_bits: int, components: int, seed: int = 0) -> HashPlanes:
    generator = torch.Generator().manual_seed(seed)
    return HashPlanes(
        rotation_HK=torch.randn(hash_bits, components, generator=generator, dtype=torch.float64),
        thresholds_H=torch.randn(hash_bits, generator=generator, dtype=torch.float64),
        rms_H=torch.rand(hash_bits, generator=generator, dtype=torch.float64) + 0.5,
    )


def test_elsh_equals_a_loop_over_rows_and_bits() -> None:
    p = planes(hash_bits=16, components=5)
    generator = torch.Generator().manual_seed(1)
    z_BK = torch.randn(4, 5, generator=generator, dtype=torch.float64)
    bits_BH = torch.randint(0, 2, (4, 16), generator=generator)
    total = 0.0
    for b in range(4):
        for h in range(16):
            projection = sum(float(p.rotation_HK[h, k]) * float(z_BK[b, k]) for k in range(5))
            logit = 2.0 * (projection - float(p.thresholds_H[h])) / float(p.rms_H[h])
            total += math.log1p(math.exp(-logit if bits_BH[b, h] else logit))
    assert float(elsh(z_BK, bits_BH, p)) == pytest.approx(total / (4 * 16), rel=1e-12)


def test_elsh_gradient_is_sigmoid_minus_bit() -> None:
    p = planes(hash_bits=8, components=3)
    z_BK = torch.randn(2, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64, requires_grad=True)
    bits_BH = torch.tensor([[0, 1] * 4, [1, 1, 0, 0] * 2])
    elsh(z_BK, bits_BH, p).backward()
    probability = torch.sigmoid(hash_logits(z_BK.detach(), p))
    expected = ((probability - bits_BH) / p.rms_H * 2.0) @ p.rotation_HK / bits_BH.numel()
    assert torch.allclose(z_BK.grad, expected, rtol=1e-10)


def test_elsh_is_lowest_for_the_side_that_the_bits_name() -> None:
    p = planes(hash_bits=64, components=6)
    z_BK = torch.randn(8, 6, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    bits_BH = (hash_logits(z_BK, p) >= 0).to(torch.uint8)
    assert elsh(z_BK, bits_BH, p) < math.log(2) < elsh(z_BK, 1 - bits_BH, p)


def test_coordinate_l2_is_the_mean_over_rows_and_coordinates() -> None:
    assert (
        float(coordinate_l2(torch.tensor([[1.0, 2.0], [0.0, 0.0]]), torch.tensor([[0.0, 0.0], [0.0, 4.0]])))
        == (1 + 4 + 16) / 4
    )


def test_unpack_bits_reads_what_numpy_packed_in_little_order() -> None:
    bits_BH = np.random.default_rng(0).integers(0, 2, (7, 24), dtype=np.uint8)
    packed = np.packbits(bits_BH, axis=1, bitorder="little")
    assert np.array_equal(unpack_bits(torch.from_numpy(packed)).numpy(), bits_BH)
