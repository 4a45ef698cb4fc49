"""What `tcs export` writes, `tcs predict` and `tcs eval` use: the same decisions as of the run."""

import pathlib

import pytest
from artefacts import make_store
from finished import make_student, write_images

import tcs

FORMS = {"hf": ("hf", {}), "uint8.onnx": ("onnx", {"with_preprocess": True})}


def test_exports_decide_as_their_run_does(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = make_store(tmp_path / "test.store", seed=9, rows=12)
    write_images(tmp_path / "images", store)
    record = {"stores_read": [str(store.path)], "rows": {}, "recipe": {}}
    make_student(tmp_path / "run", temperature=1.7, **record)

    def used(model: pathlib.Path) -> tuple[list[str], list[float], dict]:
        found = tcs.predict(tcs.PredictConfig(model=model, paths=(str(tmp_path / "images"),)))
        (row,) = tcs.evaluate(tcs.EvalConfig(run=model, store=store.path))
        assert (found.temperature, found.classes) == (1.7, ("ant", "bee", "cow"))
        return [row["class"] for row in found.rows], [row["probability"] for row in found.rows], row

    classes, shares, row = used(tmp_path / "run")
    assert len(set(classes)) > 1
    for name, (to, options) in FORMS.items():
        tcs.export_students(tcs.ExportConfig(run=tmp_path / "run", to=to, out=tmp_path / name, **options))
        found_classes, found_shares, found_row = used(tmp_path / name)
        assert found_classes == classes
        assert found_shares == pytest.approx(shares, abs=2e-4)  # logits are spread 400-fold here
        assert (found_row["confusion"], found_row["method"]) == (row["confusion"], row["method"])
