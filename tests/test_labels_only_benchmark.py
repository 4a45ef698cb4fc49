"""Labels only against timm's loop: the same recipe, turns that alternate, and all of it once and small."""

import time

import numpy as np
import pytest
from PIL import Image
from tables import read_rows
from torchvision.transforms import InterpolationMode

from benchmarks import labels_only
from benchmarks.contestants import link_classes
from benchmarks.labels_only import RESIDENT, STREAMED, TIMM, Case, Setup, measure, tcs_config, timm_config, verdict
from benchmarks.timm_loop import LoopConfig, TimmLoop
from benchmarks.turns import Table

pytestmark = pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # timm's ImageDataset leaves them open
CASE = Case(model="test_resnet", size=32, batch_size=4)


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(4):
        noise = np.random.default_rng(number).integers(0, 256, (9, 10, 3), dtype=np.uint8)
        Image.fromarray(noise).resize((60, 54)).save(folder / f"{number}.jpg")
    return folder


def test_every_second_round_goes_the_other_way_round():
    calls = []
    every = {name: lambda name=name: calls.append(name) or 1.0 for name in (TIMM, STREAMED)}
    assert measure("t", every, 3).values == {TIMM: [1.0] * 3, STREAMED: [1.0] * 3}
    assert calls == [TIMM, STREAMED, STREAMED, TIMM, TIMM, STREAMED]


def test_both_train_by_one_recipe(tmp_path):
    setup = Setup(folder=tmp_path, store=tmp_path / "s.store", scratch=tmp_path, warm_up=2, steps=5, workers=3)
    config = tcs_config(CASE, setup, tmp_path / "run", resident=False)
    timm = timm_config(CASE, setup)
    assert (config.optimiser.opt, config.optimiser.lr, config.optimiser.weight_decay) == ("adamw", timm.lr, 0.05)
    assert (config.optimiser.clip_grad, config.optimiser.sched, config.optimiser.channels_last) == (0, "constant", True)
    assert (config.augment.scale, config.augment.hflip) == ((0.08, 1.0), 0.5)
    assert config.augment.train_interpolation == timm.interpolation == "bicubic"
    assert (config.steps, config.log_interval, config.workers, config.resident_share) == (7, 2, 3, 0.0)
    assert tcs_config(CASE, setup, tmp_path / "run", resident=True).resident_share == 1.0


def test_timm_resizes_and_flips_as_ours_does(photos, tmp_path):
    folder = link_classes(photos, tmp_path / "data", 8)
    loop = TimmLoop(LoopConfig(data=folder, model="cifar_resnet20", img_size=16, workers=0, interpolation="bicubic"))
    boxes, flips, *_ = loop.loader.dataset.transform.transforms
    assert (boxes.interpolation, boxes.scale, boxes.size) == (InterpolationMode.BICUBIC, (0.08, 1.0), (16, 16))
    assert flips.p == 0.5


def test_the_whole_comparison(photos, results, capsys, monkeypatch):
    monkeypatch.setattr(labels_only, "CASES", {"tiny": CASE})
    options = ["--images", "8", "--rounds", "1", "--warm-up", "1", "--steps", "2", "-j", "0", "--processor-time"]
    clock = time.perf_counter
    labels_only.main([str(photos), *options])
    assert time.perf_counter is clock
    rows = read_rows(results / "labels-only" / "labels-only.csv")
    assert [row["contestant"] for row in rows] == [TIMM, STREAMED, RESIDENT]
    assert all(float(row["value"]) > 0 for row in rows)
    assert "commit" in capsys.readouterr().out


def test_processor_time_of_other_processes_is_not_pretended(tmp_path, capsys):
    with pytest.raises(SystemExit):
        labels_only.parse([str(tmp_path), "--processor-time"])
    assert "--processor-time sees this process alone, and -j 2 starts others; give -j 0." in capsys.readouterr().err


def test_the_verdict_is_about_the_median():
    values = {TIMM: [10.0, 10.0, 10.0], STREAMED: [9.0, 10.0, 12.0], RESIDENT: [11.5, 10.0, 14.0]}
    said = verdict(Table(title="t", unit="images/s", base=TIMM, values=values))
    assert said == (
        "- t: tcs, streamed 1.00 x (n 3, 0.90 - 1.20): 1.1 x NOT reached; tcs, in memory 1.15 x (n 3, 1.00 - 1.40): 1.1 x reached."
    )
