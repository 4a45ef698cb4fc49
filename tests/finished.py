"""Finished runs without training: students of random weights, saved as a run saves them, and images for them.

`make_student` is for what is done with a student: small, and its decisions differ between images. `save_student` is for what is
made of one: of any architecture, with weights and statistics that no layer starts with.
"""

import json
import pathlib
from typing import Any

import numpy as np
import timm
import torch
from torch import nn

import cache
from tcs.checkpoint import save_weights
from tcs.inference.runs import FinishedStudent, load_student
from tcs.plain_files import FOLDED, SEEN, save_record
from tcs.students.backbone import StudentSpec, parse_student
from tcs.students.student import StudentPlan, build_student, normalisation
from tcs.training.record import save_seen

RECORDED = next((pathlib.Path(__file__).parent / "fixtures" / "run_v1" / "finished").glob("*/config.json"))

RESNET = "resnet18,layers=(1,1,1,1),channels=(4,4,8,8)"
VIT = "vit_tiny_patch16_224,img_size=32,patch_size=8,embed_dim=12,depth=1,num_heads=2"
SWIN = "swin_tiny_patch4_window7_224,img_size=32,patch_size=2,window_size=4,depths=(1,1),num_heads=(2,2),embed_dim=8"
FAMILIES = (
    RESNET,
    "tf_mobilenetv3_small_minimal_100",
    "test_efficientnet",
    "convnext_atto,depths=(1,1,1,1),dims=(8,8,8,8)",
    VIT,
    SWIN,
    "cifar_resnet8",
)

NAME, KWARGS = "resnet18", {"layers": (1, 1, 1, 1), "channels": (4, 4, 8, 8)}
TEXT, FOLDER = RESNET, "resnet18-layers-1-1-1-1-channels-4-4-8-8"
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
    record = recorded(parse_student(TEXT), classes, 16, (MEAN, STD))
    record |= {
        "config": {"method": "labels"},
        "method": {"loss": "ce"},
        "calibration": None if temperature is None else {"temperature": temperature, "rows": 100},
    }
    record["student"] |= {"parameters": sum(weights.numel() for weights in model.parameters())}
    save_record(place, {**record, **changes})
    return place


def save_student(
    run: pathlib.Path, model: str, store: cache.Store, *, classes: tuple[str, ...], size: int = 32
) -> FinishedStudent:
    """One more student of `run`: its weights, statistics of normalisation included, are drawn, always the same."""
    spec, folder = parse_student(model), run / parse_student(model).folder
    folder.mkdir(parents=True)
    plan = StudentPlan(
        spec=spec,
        n_classes=len(classes),
        components=None,
        reads_coordinates=False,
        image_size=size,
        pretrained=False,
        seed=0,
    )
    student = build_student(plan).eval()
    _disturb(student)
    save_weights(folder / FOLDED, student.folded_state())
    save_seen(folder / "seen.npy", store.hashes_N16[:10])
    record = recorded(spec, classes, size, normalisation(student.backbone))
    record["stores_read"] = [str(store.path)]
    record["identity"] |= {"store_identity": store.identity}
    save_record(folder, record)
    return load_student(folder)


def _disturb(student: nn.Module) -> None:
    """Weights and statistics other than those a layer starts with, so that one that is left out is seen."""
    generator = torch.Generator().manual_seed(1)
    for module in student.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-0.2, 0.2, generator=generator)
            module.running_var.uniform_(0.5, 1.5, generator=generator)
        if isinstance(module, nn.BatchNorm2d | nn.LayerNorm):
            nn.init.uniform_(module.weight, 0.5, 1.5, generator=generator)
            nn.init.uniform_(module.bias, -0.2, 0.2, generator=generator)


def recorded(
    spec: StudentSpec, classes: tuple[str, ...], size: int, normalised: tuple[tuple[float, ...], tuple[float, ...]]
) -> dict[str, Any]:
    """What a run records of a student: the stored record of a run, changed to this architecture, these classes and pixels."""
    record: dict[str, Any] = json.loads(RECORDED.read_text())
    record["classes"] = list(classes)
    record["identity"] |= {"model": spec.text}
    mean, std = map(list, normalised)
    record["student"] |= {"name": spec.name, "kwargs": dict(spec.kwargs), "image_size": size, "mean": mean, "std": std}
    return record


def write_images(folder: pathlib.Path, store: cache.Store) -> pathlib.Path:
    """The images of a store as files below `folder`, by their keys."""
    for row, key in enumerate(store.keys):
        path = folder / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(store.image_bytes(row))
    return folder
