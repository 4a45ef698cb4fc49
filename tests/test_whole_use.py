"""From a folder of images to files that others load: every command of the user's, on digits and on photographs.

One walk a data set. The teacher of the digits is the embedded one; photographs and theirs are not part of this repository.
"""

import csv
import dataclasses
import io
import json
import pathlib
import shlex
import shutil
import tarfile
from collections.abc import Callable

import pytest
from command_line import tcs

import cache
from tcs.demonstration.demo import teacher_card
from tcs.demonstration.digits import write_digits

SHARED = pathlib.Path(__file__).parents[2] / "shared"
PHOTOGRAPHS, LITE0 = SHARED / "data" / "flowers5.tar", SHARED / "teachers" / "tf_efficientnet_lite0.safetensors"
A_CLASS = {"train": 10, "test": 4}
LABELLED = 4  # of the training images of a class
EXPORTS = ("onnx", "hf", "timm")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Walk:
    """Where it is walked: `images` lie in one folder, without classes; `test` has class folders; `classes` are of all images."""

    images: pathlib.Path
    test: pathlib.Path
    classes: dict[str, str]
    options: tuple[str, ...]

    def write_labels(self, path: pathlib.Path, a_class: int) -> None:
        """A label file of the first `a_class` images of each class."""
        rows = [("path", "class")]
        for kind in sorted(set(self.classes.values())):
            rows += [(name, kind) for name in sorted(self.classes) if self.classes[name] == kind][:a_class]
        with path.open("w", newline="") as file:
            csv.writer(file).writerows(rows)


def gathered(source: pathlib.Path, place: pathlib.Path, options: tuple[str, ...]) -> Walk:
    """A walk on a few of the class folders' images in source/train and source/test."""
    images, test = place / "my photos", place / "test"
    classes: dict[str, str] = {}
    images.mkdir()
    for part, count in A_CLASS.items():
        for folder in sorted((source / part).iterdir()):
            for number, path in enumerate(sorted(folder.iterdir())[:count]):
                name = f"{number}-{path.name}"
                target = images / name if part == "train" else test / folder.name / name
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, target)
                if part == "train":
                    classes[name] = folder.name
    return Walk(images=images, test=test, classes=classes, options=options)


def digits(place: pathlib.Path) -> Walk:
    """With the embedded teacher."""
    card, weights = teacher_card()
    arguments = [f"{name}={value}" for name, value in card["teacher_kwargs"].items()]
    options = ["--teacher", card["teacher"], "--teacher-checkpoint", str(weights), "--readout", card["readout"]]
    options += [word for text in arguments for word in ("--teacher-kwargs", text)]
    options += ["--img-size", str(card["img_size"]), "--mean", *map(str, card["mean"]), "--std", *map(str, card["std"])]
    return gathered(write_digits(place / "digits"), place, tuple(options))


def photographs(place: pathlib.Path) -> Walk:
    """With EfficientNet-Lite0."""
    if not (PHOTOGRAPHS.exists() and LITE0.exists()):
        pytest.skip("the shared photographs and their teacher are not here")
    with tarfile.open(PHOTOGRAPHS) as tar:
        tar.extractall(place / "flowers", filter="data")
    options = ("--teacher", "tf_efficientnet_lite0.in1k", "--teacher-checkpoint", str(LITE0))
    return gathered(place / "flowers", place, (*options, "--img-size", "96", "--crop-pct", "1.0"))


def table(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


@pytest.mark.parametrize("prepare", [digits, photographs])
def test_from_a_folder_to_files_that_others_load(
    prepare: Callable[[pathlib.Path], Walk], tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    walk = prepare(tmp_path)
    work, labels = tmp_path / "my work", tmp_path / "labels.csv"
    walk.write_labels(labels, LABELLED)
    chain = [
        "distill",
        str(walk.images),
        "--label-file",
        str(labels),
        *walk.options,
        "--test",
        str(walk.test),
        "-j",
        "0",
    ]
    chain += ["--model", "test_efficientnet", "--student-img-size", "32", "--student-batch-size", "16", "--steps", "8"]
    chain += ["--held-out", "0", "--out", str(work), *(word for kind in EXPORTS for word in ("--export", kind))]
    code, closing, said = tcs(capsys, *chain)
    assert code == 0, said
    kinds, count = len(set(walk.classes.values())), len(list(walk.test.glob("*/*")))
    assert f"| test_efficientnet | tcs-pool | {LABELLED * kinds} | " in closing
    assert said.count("largest difference from the run") == len(EXPORTS)

    # A student, and whatever was exported of it, decide alike on images that none of them has seen.
    exported = [work / "export" / "onnx" / "test_efficientnet.onnx", work / "export" / "hf", work / "export" / "timm"]
    export = ["export", str(work / "run"), "--to", "onnx", "--with-preprocess", "--out", str(tmp_path / "s.onnx")]
    assert tcs(capsys, *export)[0] == 0
    found = []
    for model in (work / "run", *exported, tmp_path / "s.onnx"):
        code, told, said = tcs(capsys, "predict", str(model), str(walk.test))
        assert code == 0, said
        found.append(table(told))
    assert [len(rows) for rows in found] == [count] * 5
    assert {row["class"] for row in found[0]} <= set(walk.classes.values())
    for rows in found[1:]:
        assert [(row["path"], row["class"]) for row in rows] == [(row["path"], row["class"]) for row in found[0]]
        shares = [float(row["probability"]) for row in rows]
        assert shares == pytest.approx([float(row["probability"]) for row in found[0]], abs=1e-4)

    # The score by the images as they lie, by hand and by the command, is that of the chain, which has it from the store.
    hits = [pathlib.Path(row["path"]).parent.name == row["class"] for row in found[0]]
    kept = json.loads((work / "results.json").read_text())["rows"][0]["top1"]
    code, told, _ = tcs(capsys, "eval", str(exported[0]), str(walk.test), "--json")
    scored = json.loads(told)["results"][0]
    assert (code, scored["rows"], scored["top1"]) == (0, count, kept)
    assert kept == pytest.approx(100 * sum(hits) / count, abs=1e-3)

    # What is said to be run next runs as it is said.
    (next_line,) = [line for line in closing.splitlines() if line.startswith("  tcs suggest ")]
    assert tcs(capsys, *shlex.split(next_line)[1:])[0] == 0
    assert len(table((work / "next.csv").read_text())) == 20
    assert (work / "next.jpg").exists()

    # More labels: no second pass of the teacher, another student.
    before = cache.open(work / "train.store")
    walk.write_labels(labels, LABELLED + 2)
    code, _, said = tcs(capsys, *chain)
    assert code == 1
    assert "test_efficientnet was made with split_digest" in said.splitlines()[-1]
    assert "--overwrite" in said.splitlines()[-1]
    code, told, said = tcs(capsys, *chain, "--overwrite")
    assert code == 0, said
    assert f"| test_efficientnet | tcs-pool | {(LABELLED + 2) * kinds} | " in told
    after = cache.open(work / "train.store")
    assert (after.identity, after.content_digests) == (before.identity, before.content_digests)
