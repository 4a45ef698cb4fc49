"""Write the tiny coordinate system, targets files and grid that tests read as the stored examples of their format versions.

Run once per format version, from the repository root, and commit the result; tests never rewrite it:

    python scripts/make_artefact_fixtures.py tests/fixtures

coordinates_v1.safetensors, targets_v1.h5 and grid_v1/ are of the store `train.store` below, targets_v2.h5 (with views) is of
tests/fixtures/store_v2. Row i of a store that begins at `first` has the label i mod 3 and the feature
(7 (first + i + 1) (d + 1) mod 23) / 8 + 3 [d mod 3 = label], d = 0 .. 11, float32, exact on every machine; its image is 16 x 16 pixels
of the value 40 + 60 label, uncompressed, so that its bytes are those of no library's release.
"""

import contextlib
import io
import os
import pathlib
import shutil
import sys
import tempfile

import numpy as np
import numpy.typing as npt
from PIL import Image

import cache
from tcs.config.coordinates import FitConfig, TargetsConfig
from tcs.config.evaluate import FewshotConfig
from tcs.coordinates.fit import fit
from tcs.coordinates.targets import fit_targets
from tcs.grid.reported import write_report
from tcs.grid.run import fewshot

CLASSES = ("ant", "bee", "cow")
DIMS = 12
STORES = {"train.store": (0, 30), "test.store": (100, 12)}  # name -> first, rows

FIT = FitConfig(
    store="train.store", out="coordinates_v1.safetensors", components=10, power=0.5, shots=5, ceiling_shots=(2,)
)
TARGETS = TargetsConfig(store="train.store", coordinates="coordinates_v1.safetensors", out="targets_v1.h5", bits=16)
FIT_VIEWS = FitConfig(store="store_v2", out="views.safetensors", readout="avg", method="random", components=2)
TARGETS_VIEWS = TargetsConfig(store="store_v2", coordinates="views.safetensors", out="targets_v2.h5", bits=16)

RECIPE = """\
train: train.store
test: test.store
targets: targets_v1.h5
students: ['resnet18,layers=(1,1,1,1),channels=(4,4,8,8)', 'levit_128s,img_size=16']  # the second cannot be folded and fails
methods: [labels, tcs]
shots: [1, 2]
seeds: [0, 1]
unlabelled: [all]
references: [teacher-probe]
options: {img_size: 16, steps: 2, batch_size: 8, hflip: 0.0}
primary: [tcs, labels]
"""


def example_rows(first: int, rows: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Features (rows, DIMS) and labels of a store, as the docstring of this file states them."""
    labels_N = np.arange(rows) % len(CLASSES)
    scatter_ND = (7 * (first + np.arange(rows)[:, None] + 1) * (np.arange(DIMS) + 1) % 23) / 8
    return (scatter_ND + 3.0 * (np.arange(DIMS) % 3 == labels_N[:, None])).astype(np.float32), labels_N


def make_stores(folder: pathlib.Path) -> None:
    """Write train.store and test.store into `folder`."""
    for name, (first, rows) in STORES.items():
        features_ND, labels_N = example_rows(first, rows)
        cache.create(
            folder / name,
            {"avg": features_ND},
            keys=[f"{first + row:03}.bmp" for row in range(rows)],
            labels=labels_N,
            classes=CLASSES,
            images=[_bmp(first + row, int(label)) for row, label in enumerate(labels_N)],
            identity={"teacher": "example"},
        )


def _bmp(number: int, label: int) -> bytes:
    """A picture of one grey, told from the others of its class by one pixel."""
    pixels_HW3 = np.full((16, 16, 3), 40 + 60 * label, np.uint8)
    pixels_HW3[0, 0] = number
    buffer = io.BytesIO()
    Image.fromarray(pixels_HW3).save(buffer, "BMP")
    return buffer.getvalue()


def main(out: str) -> None:
    """Write the examples into `out`, where none of them may be yet; store_v2 is there."""
    place = pathlib.Path(out).resolve()
    names = (FIT.out, TARGETS.out, TARGETS_VIEWS.out, "grid_v1")
    if any((place / name).exists() for name in names):
        raise SystemExit(f"{place} holds one of {', '.join(names)} already; an example is never rewritten.")
    with (
        tempfile.TemporaryDirectory() as folder,
        contextlib.chdir(folder),
    ):  # so that no path of this machine is recorded
        here = pathlib.Path()
        make_stores(here)
        shutil.copytree(place / "store_v2", "store_v2")
        fit(FIT)
        fit_targets(TARGETS)
        fit(FIT_VIEWS)
        fit_targets(TARGETS_VIEWS)
        (here / "recipe.yaml").write_text(RECIPE)
        fewshot(FewshotConfig(recipe="recipe.yaml", out="grid_v1"))
        write_report(here / "grid_v1", here / "grid_v1" / "report.md")
        for name in names[:3]:
            shutil.copy(name, place / name)
        left_out = shutil.ignore_patterns("runs", ".lock", "*.png")
        shutil.copytree("grid_v1", place / "grid_v1", ignore=left_out)


if __name__ == "__main__":
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    main(sys.argv[1])
