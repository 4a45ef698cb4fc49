"""Tables, figure and folder of `tcs probe`, and the command. Means are worked by hand."""

import csv
import json
import pathlib
import sys
from typing import Any

import pytest
from artefacts import make_store
from PIL import Image

from tcs.cli import main
from tcs.config.evaluate import ProbeConfig
from tcs.errors import ArtefactError, ConfigError
from tcs.evaluation.probe import measure_compression
from tcs.reporting.compression import (
    UNCOMPRESSED,
    Compression,
    accuracy_table,
    head_parameters,
    intervals,
    render,
    size_table,
    summary,
    write_compression,
)

FACTS = {"versions": {"numpy": "2"}, "python": "3.11", "processor": "abacus", "cores": 1, "commit": "f00d"}


def row(method: str, size: int, seed: int, top1: float, **more: Any) -> dict[str, Any]:
    sizes = head_parameters(64, size, 10, method)
    common = {"head": "ridge", "readout": "avg", "shots": 16, "labelled": 160, "rows": 1000, "seen": 0, "teacher": "t"}
    place = {"method": method, "components": size, "seed": seed, "compression": 64 / size, "top1": top1}
    return {**place, **sizes, **common, "cache_id": "c1", "test_id": "c2", "commit": "f00d", **more}


def small(**more: Any) -> Compression:
    found = [row(UNCOMPRESSED, 64, 0, 70.0, **more)]
    found += [row("jl", 8, seed, top1, **more) for seed, top1 in enumerate((60.0, 62.0, 64.0))]
    found += [row("pca", 8, 0, 66.0, **more), row("jl", 32, 0, 68.0, **more)]
    return Compression(rows=found, recipe={"seeds": [0, 1, 2], "splits": ["s", "s", "s"]}, environment=FACTS)


def test_means_and_intervals_worked_by_hand() -> None:
    # 60 62 64: std 2, half-width 4.303 * 2 / sqrt 3 = 4.97.
    table = accuracy_table(small().rows)
    assert table.splitlines()[0] == "| projection | 1x (K=64) | 2x (K=32) | 8x (K=8) |"
    assert "| jl | - | 68.00 (1) | 62.00 ± 4.97 (3) |" in table
    assert "| uncompressed | 70.00 (1) | - | - |" in table
    assert intervals(small().rows)["jl", 8].std == 2
    entry = next(entry for entry in summary(small().rows) if (entry["method"], entry["components"]) == ("jl", 8))
    assert (entry["n"], entry["top1_mean"], entry["params"]) == (3, 62.0, 8 * 74 + 10)


def test_sizes_are_told_with_what_they_mean() -> None:
    table = size_table(small().rows)
    assert "| 8 | 8x | 602 | 2,408 | 90 | 650 |" in table
    assert "D = 64, C = 10. Uncompressed: 650 parameters." in table


def test_page_says_what_was_seen_and_where_the_numbers_come_from() -> None:
    page = render(small())
    assert page.startswith("# ridge head on compressed avg features, 16 labels a class\n")
    assert "With 3 of the 5 seeds that a claim needs" in page
    assert "- commit: f00d; hardware: abacus, 1 cores" in page
    assert "SEEN" not in page
    assert "**7 of the scored images are SEEN" in render(small(seen=7))
    assert "features, 160 labels\n" in render(small(shots="all"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("table")
    make_store(folder / "train.store")
    make_store(folder / "test.store", seed=9, rows=30)
    return folder


def config(folder: pathlib.Path, out: pathlib.Path | None, **options: Any) -> ProbeConfig:
    stores = {"store": str(folder / "train.store"), "test": str(folder / "test.store")}
    return ProbeConfig(**{**stores, "dims": (4, 12), "out": None if out is None else str(out), **options})


def test_folder_has_table_page_and_figure(folder: pathlib.Path, tmp_path: pathlib.Path) -> None:
    out = tmp_path / "out"
    result = measure_compression(config(folder, out))
    write_compression(result, out)
    assert sorted(path.name for path in out.iterdir()) == [
        "compression.csv",
        "compression.md",
        "compression.png",
        "probe.json",
    ]
    with (out / "compression.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(line["top1"]) for line in rows] == [line["top1"] for line in result.rows]
    assert (out / "compression.md").read_text() == render(result)
    with Image.open(out / "compression.png") as image:
        assert image.width > 600


def test_a_rerun_reads_and_other_options_are_refused(
    folder: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    first = measure_compression(config(folder, out))
    write_compression(first, out)
    (out / "compression.png").unlink()
    again = measure_compression(config(folder, out))
    assert list(again.rows) == list(first.rows)
    assert "holds these very results" in capsys.readouterr().err
    write_compression(again, out)
    assert (out / "compression.png").exists()
    with pytest.raises(ArtefactError, match=r"was made otherwise: dims is \[12, 4\] there and \[4\] here.*--overwrite"):
        measure_compression(config(folder, out, dims=(4,)))
    assert len(measure_compression(config(folder, out, dims=(4,), overwrite=True)).rows) == 1 + 2 + 2 * 3


def test_folders_of_something_else_are_refused(folder: pathlib.Path, tmp_path: pathlib.Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ArtefactError, match="holds files that no tcs probe made"):
        measure_compression(config(folder, tmp_path, overwrite=True))
    with pytest.raises(ArtefactError, match="is a file; the results need a folder"):
        measure_compression(config(folder, tmp_path / "notes.txt"))
    (tmp_path / "probe.json").write_text("{")
    with pytest.raises(ArtefactError, match=r"probe.json cannot be read .*; pass --overwrite to measure again"):
        measure_compression(config(folder, tmp_path))


def test_missing_matplotlib_names_the_extra_and_keeps_the_tables(
    folder: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ConfigError, match=r"compression.png is not drawn; pip install 'tcs-distill\[plots\]'"):
        write_compression(measure_compression(config(folder, tmp_path / "out")), tmp_path / "out")
    assert (tmp_path / "out" / "compression.csv").exists()
    assert (tmp_path / "out" / "compression.md").exists()


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[Any, str, str]:
    with pytest.raises(SystemExit) as ended:
        main(["probe", *arguments])
    output = capsys.readouterr()
    return ended.value.code, output.out, output.err


def test_command(folder: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    stores = [str(folder / "train.store"), "--test", str(folder / "test.store")]
    options = ["--projection", "jl", "--compression", "2", "--compression", "4", "--seed", "3", "--shots", "4"]
    code, out, err = run(capsys, *stores, *options, "--json", "--out", str(tmp_path / "out"))
    assert code == 0
    found = json.loads(out)
    assert [(line["method"], line["components"], line["seed"]) for line in found["results"]] == [
        (UNCOMPRESSED, 24, 3),
        ("jl", 12, 3),
        ("jl", 6, 3),
    ]
    assert found["table"][1]["n"] == 1
    assert "3 ridge heads" in err
    code, out, _ = run(capsys, *stores, "--dims", "4")
    assert code == 0
    assert out.startswith("# ridge head on compressed avg features, 60 labels\n")
    code, out, err = run(capsys, *stores, "--dims", "40")
    assert (code, out) == (1, "")
    assert err == "Error: --dims is 40, and the features have 24 dims; it must be from 1 to 24.\n"
    assert run(capsys, *stores, "--head", "svm")[0] == 2
