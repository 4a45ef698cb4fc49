"""What a run would cost, told without running it: sums by hand, the sentences, and that nothing is written."""

import dataclasses
import itertools
import json
import pathlib
import types
from typing import Any

import numpy as np
import pytest
import timm
from artefacts import make_store, save_vit
from PIL import Image
from teachers_beside import write_beside

import cache
from tcs.cli import main
from tcs.config.extract import ExtractConfig
from tcs.config.train import TrainConfig
from tcs.extraction.extract import extract
from tcs.runtime import readable_seconds
from tcs.training.forecast import BreakEven, describe_break_even, extraction_costs
from tcs.training.train import forecast, train

TINY = "resnet18,layers=(1,1,1,1),channels=(4,4,8,8)"
TINIER = "resnet18,layers=(1,1,1,1),channels=(4,4,4,4)"
UNKNOWN = "The store does not record what its teacher cost, so no break-even can be told."


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> pathlib.Path:
    make_store(tmp_path / "train.store")
    return tmp_path


def config(folder: pathlib.Path, **options: Any) -> TrainConfig:
    defaults = {
        "store": str(folder / "train.store"),
        "out": str(folder / "run"),
        "models": (TINY,),
        "method": "labels",
        "steps": 12,
        "batch_size": 16,
        "img_size": 16,
    }
    return TrainConfig.from_options(defaults | options)


def listing(folder: pathlib.Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*")}


# --- break-even -------------------------------------------------------------------------------------------------------


def test_break_even_by_hand() -> None:
    even = BreakEven(
        extraction_seconds=120.0, teacher_seconds_per_image=0.01, images_per_epoch=1000, images_per_student=5000
    )
    assert even.epochs == pytest.approx(12)  # a pass of the teacher: 10 s
    assert even.students == pytest.approx(2.4)  # a student: 50 s of the teacher
    assert [even.saved_seconds(count) for count in (0, 2, 3)] == pytest.approx([-120, -20, 30])


@pytest.mark.parametrize(
    "provenance",
    [
        {},
        {"run": None},
        {"run": "yesterday"},
        {"run": {"seconds": 12.0}},
        {"run": {"teacher_seconds_per_image": 0.1}},
        {"run": {"seconds": 12.0, "teacher_seconds_per_image": 0.0}},
    ],
)
def test_a_store_that_tells_no_times_has_no_break_even(provenance: dict[str, Any]) -> None:
    assert describe_break_even(provenance, 100, 1000, 4) == UNKNOWN


@pytest.mark.parametrize(
    ("students", "end"), [(2, "This run falls short of it by 20 s."), (30, "This run saves 23 min.")]
)
def test_break_even_is_told_with_what_this_run_saves(students: int, end: str) -> None:
    recorded = {"run": {"seconds": 120.0, "teacher_seconds_per_image": 0.01, "device": "cuda"}}
    assert describe_break_even(recorded, 1000, 5000, students) == (
        "The extraction took 2 min on cuda; a teacher in every step would cost 10.00 ms an image there: paid for after "
        f"12.00 passes over these rows, or 2.40 such students. {end}"
    )


def test_of_several_teachers_every_extraction_counts(folder: pathlib.Path) -> None:
    first = cache.open(folder / "train.store")
    joined = cache.join(first, [write_beside(folder / "other.store", first)])
    costs = ({"seconds": 30.0, "teacher_seconds_per_image": 0.01, "device": "cpu"}, {"seconds": 12, "device": "cuda"})
    for part, run in zip(joined.parts, costs, strict=True):
        part.manifest = dataclasses.replace(part.manifest, provenance={"run": run})
    assert describe_break_even(extraction_costs(joined), 100, 1000, 1) == UNKNOWN
    joined.parts[1].manifest.provenance["run"]["teacher_seconds_per_image"] = 0.03
    said = describe_break_even(extraction_costs(joined), 100, 1000, 1)
    assert said.startswith(
        "The extraction took 42 s on cpu, cuda; a teacher in every step would cost 40.00 ms an image there"
    )
    assert extraction_costs(first) == first.manifest.provenance


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (119.4, "119 s"), (120, "2 min"), (7199, "120 min"), (7200, "2.0 h"), (9000, "2.5 h")],
)
def test_seconds_are_told_in_the_unit_that_reads_best(seconds: float, text: str) -> None:
    assert readable_seconds(seconds) == text


