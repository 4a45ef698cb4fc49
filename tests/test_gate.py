"""The quick check after extraction, on stores whose features are made up."""

import pathlib

import artefacts
import numpy as np
import pytest
from scipy.stats import binom

import cache
from tcs.extraction.gate import MAX_ROWS, gate, gate_line, is_near_chance


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


@pytest.mark.parametrize(
    ("labels", "reason"),
    [
        ([-1] * 60, "no labels to probe"),
        ([0] * 60, "no probe: all labels are of 1 class, and it takes 2 or more"),
        ([0, 1] * 4 + [0] + [-1] * 51, "no probe: 9 labelled, and it takes 10 or more"),
    ],
)
def test_without_labels_enough_there_are_only_statistics_and_the_reason(
    tmp_path: pathlib.Path, labels: list[int], reason: str
) -> None:
    features_ND = np.zeros((60, 6), np.float32)
    features_ND[:, :2] = np.random.default_rng(2).standard_normal((60, 2))
    result = gate(make_store(tmp_path / "s", features_ND, labels, ("a", "b")), "avg", 0)
    known = {"rows": 60, "constant_dims": 4, "labelled_rows": sum(label >= 0 for label in labels)}
    assert result == known | {
        "labelled_classes": len({*labels} - {-1}),
        "effective_rank": pytest.approx(1.75, abs=0.25),
    }
    assert gate_line("avg", result).endswith(f"4 constant dims (60 rows, {reason}).")


def test_the_record_of_an_earlier_release_is_told() -> None:
    record = {"rows": 60, "constant_dims": 0, "effective_rank": 2.0}
    assert gate_line("avg", record) == "gate avg: effective rank 2.0, 0 constant dims (60 rows, no labels to probe)."


def judged(held_out: int, chance: float, knn: float, probe: float) -> bool:
    return is_near_chance({"held_out_rows": held_out, "chance": chance, "knn_top1": knn, "probe_top1": probe})


@pytest.mark.parametrize(
    ("held_out", "chance", "knn", "probe", "expected"),
    [
        (100, 66.0, 90.0, 99.0, False),  # 1.5 times 66 is 99: no probe could be far enough from it
        (100, 90.0, 100.0, 95.0, False),
        (100, 66.0, 66.0, 70.0, True),
        (100, 66.0, 40.0, 30.0, True),
        (2000, 50.0, 52.0, 50.0, True),  # 40 errors less of 1,000 are 1.8 standard deviations
        (2000, 50.0, 50.0, 53.0, False),  # 60 are 2.7
        (1000, 0.5, 5.0, 5.0, False),  # of 1,000 classes a twentieth found is not chance
        (19, 50.0, 47.37, 47.37, False),  # too few rows to say anything
        (20, 50.0, 50.0, 50.0, True),
        (100, 99.0, 99.0, 100.0, False),  # of one row outside the largest class nothing can be told
        (100, 99.0, 99.0, 99.0, False),
        (100, 100.0, 100.0, 100.0, False),
    ],
)
def test_near_chance_is_judged_by_errors_against_those_of_the_largest_class(
    held_out: int, chance: float, knn: float, probe: float, expected: bool
) -> None:
    assert judged(held_out, chance, knn, probe) is expected


def test_the_margin_is_that_of_the_binomial() -> None:
    for rows, outside in ((20, 10), (60, 25), (2000, 400)):
        least = next(errors for errors in range(outside + 1) if binom.cdf(errors, rows, outside / rows) > 0.01)
        for errors in (least - 1, least):
            top1 = 100 - 100 * errors / rows
            assert judged(rows, 100 - 100 * outside / rows, 0.0, top1) is (errors == least)


def test_a_probe_that_finds_the_smaller_class_is_not_near_chance(tmp_path: pathlib.Path) -> None:
    features_ND, labels = clusters(300, 16, 3, 0.1)
    uneven = [min(label, 1) for label in labels]  # two thirds of class 1
    result = gate(make_store(tmp_path / "s", features_ND, uneven, ("a", "b")), "avg", 0)
    assert result["probe_top1"] == 100.0
    assert "near chance" not in gate_line("avg", result)


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
