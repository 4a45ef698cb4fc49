"""The benchmark against online teachers: its counts, its sums, and all of it once and small."""

import csv
import json
import multiprocessing
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks import lightly_train_loop, online_teacher, rounds, tensor_memory, timm_loop, turns
from benchmarks.contestants import Contestant, Reading, Setup, link_classes

STUDENT, TEACHER, SIDE = "test_resnet", "test_vit", 64
pytestmark = pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # timm's ImageDataset leaves them open


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(8):
        noise = np.random.default_rng(number).integers(0, 256, (9, 10, 3), dtype=np.uint8)
        Image.fromarray(noise).resize((100, 90)).save(folder / f"{number}.jpg")
    return folder


# --- peak bytes -------------------------------------------------------------------------------------------------------


def peak(work):
    return tensor_memory.peak_bytes("cpu", work)


def test_freed_tensors_no_longer_count():
    def work():
        ones = torch.ones(250)  # 1000 bytes
        for _ in range(5):
            ones = ones * 2  # two of them at a time

    assert peak(work) == (2000, 0)


def test_views_count_once_and_uint8_is_told_apart():
    def work():
        images = torch.zeros(3, 100, dtype=torch.uint8)
        return images[1:].t(), torch.zeros(10)

    assert peak(work) == (340, 300)


@pytest.mark.parametrize(("frozen", "expected"), [(False, 6), (True, 3)])
def test_what_autograd_keeps_counts_and_a_frozen_pass_keeps_nothing(frozen, expected):
    start = torch.zeros(250, requires_grad=not frozen)

    def work():
        value = start
        for _ in range(5):
            value = value.exp()  # a result is kept for the backward pass; else: start, input and output

    assert peak(work) == (1000 * expected, 0)


def test_a_training_step_counts_parameters_gradients_and_optimiser():
    layer = torch.nn.Linear(100, 50, bias=False)  # 20,000 bytes
    optimiser = torch.optim.SGD(layer.parameters(), lr=0.1, momentum=0.9, foreach=False)
    images = torch.zeros(1, 100)

    def work():
        for _ in range(2):
            optimiser.zero_grad()
            layer(images).sum().backward()
            optimiser.step()

    found, _ = peak(work)
    assert 3 * 20_000 <= found < 3 * 20_000 + 2000  # weight, gradient, momentum; then input, output and scalars


def test_tensors_that_grow_in_place_count_as_they_are():
    assert peak(lambda: torch.zeros(10).resize_(1000)) == (4000, 0)


# --- timm -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"teacher": TEACHER}, {"teacher": TEACHER, "task": "logit"}])
def test_timms_loop_trains_the_student_and_no_teacher(photos, tmp_path, options):
    data = link_classes(photos, tmp_path / "data", 8)
    settings = {"data": data, "model": STUDENT, "img_size": SIDE, "batch_size": 4, "workers": 0}
    loop = timm_loop.TimmLoop(timm_loop.LoopConfig(**settings, **options))
    before = {name: value.clone() for name, value in loop.task.named_parameters()}
    assert loop.train_steps(3) > 0  # three steps of two batches an epoch: it goes round
    changed = {name for name, value in loop.task.named_parameters() if not torch.equal(value, before[name])}
    assert changed == {name for name in before if not name.startswith("teacher.")}
    assert loop.task.training
    assert not any(module.training for module in loop.task.modules() if options and module is loop.task.teacher)


def test_timms_loop_leaves_no_workers_behind(photos, tmp_path, capsys):
    data = link_classes(photos, tmp_path / "data", 8)
    options = ["--model", STUDENT, "--img-size", str(SIDE), "-b", "4", "-j", "1", "--warm-up", "1", "--steps", "1"]
    timm_loop.main([str(data), *options, "--channels-last"])
    assert "images/s" in capsys.readouterr().out
    assert multiprocessing.active_children() == []


# --- lightly-train ----------------------------------------------------------------------------------------------------

