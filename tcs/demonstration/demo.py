"""`tcs demo`: the whole chain on scikit-learn's digits with an embedded self-supervised teacher, and what to run next."""

import importlib.resources
import json
import pathlib
import time
from typing import Any

import cache
from tcs.config.coordinates import FitConfig, TargetsConfig
from tcs.config.evaluate import FewshotConfig
from tcs.config.extract import ExtractConfig
from tcs.config.plain import AnyPath, given_path, plain_value, with_tuples
from tcs.coordinates.fit import fit
from tcs.coordinates.targets import fit_targets
from tcs.demonstration.digits import write_digits
from tcs.errors import ArtefactError
from tcs.extraction.extract import extract
from tcs.grid.reported import write_report
from tcs.grid.run import fewshot
from tcs.runtime import say

MARKER = "demo.json"

RECIPE = """\
# The demo's grid: tcs fewshot recipe.yaml --out grid
train: {folder}/train.store
test: {folder}/test.store
targets: {folder}/targets.h5
students:
  - test_efficientnet
  - test_convnext
methods:
  - labels
  - {{label: kd, loss: kd, probe_head: ridge}}  # from a probe of the k shots alone
  - tcs-pool
shots: [1, 4, 16]
seeds: [0, 1, 2]
unlabelled: [all]
references: [teacher-probe]
options: {{img_size: 32, steps: {steps}, batch_size: 48, hflip: 0.0, lr: 0.004}}
primary: [tcs-pool, labels]
note: The teacher was pretrained on the training images of this data set, without their labels.
"""


def demo(folder: AnyPath, steps: int = 60) -> str:
    """Run every stage into `folder` (resumed where it was left) and return the table with directions.

    Raises ArtefactError for a folder that holds anything the demo did not make.
    """
    started, root, steps = time.perf_counter(), given_path("folder", folder), plain_value("steps", steps, int)
    _claim(root)
    images = write_digits(root / "digits")
    for part in ("train", "test"):
        say(f"extract: the teacher runs once over the {part} images")
        extract(_extraction(images / part, root / f"{part}.store"))
    say("fit: a coordinate system from the cached features")
    fit(FitConfig(store=str(root / "train.store"), out=str(root / "coordinates.safetensors"), components=64))
    say("targets: hash bits for the eLSH loss")
    coordinates = str(root / "coordinates.safetensors")
    fit_targets(
        TargetsConfig(store=str(root / "train.store"), coordinates=coordinates, out=str(root / "targets.h5"), bits=512)
    )
    recipe = root / "recipe.yaml"
    cache.atomic_write_bytes(recipe, RECIPE.format(folder=root, steps=steps).encode())
    say("fewshot: students of two families, without the teacher")
    failed = fewshot(FewshotConfig(recipe=str(recipe), out=str(root / "grid")))
    write_report(root / "grid", root / "report.md")
    return _closing(root, time.perf_counter() - started, failed)


def teacher_card() -> tuple[dict[str, Any], pathlib.Path]:
    """(options, weights file) of the embedded teacher."""
    place = pathlib.Path(str(importlib.resources.files("tcs") / "embedded"))
    card: dict[str, Any] = json.loads((place / "digits_teacher.json").read_text())
    return card, place / card["weights"]


def _claim(root: pathlib.Path) -> None:
    """Make the folder ours, or refuse one that is not."""
    is_ours = not root.exists() or (root.is_dir() and ((root / MARKER).exists() or _is_empty(root)))
    if not is_ours:
        raise ArtefactError(f"--out {root} exists and is not a demo folder; give a new folder, as --out my-demo.")
    root.mkdir(parents=True, exist_ok=True)
    cache.atomic_write_bytes(root / MARKER, b'{"made_by": "tcs demo"}\n')


def _is_empty(root: pathlib.Path) -> bool:
    """Also where the command was killed while it wrote its first file."""
    return all(cache.is_partial(path, MARKER) for path in root.iterdir())


def _extraction(images: pathlib.Path, out: pathlib.Path) -> ExtractConfig:
    card, weights = teacher_card()
    return ExtractConfig(
        data=str(images),
        out=str(out),
        teacher=card["teacher"],
        teacher_checkpoint=str(weights),
        teacher_kwargs=with_tuples(card["teacher_kwargs"]),
        readouts=(card["readout"],),
        img_size=card["img_size"],
        mean=tuple(card["mean"]),
        std=tuple(card["std"]),
        crop_pct=card["crop_pct"],
        interpolation=card["interpolation"],
        workers=0,
    )


def _closing(root: pathlib.Path, seconds: float, failed: int) -> str:
    table = (root / "report.md").read_text()
    trouble = f"\n{failed} cells FAILED; {root}/grid/results.csv says why.\n" if failed else ""
    return f"""{table}
{trouble}
Done in {seconds:.0f} s. Files: {root}/train.store, {root}/coordinates.safetensors, {root}/targets.h5,
{root}/grid/results.csv (one row a run), {root}/report.md, {root}/report.csv, {root}/accuracy.svg.

`labels` has the k labelled images alone, `kd` the logits of a probe of their cached features, on all images. `tcs-pool` spreads the k
labels over the cached features of all images first, and the students learn from that. It reads no other label. These digits are easy
and their teacher has seen them without labels; benchmarks/RESULTS.md has real images.

Next, the same on your own images (folders of classes my/train and my/test), 4 of each class labelled:
  tcs extract my/train --out train.store --teacher vit_small_patch14_dinov2.lvd142m --readout cls --img-size 224
  tcs extract my/test  --out test.store  --teacher vit_small_patch14_dinov2.lvd142m --readout cls --img-size 224
  tcs train train.store --model resnet18 --shots 4 --img-size 224 --out run
  tcs eval run test.store
"""
