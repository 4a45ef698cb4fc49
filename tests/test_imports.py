"""Imports go one way. The table is the architecture: a new arrow is a word here, to be argued for in review.

Read from the sources, so imports inside functions count as well. Rows are packages and lone modules; inside a package only
circles are refused. Leaves are open to all of tcs; `cache` by its public names, its errors and its digests.
"""

import ast
import functools
import graphlib
import pathlib
import re
import sys

import pytest

ROOT = pathlib.Path(__file__).parent.parent
PUBLIC_CACHE = {"cache", "cache.errors", "cache.fingerprint"}
LEAVES = {"errors", "config", "runtime", "ordinary"}

# room -> the rooms it may import beside LEAVES, lowest floor first
ROOMS = {
    "errors": "",
    "config": "errors",
    "ordinary": "errors",
    "shadowing": "",
    "hub": "",
    "store_summary": "",
    "array_files": "",
    "metrics": "array_files",
    "calibration": "",
    "runtime": "errors",
    "memory": "",
    "plain_files": "",
    "schemas": "plain_files",
    "checkpoint": "plain_files",
    "artefact": "",
    "functional": "",
    "splits": "",
    "augmentation": "",
    "reporting": "array_files artefact plain_files schemas",
    "images": "",
    "criteria": "functional",
    "distributed": "",
    "probes": "functional",
    "pool_labels": "probes",
    "methods": "criteria",
    "coordinates": "artefact metrics pool_labels probes schemas splits",
    "students": "functional hub memory",
    "inference": "augmentation calibration checkpoint plain_files hub images metrics schemas students",
    "labelling": "coordinates images pool_labels splits",
    "auditing": "artefact coordinates images labelling reporting",
    "looking": "artefact coordinates images probes reporting",
    "exchange": "array_files",
    "teacher": "coordinates hub plain_files students",
    "extraction": "store_summary augmentation coordinates distributed images probes splits teacher",
    "training": "artefact auditing augmentation calibration checkpoint plain_files coordinates criteria distributed functional images "
    "memory methods pool_labels probes schemas splits students",
    "simclr": "augmentation functional training",
    "evaluation": "artefact calibration coordinates images inference methods metrics plain_files pool_labels probes reporting splits "
    "students",
    "export": "augmentation checkpoint plain_files evaluation images inference methods students",
    "maintenance": "store_summary artefact coordinates extraction images splits teacher",
    "grid": "artefact augmentation calibration checkpoint plain_files coordinates criteria evaluation functional images inference "
    "methods metrics pool_labels probes reporting schemas simclr splits students training",
    "pretraining": "artefact augmentation checkpoint functional images plain_files probes schemas simclr splits students training",
    "verifying": "checkpoint coordinates grid images inference maintenance metrics plain_files reporting schemas splits training",
    "pipeline": "artefact coordinates evaluation export extraction grid images inference methods plain_files reporting splits students "
    "training",
    "stages": "auditing coordinates evaluation exchange export extraction grid inference labelling looking maintenance pipeline "
    "pretraining reporting splits training",
    "demonstration": "coordinates extraction grid reporting",
    "doctor": "hub images memory training",
    "cli": "auditing coordinates demonstration doctor evaluation exchange export extraction grid inference labelling "
    "looking maintenance methods pipeline plain_files pretraining reporting splits store_summary training verifying",
    "__main__": "cli",
}
CLOSED = {
    "errors": set(),
    **{name: {"errors"} for name in ("config", "runtime", "ordinary", "functional", "shadowing")},
}


def sources():
    paths = [path for package in ("cache", "tcs") for path in sorted((ROOT / package).rglob("*.py"))]
    return {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in paths}


MODULES = sources()


@functools.cache
def imported(text, top_only=False):
    """Dotted names that a module of this text imports; `from a import b` gives a and a.b, of which at most one is a module."""
    names, tree = set(), ast.parse(text)
    tops = [part for node in tree.body for part in (node.body if isinstance(node, ast.Try) else [node])]
    for node in tops if top_only else ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            inside = {f"{node.module}.{alias.name}" for alias in node.names}
            names |= (inside & set(MODULES)) or {str(node.module)}
    return names


