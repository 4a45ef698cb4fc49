"""The numbers of `tcs look`, each against a slow reference."""

import numpy as np
import pytest

from tcs.looking.kept import compare_neighbours
from tcs.looking.maps import (
    PrincipalPoints,
    axis_ends,
    make_maps,
    principal_points,
    tsne,
)
from tcs.looking.neighbours import COSINE_SCALE, nearest_rows
from tcs.looking.spaces import Space, signs
from tcs.looking.typical import MOST_PICTURES, centralities, groups_of, typical_rows
from tcs.probes.agreement import neighbour_agreement


def blocks_of(rows_NX, size):
    return ((start, rows_NX[start : start + size]) for start in range(0, len(rows_NX), size))


def unit(rows_NX):
    return (rows_NX / np.linalg.norm(rows_NX, axis=1, keepdims=True)).astype(np.float32)


def space_of(rows_NX, name="features", scale=COSINE_SCALE):
    return Space(
        name=name, source="", dims=rows_NX.shape[1], rows=len(rows_NX), scale=scale, prepared=lambda at: rows_NX[at]
    )


@pytest.mark.parametrize("size", [1, 7, 100])
def test_nearest_rows_are_those_of_all_products(size):
    rng = np.random.default_rng(0)
    rows_NX, asked = unit(rng.standard_normal((61, 6))), np.array([0, 17, 60])
    found = nearest_rows(rows_NX[asked], asked, blocks_of(rows_NX, size), 61, 5, COSINE_SCALE)
    for place, row in enumerate(asked):
        cosine_N = rows_NX[row].astype(np.float64) @ rows_NX.T
        cosine_N[row] = -2
        expected = np.argsort(-cosine_N, kind="stable")[:5]
        assert found.rows_Qk[place].tolist() == expected.tolist()
        np.testing.assert_allclose(found.products_Qk[place], cosine_N[expected], atol=1e-6)


@pytest.mark.parametrize("size", [1, 5, 64])
def test_of_rows_that_tie_the_first_are_named_and_shares_are_counted_by_hand(size):
    bits_NP = np.random.default_rng(1).integers(0, 2, (40, 8), dtype=np.uint8)
    bits_NP = np.packbits(bits_NP, axis=1, bitorder="little")  # 256 values of 8 bits: ties everywhere
    rows_NX, asked, count = signs(bits_NP), np.arange(40), 6
    wanted_Qk = np.stack([np.random.default_rng(row).choice(np.delete(asked, row), count, False) for row in asked])
    found = nearest_rows(rows_NX, asked, blocks_of(rows_NX, size), 40, count, 1, wanted_Qk)
    for row in range(40):
        hamming = {o: bin(int(bits_NP[row, 0]) ^ int(bits_NP[o, 0])).count("1") for o in range(40) if o != row}
        assert found.rows_Qk[row].tolist() == sorted(hamming, key=lambda o: (hamming[o], o))[:count]
        last = sorted(hamming.values())[count - 1]
        nearer = [o for o in hamming if hamming[o] < last]
        tied = [o for o in hamming if hamming[o] == last]
        share = (count - len(nearer)) / len(tied)
        expected = sum(1.0 if o in nearer else share if o in tied else 0.0 for o in wanted_Qk[row].tolist()) / count
        assert found.kept_Q[row] == pytest.approx(expected)


def test_recall_is_the_agreement_of_all_rows():
    rng = np.random.default_rng(2)
    features_ND = rng.standard_normal((80, 9))
    features_ND -= features_ND.mean(0)
    fewer_NK = features_ND[:, :4]
    spaces = [space_of(unit(features_ND)), space_of(unit(fewer_NK), "coordinates")]
    found = compare_neighbours(spaces, np.arange(80) % 3, seed=0)
    share, chance = neighbour_agreement(fewer_NK, features_ND)
    assert found.kept[1].recall == pytest.approx(share)
    assert found.kept[1].chance == pytest.approx(chance)
    assert found.kept[0].recall == 1.0
    labels_N = np.arange(80) % 3
    same = (labels_N[found.near[1].rows_Qk] == labels_N[:, None]).mean()
    assert found.kept[1].same_class == pytest.approx(same)


def test_rows_that_are_all_alike_keep_what_chance_keeps():
    rng = np.random.default_rng(3)
    spaces = [space_of(unit(rng.standard_normal((30, 5)))), space_of(np.ones((30, 8), np.float32), "hash bits", 1)]
    found = compare_neighbours(spaces, np.full(30, -1), seed=0)
    assert found.kept[1].recall == pytest.approx(found.kept[1].chance) == pytest.approx(10 / 29)
    assert found.kept[1].same_class is None


