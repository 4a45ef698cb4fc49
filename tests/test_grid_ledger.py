"""The folder of a grid: rows of other stores, targets or numbers are refused by name, and the comparison is sealed before them."""

import csv
import importlib.util
import json
import multiprocessing
import shutil
import sys

import pytest
import yaml
from artefacts import make_store, make_targets

import cache
import tcs.grid.ledger
from tcs.config.evaluate import FewshotConfig
from tcs.errors import ArtefactError, ConfigError
from tcs.grid.ledger import COLUMNS, Origin, add_row, check_folder, claim_folder, load_results
from tcs.grid.recipe_file import load_grid
from tcs.grid.reported import write_report
from tcs.grid.run import fewshot
from tcs.reporting.seal import is_whole, seal, trust_in

STUDENT = "resnet18,layers=(1,1,1,1),channels=(4,4,8,8)"
ORIGIN = Origin(train="a" * 32, test="b" * 32, targets={})


def write_recipe(folder, **changes):
    recipe = {
        "train": str(folder / "train.store"),
        "test": str(folder / "test.store"),
        "students": [STUDENT],
        "methods": ["labels", "bottleneck"],
        "shots": [1],
        "seeds": [0, 1],
        "references": ["teacher-probe", "teacher-knn"],
        "options": {"img_size": 16, "steps": 1, "batch_size": 3},
    } | changes
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe))
    return path


def claim(folder, origin=ORIGIN, **changes):
    recipe = write_recipe(folder, **changes)
    claim_folder(folder / "grid", load_grid(recipe), recipe, origin)
    return json.loads((folder / "grid" / "ledger.json").read_text())


def a_row(seed=0, **more):
    cell = {"model": "teacher", "method": "teacher-probe", "shots": 1, "seed": seed, "unlabelled": "none"}
    return dict.fromkeys(COLUMNS, "") | cell | ORIGIN.columns() | {"status": "ok", "top1": 50.0} | more


@pytest.fixture
def stores(tmp_path):
    """A folder with two stores."""
    make_store(tmp_path / "train.store")
    make_store(tmp_path / "test.store", seed=9, rows=30)
    return tmp_path


