"""Short runs of tcs-probe on a small store, for several files of tests."""

import pathlib
from typing import Any

from artefacts import make_store, make_targets

from tcs.config.train import TrainConfig

STUDENT = "resnet18,layers=(1,1,1,1),channels=(4,4,8,8)"


def write_inputs(folder: pathlib.Path) -> pathlib.Path:
    """Make train.store and pca.h5 in `folder`, which is returned."""
    make_store(folder / "train.store")
    make_targets(folder)
    return folder


def run_config(folder: pathlib.Path, **options: Any) -> TrainConfig:
    """12 steps of STUDENT at 4 shots into folder/run, from what `write_inputs` made there."""
    defaults = {
        "store": str(folder / "train.store"),
        "targets": str(folder / "pca.h5"),
        "out": str(folder / "run"),
        "models": (STUDENT,),
        "method": "tcs-probe",
        "shots": 4,
        "steps": 12,
        "batch_size": 16,
        "img_size": 16,
        "seed": 3,
    }
    return TrainConfig.from_options(defaults | options)
