"""The benchmark of `tcs predict`, once and small: its contestants do the same work."""

import csv
import pathlib

import numpy as np
import pytest
from artefacts import png

import tcs
from benchmarks import predict


# timm's ImageDataset leaves the files it opens to the collector.
@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
def test_a_loop_of_timm_and_tcs_predict_agree(tmp_path: pathlib.Path, results: pathlib.Path, capsys) -> None:
    rng = np.random.default_rng(0)
    for number in range(5):
        path = tmp_path / "photos" / predict.CLASSES[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(rng.integers(0, 256, (36, 36, 3), dtype=np.uint8)))
    plain, ours = predict.make_folders(tmp_path, "test_resnet", 32)
    best = predict.timm_loop(plain, str(tmp_path / "photos"), 2, 0)
    for folder in (plain, ours):
        config = tcs.PredictConfig(model=folder, paths=(str(tmp_path / "photos"),), batch_size=2)
        assert [row["class"] for row in tcs.predict(config).rows] == [predict.CLASSES[order[0]] for order in best]
    options = ["--model", "test_resnet", "--img-size", "32", "--threads", "1", "--rounds", "1"]
    predict.main([str(tmp_path / "photos"), *options])
    assert "| tcs predict, a student |" in capsys.readouterr().out
    with (results / "predict" / "predict.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["contestant"] for row in rows] == [predict.BASE, "tcs predict, a student", "tcs predict, a timm folder"]
