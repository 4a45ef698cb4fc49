"""Points, clusters and densities against scikit-learn and plain loops; what is chosen from them. N rows, K coordinates, G clusters."""

import numpy as np
import pytest
from sklearn.cluster import KMeans

from tcs.errors import DataError
from tcs.labelling import choice, clusters, points
from tcs.labelling.choice import choose_rows, densest, find_clusters
from tcs.labelling.clusters import cluster_rows, means_of, nearest_centres, spread_centres, typicality
from tcs.labelling.points import points_of
from tcs.splits.label_file import GivenLabels

NO_LABELS = GivenLabels(rows_M=np.empty(0, np.int64), labels_M=np.empty(0, np.int64), classes=())


def draw(rows, dims=6, seed=0, offset=0.0):
    return (np.random.default_rng(seed).normal(size=(rows, dims)) + offset).astype(np.float32)


def blobs(sizes, dims=5, apart=20.0, seed=0):
    generator = np.random.default_rng(seed)
    centres_GK = generator.normal(size=(len(sizes), dims)) * apart
    return np.concatenate(
        [centre + generator.normal(size=(size, dims)) for centre, size in zip(centres_GK, sizes, strict=True)]
    ).astype(np.float32)


def given(rows, labels):
    return GivenLabels(
        rows_M=np.array(rows), labels_M=np.array(labels), classes=tuple(map(str, range(max(labels) + 1)))
    )


def unit_centred(x_ND):
    unit_ND = x_ND.astype(float) / np.linalg.norm(x_ND.astype(float), axis=1, keepdims=True)
    return unit_ND - unit_ND.mean(axis=0)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_points_are_unit_rows_about_their_mean_in_other_axes(dtype):
    x_ND = draw(50, offset=3.0).astype(dtype)
    z_NK, expected_ND = points_of(x_ND), unit_centred(x_ND)
    np.testing.assert_allclose(z_NK @ z_NK.T, expected_ND @ expected_ND.T, atol=1e-6)
    assert z_NK.dtype == np.float32


def test_points_of_wide_rows_keep_the_axes_of_most_variance(monkeypatch):
    monkeypatch.setattr(points, "POINT_DIMS", 3)
    x_ND = draw(80, dims=9) * np.linspace(1, 3, 9, dtype=np.float32)
    spectrum = np.linalg.svd(unit_centred(x_ND), compute_uv=False)
    z_NK = points_of(x_ND)
    np.testing.assert_allclose(np.square(z_NK).sum(), np.square(spectrum[:3]).sum(), rtol=1e-5)


def test_a_row_of_zeros_is_a_point_and_huge_rows_are_not_zeros():
    x_ND = draw(10)
    x_ND[3], x_ND[4] = 0, 1e30
    z_NK = points_of(x_ND)
    assert np.isfinite(z_NK).all()
    assert np.linalg.norm(z_NK[4] - z_NK[3]) == pytest.approx(1, abs=1e-5)


def test_points_of_two_teachers_weigh_them_alike():
    rng = np.random.default_rng(3)
    parts = [rng.standard_normal((30, 4)) + 9, rng.standard_normal((30, 7))]  # one whose unit rows hardly vary
    unit_parts = [part / np.linalg.norm(part, axis=1, keepdims=True) for part in parts]
    centred = [part - part.mean(0) for part in unit_parts]
    equal_ND = np.hstack([part / np.sqrt((part**2).sum()) for part in centred])
    z_NK = points_of(np.hstack(unit_parts), (4, 7)).astype(np.float64)
    gram_NN, expected_NN = z_NK @ z_NK.T, equal_ND @ equal_ND.T
    np.testing.assert_allclose(gram_NN / np.trace(gram_NN), expected_NN / np.trace(expected_NN), atol=1e-6)


def test_one_row_is_no_pool():
    with pytest.raises(DataError, match="the store has 1 rows"):
        points_of(draw(1))


def test_clusters_are_as_tight_as_those_of_scikit_learn():
    z_NK = draw(600, dims=4)
    inertia = []
    for seed in range(3):
        cluster_N = cluster_rows(z_NK, 12, seed)
        inertia.append(sum(np.square(part - part.mean(0)).sum() for g in range(12) for part in [z_NK[cluster_N == g]]))
    expected = [KMeans(12, n_init=1, random_state=seed).fit(z_NK).inertia_ for seed in range(3)]
    assert np.mean(inertia) < 1.03 * np.mean(expected)


def test_clusters_find_blobs_also_when_fitted_on_a_draw(monkeypatch):
    z_NK = blobs((70, 40, 90))
    for rows in (clusters.FIT_ROWS, 60):
        monkeypatch.setattr(clusters, "FIT_ROWS", rows)
        cluster_N = cluster_rows(z_NK, 3, 1)
        parts = np.split(cluster_N, [70, 110])
        assert [len(set(part.tolist())) for part in parts] == [1, 1, 1]
        assert len(set(cluster_N.tolist())) == 3


