"""What the page about students in use says of plain timm works as it is printed there, without anything of ours."""

import json
import pathlib
import re
import subprocess
import sys
from typing import Any

import torch
from artefacts import make_store

from tcs.config.train import TrainConfig
from tcs.inference.runs import load_student
from tcs.training.train import train

TESTS = str(pathlib.Path(__file__).parent)
PAGE = pathlib.Path(__file__).parent.parent / "docs" / "how-to" / "predict.md"
PRINT = """
import sys, torch
size = config["student"]["image_size"]
pixels = torch.linspace(-1, 1, 3 * size * size).view(1, 3, size, size)
with torch.no_grad():
    logits = model(pixels)[0].tolist()
print(json.dumps([logits, model.training, [name for name in sys.modules if name in ("tcs", "cache")]]))
"""


def snippet() -> str:
    """The block of Python under the heading `With timm alone`."""
    (block,) = re.findall(r"^## With timm alone$.*?^```python\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE)[
        :1
    ]
    return str(block)


MODELS = (
    "resnet18,layers=(1,1,1,1),channels=(4,4,8,8)",
    "vit_tiny_patch16_224,img_size=32,patch_size=4,embed_dim=12,depth=1,num_heads=2",
)

STRICT = f"""
import os, runpy, sys
sys.path.append({TESTS!r})
import strictness
strictness.apply()
for folder in sys.argv[1:]:
    os.chdir(folder)
    runpy.run_path("snippet.py", run_name="__main__")
"""


def test_the_snippet_loads_a_student_whatever_its_arguments(tmp_path: pathlib.Path) -> None:
    make_store(tmp_path / "train.store", rows=12)
    options: dict[str, Any] = {"store": str(tmp_path / "train.store"), "img_size": 32, "steps": 1, "batch_size": 4}
    trained = train(TrainConfig(**options, models=MODELS, out=str(tmp_path / "trained"), held_out=0))
    places = [tmp_path / f"user {number}" for number in range(len(MODELS))]
    for place, folder in zip(places, trained, strict=True):
        (place / "run").mkdir(parents=True)
        folder.rename(place / "run" / "resnet18")  # the one student of the page
        (place / "snippet.py").write_text(snippet() + PRINT)
    done = subprocess.run([sys.executable, "-c", STRICT, *places], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    pixels = torch.linspace(-1, 1, 3 * 32 * 32).view(1, 3, 32, 32)
    for place, line in zip(places, done.stdout.splitlines(), strict=True):
        logits, is_training, ours = json.loads(line)
        with torch.no_grad():
            expected = load_student(place / "run" / "resnet18").model(pixels)[0]
        assert torch.allclose(torch.tensor(logits), expected, atol=1e-5)
        assert (is_training, ours) == (False, [])
