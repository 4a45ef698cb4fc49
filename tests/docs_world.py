"""The folder that a reader of the pages has: photographs, then what earlier pages make, and files of one's own that a page names."""

import csv
import pathlib
import shutil
import tarfile
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
import timm
import torch
from docs_small import A_SECOND, STUDENT, embedded_teacher, small
from pages import ROOT, blocks_of_lines, code_blocks
from PIL import Image
from safetensors.torch import save_file

import cache
from tcs.cli import main
from tcs.demonstration.digits import write_digits

A_CLASS, LABELLED, CLASSES = 12, 5, ("cat", "dog", "horse")  # as pages call some; their images are digits
FIRST = (  # pages that begin with photographs alone
    "README.md", "docs/index.md", "docs/start/first-student.md", "docs/start/install.md", "docs/how-to/stages.md",
    "docs/how-to/labelling.md", "docs/how-to/resume.md", "docs/how-to/distill.md",
)  # fmt: skip
ENCODER = """\
import torch

class MyEncoder(torch.nn.Module):
    def __init__(self, width):
        super().__init__()
        self.num_features = width
        self.stem = torch.nn.Conv2d(3, width, 8, 8)

    def forward_features(self, images):
        return self.stem(images)

    def forward_head(self, features, pre_logits=False):
        return features.mean((2, 3))

    def forward(self, images):
        return self.forward_head(self.forward_features(images))
"""


