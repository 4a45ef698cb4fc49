"""What `tcs distill` exports: the files give what the student gives, and eight bits are measured."""

import dataclasses
import pathlib
import re

import pytest
import yaml
from click.testing import CliRunner
from distilled import chain_options, distilled, write_data

import tcs
from tcs.cli.distill import command
from tcs.errors import ArtefactError
from tcs.export import int8


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("images"))


@pytest.fixture
def options(data, teacher, tmp_path):
    return chain_options(data, teacher, tmp_path / "work")


def test_what_the_chain_exports_gives_what_its_student_gives(options, tmp_path):
    outcome = distilled(options, exports=("hf", "onnx"))
    (folder,), (file,) = outcome.exported["hf"], outcome.exported["onnx"]
    name = next((tmp_path / "work" / "run").glob("*/config.json")).parent.name
    assert folder == str(tmp_path / "work" / "export" / "hf" / name)
    assert file == str(tmp_path / "work" / "export" / "onnx" / f"{name}.onnx")
    run = str(tmp_path / "work" / "run")
    found = [
        tcs.predict(tcs.PredictConfig(model=model, paths=(options["test"],))).rows for model in (run, folder, file)
    ]
    assert len(found[0]) == 12
    for rows in found[1:]:
        assert [(row["path"], row["class"]) for row in rows] == [(row["path"], row["class"]) for row in found[0]]
        assert [row["probability"] for row in rows] == pytest.approx([row["probability"] for row in found[0]], abs=1e-4)
    assert "| 12 |" in (pathlib.Path(folder) / "README.md").read_text().partition("## Scores")[2]


def test_eight_bits_are_measured_and_a_loss_is_told_after_the_table(options, tmp_path, monkeypatch, capsys):
    more = {"exports": ("onnx",), "int8": options["test"], "max_drop": 100.0}
    outcome = distilled(options, **more)
    assert [pathlib.Path(path).name.partition(".")[2] for path in outcome.exported["onnx"]] == ["onnx", "int8.onnx"]
    assert outcome.refused is None
    told = capsys.readouterr().err
    assert re.search(r"\.onnx: largest difference from the run \d\.\de-0\d\.\n", told)
    assert re.search(r"int8 top-1 .* %, float .* % of 6; agrees with float on .* % of 6 images", told)
    compare = int8.compare
    monkeypatch.setattr(int8, "compare", lambda *given: dataclasses.replace(compare(*given), top1_int8=-50.0))
    renamed = {"models": "model", "exports": "export"}
    again = {
        renamed.get(name, name).replace("_", "-"): value for name, value in (options | more).items() if name != "data"
    }
    again = {name: list(value) if isinstance(value, tuple) else value for name, value in again.items()}
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(again | {"max-drop": 1.0, "overwrite": True}))
    done = CliRunner().invoke(command, ["-c", str(tmp_path / "c.yaml"), options["data"]], standalone_mode=False)
    assert "| teacher-probe |" in done.stdout
    assert isinstance(done.exception, ArtefactError)
    assert re.search(r"int8 loses more than --max-drop 1: .*, kept as .*int8-refused.onnx", str(done.exception))