def plainly_imported(path):
    """First words of what a file imports, wherever in it; of one that imports no test module by any reading of its lines, none."""
    text = path.read_text()
    if not re.search(r"^\s*(from|import)\s.*\btest_", text, re.MULTILINE):
        return set()
    nodes = list(ast.walk(ast.parse(text)))
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    names |= {str(node.module) for node in nodes if isinstance(node, ast.ImportFrom)}
    return {name.removeprefix("tests.").partition(".")[0] for name in names}


def edges_of(text, name):
    return {edge for edge in imported(text) if edge in MODULES and edge not in (name, "tcs")}


def room(module):
    return module.split(".")[1] if "." in module else module


def allowed(name):
    """The rooms of tcs that a room may import."""
    return CLOSED.get(name, LEAVES | set(ROOMS[name].split())) - {name}


def strangers(text, module):
    """What a module of tcs imports and may not."""
    edges = edges_of(text, module)
    inside = {edge for edge in edges if edge.startswith("cache")} - PUBLIC_CACHE
    return inside | {e for e in edges if e.startswith("tcs.") and room(e) not in allowed(room(module)) | {room(module)}}


def test_no_arrow_outside_the_table():
    found = {name: strangers(path.read_text(), name) for name, path in MODULES.items() if name.startswith("tcs.")}
    assert {name: odd for name, odd in found.items() if odd} == {}


def test_rooms_of_the_table_are_those_of_the_house():
    assert set(ROOMS) == {room(name) for name in MODULES if name.startswith("tcs.")}


def test_rooms_stand_on_floors():
    floors = list(ROOMS)
    assert all(floors.index(below) < floors.index(name) for name in ROOMS for below in ROOMS[name].split())


def test_modules_have_no_circle():
    graph = {name: edges_of(path.read_text(), name) for name, path in MODULES.items()}
    graph = {name: {edge for edge in edges if not name.startswith(f"{edge}.")} for name, edges in graph.items()}
    assert list(graphlib.TopologicalSorter(graph).static_order())


def test_training_reaches_no_teacher_by_the_table():
    reached, todo = set(), ["training", "grid", "evaluation"]
    while todo:
        name = todo.pop()
        reached.add(name)
        todo += allowed(name) - reached
    assert not reached & {"teacher", "extraction", "pretraining"}


@pytest.mark.parametrize(
    "text",
    [
        "from tcs.teacher.model import load_teacher\n",
        "def f():\n    from tcs.teacher import model\n",
        "import tcs.extraction.extract as e\n",
        "from cache.files import atomic_write_bytes\n",
    ],
)
def test_forbidden_arrow_is_seen_however_it_is_written(text):
    assert strangers(text, "tcs.training.train")


def test_no_test_module_is_imported():
    """What two of them need stands in a module named for its subject, so that a file can be read, run and moved alone."""
    folder = ROOT / "tests"
    found = {
        path.name: {name for name in plainly_imported(path) if name.startswith("test_")} for path in folder.glob("*.py")
    }
    assert len(found) > 100
    assert {name: others for name, others in found.items() if others} == {}


def roots_of(prefix):
    names = [name for name in MODULES if name.startswith(prefix)]
    return {edge.partition(".")[0] for name in names for edge in imported(MODULES[name].read_text())}


def test_cache_needs_only_numpy_and_h5py():
    assert roots_of("cache") <= sys.stdlib_module_names | {"cache", "numpy", "h5py"}


def test_functional_losses_need_only_torch_and_the_errors():
    assert roots_of("tcs.functional") <= sys.stdlib_module_names | {"tcs", "torch"}


def heavy_imports(name):
    """What a module imports at its top beside the standard library, click, the configurations and other commands."""
    top = imported(MODULES[name].read_text(), top_only=True)
    others = {edge for edge in top if edge.partition(".")[0] not in sys.stdlib_module_names | {"click"}}
    return {edge for edge in others if not edge.startswith(("tcs.config", "tcs.errors", "tcs.cli")) and edge != "tcs"}


def test_command_line_modules_are_light_until_called():
    found = {name: heavy_imports(name) for name in MODULES if name.startswith("tcs.cli")}
    assert len(found) > 20
    assert {name: edges for name, edges in found.items() if edges} == {}
