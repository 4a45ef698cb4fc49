"""Tiny teachers with weights that are random but always the same, files of them, and images for them."""

import pathlib
from typing import Any

import numpy as np
import timm
import torch
from safetensors.torch import save_file

from tcs.config.extract import ExtractConfig


def seeded(name: str, **kwargs: Any) -> torch.nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = timm.create_model(name, pretrained=False, **kwargs).eval()
        with torch.no_grad():  # norms start as the identity, which would hide a norm left out
            for value in model.parameters():
                value.add_(0.1 * torch.randn_like(value))
    return model


def saved(folder: pathlib.Path, name: str, **kwargs: Any) -> pathlib.Path:
    path = folder / f"{name}.safetensors"
    save_file(seeded(name, **kwargs).state_dict(), path)
    return path


def config(checkpoint: pathlib.Path | None, teacher: str = "test_vit", **options: Any) -> ExtractConfig:
    text = None if checkpoint is None else str(checkpoint)
    return ExtractConfig(data="data", out="x.store", teacher=teacher, teacher_checkpoint=text, **options)


def images(size: int, count: int = 3) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).standard_normal((count, 3, size, size)).astype(np.float32))
