"""Options of spread labels and of the teacher's probe: refused where they make no sense or nothing reads them."""

import pathlib
from typing import Any

import pytest
from artefacts import make_store

from tcs.config.pool import POOL_ESTIMATORS, PoolConfig
from tcs.config.train import TrainConfig
from tcs.errors import ConfigError
from tcs.pool_labels.options import ESTIMATORS, RIDGE, PoolLabelOptions
from tcs.training.train import train


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> pathlib.Path:
    make_store(tmp_path / "train.store")
    return tmp_path


def config(folder: pathlib.Path, **options: Any) -> TrainConfig:
    defaults = {"store": str(folder / "train.store"), "out": str(folder / "run"), "shots": 2, "steps": 4}
    return TrainConfig.from_options(defaults | {"models": ("test_vit,img_size=16",), "img_size": 16} | options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"probe_head": "rigde"}, r"--probe-head is 'rigde'; it must be one of ridge, logistic, transductive"),
        ({"pool_estimator": "knn"}, r"--pool-estimator is 'knn'; it must be one of ridge, ridge-em"),
        ({"class_prior": "ant=1"}, r"class_prior is 'ant=1', a single one; it must be a tuple or list, as \['ant=1'\]"),
        ({"class_prior": ("ant",)}, r"--class-prior is 'ant'; it must be NAME=SHARE with a share above 0, as cat=0.1"),
        ({"class_prior": ("ant=-1",)}, r"--class-prior is 'ant=-1'; it must be NAME=SHARE"),
        ({"class_prior": ("ant=.5", "ant=.5")}, r"--class-prior gives class 'ant' a share twice; give each class one"),
        (
            {"class_prior": ("ant=1",), "pool_estimator": "ridge"},
            r"--class-prior has no effect without an estimator that spreads labels; leave it out",
        ),
        ({"pool_temperature": 0.0}, r"--pool-temperature is 0.0; it must be above 0 and finite"),
        (
            {"method": "labels", "pool_temperature": 2.0},
            r"--pool-temperature is 2.0, which the loss 'pool' reads, and loss 'ce' does not; leave it out",
        ),
        ({"pool_teachers": "all"}, r"--pool-teachers is 'all'; it must be one of joined, each"),
        (
            {"pool_teachers": "each"},
            r"--pool-teachers is each, and there is one teacher; give the others' stores with --also",
        ),
        ({"class_prior": ("ant=0.5", "fly=0.5")}, r"the class prior names 'fly', which is no class of the run"),
        ({"class_prior": ("ant=1",)}, r"the class prior lacks 'bee' \(2 of 3 classes are missing\)"),
        ({"class_prior": ("ant=1", "bee=1", "cow=1")}, r"the class prior sums to 3; the shares of all classes must"),
        (
            {"probe_head": "ridge"},
            r"--probe-head is ridge, which kd, dkd, dist, dho-kd and lshl2_s read, and loss 'pool \+ .*' does not; leave it out",
        ),
        (
            {"selection": "pool"},
            r"--selection is pool, which picks coordinates for a classifier of coordinates, and head 'linear' has none; leave it",
        ),
        (
            {"method": "labels", "pool_estimator": "ridge-em"},
            r"--pool-estimator is ridge-em, which the loss 'pool', .* and .* read, and loss 'ce' does not; leave it out",
        ),
        (
            {"method": "tcs-probe", "class_prior": ("ant=0.5", "bee=0.5")},
            r"--class-prior is ant=0.5 bee=0.5, which the loss 'pool', .* and .* read, and loss 'l2' does not; leave it out",
        ),
    ],
)
def test_options_that_make_no_sense_are_refused(folder: pathlib.Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        train(config(folder, **options))


def test_estimators_of_the_command_are_those_that_there_are() -> None:
    assert (RIDGE, *ESTIMATORS) == POOL_ESTIMATORS
    assert PoolConfig().pool_estimator == PoolLabelOptions().estimator
