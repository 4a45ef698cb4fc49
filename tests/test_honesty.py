"""Tests can fail: each of them asserts something, and each patch of a module's name is felt by code that reads the name there.

Both are read from the sources. A definition that moves to another module leaves `monkeypatch.setattr` with a name that still
exists, in a module whose own code no longer looks it up: the test goes on, and proves nothing.
"""

import ast
import functools
import pathlib
from collections.abc import Iterator

import pytest

ROOT = pathlib.Path(__file__).parent.parent
CHECKS = ("assert", "raises", "warns", "fail")


@functools.cache
def parsed(folder: str) -> dict[str, ast.Module]:
    """{dotted name: tree} of the modules of a folder."""
    paths = sorted((ROOT / folder).rglob("*.py"))
    names = [".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for path in paths]
    return {name: ast.parse(path.read_text()) for name, path in zip(names, paths, strict=True)}


def words(node: ast.AST) -> frozenset[str]:
    """All names and attributes that are read below a node, and "assert" where it asserts."""
    inside = list(ast.walk(node))
    found = {inner.id for inner in inside if isinstance(inner, ast.Name)}
    found |= {inner.attr for inner in inside if isinstance(inner, ast.Attribute)}
    asserts = any(isinstance(inner, ast.Assert) for inner in inside) or any(
        word.startswith("assert_") for word in found
    )
    return frozenset(found | ({"assert"} if asserts else set()))


def hollow(trees: dict[str, ast.Module]) -> list[str]:
    """module: test of all tests that can fail by an accident alone."""
    functions = [
        (name, node.name, words(node))
        for name, tree in trees.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef)
    ]
    checking, before = frozenset(CHECKS), frozenset[str]()
    while checking != before:  # helpers that check, then those that call them
        before = checking
        checking |= {helper for _, helper, used in functions if not helper.startswith("test_") and used & checking}
    return [f"{name}: {test}" for name, test, used in functions if test.startswith("test_") and not used & checking]


def test_every_test_asserts_something() -> None:
    assert hollow(parsed("tests")) == []


@pytest.mark.parametrize(
    ("body", "is_hollow"),
    [
        ("train(1)", True),
        ("x = 1", True),
        ("assert train(1)", False),
        ("with pytest.raises(ValueError, match='x'):\n        train(1)", False),
        ("np.testing.assert_allclose(1, 1)", False),
        ("require(1)", False),
        ("through(1)", False),
    ],
)
def test_a_test_that_asserts_nothing_is_seen(body: str, is_hollow: bool) -> None:
    helpers = "def require(x):\n    assert x\ndef through(x):\n    require(x)\n"
    assert bool(hollow({"m": ast.parse(f"{helpers}def test_it():\n    {body}\n")})) == is_hollow


def patched(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """(module, name) of all that a test file sets in modules, by text or by an imported module."""
    modules = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules |= {alias.asname or alias.name: alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            modules |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "setattr":
            target, name = [ast.unparse(argument).strip("'") for argument in node.args[:2]]
            by_text = isinstance(node.args[0], ast.Constant)
            module, _, last = target.rpartition(".")
            yield (module, last) if by_text else (modules.get(target, target), name)


def felt(sources: dict[str, ast.Module]) -> tuple[set[tuple[str, str]], set[str]]:
    """What code reads when it runs: (module, name) in the module's own code or imported late, and "module.name" by attribute."""
    places, attributes = set(), set()
    for module, tree in sources.items():
        top = {id(node) for node in tree.body}
        for node in ast.walk(tree):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
                places.add((module, node.id))
            elif isinstance(node, ast.ImportFrom) and id(node) not in top:
                places |= {(str(node.module), alias.name) for alias in node.names}
            elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                attributes.add(f"{node.value.id}.{node.attr}")
            elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Attribute):
                attributes.add(f"{node.value.attr}.{node.attr}")
    return places, attributes


def unfelt(patches: set[tuple[str, str]], sources: dict[str, ast.Module]) -> set[tuple[str, str]]:
    """Those of the patched (module, name) that no code looks up."""
    places, attributes = felt(sources)
    return {
        (module, name) for module, name in patches - places if f"{module.rpartition('.')[2]}.{name}" not in attributes
    }


def test_every_patch_of_a_module_is_felt() -> None:
    sources = {
        name: tree for folder in ("cache", "tcs", "benchmarks", "scripts") for name, tree in parsed(folder).items()
    }
    found = {pair for tree in parsed("tests").values() for pair in patched(tree) if pair[0] in sources}
    assert len(found) > 50
    assert unfelt(found, sources) == set()


@pytest.mark.parametrize(
    ("use", "is_felt"),
    [
        ("from tcs.plan import prepare\nprepare()", False),
        ("def f():\n    from tcs.plan import prepare\n    prepare()", True),
        ("from tcs import plan\nplan.prepare()", True),
        ("import tcs.plan\ntcs.plan.prepare()", True),
    ],
)
def test_a_patch_that_nobody_feels_is_seen(use: str, is_felt: bool) -> None:
    sources = {"tcs.plan": ast.parse("def prepare():\n    pass"), "tcs.use": ast.parse(use)}
    assert bool(unfelt({("tcs.plan", "prepare")}, sources)) != is_felt


def test_patches_are_found_however_they_are_written() -> None:
    text = "monkeypatch.setattr('tcs.plan.prepare', 1)\nfrom tcs import plan\nmonkeypatch.setattr(plan, 'prepare', 1)"
    assert list(patched(ast.parse(text))) == [("tcs.plan", "prepare")] * 2
