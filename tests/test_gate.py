"""The quick check after extraction, on stores whose features are made up."""

import pathlib

import artefacts
import numpy as np
import pytest

import cache
from tcs.extraction.gate import MAX_ROWS, gate, gate_line


def make_store(path: pathlib.Path, features_ND: np.ndarray, labels: list[int], classes: tuple[str, ...]) -> cache.Store:
    count, dims = features_ND.shape
    plan = cache.Plan(
        identity={"teacher": "made up"},
        readouts=(cache.Readout(name="avg", dims=dims, dtype="float32"),),
        keys=tuple(f"{i}.png" for i in range(count)),
        labels=tuple(labels),
        classes=classes,
        images="none",
        rows_per_shard=100,
        batch_size=8,
    )
    with cache.StoreWriter(path, plan, provenance={}) as writer:
        for index in writer.pending():
            positions = np.array(plan.positions(index))
            hashes = np.zeros((len(positions), 16), np.uint8)
            rows = cache.ShardRows(positions_N=positions, hashes_N16=hashes, features={"avg": features_ND[positions]})
            writer.write_shard(index, rows)
        writer.close()
    return cache.open(path)


def clusters(count: int, dims: int, classes: int, spread: float) -> tuple[np.ndarray, list[int]]:
    generator = np.random.default_rng(0)
    labels = np.arange(count) % classes
    centres = generator.standard_normal((classes, dims))
    return (centres[labels] + spread * generator.standard_normal((count, dims))).astype(np.float32), labels.tolist()


def test_separated_classes_are_found_and_shuffled_ones_are_not(tmp_path: pathlib.Path) -> None:
    features_ND, labels = clusters(500, 16, 5, 0.1)
    good = gate(make_store(tmp_path / "good", features_ND, labels, tuple("abcde")), "avg", 0)
    assert (good["knn_top1"], good["probe_top1"]) == (100.0, 100.0)
    assert (good["rows"], good["fitted_rows"], good["held_out_rows"], good["classes"]) == (500, 400, 100, 5)
    assert "near chance" not in gate_line("avg", good)
    noise_ND = np.random.default_rng(1).standard_normal((500, 16)).astype(np.float32)
    bad = gate(make_store(tmp_path / "bad", noise_ND, labels, tuple("abcde")), "avg", 0)
    assert max(bad["knn_top1"], bad["probe_top1"]) < 40
    sick = {**good, "knn_top1": good["chance"], "probe_top1": good["chance"]}
    assert gate_line("avg", sick).endswith("That is near chance: check the weights and the preprocessing.")


def test_same_seed_same_result_and_held_out_rows_depend_on_the_seed(tmp_path: pathlib.Path) -> None:
    features_ND, labels = clusters(300, 8, 3, 1.0)
    store = make_store(tmp_path / "s", features_ND, labels, tuple("abc"))
    assert gate(store, "avg", 1) == gate(store, "avg", 1)
    assert gate(store, "avg", 1) != gate(store, "avg", 2)


@pytest.mark.parametrize("labels", [[-1] * 60, [0] * 60, [0, 1] * 2 + [-1] * 56])
def test_without_two_classes_there_are_only_statistics(tmp_path: pathlib.Path, labels: list[int]) -> None:
    features_ND = np.zeros((60, 6), np.float32)
    features_ND[:, :2] = np.random.default_rng(2).standard_normal((60, 2))
    result = gate(make_store(tmp_path / "s", features_ND, labels, ("a", "b")), "avg", 0)
    assert set(result) == {"rows", "constant_dims", "effective_rank"}
    assert (result["rows"], result["constant_dims"]) == (60, 4)
    assert 1.5 < result["effective_rank"] <= 2.0
    assert gate_line("avg", result).endswith("4 constant dims (60 rows, no labels to probe).")


def test_unlabelled_rows_are_left_out_of_the_probe(tmp_path: pathlib.Path) -> None:
    features_ND, labels = clusters(200, 8, 2, 0.1)
    features_ND[100:] = 1e4
    result = gate(make_store(tmp_path / "s", features_ND, labels[:100] + [-1] * 100, ("a", "b")), "avg", 0)
    assert (result["rows"], result["probe_top1"]) == (100, 100.0)


def test_constant_features_have_rank_one_and_break_nothing(tmp_path: pathlib.Path) -> None:
    labels = [0, 1] * 20
    result = gate(make_store(tmp_path / "s", np.ones((40, 4), np.float32), labels, ("a", "b")), "avg", 0)
    assert (result["constant_dims"], result["effective_rank"]) == (4, 1.0)


def test_large_stores_are_sampled(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert MAX_ROWS == 10_000
    monkeypatch.setattr("tcs.extraction.gate.MAX_ROWS", 50)
    features_ND, labels = clusters(200, 8, 2, 0.1)
    assert gate(make_store(tmp_path / "s", features_ND, labels, ("a", "b")), "avg", 0)["rows"] == 50


def test_maps_are_averaged_and_the_first_view_counts(tmp_path: pathlib.Path) -> None:
    plain = artefacts.make_store(tmp_path / "plain")
    mapped = artefacts.make_store(tmp_path / "mapped", grid=(2, 2))
    assert gate(mapped, "avg", 0) == gate(plain, "avg", 0)
    viewed = artefacts.make_store(tmp_path / "viewed", views=2)
    assert gate(viewed, "avg", 0)["rows"] == 60
    assert gate(viewed, "avg", 0) != gate(plain, "avg", 0)
