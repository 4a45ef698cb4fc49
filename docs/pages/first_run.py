"""The run that the first pages show: its commands, one after the other, and what they print, kept as docs/start/first-run.txt.

    python -m docs.pages.first_run FLOWERS WEIGHTS --out docs/start/first-run.txt

FLOWERS is a folder with `train/<class>/` and `test/<class>/` (flowers5: TensorFlow's flower photographs, 160 px), WEIGHTS the file of
timm's tf_efficientnet_lite0.in1k. Minutes on two cores. tests/test_docs_made.py holds what the pages show to the file.
"""

import argparse
import os
import pathlib
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator

from tcs.runtime import environment

PHOTOS, LABELLED, SCORED = 100, 10, 40  # of each class, the first by name
STUDENT = "resnet18,layers=(1,1,1,1),channels=(16,32,48,64)"
COMMANDS = (
    "tcs distill photos --label-file labels.csv"
    " --teacher tf_efficientnet_lite0.in1k --teacher-checkpoint lite0.safetensors --img-size 128"
    f' --model "{STUDENT}" --student-img-size 64 --lr 5e-3 --steps 200 --test scored --export onnx --out work',
    "tcs cache info work/test.store",
    "tcs eval work/run scored",
    "tcs fit work/train.store --out c.safetensors",
)


def write_folder(flowers: pathlib.Path, weights: pathlib.Path, folder: pathlib.Path) -> None:
    """`photos`, all in one folder, `labels.csv`, `scored` in class folders, and the weights."""
    lines = ["path,class"]
    for kind in sorted((flowers / "train").iterdir()):
        for place, path in enumerate(sorted(kind.iterdir())[:PHOTOS]):
            _copy(path, folder / "photos" / path.name)
            if place < LABELLED:
                lines.append(f"{path.name},{kind.name}")
        for path in sorted((flowers / "test" / kind.name).iterdir())[:SCORED]:
            _copy(path, folder / "scored" / kind.name / path.name)
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")
    _copy(weights, folder / "lite0.safetensors")


def told(folder: pathlib.Path) -> Iterator[str]:
    """Each command and what it prints on both streams, as a pipe gets it."""
    for command in COMMANDS:
        yield f"$ {command}"
        words = [sys.executable, "-m", *shlex.split(command)]
        done = subprocess.run(
            words, cwd=folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
        )
        yield done.stdout
        if done.returncode:
            raise SystemExit(f"{command}\n{done.stdout}")


def main() -> None:
    """Write the file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("flowers", type=pathlib.Path)
    parser.add_argument("weights", type=pathlib.Path)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    given = parser.parse_args()
    facts = environment()
    versions = ", ".join(f"{name} {facts['versions'][name]}" for name in ("torch", "timm", "numpy"))
    made = f"commit {facts['commit']}, {versions}, Python {platform.python_version()}, {facts['processor']}, {os.cpu_count()} cores"
    with tempfile.TemporaryDirectory() as folder:
        write_folder(given.flowers, given.weights, pathlib.Path(folder))
        lines = [
            f"python -m docs.pages.first_run FLOWERS WEIGHTS --out {given.out}",
            made,
            "",
            *told(pathlib.Path(folder)),
        ]
    given.out.write_text("\n".join(lines), encoding="utf-8")


def _copy(source: pathlib.Path, target: pathlib.Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(source, target)


if __name__ == "__main__":
    main()
