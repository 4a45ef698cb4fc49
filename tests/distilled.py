"""Chains of `tcs distill` on a few made-up images."""

import pathlib
import shutil
from typing import Any

from artefacts import make_store
from extraction import SIDE

import tcs
from tcs.config.distill import DistillConfig
from tcs.pipeline.outcome import Outcome

STUDENT = "resnet18,layers=(1,1,1,1),channels=(4,4,8,8)"


def write_images(folder: pathlib.Path, rows: int, seed: int, flat: bool = False) -> None:
    """Images of `make_store`, whose classes differ, in class folders or in one."""
    store = make_store(folder.parent / f"{folder.name}.images", seed=seed, rows=rows)
    for row, key in enumerate(store.keys):
        path = folder / (f"{row}.png" if flat else key)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(store.image_bytes(row))
    shutil.rmtree(store.path)


def write_data(root: pathlib.Path) -> pathlib.Path:
    """`few`: 9 labelled images, `pool`: 12 without a label, `test`: 12 others."""
    write_images(root / "few", 9, 0)
    write_images(root / "pool", 12, 1, flat=True)
    write_images(root / "test", 12, 9)
    return root


def chain_options(data: pathlib.Path, teacher: pathlib.Path, out: pathlib.Path) -> dict[str, Any]:
    return {
        "data": str(data / "few"),
        "unlabelled_data": (str(data / "pool"),),
        "test": str(data / "test"),
        "out": str(out),
        "teacher": "test_vit",
        "teacher_checkpoint": str(teacher),
        "img_size": SIDE,
        "workers": 0,
        "rows_per_shard": 7,
        "models": (STUDENT,),
        "student_img_size": 16,
        "student_batch_size": 8,
        "steps": 3,
        "held_out": 0,
    }


def distilled(options: dict[str, Any], **more: Any) -> Outcome:
    return tcs.distill(DistillConfig.from_options(options | more))
