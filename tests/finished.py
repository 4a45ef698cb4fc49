"""Finished students of random weights, in run folders as training leaves them, and labelled images for them, in folders and stores."""

import pathlib
from typing import Any

import numpy as np
import timm
import torch

import cache
from tcs.checkpoint import FOLDED, SEEN, save_record, save_weights

NAME, KWARGS = "resnet18", {"layers": (1, 1, 1, 1), "channels": (4, 4, 8, 8)}
TEXT, FOLDER = "resnet18,layers=(1,1,1,1),channels=(4,4,8,8)", "resnet18-layers-1-1-1-1-channels-4-4-8-8"
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def make_student(
    run: pathlib.Path,
    classes: tuple[str, ...] = ("ant", "bee", "cow"),
    *,
    folder: str = FOLDER,
    temperature: float | None = None,
    seen: list[bytes] | None = None,
    seed: int = 0,
    **changes: Any,
) -> pathlib.Path:
    """RUN/<folder> of a student whose decisions differ between images; `changes` are of its record."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = timm.create_model(NAME, num_classes=len(classes), **KWARGS)
    state = model.state_dict()
    if classes:  # at the start all logits are alike, and the mean image decides: spread and centre them
        with torch.no_grad():
            grey = model.eval()(torch.zeros(1, 3, 16, 16))
            state["fc.weight"] = 400 * state["fc.weight"]
            state["fc.bias"] = -400 * (grey[0] - state["fc.bias"])
    place = run / folder
    place.mkdir(parents=True)
    save_weights(place / FOLDED, state)
    hashes = [np.frombuffer(cache.content_hash(data), np.uint8) for data in seen or []]
    np.save(place / SEEN, np.stack(hashes) if hashes else np.empty((0, 16), np.uint8))
    record = {
        "state": "finished",
        "identity": {"model": TEXT},
        "config": {"method": "labels"},
        "method": {"loss": "ce"},
        "classes": list(classes),
        "calibration": None if temperature is None else {"temperature": temperature, "rows": 100},
        "student": {
            "name": NAME,
            "kwargs": KWARGS,
            "image_size": 16,
            "mean": MEAN,
            "std": STD,
            "parameters": sum(weights.numel() for weights in model.parameters()),
        },
    }
    save_record(place, {**record, **changes})
    return place


def write_images(folder: pathlib.Path, store: cache.Store) -> pathlib.Path:
    """The images of a store as files below `folder`, by their keys."""
    for row, key in enumerate(store.keys):
        path = folder / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(store.image_bytes(row))
    return folder
