"""`tcs verify` of every kind of thing that tcs writes: sound ones are sound, and a fault of each part is one line. 15 s."""

import dataclasses
import json
import pathlib
import re
import shutil
from collections.abc import Callable

import h5py
import numpy as np
import pytest
import safetensors.numpy
import yaml
from artefacts import make_store
from finished import make_student
from grid_folders import grid_row, write_predictions, write_rows

import cache
import tcs
from tcs.cli import main
from tcs.errors import ArtefactError
from tcs.export.folders import timm_folder
from tcs.export.metadata import describe
from tcs.verifying.kinds import kind_of

FIXTURES = pathlib.Path(__file__).parent / "fixtures"
RUN = FIXTURES / "run_v1"


@pytest.fixture
def things(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """Copies of what earlier releases wrote, and a store of today."""
    for name in ("coordinates_v1.safetensors", "targets_v1.h5", "targets_v2.h5"):
        shutil.copy(FIXTURES / name, tmp_path / name)
    shutil.copytree(RUN / "finished", tmp_path / "run")
    shutil.copytree(RUN / "stopped", tmp_path / "stopped")
    shutil.copytree(FIXTURES / "grid_v1" / "splits", tmp_path / "splits")
    make_store(tmp_path / "a.store")
    cache.pack(tmp_path / "a.store", tmp_path / "packed.h5")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def student(run: pathlib.Path) -> pathlib.Path:
    (folder,) = (path for path in run.iterdir() if path.is_dir())
    return folder


SOUND = {
    "a.store": "a feature store",
    "packed.h5": "a feature store",
    "coordinates_v1.safetensors": "a coordinate system",
    "targets_v1.h5": "targets",
    "targets_v2.h5": "targets",
    "run": "a run of tcs train",
    "run/*/seen.npy": "content hashes of images that were seen",
    "run/*/metrics.jsonl": "the log of a student",
    "run/*/summary.csv": "the summary of a log",
    "run/*/folded.safetensors": "weights",
    "run/*/config.json": None,
    "run/args.yaml": "options of a run",
    "stopped/*/resume.pt": "the state of a stopped student",
    "splits/shots-1-seed-0.txt": "a split or label file",
}


@pytest.mark.parametrize("place", SOUND)
def test_what_releases_wrote_is_sound(things: pathlib.Path, place: str) -> None:
    (path,) = things.glob(place)
    if SOUND[place] is None:
        path = path.parent
    before = sorted((entry, entry.stat().st_mtime_ns) for entry in things.rglob("*"))
    found = tcs.verify(path)
    assert found.problems == ()
    assert found.is_sound
    assert found.kind == (SOUND[place] or "a student of a run")
    assert found.checked
    assert sorted((entry, entry.stat().st_mtime_ns) for entry in things.rglob("*")) == before  # nothing is written


def test_a_student_that_is_not_finished_is_said_to_be(things: pathlib.Path) -> None:
    found = tcs.verify(things / "stopped")
    assert [problem.rpartition("/")[2] for problem in found.problems] == [
        f"{student(things / 'stopped').name} is not finished; run the same tcs train command again to resume it."
    ]
    assert "state" in found.checked


def _json(path: pathlib.Path, change: Callable[[dict], object]) -> None:  # type: ignore[type-arg]
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def _cut(path: pathlib.Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def _not_a_number(path: pathlib.Path) -> None:
    with safetensors.safe_open(str(path), framework="numpy") as file:
        arrays = {name: file.get_tensor(name).copy() for name in file.keys()}  # noqa: SIM118
    name = max(arrays, key=lambda key: arrays[key].size)
    arrays[name].flat[0] = np.nan
    path.write_bytes(safetensors.numpy.save(arrays, {"format": "pt"}))


DAMAGES: dict[str, tuple[str, Callable[[pathlib.Path], object], str]] = {
    "record": (
        "run/*/config.json",
        lambda path: _json(path, lambda c: c["student"].update(image_size=0)),
        r"`int` >= 1 - at `\$\.student\.image_size`\), found 0",
    ),
    "weights": ("run/*/folded.safetensors", _cut, r"weights .*folded\.safetensors cannot be read"),
    "nan": ("run/*/last.safetensors", _not_a_number, r"last\.safetensors: '.*' holds values that are not finite; make it again"),
    "gone": ("run/*/folded.safetensors", pathlib.Path.unlink, r"folded\.safetensors is missing; put it back, or remove"),
    "seen": ("run/*/seen.npy", _cut, r"seen\.npy is missing or broken; train the student again"),
    "log": ("run/*/metrics.jsonl", lambda p: p.write_bytes(b"{}\n" + p.read_bytes()), r"metrics .* line 1 is no row"),
    "log back": ("run/*/metrics.jsonl", lambda p: p.write_bytes(p.read_bytes() * 2), r"go back in steps; train again"),
    "table": ("run/*/summary.csv", lambda p: p.write_text("a,b\n1\n"), r"summary\.csv has lines of different lengths"),
    "options": ("run/args.yaml", lambda p: p.write_text("lr: {"), r"args\.yaml holds no options of tcs train"),
    "state": ("stopped/*/resume.pt", _cut, r"resume\.pt cannot be read; delete it to start this student again"),
    "coordinates": ("coordinates_v1.safetensors", _cut, r"coordinates_v1\.safetensors is no coordinate system"),
    "targets": ("targets_v1.h5", _cut, r"targets_v1\.h5 is no targets file|is damaged"),
    "store": ("a.store/shard-00000.h5", _cut, r"; tcs cache repair .*a\.store writes again what is bad or missing\.$"),
    "split": ("splits/shots-1-seed-0.txt", lambda p: p.write_text("onlyaclass\n"), r"line 1 is 'onlyaclass'; each line must be"),
    "no lines": ("splits/shots-1-seed-0.txt", lambda p: p.write_text("\n"), r"labels nothing; write one image a line"),
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGES)
def test_a_fault_of_each_part_is_one_line(things: pathlib.Path, name: str) -> None:
    place, damage, told = DAMAGES[name]
    (path,) = things.glob(place)
    damage(path)
    top = things / path.relative_to(things).parts[0]
    found = tcs.verify(path if top.name == "splits" else top)
    assert not found.is_sound
    pattern = re.compile(told)
    assert any(pattern.search(problem) for problem in found.problems), found.problems
    assert all("\n" not in problem for problem in found.problems)
    assert top.name in found.lines()[-1]


def test_one_fault_does_not_hide_the_next(things: pathlib.Path) -> None:
    folder = student(things / "run")
    for name in ("seen.npy", "last.safetensors"):
        _cut(folder / name)
    (folder / "metrics.jsonl").write_text("x\n\n")
    assert len(tcs.verify(things / "run").problems) == 3


def test_targets_with_numbers_that_are_not_finite_are_named(things: pathlib.Path) -> None:
    """Their digest fits, so that only their values tell."""
    targets = tcs.open_targets(things / "targets_v1.h5")
    with h5py.File(things / "targets_v1.h5", "r+") as file:
        z_NK = file["coordinates"][...]
        z_NK[0, 0] = np.inf
        file["coordinates"][...] = z_NK
        facts = json.loads(file["facts"][...].tobytes())
        facts["identity"] = dataclasses.replace(targets, z_NK=z_NK).identity
        del file["facts"]
        file["facts"] = np.frombuffer(json.dumps(facts).encode(), np.uint8)
    assert tcs.verify(things / "targets_v1.h5").problems == (
        f"{things / 'targets_v1.h5'}: 'coordinates' holds values that are not finite; make it again with tcs targets.",
    )


@pytest.fixture
def grid(tmp_path: pathlib.Path) -> pathlib.Path:
    folder = write_rows(tmp_path / "grid", [grid_row("vit", "kd", 1, seed, 50.0) for seed in (0, 1)])
    write_predictions(folder, images=8)
    return folder


def test_a_grid_is_checked_with_all_of_its_files(grid: pathlib.Path) -> None:
    found = tcs.verify(grid)
    assert (found.problems, found.kind) == ((), "a grid of tcs fewshot")
    line = {"cell": "c", "state": "done", "attempt": 1, "error": "", "where": "h:1"}
    (grid / "cells.jsonl").write_text(json.dumps(line) + "\n" + '{"cell": 3}\n' + '{"torn')
    (grid / "ledger.json").write_text('{"seal": 3}')
    for path in (grid / "predictions").glob("test-*.npz"):
        path.write_bytes(path.read_bytes()[:-30])
    problems = tcs.verify(grid).problems
    assert len(problems) == 3
    assert "cells.jsonl line 2 is no record of a cell" in problems[0]
    assert "ledger.json has 3 for 'seal'" in problems[1]
    assert ".npz cannot be read" in problems[2]


def test_a_recipe_is_read_without_its_stores(tmp_path: pathlib.Path) -> None:
    recipe = {"train": "a.store", "test": "b.store", "students": ["resnet18"], "methods": ["labels"], "shots": [1]}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    assert tcs.verify(tmp_path / "recipe.yaml").is_sound
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe | {"shots": []}))
    assert "lacks 'shots'" in tcs.verify(tmp_path / "recipe.yaml").problems[0]