def write_photographs(root: pathlib.Path, digits: pathlib.Path) -> None:
    """`photos`, some of which `labels.csv` labels; `my/train` and `my/test` in class folders; `my/pool` and `new-photos`; `photo.jpg`."""
    write_digits(digits)
    rows = [("path", "class")]
    for number, name in enumerate(CLASSES):
        images = sorted((digits / "train" / str(number)).iterdir())
        for place, path in enumerate(images[:A_CLASS]):
            copy(path, root / "photos" / f"{name}-{place}.png")
            copy(path, root / "my" / "train" / name / f"{name}-{place}.png")
            if place < LABELLED:
                rows.append((f"{name}-{place}.png", name))
        for place, path in enumerate(images[A_CLASS : A_CLASS + 6]):
            for folder in ("my/pool", "new-photos", "new_photos"):
                copy(path, root / folder / f"{name}-new-{place}.png")
        for path in sorted((digits / "test" / str(number)).iterdir())[:4]:
            copy(path, root / "my" / "test" / name / path.name)
    with (root / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    Image.new("RGB", (40, 30), "#335577").save(root / "photo.jpg")


def copy(source: pathlib.Path, target: pathlib.Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(source, target)


def small_recipe() -> str:
    """The recipe of the benchmark's page, with one student of two steps."""
    (text,) = [block for kind, block in code_blocks((ROOT / "docs/how-to/benchmark.md").read_text()) if kind == "yaml"]
    for there, here in (
        ('[resnet18, "vit_tiny_patch16_224"]', f"[{STUDENT}]"),
        ("[1, 4, 16]", "[2]"),
        ("[0, 1, 2, 3, 4]", "[0]"),
        ("{img_size: 224, steps: 2000}", "{img_size: 32, steps: 2, batch_size: 8, held_out: 0}"),
    ):
        assert text.count(there) == 1
        text = text.replace(there, here)
    return text + "\nreferences: [teacher-probe]\nlatency: false\n"


def small_options() -> str:
    """The configuration file of the page about the files of a run, with tiny students and no weights to fetch."""
    blocks = code_blocks((ROOT / "docs/reference/run-files.md").read_text())
    (text,) = [block for kind, block in blocks if kind == "yaml"]
    for there, here in (
        ("resnet18", STUDENT),
        ("vit_tiny_patch16_224,img_size=32,patch_size=4", A_SECOND),
        ("shots: 16", "shots: 2"),
        ("pretrained: true", "pretrained: false"),
    ):
        assert text.count(there) == 1
        text = text.replace(there, here)
    return text


def write_later() -> None:
    """What the first pages make: what the page of stages does, `work` and `student.onnx`, a grid, and the files that configure runs."""
    for block in blocks_of_lines((ROOT / "docs/how-to/stages.md").read_text()):
        for line in block:
            for call in line.calls:
                _done(small(call))
    _done(small(["distill", "photos", "--label-file", "labels.csv", "--teacher", "NAME", "--model", "resnet18", "--val-split", "0.2",
                 "--out", "work"]))  # fmt: skip
    _done(["export", "work/run", "--to", "onnx", "--with-preprocess", "--out", "student.onnx"])
    pathlib.Path("recipe.yaml").write_text(small_recipe())
    pathlib.Path("run.yaml").write_text(small_options())
    _done(["fewshot", "recipe.yaml", "--out", "grid"])
    for name in ("grid-a", "grid-b"):
        shutil.copytree("grid", name)
    _done(["probe", "train.store", "--test", "test.store", "--shots", "2", "--out", "probe"])


def _done(words: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 0, words


# What a page names and does not make is put there before its first line.


def _extracted(data: str, out: str) -> None:
    """By another teacher than that of the stores that are there."""
    _done(["extract", data, "--out", out, "-j", "0", *embedded_teacher("32")])


def _of_teachers() -> None:
    for part in ("train", "test"):
        shutil.copytree(f"{part}.store", f"a-{part}.store")
        _extracted(f"my/{part}", f"b-{part}.store")
    pathlib.Path("my_encoder.py").write_text(ENCODER)
    names: dict[str, type[torch.nn.Module]] = {}
    exec(ENCODER, names)
    save_file(names["MyEncoder"](128).state_dict(), "mine.safetensors")
    (block,) = [block for kind, block in code_blocks((ROOT / "docs/how-to/teachers.md").read_text())
                if kind == "python" and block.startswith("# mine.py")]  # fmt: skip
    pathlib.Path("mine.py").write_text(block)
    torch.save({"teacher": {"weight": torch.ones(1)}, "args": pathlib.Path()}, "theirs.pth")


def _of_stores() -> None:
    for name in ("X", "a", "A"):
        shutil.copytree("train.store", f"{name}.store")
    for name in ("b", "B"):
        shutil.copytree("test.store", f"{name}.store")
    rows = cache.open("train.store")
    pathlib.Path("16shot.txt").write_text("".join(f"{key.split('/')[0]} {key}\n" for key in rows.keys[::3]))
    pathlib.Path("wrong.txt").write_text("cat-0.png\n")
    names = sorted(path.name for path in pathlib.Path("photos").iterdir())[:3]
    features_ND = np.arange(12, dtype=np.float32).reshape(3, 4)
    for name in ("avg", "a", "c"):
        np.save(f"{name}.npy", features_ND)
    np.save("labels.npy", np.array(["cat", "dog", "cat"]))
    pathlib.Path("keys.txt").write_text("\n".join(names) + "\n")
    pathlib.Path("labels.txt").write_text("cat\ndog\ncat\n")
    table = pa.table({"id": names, "avg": pa.FixedSizeListArray.from_arrays(pa.array(features_ND.ravel()), 4)})
    pyarrow.parquet.write_table(table, "table.parquet")


def _of_predictions() -> None:
    copy(pathlib.Path("photo.jpg"), pathlib.Path("more/x.jpg"))
    with tarfile.open("archive.tar", "w") as archive:
        archive.add("photo.jpg")
    pathlib.Path("table.csv").write_text("path\nphoto.jpg\n")


def _of_weights() -> None:
    for name, model in (("resnet18", STUDENT), ("mobilenet", A_SECOND)):
        save_file(timm.create_model(model).state_dict(), f"{name}.safetensors")


def _of_training() -> None:
    for name in ("A", "bare", "labelled"):
        shutil.copytree("train.store", f"{name}.store")
    _extracted("my/train", "B.store")
    shutil.copytree("test.store", "A-test.store")
    shutil.copytree("my/train", "images")


def _of_runs() -> None:
    shutil.rmtree("run")  # which `run.yaml` makes


OF_THE_PAGE: dict[str, Callable[[], None]] = {
    "docs/how-to/offline.md": _of_weights,
    "docs/how-to/predict.md": _of_predictions,
    "docs/how-to/store.md": _of_stores,
    "docs/how-to/teachers.md": _of_teachers,
    "docs/how-to/training.md": _of_training,
    "docs/reference/run-files.md": _of_runs,
}
