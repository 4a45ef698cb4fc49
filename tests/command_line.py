"""`tcs` run in this process, and the arguments of a small extraction."""

import pathlib

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file

from tcs.cli import main


def tcs(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Run `tcs` in this process: exit code, stdout, stderr."""
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    output = capsys.readouterr()
    assert isinstance(ended.value.code, int)
    return ended.value.code, output.out, output.err


def extraction_arguments(folder: pathlib.Path) -> list[str]:
    """`tcs extract` of six images with a tiny CNN, without --out."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        save_file(timm.create_model("test_resnet", num_classes=0).state_dict(), folder / "w.safetensors")
    for i in range(6):
        path = folder / f"data/c{i % 2}/{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(i).integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(path)
    checkpoint = str(folder / "w.safetensors")
    options = ["--teacher", "test_resnet", "--teacher-checkpoint", checkpoint, "--img-size", "32", "-j", "0"]
    return ["extract", str(folder / "data"), *options]
