"""The benchmark of the held-out numbers, once and small, so that it cannot rot."""

import numpy as np
import pytest
from artefacts import make_store, make_targets
from tables import read_rows

from benchmarks import held_out
from tcs.config.train import TrainConfig
from tcs.training.train import train

STUDENT = "resnet18,layers=(1,1,1,1),channels=(4,4,4,4)"
SMALL = ("--student", STUDENT, "--img-size", "16", "--held-out", "30")


@pytest.fixture
def folder(tmp_path):
    make_store(tmp_path / "train.store", rows=90)
    return tmp_path


def test_students_are_compared_with_the_untrained_one_and_the_teacher(folder):
    config = TrainConfig(
        store=str(folder / "train.store"),
        out=str(folder / "grid" / "runs" / "labels_2_0_none"),
        models=(STUDENT,),
        method="labels",
        shots=2,
        unlabelled="none",
        steps=2,
        img_size=16,
        seed=0,
    )
    train(config)
    (folder / "grid" / "results.csv").write_text(
        "model,method,shots,seed,unlabelled,status,top1\n"
        f'"{STUDENT}",labels,2,0,none,ok,33.3\n"{STUDENT}",tcs,2,0,none,failed,\nteacher,probe,2,0,,ok,90.0\n'
    )
    held_out.main(
        ["students", str(folder / "train.store"), str(folder / "grid"), "--out", str(folder / "a.csv"), *SMALL]
    )
    found = {row["student"]: row for row in read_rows(folder / "a.csv")}
    assert list(found) == [
        "teacher",
        "teacher, 4 components",
        "untrained, seed 0",
        "untrained, seed 1",
        "untrained, seed 2",
        "labels",
    ]
    assert float(found["teacher"]["held_out_knn_agreement"]) == 1
    assert found["labels"]["test_top1"] == "33.3"


def test_a_trace_scores_before_and_while_training(folder):
    make_targets(folder)
    options = [*SMALL, "--steps", "4", "--shots", "2", "--unlabelled", "20"]
    held_out.main(
        ["trace", str(folder / "train.store"), str(folder / "pca.h5"), "--out", str(folder / "b.csv"), *options]
    )
    found = read_rows(folder / "b.csv")
    assert [row["step"] for row in found] == ["0", "1", "2", "3", "4"] * 2
    right, wrong = found[:5], found[5:]
    assert right[0]["held_out_r2"] == wrong[0]["held_out_r2"]
    assert right[4]["loss"] != wrong[4]["loss"]
    assert np.isfinite([float(row["held_out_r2"]) for row in found]).all()