def run(folder, **changes):
    """The rows after a third of the grid's cells: references of the teacher, and students of one step."""
    recipe = write_recipe(folder, **changes)
    assert fewshot(FewshotConfig(recipe=str(recipe), out=str(folder / "grid"), cells="1/3")) == 0
    with (folder / "grid" / "results.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_every_row_says_what_it_is_of(stores):
    rows = run(stores)
    train, test = (cache.open(stores / name).identity for name in ("train.store", "test.store"))
    assert {(row["cache_id"], row["test_id"], row["semantics"]) for row in rows} == {(train, test, "1")}
    assert all(len(row["recipe_id"]) == 32 for row in rows)


@pytest.mark.parametrize(("name", "said"), [("train", "'train'"), ("test", "'test'")])
def test_a_store_that_was_extracted_again_under_its_old_name_is_refused(stores, name, said):
    rows = run(stores)
    shutil.rmtree(stores / f"{name}.store")
    make_store(stores / f"{name}.store", seed=9 if name == "test" else 0, rows=60, teacher="another")
    with pytest.raises(ArtefactError, match=rf"was made with another {said} .*; use another --out"):
        run(stores, seeds=[0, 1, 2])
    assert load_results(stores / "grid" / "results.csv") == rows


def test_a_store_that_was_moved_is_the_same_store(stores):
    rows = run(stores)
    (stores / "train.store").rename(stores / "moved.store")
    more = run(stores, train=str(stores / "moved.store"), seeds=[0, 1, 2, 3])
    assert more[: len(rows)] == rows
    assert len(more) > len(rows)


def test_targets_that_were_made_again_are_refused(stores):
    make_targets(stores)
    run(stores, targets=str(stores / "pca.h5"))
    for name in ("pca.safetensors", "pca.h5"):
        (stores / name).unlink()
    make_targets(stores, components=5)
    with pytest.raises(ArtefactError, match=r"other targets at .*pca\.h5 .*; use another --out"):
        run(stores, targets=str(stores / "pca.h5"))


def test_a_row_names_the_targets_that_it_reads(stores):
    make_targets(stores)
    rows = run(stores, targets=str(stores / "pca.h5"), methods=["labels", "tcs-probe"], references=[], seeds=[0, 1, 2])
    read = {row["method"]: row["targets_id"] for row in rows}
    assert set(read) == {"labels", "tcs-probe"}
    assert read["labels"] == ""
    assert len(read["tcs-probe"]) == 32


def test_rows_copied_from_another_grid_are_refused_by_line_and_column(tmp_path):
    claim(tmp_path)
    add_row(tmp_path / "grid", a_row())
    add_row(tmp_path / "grid", a_row(seed=1, test_id="c" * 32))
    with pytest.raises(
        ArtefactError, match=r"results\.csv line 3 has test_id c{32}, the test store of this recipe is b{32}"
    ):
        check_folder(tmp_path / "grid", load_grid(write_recipe(tmp_path)), ORIGIN)
    add_row(tmp_path / "grid", a_row(seed=1, semantics=0))
    with pytest.raises(ArtefactError, match=r"line 3 has semantics 0, the software's semantics of this recipe is 1"):
        check_folder(tmp_path / "grid", load_grid(write_recipe(tmp_path)), ORIGIN)


def test_a_folder_of_an_earlier_release_is_read_by_the_report_and_not_added_to(tmp_path):
    earlier = [name for name in COLUMNS if name not in ("test_id", "recipe_id", "semantics")]
    (tmp_path / "grid").mkdir()
    with (tmp_path / "grid" / "results.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, earlier, extrasaction="ignore")
        writer.writeheader()
        writer.writerow(a_row())
    with pytest.raises(ArtefactError, match=r"do not say of which test store they are\); read it with tcs report"):
        claim(tmp_path)
    write_report(tmp_path / "grid", tmp_path / "report.md")
    assert "50.0 (1)" in (tmp_path / "report.md").read_text()
    (tmp_path / "grid" / "results.csv").unlink()
    (tmp_path / "grid" / "ledger.json").write_text('{"settings": {}, "environment": {}}')
    with pytest.raises(ArtefactError, match=r"was made by an earlier release; read it with tcs report"):
        claim(tmp_path)


def test_the_comparison_is_sealed_once_before_the_first_row(tmp_path, capsys):
    first = claim(tmp_path, primary=["labels", "bottleneck"])["seal"]
    assert first["primary"] == ["labels", "bottleneck"]
    assert first["rows"] == 0
    assert first["origin"] == {"train": "a" * 32, "test": "b" * 32, "semantics": 1}
    assert is_whole(first)
    add_row(tmp_path / "grid", a_row())
    again = claim(tmp_path, primary=["labels", "teacher-probe"])
    assert again["seal"] == first
    assert "and ['labels', 'bottleneck'] was sealed at" in capsys.readouterr().err


def test_what_the_report_says_of_a_comparison():
    ledger = {"seal": seal(["a", "b"], {"train": "t"}, 0)}
    assert trust_in(["a", "b"], ledger).kind == "beforehand"
    assert trust_in(["a", "c"], ledger).kind == "exploratory"
    assert "sealed before it" in trust_in(["a", "c"], ledger).about
    assert trust_in(["a", "b"], {}).kind == "unknown"
    assert trust_in(["a", "b"], {"seal": seal(["a", "b"], {}, 3)}).kind == "exploratory"
    assert trust_in(["a", "b"], {"seal": seal(None, {}, 0)}).kind == "exploratory"
    edited = {"seal": ledger["seal"] | {"primary": ["a", "c"]}}
    assert trust_in(["a", "c"], edited).about == "the seal in ledger.json was changed by hand"


def test_the_report_calls_a_later_choice_exploratory(tmp_path):
    claim(tmp_path, primary=["labels", "bottleneck"])
    for seed in (0, 1):
        for method, top1 in (("labels", 40 + seed), ("bottleneck", 30)):
            add_row(tmp_path / "grid", a_row(seed, model=STUDENT, method=method, split_id=seed, top1=float(top1)))
    write_report(tmp_path / "grid", tmp_path / "report.md")
    assert "Primary comparison, fixed beforehand (sealed " in (tmp_path / "report.md").read_text()
    (tmp_path / "grid" / "recipe.yaml").write_text("primary: [bottleneck, labels]\n")
    write_report(tmp_path / "grid", tmp_path / "report.md")
    text = (tmp_path / "report.md").read_text()
    assert "Exploratory comparison, **not** fixed beforehand (named after the first row; sealed before it" in text
    assert "fixed beforehand (sealed" not in text


def test_a_comparison_of_rows_that_the_recipe_lacks_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"'labls' is none of its rows \(.*\)\. Did you mean labels"):
        load_grid(write_recipe(tmp_path, primary=["labls", "bottleneck"]))
    with pytest.raises(ConfigError, match="it must name two methods"):
        load_grid(write_recipe(tmp_path, primary=["labels"]))


def _claim_together(folder, start, answers):
    start.wait()
    try:
        recipe = folder / "recipe.yaml"
        claim_folder(folder / "grid", load_grid(recipe), recipe, ORIGIN)
        answers.put("ok")
    except Exception as error:
        answers.put(repr(error))


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_parts_that_start_together_share_one_ledger(tmp_path):
    write_recipe(tmp_path, primary=["labels", "bottleneck"])
    context = multiprocessing.get_context("fork")
    start, answers = context.Event(), context.Queue()
    parts = [context.Process(target=_claim_together, args=(tmp_path, start, answers)) for _ in range(6)]
    for part in parts:
        part.start()
    start.set()
    found = [answers.get(timeout=30) for _ in parts]
    for part in parts:
        part.join()
    assert found == ["ok"] * 6
    assert is_whole(json.loads((tmp_path / "grid" / "ledger.json").read_text())["seal"])


def test_rows_are_added_where_the_system_has_no_advisory_locks(tmp_path, monkeypatch):
    claim(tmp_path)
    monkeypatch.setitem(sys.modules, "fcntl", None)  # importing it is an ImportError
    spec = importlib.util.spec_from_file_location("ledger_without_locks", tcs.grid.ledger.__file__)
    without = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, without)
    spec.loader.exec_module(without)
    without.add_row(tmp_path / "grid", a_row())
    assert [row["top1"] for row in load_results(tmp_path / "grid" / "results.csv")] == ["50.0"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            '{"origin": {}}',
            r"ledger\.json lacks 'origin\.train', and no release wrote it so; read the rows with tcs report",
        ),
        ('{"origin": []}', r"ledger\.json has \[\] for 'origin', and no release wrote it so"),
        (
            '{"origin": {"tra',
            r"ledger\.json cannot be read \(.*\); read the rows with tcs report, and use another --out",
        ),
        ("[]", r"ledger\.json holds \[\] and must hold a JSON object; read the rows with tcs report"),
        ("{}", "was made by an earlier release"),
    ],
)
def test_a_broken_ledger_is_one_line_with_a_remedy_that_fewshot_has(tmp_path, text, told):
    claim(tmp_path)
    (tmp_path / "grid" / "ledger.json").write_text(text)
    with pytest.raises(ArtefactError, match=told) as raised:
        claim(tmp_path)
    assert "\n" not in str(raised.value)
    assert "--overwrite" not in str(raised.value)