def test_an_extraction_records_what_its_teacher_cost(tmp_path: pathlib.Path) -> None:
    for number in range(12):
        path = tmp_path / f"data/c{number % 2}/{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 256, (40, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
    weights = str(save_vit(tmp_path / "vit.safetensors", 32))
    options = {"teacher": "test_vit", "teacher_checkpoint": weights, "img_size": 32, "workers": 0, "batch_size": 4}
    store = cache.open(extract(ExtractConfig(data=str(tmp_path / "data"), out=str(tmp_path / "s"), **options)))
    run = store.manifest.provenance["run"]
    assert run["images"] == 12
    assert (
        0 < run["teacher_seconds_per_image"] < (run["seconds"] + 0.001) / run["images"]
    )  # which also decodes and writes
    assert run["device"] == "cpu"
    assert "paid for after" in describe_break_even(store.manifest.provenance, 12, 120, 1)


# --- forecast ---------------------------------------------------------------------------------------------------------


def test_a_forecast_tells_each_student_and_writes_nothing(
    folder: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = listing(folder)
    rows = forecast(config(folder, models=(TINY, TINIER)))
    assert listing(folder) == before
    assert [row["model"] for row in rows] == [TINY, TINIER]
    for row, channels in zip(rows, ((4, 4, 8, 8), (4, 4, 4, 4)), strict=True):
        model = timm.create_model("resnet18", num_classes=3, layers=(1, 1, 1, 1), channels=channels)
        count, tensors = sum(p.numel() for p in model.parameters()), len(list(model.parameters()))
        assert (row["steps"], row["batch_size"], row["images"]) == (12, 16, 192)
        assert row["parameters"] == count
        spare = 3 * channels[-1] + 3  # the backbone's own classifier, which another one stands in for: never trained
        state_bytes = 12 * count + 4 * (tensors + spare)  # AdamW: two moments a weight, and a count a tensor
        assert row["state_mib"] * 2**20 == pytest.approx(state_bytes)
        assert row["seconds"] == pytest.approx(192 / row["images_per_s"])
        assert 0 <= row["data_wait"] < 1
    said = capsys.readouterr().err
    assert f"{TINY}: 12 steps of 16 images, about " in said
    assert "2 students: about " in said
    assert said.endswith(f"Nothing was written.\n{UNKNOWN}\n")


def test_the_fastest_step_but_the_first_is_told(folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    batches, steps = [0.0, 0.6], [0.0, 9.0, 1.0, 0.4, 1.0, 0.2, 1.0, 0.3]  # three batches; start, end, start, end ...
    ticks = itertools.accumulate([*batches, *steps])
    monkeypatch.setattr("tcs.training.forecast.time", types.SimpleNamespace(perf_counter=lambda: next(ticks)))
    (row,) = forecast(config(folder))
    assert row["seconds"] / 12 == pytest.approx(0.6 / 3 + 0.2)


def test_a_run_of_one_step_has_its_forecast(folder: pathlib.Path) -> None:
    (row,) = forecast(config(folder, steps=1))
    assert (row["steps"], row["images"]) == (1, 16)
    assert row["seconds"] > 0


def test_a_finished_student_has_no_forecast(folder: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    train(config(folder, steps=2))
    before = listing(folder)
    capsys.readouterr()
    assert forecast(config(folder, steps=2)) == []
    assert "is finished; nothing to do." in capsys.readouterr().err
    assert [row["model"] for row in forecast(config(folder, steps=2, models=(TINY, TINIER)))] == [TINIER]
    assert listing(folder) == before


def test_dry_run_prints_its_rows_as_json(folder: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--model", TINY, "--method", "labels", "--steps", "5", "--batch-size", "8", "--img-size", "16"]
    arguments = ["train", str(folder / "train.store"), "--out", str(folder / "run"), *options, "--dry-run", "--json"]
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 0
    printed = capsys.readouterr()
    (row,) = json.loads(printed.out)["students"]
    assert (row["model"], row["steps"], row["images"]) == (TINY, 5, 40)
    assert set(row) == {
        *("model", "steps", "batch_size", "images", "seconds", "images_per_s", "data_wait", "parameters", "state_mib")
    }
    assert not (folder / "run").exists()
    assert UNKNOWN in printed.err
