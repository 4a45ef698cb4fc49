"""A file imports every submodule that it reaches by a dotted name: no file leans on what another has imported before it.

`timm.optim.create_optimizer_v2` after `import timm` alone works in a suite in which any other module has said
`import timm.optim`, and fails where the file is used or tested alone. To run all files one by one takes as long as the suite;
this is read from the sources, in a second. What the import of a package alone binds (`torch.nn`) is named in `bound_names`;
`test_loading` asks a process that has imported the package and nothing of ours whether that is so.
"""

import ast
import functools
import importlib.util
import pathlib
from collections.abc import Iterator, Mapping

import pytest
from bound_names import BOUND

ROOT = pathlib.Path(__file__).parent.parent
FOLDERS = ("cache", "tcs", "scripts", "benchmarks", "tests")


def prefixes(dotted: str) -> set[str]:
    """a, a.b and a.b.c of a.b.c: importing the last imports all."""
    words = dotted.split(".")
    return {".".join(words[:count]) for count in range(1, len(words) + 1)}


@functools.cache
def is_module(dotted: str) -> bool:
    """Whether a file or folder of that name stands where its package is, found without importing anything of it."""
    package, *rest = dotted.split(".")
    spec = importlib.util.find_spec(package)
    if spec is None or spec.submodule_search_locations is None:
        return spec is not None and not rest
    places = [pathlib.Path(place, *rest) for place in spec.submodule_search_locations]
    return any(
        place.is_dir() or place.with_suffix(".py").exists() or any(place.parent.glob(f"{place.name}.*.so"))
        for place in places
    )


def bindings(tree: ast.AST) -> tuple[dict[str, str], set[str]]:
    """{name: module that it is bound to} and all modules that the file imports."""
    names, imported = {}, set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                imported |= prefixes(alias.name)
                names[alias.asname or alias.name.partition(".")[0]] = (
                    alias.name if alias.asname else alias.name.partition(".")[0]
                )
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            imported |= prefixes(node.module)
            for alias in node.names:
                if is_module(f"{node.module}.{alias.name}"):
                    names[alias.asname or alias.name] = f"{node.module}.{alias.name}"
                    imported.add(f"{node.module}.{alias.name}")
    return names, imported


def chain_of(node: ast.Attribute) -> tuple[str, list[str]]:
    """The name that a chain of attributes begins with ("" for an expression) and the attributes in order."""
    attributes, inner = [node.attr], node.value
    while isinstance(inner, ast.Attribute):
        attributes.append(inner.attr)
        inner = inner.value
    return inner.id if isinstance(inner, ast.Name) else "", attributes[::-1]


def leaned_on(text: str) -> Iterator[tuple[str, str]]:
    """(module, submodule reached from it) wherever a file reaches a submodule that it does not import."""
    tree = ast.parse(text)
    names, imported = bindings(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            name, attributes = chain_of(node)
            dotted = names.get(name, "")
            for attribute in attributes if dotted else ():
                dotted += f".{attribute}"
                if not is_module(dotted):
                    break
                if dotted not in imported:
                    yield names[name], dotted


@functools.cache
def found() -> Mapping[str, set[tuple[str, str]]]:
    """{file: what it leans on} for every file of the repository that leans on something."""
    paths = [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))]
    assert len(paths) > 300
    leaning = {str(path.relative_to(ROOT)): set(leaned_on(path.read_text())) for path in paths}
    return {path: pairs for path, pairs in leaning.items() if pairs}


def test_every_file_imports_the_submodules_that_it_reaches() -> None:
    odd = {path: {pair for pair in pairs if pair[1] not in BOUND.get(pair[0], ())} for path, pairs in found().items()}
    assert {path: pairs for path, pairs in odd.items() if pairs} == {}


def test_the_table_has_no_idle_word() -> None:
    used = {pair for pairs in found().values() for pair in pairs}
    assert {(package, name) for package, names in BOUND.items() for name in names} <= used


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("import timm\ntimm.optim.create_optimizer_v2()", [("timm", "timm.optim")]),
        ("import timm\ndef f():\n    return timm.optim.list_optimizers()", [("timm", "timm.optim")]),
        ("import timm as t\nt.optim.x", [("timm", "timm.optim")]),
        ("from sklearn import linear_model\nlinear_model.Ridge", []),
        ("import sklearn\nsklearn.linear_model.Ridge", [("sklearn", "sklearn.linear_model")]),
        ("import timm.optim\ntimm.optim.x", []),
        ("import timm.optim.lamb\ntimm.optim.x", []),
        (
            "import tcs.config.train\ntcs.training.train.train()",
            [("tcs", "tcs.training"), ("tcs", "tcs.training.train")],
        ),
        ("import timm\ntimm.create_model('x').optim", []),
        ("import os\nos.path.join", []),
    ],
)
def test_what_is_leaned_on_is_seen_however_it_is_written(text: str, wanted: list[tuple[str, str]]) -> None:
    assert sorted(set(leaned_on(text))) == wanted