def test_of_many_rows_a_seeded_draw_is_asked_for(monkeypatch):
    monkeypatch.setattr("tcs.looking.kept.MOST_ASKED", 12)
    spaces = [space_of(unit(np.random.default_rng(4).standard_normal((50, 5))))]
    asked = [compare_neighbours(spaces, np.zeros(50, int), seed).asked_Q.tolist() for seed in (0, 0, 1)]
    assert len(set(asked[0])) == 12
    assert asked[0] == asked[1] != asked[2]


def test_centrality_is_the_mean_cosine_to_the_other_images_of_the_class():
    rows_ND = unit(np.random.default_rng(5).standard_normal((31, 4)))
    labels_N = np.array([0] * 12 + [1] * 10 + [-1] * 8 + [2])
    groups_N, names = groups_of(labels_N, ("ant", "bee", "cow"))
    assert names == ("ant", "bee", "cow", "unlabelled")
    found_N = centralities(space_of(rows_ND), groups_N, 4)
    for row in range(30):
        others = [o for o in range(31) if o != row and labels_N[o] == labels_N[row]]
        assert found_N[row] == pytest.approx(np.mean([rows_ND[row] @ rows_ND[o] for o in others]), abs=1e-6)
    assert np.isnan(found_N[30])
    shown = typical_rows(found_N, groups_N, names)
    assert [(item.name, item.rows) for item in shown] == [("ant", 12), ("bee", 10), ("cow", 1), ("unlabelled", 8)]
    order = sorted(range(12), key=lambda row: -found_N[row])
    assert shown[0].most.tolist() == order[:6]
    assert shown[0].least.tolist() == order[::-1][:6]
    assert shown[2].most.tolist() == shown[2].least.tolist() == []
    assert len(shown[3].most) == len(shown[3].least) == 4


def test_many_classes_share_the_pictures_and_the_largest_are_shown():
    groups_N = np.repeat(np.arange(600), 4)
    groups_N[:8] = 1  # class 0 has no image, class 1 has eight
    shown = typical_rows(np.zeros(2400), groups_N, [f"c{g}" for g in range(600)])
    assert sum(len(item.most) + len(item.least) for item in shown) == MOST_PICTURES
    assert [item.name for item in shown] == [f"c{g}" for g in range(1, 241)]


def test_coordinates_are_those_of_a_singular_value_decomposition():
    x_ND = np.random.default_rng(6).standard_normal((50, 6)) * (6, 5, 4, 3, 2, 1)
    mean_D, covariance_DD = x_ND.mean(0), np.cov(x_ND.T)

    class Vectors:
        shape = (50, 6)

        def __len__(self):
            return 50

        def blocks(self):
            return blocks_of(x_ND, 13)

    found = principal_points(Vectors(), mean_D, covariance_DD)
    u, s, _ = np.linalg.svd(x_ND - mean_D, full_matrices=False)
    np.testing.assert_allclose(np.abs(found.points_NJ), np.abs(u * s), atol=1e-4)
    np.testing.assert_allclose(found.shares_J, s**2 / (s**2).sum(), rtol=1e-6)
    first = axis_ends(found)[0]
    assert first.low.tolist() == np.argsort(found.points_NJ[:, 0])[:6].tolist()
    assert first.high.tolist() == np.argsort(-found.points_NJ[:, 0])[:6].tolist()


def test_coordinates_without_variance_are_not_shown():
    points_NJ = np.zeros((8, 3), np.float32)
    points_NJ[:, 0] = np.arange(8)
    assert [item.number for item in axis_ends(PrincipalPoints(points_NJ, np.array([1.0, 0.0, 0.0])))] == [1]


def test_maps_are_the_same_again_and_keep_groups_apart(monkeypatch):
    rng = np.random.default_rng(7)
    points_NJ = (rng.standard_normal((60, 5)) + 20 * (np.arange(60) % 2)[:, None]).astype(np.float32)
    first, second = (make_maps(points_NJ, 0, with_tsne=True).places["t-SNE"] for _ in range(2))
    assert first.tobytes() == second.tobytes()
    even, odd = first[::2], first[1::2]
    assert np.linalg.norm(even.mean(0) - odd.mean(0)) > 2 * max(even.std(0).max(), odd.std(0).max())
    monkeypatch.setattr("tcs.looking.maps.MAP_ROWS", 20)
    drawn = make_maps(points_NJ, 0, with_tsne=False)
    assert len(drawn.rows_M) == len(drawn.places["PCA"]) == 20
    np.testing.assert_array_equal(drawn.places["PCA"], points_NJ[drawn.rows_M, :2])


def test_points_of_one_coordinate_have_a_map():
    assert tsne(np.arange(12, dtype=np.float32)[:, None], 0).shape == (12, 2)