def test_an_export_is_opened_as_for_use(tmp_path: pathlib.Path) -> None:
    student, out = tcs.load_student(make_student(tmp_path / "run")), tmp_path / "exported"
    out.mkdir()
    for name, data in timm_folder(student, describe(student, {}, preprocess_in_graph=False)).items():
        (out / name).write_bytes(data)
    found = tcs.verify(out)
    assert (found.problems, found.kind) == ((), "an exported student")
    _json(out / "tcs.json", lambda card: card.update(classes=[]))
    assert "does not fit" in tcs.verify(out).problems[0]


def test_a_folder_of_several_is_looked_through_thing_by_thing(things: pathlib.Path) -> None:
    """As tcs distill leaves it; what tcs did not write is passed over."""
    (things / "notes.pdf").write_bytes(b"%PDF")
    (things / "images").mkdir()
    shutil.rmtree(things / "stopped")
    found = tcs.verify(things)
    assert (found.problems, found.kind) == ((), "a folder of several")
    told = [what.partition(": ")[0] for what in found.checked]
    assert list(dict.fromkeys(told)) == [
        *("a.store", "coordinates_v1.safetensors", "packed.h5", "run", "targets_v1.h5", "targets_v2.h5")
    ]
    _cut(things / "a.store" / "shard-00000.h5")
    assert len(tcs.verify(things).problems) == 2