METRICS = """\
{"lr-AdamW/params": 1e-4, "step": 0}
{"train_loss": 3.9, "profiling/batch_time": 9.0, "epoch": 0, "step": 0}
{"train_loss": 3.9, "profiling/batch_time": 9.0, "profiling/data_time": 9.0, "epoch": 0, "step": 1}
{"train_loss": 3.9, "profiling/batch_time": 8.0, "profiling/data_time": 7.0, "epoch": 1, "step": 2}
{"train_loss": 3.9, "profiling/batch_time": 2.0, "profiling/data_time": 0.5, "epoch": 1, "step": 3}
{"train_loss": 3.9, "profiling/batch_time": 3.0, "profiling/data_time": 0.25, "epoch": 1, "step": 4}
"""
FAKE = """\
#!{python}
import os, pathlib, sys
settings = dict(argument.split("=", 1) for argument in sys.argv[2:])
if settings["model"] == "timm/unknown":
    sys.exit("warning\\nUnknown model")
assert os.environ["LIGHTLY_TRAIN_EVENTS_DISABLED"] == "1" and "PYTHONPATH" not in os.environ
if "trainer_args.limit_train_batches" in settings:
    import torch
    ones = torch.ones(250)
out = pathlib.Path(settings["out"])
out.mkdir()
(out / "metrics.jsonl").write_text('''{metrics}''')
"""


@pytest.fixture
def lightly(tmp_path):
    """An environment whose lightly-train only writes a log."""
    folder = tmp_path / "environment" / "bin"
    folder.mkdir(parents=True)
    program = folder / "lightly-train"
    program.write_text(FAKE.format(python=sys.executable, metrics=METRICS))
    program.chmod(0o755)
    (folder / "python").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    (folder / "python").chmod(0o755)
    return folder.parent


def lightly_config(environment, tmp_path, **options):
    defaults = {"data": tmp_path, "model": "resnet18", "teacher": TEACHER, "weights": tmp_path / "teacher.pt"}
    return lightly_train_loop.LightlyConfig(environment=environment, **(defaults | options))


def test_warm_up_and_first_steps_are_left_out():
    assert lightly_train_loop.step_seconds(METRICS) == [2.5, 3.25]


def test_lightly_train_is_run_as_a_program_and_its_log_is_read(lightly, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "/somewhere")
    assert lightly_train_loop.measure(lightly_config(lightly, tmp_path)) == pytest.approx(2.875)


def test_lightly_trains_tensors_are_counted_in_its_own_process(lightly, tmp_path):
    assert lightly_train_loop.peak_bytes(lightly_config(lightly, tmp_path, epochs=0, batches=3)) == (1000, 0)


def test_lightly_trains_last_words_are_passed_on(lightly, tmp_path):
    with pytest.raises(RuntimeError, match=r"lightly-train .* ended with code 1: Unknown model"):
        lightly_train_loop.measure(lightly_config(lightly, tmp_path, model="unknown"))


def test_an_epoch_of_one_step_says_nothing(lightly, tmp_path, monkeypatch):
    monkeypatch.setattr(lightly_train_loop, "step_seconds", lambda metrics: [])
    with pytest.raises(RuntimeError, match="two batches or more"):
        lightly_train_loop.measure(lightly_config(lightly, tmp_path))


# --- rounds and sums --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("once", "online", "cached", "epochs"), [(10, 3, 1, 5), (11, 3, 1, 6), (1, 1, 1, np.inf)])
def test_break_even(once, online, cached, epochs):
    assert rounds.break_even_epochs(once, online, cached) == epochs


def contestant(name, seconds, **options):
    turn = iter(seconds)
    return Contestant(name=name, turn=lambda: Reading(per_image_seconds=next(turn), start_seconds=2.0), **options)


