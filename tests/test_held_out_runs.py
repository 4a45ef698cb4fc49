"""Held-out rows of whole runs: labelled ones where all labels are given and a number is asked for, and no label of others.

A run that holds labelled rows out must be the run that was never given them.
"""

import hashlib
import json
import os
import pathlib
from typing import Any

import numpy as np
import pytest
import torch
from artefacts import CLASSES, make_store, make_targets
from safetensors.torch import load_file

import cache
from tcs.config.train import TrainConfig
from tcs.errors import ConfigError, DataError
from tcs.splits.pool import pool_rows
from tcs.splits.shots import all_labelled, leave_out, without_labels
from tcs.splits.written_split import write_split_file
from tcs.training.data import open_data
from tcs.training.jobs import RunRows, plan_jobs
from tcs.training.metrics import load_metrics
from tcs.training.train import train

STUDENT = "resnet18,layers=(1,1,1,1),channels=(4,4,8,8)"


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> pathlib.Path:
    make_store(tmp_path / "train.store")
    make_targets(tmp_path)
    return tmp_path


def config(folder: pathlib.Path, **options: Any) -> TrainConfig:
    defaults = {
        "store": str(folder / "train.store"),
        "targets": str(folder / "pca.h5"),
        "out": str(folder / "run"),
        "models": (STUDENT,),
        "steps": 3,
        "batch_size": 16,
        "img_size": 16,
        "seed": 3,
    }
    return TrainConfig.from_options(defaults | options)


def planned(folder: pathlib.Path, **options: Any) -> RunRows:
    (job,) = plan_jobs(config(folder, **options), open_data(str(folder / "train.store"), str(folder / "pca.h5")))
    return job.rows


def scores(path: pathlib.Path) -> dict[str, Any]:
    return load_metrics(path / "metrics.jsonl", measured=False)[-1]


@pytest.mark.parametrize("method", ["labels", "tcs-probe", "tcs", "kd"])
def test_a_run_that_holds_labelled_rows_out_is_the_run_without_them(folder: pathlib.Path, method: str) -> None:
    chosen = {"loss": "ce + kd"} if method == "kd" else {"method": method}
    (watched,) = train(config(folder, **chosen, held_out=20))
    rows, store = planned(folder, **chosen, held_out=20), cache.open(folder / "train.store")
    assert len(rows.split.rows_n) == len(rows.rows_n) == 40
    assert not set(rows.held_out.rows_N.tolist()) & set(rows.split.rows_n.tolist())
    write_split_file(folder / "split.txt", rows.split, store.keys, store.labels_N, store.classes)
    few = {"split_file": str(folder / "split.txt"), "unlabelled": "none", "out": str(folder / "few")}
    (given,) = train(config(folder, **chosen, **few, held_out=20))
    first, second = (load_file(path / "last.safetensors") for path in (watched, given))
    assert all(torch.equal(first[key], second[key]) for key in first)
    records = [json.loads((path / "config.json").read_text()) for path in (watched, given)]
    assert len({record["identity"]["split_digest"] for record in records}) == 1
    assert [record["rows"] for record in records] == [{"labelled": 40, "all": 40, "held_out": 20}] * 2
    ours, theirs = scores(watched), scores(given)
    assert 0 <= ours.pop("held_out_knn_top1") <= 100
    assert ours == theirs  # which has no accuracy: those labels lie outside its split


def test_labelled_rows_are_never_held_out_unasked(folder: pathlib.Path) -> None:
    assert len(planned(folder, method="labels").split.rows_n) == 60
    few = planned(folder, method="tcs-probe", shots=8, held_out=20)
    assert (len(few.split.rows_n), len(few.rows_n), len(few.held_out.rows_N)) == (24, 40, 20)
    assert not np.isin(few.held_out.rows_N, few.rows_n).any()
    with pytest.raises(
        ConfigError, match="--held-out is 20; 0 rows lie outside the run and it can spare 12 of its own"
    ):
        planned(folder, method="tcs-probe", shots=16, held_out=20)


def test_a_few_shot_run_reads_no_label_outside_its_split(folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    split, store = planned(folder, method="tcs-probe", shots=4, held_out=20).split, cache.open(folder / "train.store")
    kept = set(split.rows_n.tolist())
    write_split_file(folder / "split.txt", split, store.keys, store.labels_N, store.classes)
    options = {"loss": "ce + kd + l2", "split_file": str(folder / "split.txt"), "held_out": 20}
    (one,) = train(config(folder, **options))
    wrong_N = np.array([label if row in kept else (label + 1) % 3 for row, label in enumerate(store.labels_N)])
    monkeypatch.setattr(cache.Store, "labels_N", wrong_N, raising=False)
    (other,) = train(config(folder, **options, out=str(folder / "other")))
    first, second = load_file(one / "folded.safetensors"), load_file(other / "folded.safetensors")
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert scores(one) == scores(other)
    assert "held_out_r2" in scores(one)
    assert "held_out_knn_top1" not in scores(one)


def test_a_class_that_would_lose_its_last_row_is_named() -> None:
    keys, labels_N = [f"{row}.png" for row in range(6)], np.array([0, 0, 1, 1, 2, -1])
    split = all_labelled(keys, labels_N, CLASSES)
    left = leave_out(split, np.array([0, 5]), keys, labels_N, CLASSES)
    assert left.rows_n.tolist() == [1, 2, 3, 4]
    assert left.digest == all_labelled(keys, np.array([-1, 0, 1, 1, 2, -1]), CLASSES).digest != split.digest
    with pytest.raises(
        DataError, match=r"--held-out takes every labelled row of class 'cow' \(1 classes in all\); use a"
    ):
        leave_out(split, np.array([0, 4]), keys, labels_N, CLASSES)
    assert len(without_labels().rows_n) == 0


def test_keys_that_are_not_utf_8_are_drawn_by_the_hash_of_their_bytes() -> None:
    keys, nothing = ["a.png", "b\udcff.png", "c.png", "d\udcfe.png"], np.array([], np.int64)
    for seed in range(8):
        ranks = [
            hashlib.blake2b(b"%d\0pool\0%s" % (seed, os.fsencode(key)), digest_size=16).hexdigest() for key in keys
        ]
        assert pool_rows(keys, nothing, "2", seed).tolist() == sorted(np.argsort(ranks)[:2].tolist())