def test_nearest_centres_and_means_are_those_of_a_loop(monkeypatch):
    z_NK, centres_GK = draw(40, offset=2.0), draw(7, seed=1, offset=2.0)
    centres_GK[5] = 1e3  # nobody's nearest
    monkeypatch.setattr(clusters, "BLOCK_VALUES", 40)
    nearest_N = nearest_centres(z_NK, centres_GK)
    assert nearest_N.tolist() == [int(np.linalg.norm(centres_GK - row, axis=1).argmin()) for row in z_NK]
    moved_GK = means_of(z_NK, nearest_N, centres_GK)
    for g in range(7):
        mine = z_NK[nearest_N == g]
        np.testing.assert_allclose(moved_GK[g], mine.mean(axis=0) if len(mine) else centres_GK[g], rtol=1e-5)


def test_first_centres_are_rows_far_from_each_other():
    z_NK = blobs((5, 5, 5, 5), apart=100.0)
    for seed in range(5):
        chosen_GK = spread_centres(z_NK, 4, np.random.default_rng(seed))
        rows = [int(np.flatnonzero((z_NK == centre).all(axis=1))[0]) for centre in chosen_GK]
        assert sorted(row // 5 for row in rows) == [0, 1, 2, 3]


@pytest.mark.parametrize("rows", [2, 5, 60])
def test_typicality_is_that_of_a_loop(rows, monkeypatch):
    monkeypatch.setattr(clusters, "BLOCK_VALUES", 130)
    z_mK = draw(rows)
    distance_mm = np.linalg.norm(z_mK[:, None] - z_mK[None], axis=2)
    expected = [1 / np.sort(np.delete(distance_mm[row], row))[:20].mean() for row in range(rows)]
    np.testing.assert_allclose(typicality(z_mK), expected, rtol=1e-4)


def test_typicality_of_one_row_and_of_equal_rows():
    assert typicality(draw(1)).tolist() == [1]
    assert np.isfinite(typicality(np.zeros((3, 2), np.float32))).all()


def test_without_labels_the_largest_cluster_speaks_first_by_its_densest_row():
    z_NK = blobs((30, 60, 45))
    found = choose_rows(z_NK, 3, NO_LABELS, 0)
    assert [item.reason for item in found] == ["stands for 60 images", "stands for 45 images", "stands for 30 images"]
    for item, (start, stop) in zip(found, ((30, 90), (90, 135), (0, 30)), strict=True):
        assert item.row == start + int(typicality(z_NK[start:stop]).argmax())


def test_as_many_rows_as_there_are_even_when_all_are_alike():
    for z_NK in (np.zeros((9, 3), np.float32), draw(9)):
        assert sorted(item.row for item in choose_rows(z_NK, 9, NO_LABELS, 0)) == list(range(9))


def test_clusters_without_labels_come_before_those_with_and_unsure_ones_before_sure_ones():
    cluster_N = np.array([0, 0, 0, 1, 1, 2, 2, 2, 3])
    unsure_N = np.array([0.1, 0.1, 0.1, 0.9, 0.9, 1.0, 1.0, 1.0, 0.5], np.float32)
    is_labelled_N = np.zeros(9, bool)
    is_labelled_N[[5, 8]] = True
    found = find_clusters(cluster_N, is_labelled_N, unsure_N)
    assert [part.rows_m.tolist() for part in found] == [[3, 4], [0, 1, 2], [6, 7]]  # 3 has no row left
    assert [(part.size, part.labelled) for part in found] == [(2, 0), (3, 0), (3, 1)]


def test_of_a_cluster_the_densest_of_the_more_unsure_half_is_chosen():
    z_NK = np.array([[0.0], [0.1], [0.2], [0.3], [0.4], [5.0], [5.1], [5.3], [9.0]], np.float32)
    rows = np.arange(9)
    unsure_N = np.array([0, 0, 0, 0, 1, 1, 1, 1, 1], np.float32)
    assert densest(z_NK, rows, None, 0) == 4  # the median of all
    assert densest(z_NK, rows, unsure_N, 0) == 6  # of the last five
    assert densest(z_NK, rows[:3], unsure_N, 0) == 1


def test_the_densest_of_a_crowd_is_sought_in_a_seeded_draw(monkeypatch):
    monkeypatch.setattr(choice, "CROWD", 50)
    z_NK = draw(500, dims=2)
    found = [densest(z_NK, np.arange(500), None, seed) for seed in (0, 0, 1)]
    assert found[0] == found[1]
    assert all(np.linalg.norm(z_NK[row]) < 1 for row in found)


def test_unsure_rows_lie_between_the_classes():
    z_NK = blobs((80, 80), dims=2, apart=3.0, seed=3)
    unsure_N = choice.unsureness(z_NK, given([0, 1, 80, 81], [0, 0, 1, 1]), 0)
    far_N = np.abs((z_NK - z_NK.mean(0)) @ (z_NK[:80].mean(0) - z_NK[80:].mean(0)))
    assert unsure_N[far_N.argsort()[:20]].mean() > 3 * unsure_N[far_N.argsort()[-20:]].mean()
    assert choice.unsureness(z_NK, given([0, 1], [0, 0]), 0) is None


def test_regions_without_a_label_are_sought_before_others():
    z_NK = blobs((40, 40, 40, 40))
    labels = given([0, 1, 40, 41], [0, 0, 1, 1])
    found = choose_rows(z_NK, 6, labels, 0)
    assert {item.row // 40 for item in found} >= {2, 3}
    assert all("with no label" in item.reason for item in found)
    assert not {item.row for item in found} & set(labels.rows_M.tolist())
