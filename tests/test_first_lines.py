"""The first lines of docs/reference/python.md, from a folder to an exported student: as they stand there, on digits for photographs."""

import json
import pathlib
import re
import shutil

import numpy as np
import pytest

import cache
import tcs
from tcs.demonstration.demo import teacher_card
from tcs.demonstration.digits import write_digits

PAGE = pathlib.Path(__file__).parent.parent / "docs" / "reference" / "python.md"
SHOTS = 2


def first_block() -> str:
    found = re.search(r"^```python\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    assert found is not None
    return found[1]


def on_digits(text: str) -> str:
    """The embedded teacher and a small student in place of those that the page names."""
    card, weights = teacher_card()
    size = card["img_size"]
    teacher = {"teacher": card["teacher"], "teacher_checkpoint": str(weights), "teacher_kwargs": card["teacher_kwargs"]}
    pixels = {
        "mean": tuple(card["mean"]),
        "std": tuple(card["std"]),
        "img_size": size,
        "student_batch_size": 8,
        "workers": 0,
    }
    for there, here in (
        ('teacher="vit_small_patch14_dinov2.lvd142m",\n', f"**{teacher!r}, **{pixels!r},\n"),
        ("    img_size=224,\n", ""),
        ('readouts=("cls",)', f"readouts=({card['readout']!r},)"),
        ('models=("mobilenetv3_small_100",)', 'models=("test_efficientnet",)'),
        ("shots=16", f"shots={SHOTS}"),
        ("steps=2000", "steps=4"),
    ):
        assert text.count(there) == 1
        text = text.replace(there, here)
    return text


def test_from_a_folder_to_an_exported_student(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = first_block()
    assert len([line for line in text.splitlines() if line and not line.startswith("#")]) <= 25
    monkeypatch.chdir(tmp_path)
    digits = write_digits(tmp_path / "digits")
    for source, target, count in (("train", "photos", 20), ("test", "new_photos", 1)):
        for folder in sorted((digits / source).iterdir()):
            for path in sorted(folder.iterdir())[:count]:
                place = tmp_path / target / folder.name
                place.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, place)
    names: dict[str, object] = {}
    exec(compile(on_digits(text), "docs/reference/python.md", "exec"), names)
    printed = capsys.readouterr().out.splitlines()
    store = cache.open("work/train.store")
    labels = sum(min(SHOTS, count) for count in np.bincount(store.labels_N).tolist())
    assert f"| test_efficientnet | tcs-pool | {labels} |" in "\n".join(printed)
    assert printed[-1] == f"{len(store)} images of 10 classes, 192 features each"
    assert len([line for line in printed if line.startswith("new_photos/")]) == 10
    outcome, found = names["outcome"], names["student"].predict("new_photos", topk=10)
    (exported,) = [path for path in outcome.exported["onnx"] if path.endswith(".onnx")]
    for ours, onnx in zip(found, tcs.load_student(exported).predict("new_photos", topk=10), strict=True):
        assert (ours.path, ours.label) == (onnx.path, onnx.label)
        assert ours.probabilities == pytest.approx(onnx.probabilities, abs=1e-4)
    assert json.loads((tmp_path / "work" / "results.json").read_text())["rows"]