def test_rounds_are_compared_within_a_student_and_teacher(tmp_path):
    setup = Setup(
        data=tmp_path, scratch=tmp_path, images=10, batch_size=5, epochs=1, workers=0, img_size=8, device="cpu",
        readout="cls", lightly=None,
    )  # fmt: skip
    contestants = [
        contestant("tcs extract, T", [1.0, 1.0], teacher="T"),
        contestant("tcs fit + targets, T", [0.5, 0.5], teacher="T"),
        contestant("tcs, labels only", [0.1, 0.2], student="S"),
        contestant("timm, labels only", [0.2, 0.2], student="S"),
        contestant("tcs, ce + elsh, T", [0.1, 0.1], student="S", teacher="T", peak=lambda: (2**20, 2**19)),
        contestant("timm feature task, T", [0.4, 0.2], student="S", teacher="T", online=True),
    ]
    rows = {row["contestant"]: row for row in rounds.summary(rounds.measure(contestants, 2), setup)}
    assert list(rows) == [one.name for one in contestants]
    assert (rows["tcs, labels only"]["ratio"], rows["tcs, labels only"]["ratio_base"]) == (1.5, "timm, labels only")
    online = rows["timm feature task, T"]
    assert (online["ratio"], online["ratio_least"], online["ratio_most"]) == (3, 2, 4)
    assert online["break_even_epochs"] == 9  # 10 + 5 s of teacher, 2 s of start, 3 - 1 s gained an epoch
    assert (online["n"], online["seconds"], online["images_per_s"]) == (2, 3, 3.333)
    cached = rows["tcs, ce + elsh, T"]
    assert (cached["peak_mib"], cached["peak_uint8_mib"], cached["start_seconds"]) == (1, 0.5, 2)
    assert cached["break_even_epochs"] == ""


def test_the_whole_comparison(photos, lightly, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(turns, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(lightly_train_loop, "peak_bytes", lambda config: (2**20, 0))  # tested above, and slow to start
    sizes = ["--images", "8", "-b", "4", "--img-size", str(SIDE), "-j", "0", "--rounds", "2"]
    names = ["--student", STUDENT, "--teacher", TEACHER, "--lightly", str(lightly)]
    online_teacher.main([str(photos), *sizes, *names])
    assert f"| {STUDENT} | lightly-train, {TEACHER} | " in capsys.readouterr().out
    with (tmp_path / "results" / "online-teacher" / "summary.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 8
    assert all(float(row["seconds"]) > 0 and row["n"] == "2" and row["commit"] and row["torch"] for row in rows)
    assert [row["contestant"] for row in rows if row["break_even_epochs"]] == [
        f"timm feature task, {TEACHER}",
        f"lightly-train, {TEACHER}",
    ]
    peaks = {row["contestant"]: float(row["peak_mib"]) for row in rows if row["peak_mib"]}
    assert peaks[f"timm feature task, {TEACHER}"] > peaks["timm, labels only"] > 0.1


def test_links_go_round_the_photographs(photos, tmp_path):
    folder = link_classes(photos, tmp_path / "data", 20)
    links = sorted(folder.glob("class*/*.jpg"))
    assert len(links) == 20
    assert {link.resolve() for link in links} == {path.resolve() for path in photos.iterdir()}


@pytest.mark.parametrize("images", ["10", "4"])
def test_batches_must_be_full_and_two_or_more(photos, images, capsys):
    with pytest.raises(SystemExit):
        online_teacher.parse([str(photos), "--images", images, "-b", "4"])
    assert "it must be a multiple of -b 4, at least twice it" in capsys.readouterr().err


def test_the_counter_writes_what_it_found(tmp_path, monkeypatch):
    script = tmp_path / "script.py"
    script.write_text("import sys, torch\nones = torch.ones(int(sys.argv[1]))\nsys.exit(0)\n")
    monkeypatch.setattr(sys, "argv", ["tensor_memory", str(tmp_path / "out.json"), "cpu", str(script), "25"])
    tensor_memory.main()
    assert json.loads((tmp_path / "out.json").read_text()) == {"peak_bytes": 100, "image_bytes": 0}
