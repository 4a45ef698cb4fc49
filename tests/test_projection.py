"""Projections: orthonormal columns, PCA against numpy's SVD, application against float64, resizing by hand."""

import numpy as np
import pytest
import torch

from tcs.errors import DataError
from tcs.teacher.projection import fitted_projection, orthogonal_projection, resize_map, stored_projection

torch.set_num_threads(1)


def test_orthogonal_columns_are_orthonormal_and_a_function_of_the_seed() -> None:
    one = orthogonal_projection(48, 16, 7, "map")
    np.testing.assert_allclose(one.matrix_Dd.T.astype(float) @ one.matrix_Dd, np.eye(16), atol=1e-6)
    assert (one.matrix_Dd.shape, one.matrix_Dd.dtype, one.dims, one.share) == ((48, 16), np.float32, 16, None)
    assert not one.origin_D.any()
    assert np.array_equal(one.matrix_Dd, orthogonal_projection(48, 16, 7, "map").matrix_Dd)
    assert not np.array_equal(one.matrix_Dd, orthogonal_projection(48, 16, 8, "map").matrix_Dd)
    assert not np.array_equal(one.matrix_Dd, orthogonal_projection(48, 16, 7, "avg").matrix_Dd)


def test_directions_are_spread_evenly() -> None:
    """Haar: the squared length kept of any one unit vector is d / D on average (signs alone could not show a bias)."""
    kept = [np.square(orthogonal_projection(12, 3, seed, "map").matrix_Dd[0]).sum() for seed in range(400)]
    assert abs(np.mean(kept) - 3 / 12) < 0.03
    first = [orthogonal_projection(12, 3, seed, "map").matrix_Dd[0, 0] for seed in range(400)]
    assert abs(np.mean(first)) < 0.06


def test_pca_is_that_of_an_svd_and_tells_its_share() -> None:
    rng = np.random.default_rng(0)
    sample_ND = (rng.standard_normal((500, 6)) * [5, 3, 2, 1, 0.5, 0.1] @ np.linalg.qr(rng.normal(size=(6, 6)))[0]) + 40
    found = fitted_projection(sample_ND.astype(np.float32), 2, "pca")
    centred_ND = sample_ND - sample_ND.mean(0)
    _, values, axes = np.linalg.svd(centred_ND, full_matrices=False)
    np.testing.assert_allclose(np.abs((axes[:2] * found.matrix_Dd.T).sum(1)), 1, atol=1e-4)
    np.testing.assert_allclose(found.origin_D, sample_ND.mean(0), rtol=1e-5)
    assert found.share == pytest.approx(np.square(values[:2]).sum() / np.square(values).sum(), rel=1e-3)
    for rows in (1, 4):  # 4 rows about their mean span 3 axes
        with pytest.raises(
            DataError, match=f"{rows} vectors have at most {rows - 1} principal axes, and 4 are asked for"
        ):
            fitted_projection(sample_ND[:rows].astype(np.float32), 4, "pca")
    assert fitted_projection(sample_ND[:5].astype(np.float32), 4, "pca").share == pytest.approx(1)


def test_a_linear_auto_encoder_finds_the_principal_span_from_any_start() -> None:
    rng = np.random.default_rng(0)
    sample_ND = (rng.standard_normal((500, 6)) * [5, 3, 2, 0.5, 0.3, 0.1]).astype(np.float32) + 7
    whole = fitted_projection(sample_ND, 3, "pca")
    for seed in (0, 1):
        found = fitted_projection(sample_ND, 3, "autoencoder", seed)
        np.testing.assert_allclose(found.matrix_Dd.T @ found.matrix_Dd, np.eye(3), atol=1e-5)
        cosines = np.linalg.svd(found.matrix_Dd.T @ whole.matrix_Dd, compute_uv=False)
        assert cosines.min() > 0.99
        assert found.share == pytest.approx(whole.share, rel=1e-2)
        assert np.array_equal(found.matrix_Dd, fitted_projection(sample_ND, 3, "autoencoder", seed).matrix_Dd)
    with pytest.raises(DataError, match="3 vectors have at most 2 principal axes, and 3 are asked for"):
        fitted_projection(sample_ND[:3], 3, "autoencoder")


def test_application_is_the_formula_at_every_position_and_float32_under_autocast() -> None:
    projection = fitted_projection(np.random.default_rng(1).normal(3, 1, (50, 8)).astype(np.float32), 3, "pca")
    maps_BHWD = np.random.default_rng(2).normal(3, 1, (2, 4, 5, 8)).astype(np.float32)
    expected = (maps_BHWD.astype(float) - projection.origin_D) @ projection.matrix_Dd
    np.testing.assert_allclose(projection.apply(torch.from_numpy(maps_BHWD)).numpy(), expected, rtol=1e-4, atol=1e-5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        under = projection.apply(torch.from_numpy(maps_BHWD))
    assert torch.equal(under, projection.apply(torch.from_numpy(maps_BHWD)))


def test_differences_survive_as_rdimkd_needs_them() -> None:
    """The origin cancels, and orthonormal columns keep the length of what lies in their span."""
    projection = orthogonal_projection(8, 8, 0, "map")
    one, other = torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(
        (projection.apply(one) - projection.apply(other)).square().sum(1), (one - other).square().sum(1)
    )


def test_constants_go_out_and_come_back() -> None:
    for projection in (orthogonal_projection(6, 2, 0, "map"), fitted_projection(np.eye(6, dtype=np.float32), 2, "pca")):
        constants = projection.constants("block3+norm.map")
        found = stored_projection(constants, "block3+norm.map")
        assert found is not None
        assert np.array_equal(found.matrix_Dd, projection.matrix_Dd)
        assert np.array_equal(found.origin_D, projection.origin_D)
        assert found.share == projection.share
        assert stored_projection(constants, "map") is None


def test_maps_are_averaged_in_equal_windows() -> None:
    map_BHWD = torch.arange(2 * 4 * 6 * 3).reshape(2, 4, 6, 3).float()
    small = resize_map(map_BHWD, (2, 3))
    by_hand = map_BHWD.reshape(2, 2, 2, 3, 2, 3).mean((2, 4))
    torch.testing.assert_close(small, by_hand)
    assert torch.equal(resize_map(map_BHWD, (4, 6)), map_BHWD)
    assert resize_map(map_BHWD, (8, 6)).shape == (2, 8, 6, 3)