@pytest.mark.parametrize("part", ["origin", "settings", "seal"])
def test_a_ledger_that_lacks_a_part_is_named(tmp_path, part):
    whole = claim(tmp_path)
    (tmp_path / "grid" / "ledger.json").write_text(json.dumps({**whole, part: {}}))
    with pytest.raises(ArtefactError, match=rf"ledger\.json lacks '{part}\."):
        claim(tmp_path)
    (tmp_path / "grid" / "ledger.json").write_text(json.dumps({**whole, part: None}))
    with pytest.raises(ArtefactError, match=rf"ledger\.json has None for '{part}'"):
        claim(tmp_path)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('{"seal": [1]}', r"ledger\.json has \[1\] for 'seal', and no release wrote it so; move it away for a report"),
        ('{"seal": {"at', r"ledger\.json cannot be read \(.*\); move it away for a report that does not say when"),
        ("[]", r"ledger\.json holds \[\] and must hold a JSON object; move it away for a report"),
        ('{"environment": {"cores": 2}}', r"ledger\.json lacks 'environment\.versions'"),
    ],
)
def test_a_report_of_a_broken_ledger_is_refused_in_one_line(tmp_path, text, told):
    claim(tmp_path)
    add_row(tmp_path / "grid", a_row())
    (tmp_path / "grid" / "ledger.json").write_text(text)
    with pytest.raises(ArtefactError, match=told):
        write_report(tmp_path / "grid", tmp_path / "report.md")
