"""What `tcs probe` reads: rows of a split as sums, and right answers counted against tcs.evaluation.students. M rows, C classes."""

import pathlib

import numpy as np
import pytest
from artefacts import CLASSES, make_store

import cache
from tcs.config.evaluate import ProbeConfig
from tcs.evaluation.probe_stores import ProbedStores, count_hits, open_stores, read_rows
from tcs.metrics import accuracy
from tcs.probes.heads import LinearHead
from tcs.splits.shots import k_shot_split, read_split_file
from tcs.splits.written_split import write_split_file


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> ProbedStores:
    folder = tmp_path_factory.mktemp("probed")
    make_store(folder / "train.store", rows=60)
    make_store(folder / "test.store", seed=9, rows=45)
    return open_stores(ProbeConfig(store=str(folder / "train.store"), test=str(folder / "test.store")))


def test_hits_of_many_heads_are_those_of_each_alone(stores: ProbedStores, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tcs.evaluation.probe_stores.BLOCK_ROWS", 8)
    monkeypatch.setattr("tcs.evaluation.probe_stores.MOST_RANKED", 2)
    generator = np.random.default_rng(0)
    heads = [LinearHead(weight_CK=generator.normal(size=(3, 24)), bias_C=generator.normal(size=3)) for _ in range(4)]
    heads.append(LinearHead(weight_CK=heads[0].weight_CK, bias_C=np.array([0.0, -np.inf, 0.0])))
    heads.append(LinearHead(weight_CK=np.zeros((3, 24)), bias_C=np.zeros(3)))  # all tied: the first class wins
    x_MD = stores.test.features()[:]
    for head, (first, two) in zip(heads, count_hits(stores, heads).tolist(), strict=True):
        logits_MC = head.logits(x_MD)
        assert first == round(accuracy(logits_MC, stores.truth_M)["top1"] * 45 / 100)
        order_MC = np.argsort(-logits_MC, axis=1, kind="stable")
        assert two == (order_MC[:, :2] == stores.truth_M[:, None]).any(axis=1).sum()
    assert count_hits(stores, heads[-1:]).tolist() == [[15, 30]]


@pytest.mark.parametrize("keep", [True, False])
def test_rows_of_a_split_come_as_sums(stores: ProbedStores, keep: bool) -> None:
    train = stores.train
    split = k_shot_split(train.keys, train.labels_N, train.classes, 5, 0)
    rows = read_rows(stores, split, keep)
    x_ND = train.features()[np.sort(split.rows_n)]
    np.testing.assert_allclose(rows.gram.mean_K, x_ND.mean(0), rtol=1e-5)
    np.testing.assert_allclose(rows.gram.variances, x_ND.var(0), rtol=1e-4)
    np.testing.assert_array_equal(rows.labels_N, train.labels_N[np.sort(split.rows_n)])
    if keep:
        np.testing.assert_array_equal(rows.x_ND, x_ND)
    else:
        assert rows.x_ND is None


def test_scored_rows_have_the_class_of_their_folder(stores: ProbedStores) -> None:
    assert len(stores.scored_M) == len(stores.truth_M) == 45
    assert [CLASSES[label] for label in stores.truth_M] == [key.split("/")[0] for key in stores.test.keys]


def test_a_split_file_names_the_labelled_rows(tmp_path: pathlib.Path, stores: ProbedStores) -> None:
    from tcs.evaluation.probe import measure_compression

    train: cache.Store = stores.train
    drawn = k_shot_split(train.keys, train.labels_N, train.classes, 3, 8)
    write_split_file(tmp_path / "split.txt", drawn, train.keys, train.labels_N, train.classes)
    paths = {"store": str(train.path), "test": str(stores.test.path)}
    result = measure_compression(ProbeConfig(**paths, dims=(2,), split_file=str(tmp_path / "split.txt")))
    known = read_split_file(tmp_path / "split.txt", train.keys, train.labels_N, train.classes)
    assert {(row["labelled"], row["shots"], row["split_id"]) for row in result.rows} == {(9, 3, known.digest)}
    same = measure_compression(ProbeConfig(**paths, dims=(2,), shots=3, split_seed=8))
    assert [row["top1"] for row in same.rows] == [row["top1"] for row in result.rows]
