"""`from tcs.functional import ...` gives every public function, in whatever order modules are loaded; names say their shapes."""

import ast
import importlib
import inspect
import pathlib
import pkgutil
import re

import pytest

import tcs.functional
from tcs.criteria.described import name_of
from tcs.criteria.losses import LOSSES

CHECKS = {"checks", "precision"}  # for those who write losses
PARTS = {"as_kernel", "as_map", "batch_normalised", "hint_convolution", "FusionLevel"}  # shared by the losses' modules


def public_names():
    """Name -> module of what the package's modules define themselves."""
    names = {}
    for info in pkgutil.iter_modules(tcs.functional.__path__):
        module = importlib.import_module(f"tcs.functional.{info.name}")
        own = {
            name: thing for name, thing in vars(module).items() if getattr(thing, "__module__", "") == module.__name__
        }
        kinds = {name for name, thing in own.items() if inspect.isfunction(thing) or inspect.isclass(thing)}
        names |= {name: module for name in kinds if not name.startswith("_") and info.name not in CHECKS}
    return {name: module for name, module in names.items() if name not in PARTS}


def test_the_list_is_complete_and_sorted():
    assert tcs.functional.__all__ == sorted(public_names())


@pytest.mark.parametrize("name", tcs.functional.__all__)
def test_a_name_means_what_it_means_in_its_module(name):
    assert getattr(tcs.functional, name) is getattr(public_names()[name], name)


def test_every_function_of_the_losses_can_be_had_by_its_name_alone():
    functions = [function for loss in LOSSES.values() for function in (loss.function, *loss.related)]
    ours = {name_of(function): function for function in functions if function.__module__.startswith("tcs.functional")}
    assert len(ours) > 80
    assert all(getattr(tcs.functional, name.rpartition(".")[2]) is function for name, function in ours.items())


ROOMS = [pathlib.Path(tcs.functional.__file__).parent, pathlib.Path(tcs.functional.__file__).parents[1] / "criteria"]
FILES = [path for room in ROOMS for path in sorted(room.glob("*.py"))]


def shape_letters(tree):
    """Letters of the suffixes of names, as in bank_NE; constants have none."""
    names = {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
    names |= {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    suffixes = [re.search(r"_([a-z0-9]*[A-Z][A-Za-z0-9]*)$", name) for name in names if not name.isupper()]
    return {letter for found in suffixes if found for letter in found[1] if letter.isalpha()}


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_a_file_has_one_legend_with_every_letter_of_its_shapes(path):
    text = path.read_text()
    tree = ast.parse(text)
    doc = ast.get_docstring(tree) or ""
    assert text.count("Legend:") == doc.count("Legend:") <= 1
    legend = doc.partition("Legend:")[2]
    assert {letter for letter in shape_letters(tree) if not re.search(rf"\b{letter}\b", legend)} == set()
