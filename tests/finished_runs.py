"""Finished runs without training: students of random weights, saved as a run saves them."""

import json
import pathlib

import torch
from torch import nn

import cache
from tcs.checkpoint import FOLDED, save_record, save_weights
from tcs.inference.runs import FinishedStudent, load_student
from tcs.students.backbone import parse_student
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
    record = json.loads(RECORDED.read_text())
    mean, std = normalisation(student.backbone)
    record |= {"classes": list(classes), "stores_read": [str(store.path)]}
    record["identity"] |= {"model": spec.text, "store_identity": store.identity}
    record["student"] |= {
        "name": spec.name,
        "kwargs": dict(spec.kwargs),
        "image_size": size,
        "mean": list(mean),
        "std": list(std),
    }
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
