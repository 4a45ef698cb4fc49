"""benchmarks/losses.py, once and small, so that it cannot rot."""

import csv
import json

from benchmarks import losses
from tcs.criteria.losses import LOSSES

SMALL = {
    "STUDENT_DIMS": 12,
    "TEACHER_DIMS": 16,
    "CLASSES": 4,
    "COORDINATES": 8,
    "BITS": 16,
    "RUN_ROWS": 40,
    "STUDENT_MAPS": ((4, 8, 8), (6, 4, 4), (8, 2, 2)),
    "TEACHER_MAPS": ((5, 8, 8), (7, 4, 4), (9, 2, 2)),
}


def test_every_loss_gets_its_share_of_a_step(tmp_path, monkeypatch, capsys):
    for name, value in SMALL.items():
        monkeypatch.setattr(losses, name, value)
    monkeypatch.setattr(losses, "COSTS", tmp_path / "costs.json")
    repeats = ["--repeats", "2", "--student-repeats", "1"]
    losses.main(["--out", str(tmp_path / "losses.csv"), "--batch-size", "4", *repeats])
    costs = json.loads((tmp_path / "costs.json").read_text())
    assert set(costs["percent_of_a_step"]) == set(LOSSES)
    assert costs["batch_size"] == 4
    with (tmp_path / "losses.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["loss"] for row in rows[:-1]] == list(LOSSES)
    base = float(rows[-1]["ms"])
    for row in rows[:-1]:
        assert float(row["ms_least"]) <= float(row["ms"]) <= float(row["ms_most"])
        assert abs(float(row["percent"]) - 100 * float(row["ms"]) / base) < 0.02
    assert "\n| crd | " in capsys.readouterr().out
