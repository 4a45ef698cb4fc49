"""Blocks of Python in the pages are whole: every name is imported or made in its block or an earlier one; what needs no teacher runs."""

import ast
import builtins
import importlib
import importlib.util
import inspect
import json
import pathlib
import re
import symtable
from typing import Any

import numpy as np
import pytest
import timm
from artefacts import make_store
from docs_lines import SIGNATURES
from pages import PAGES, ROOT, listings_of, name_of, prose_of
from safetensors.torch import save_file

import cache
import tcs.functional

OF_THE_READER = {"my_encoder"}  # modules that a page says are one's own
FILES = {"tcs.json", "tcs.py", "cache.py"}
DOTTED = re.compile(r"(?<![\w./-])(?:tcs|cache)(?:\.[A-Za-z_]\w*)+(?![\w/-])")


def blocks_of(text: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def made_and_read(block: str) -> tuple[set[str], set[str]]:
    """Names that a block makes as a module, and those that it reads and does not make itself, in functions as well."""
    top = symtable.symtable(block, "block", "exec")
    made = {symbol.get_name() for symbol in top.get_symbols() if symbol.is_assigned() or symbol.is_imported()}
    tables, read = [top], set()
    while tables:
        table = tables.pop()
        tables += table.get_children()
        is_top = table is top
        read |= {
            item.get_name() for item in table.get_symbols() if item.is_referenced() and (is_top or item.is_global())
        }
    return made, read - made - set(dir(builtins))


def unknown_names(blocks: list[str]) -> set[str]:
    known: set[str] = set()
    unknown: set[str] = set()
    for block in blocks:
        made, read = made_and_read(block)
        unknown |= read - known
        known |= made
    return unknown


def imports_of(block: str) -> set[tuple[str, str | None]]:
    """(module, name taken from it) of every import of a block."""
    nodes = list(ast.walk(ast.parse(block)))
    whole = {(alias.name, None) for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    parts = {
        (str(node.module), alias.name) for node in nodes if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    return whole | parts


def test_a_fragment_is_seen() -> None:
    assert unknown_names(["import cache\nstore = cache.open(path)\n", "def f():\n    return store, model\n"]) == {
        "path",
        "model",
    }


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_name_of_a_block_is_made_on_its_page(page: pathlib.Path) -> None:
    blocks = blocks_of(page.read_text())
    assert len(blocks) == page.read_text().count("```python")
    assert unknown_names(blocks) == set()
    for module, name in set().union(*map(imports_of, blocks)):
        if module not in OF_THE_READER:
            assert name is None or hasattr(importlib.import_module(module), name), f"{module}.{name}"
            assert importlib.util.find_spec(module) is not None


def named_in_prose(text: str) -> set[str]:
    """Names of `tcs` and `cache` with dots, in code within sentences."""
    spans = re.findall(r"`([^`\n]+)`", prose_of(text))
    return {name for span in spans for name in DOTTED.findall(span)} - FILES


def is_there(name: str) -> bool:
    """Whether the longest part that is a module has the rest; a module counts before a function of its name."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        try:
            found: Any = importlib.import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for part in parts[length:]:
            if not hasattr(found, part):
                return False
            found = getattr(found, part)
        return True
    return False


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_name_with_dots_in_prose_is_there(page: pathlib.Path) -> None:
    assert [name for name in sorted(named_in_prose(page.read_text(encoding="utf-8"))) if not is_there(name)] == []


def test_a_name_that_is_not_there_is_seen() -> None:
    assert named_in_prose(
        "Raises `cache.CacheError`, see `tcs.train(store)` and `tcs.json`; tcs.nothing is no code."
    ) == {
        "cache.CacheError",
        "tcs.train",
    }
    assert not is_there("cache.CacheError")
    assert is_there("cache.errors.CacheError")
    assert is_there("tcs.functional.lsh.lshl2")


CALL = re.compile(r"`((?:tcs|cache)\.\w+)\(([^`]*)\)`")


def wrong_arguments(function: Any, shown: str) -> list[str]:
    """What of the arguments in a table, as `store, out=, steps=60`, is not as the function declares it."""
    names = inspect.signature(function).parameters
    wrong = []
    for argument in filter(None, shown.split(", ")):
        name, is_named, value = argument.partition("=")
        each = names.get(name)
        is_right = each is not None and (
            (repr(each.default).replace("'", '"') == value.replace("'", '"'))
            if value
            else (each.kind is not each.KEYWORD_ONLY or bool(is_named))
        )
        wrong += [] if is_right else [argument]
    told = {argument.partition("=")[0] for argument in shown.split(", ")}
    return wrong + [name for name, each in names.items() if each.default is each.empty and name not in told]


def test_the_table_of_functions_has_their_signatures() -> None:
    page = (ROOT / "docs/reference/python.md").read_text(encoding="utf-8")
    table = page[page.index("## Commands and functions") : page.index("## A folder of yours")]
    calls = [call for call in CALL.findall(table) if call[0] != "tcs.load_coordinates"]
    assert len(calls) > 25
    for name, shown in calls:
        package, _, function = name.partition(".")
        assert wrong_arguments(getattr(importlib.import_module(package), function), shown) == [], name


def test_a_wrong_argument_in_the_table_is_seen() -> None:
    assert wrong_arguments(tcs.demo, "folder, steps=50") == ["steps=50"]
    assert wrong_arguments(tcs.fit, "store") == ["out"]
    assert wrong_arguments(tcs.fit, "store, out") == ["out"]
    assert wrong_arguments(tcs.fit, "store, out=, power=1") == ["power=1"]


def test_signatures_of_losses_are_those_of_the_functions() -> None:
    for language, block in listings_of((ROOT / SIGNATURES).read_text(encoding="utf-8")):
        (node,) = ast.parse(block).body
        assert language == "", block
        assert isinstance(node, ast.Expr), block
        call = node.value
        assert isinstance(call, ast.Call), block
        (function,) = {
            found
            for module in [tcs.functional, *vars(tcs.functional).values()]
            if inspect.ismodule(module) and (found := getattr(module, ast.unparse(call.func), None))
        }
        parameters = inspect.signature(function).parameters.values()
        shown = [ast.unparse(each) for each in call.args] + [ast.unparse(each) for each in call.keywords]
        assert shown == [
            each.name if each.default is each.empty else f"{each.name}={each.default!r}" for each in parameters
        ]


def test_pages_have_blocks() -> None:
    assert sum(len(blocks_of(page.read_text())) for page in PAGES) > 12


def run_page(page: str, *, without: tuple[str, ...] = ()) -> dict[str, Any]:
    """Run the blocks of a page one after the other, but for those that hold one of `without`; returns their names."""
    names: dict[str, Any] = {"__name__": "block"}
    for block in blocks_of((ROOT / "docs" / page).read_text()):
        if not any(word in block for word in without):
            exec(compile(block, page, "exec"), names)
    return names


@pytest.fixture
def folder(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_blocks_about_losses_run_in_order() -> None:
    names = run_page("reference/methods.md")
    assert names["loss"].isfinite()
    assert names["fusion"]


def test_the_blocks_about_training_run(folder: pathlib.Path) -> None:
    student = folder / "run" / "resnet18"
    student.mkdir(parents=True)
    save_file(timm.create_model("resnet18", num_classes=0).state_dict(), student / "folded.safetensors")
    (student / "metrics.jsonl").write_text(json.dumps({"step": 1, "loss": "nan"}) + "\n")
    make_store(folder / "train.store", rows=240)
    assert run_page("how-to/training.md")["model"].num_classes == 10
    assert np.isnan(run_page("reference/run-files.md")["rows"][0]["loss"])
    names = run_page("how-to/watching.md")
    assert len(names["held"].rows_N) == len(names["features"]) == 120


def test_the_block_that_makes_a_store_runs(folder: pathlib.Path) -> None:
    np.save("avg.npy", np.ones((3, 4), np.float32))
    for name, dims in (("A", 2), ("B", 5)):
        cache.create(
            f"{name}.store", {"avg": np.ones((3, dims), np.float32)}, keys=["a", "b", "c"], labels=["x", "y", "x"]
        )
    names = run_page("how-to/store.md", without=("store[7]",))
    assert names["cache"].open("X.store").labels_N.tolist() == [0, -1, 1]
    assert names["joined"].features("avg").shape == (3, 7)