def test_what_is_not_there_or_not_ours_is_refused(tmp_path: pathlib.Path) -> None:
    with pytest.raises(ArtefactError, match=r"'.*none' does not exist; PATH is a store, coordinates, targets, a run"):
        tcs.verify(tmp_path / "none")
    (tmp_path / "notes.pdf").write_bytes(b"%PDF")
    with pytest.raises(ArtefactError, match=r"notes\.pdf is nothing that tcs wrote; PATH is a store"):
        tcs.verify(tmp_path / "notes.pdf")
    (tmp_path / "folder").mkdir()
    with pytest.raises(ArtefactError, match=r"folder is nothing that tcs wrote"):
        tcs.verify(tmp_path / "folder")
    with pytest.raises(ArtefactError, match=r"is a pipe, a device or a socket"):
        tcs.verify("/dev/null")
    assert kind_of(tmp_path / "folder") is None


def test_the_command_says_it_in_lines_or_as_json(things: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    def run(*arguments: str) -> tuple[int, str]:
        with pytest.raises(SystemExit) as ended:
            main(["verify", *arguments])
        return int(ended.value.code or 0), capsys.readouterr().out

    assert run("coordinates_v1.safetensors") == (
        0,
        "coordinates_v1.safetensors is sound, a coordinate system: header, shapes and identity; 10 of 12 axes, all finite.\n",
    )
    _cut(things / "coordinates_v1.safetensors")
    code, said = run("coordinates_v1.safetensors")
    assert (code, said.count("\n")) == (1, 2)
    assert "coordinates_v1.safetensors, a coordinate system: 1 problem; sound: nothing of it could be read." in said
    code, said = run("coordinates_v1.safetensors", "--json")
    told = json.loads(said)
    assert (code, told["sound"], told["kind"], len(told["problems"])) == (1, False, "a coordinate system", 1)
