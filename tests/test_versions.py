"""Versions and packaging: pins lie within the ranges, ranges have lower ends that are written once, and the wheel leaves nothing out."""

import importlib.util
import json
import pathlib
import re
import tomllib

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import tcs

ROOT = pathlib.Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PINS = [Requirement(line) for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
LINUX = {"platform_system": "Linux", "platform_machine": "x86_64"}

UNPINNED = {"ray", "submitit"}  # extras for clusters, which no test run installs: see tests/test_grid_ray.py


def load_script():
    spec = importlib.util.spec_from_file_location("pins", ROOT / "scripts" / "pins.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


pins = load_script()


def ranges(environment):
    """Every requirement of the project and its extras that holds in an environment."""
    extras = PROJECT["project"]["optional-dependencies"]
    tested = [lines for name, lines in extras.items() if name not in UNPINNED]
    assert len(tested) + len(UNPINNED) == len(extras)
    found = [Requirement(line) for lines in (PROJECT["project"]["dependencies"], *tested) for line in lines]
    return [each for each in found if each.marker is None or each.marker.evaluate(environment)]


def version_of(pin):
    (clause,) = pin.specifier
    assert clause.operator == "=="
    return clause.version


def test_pins_are_within_the_ranges_and_leave_no_dependency_out():
    pinned = {canonicalize_name(pin.name): version_of(pin) for pin in PINS}
    wanted = [each for each in ranges(LINUX) if each.name != PROJECT["project"]["name"]]
    assert len(wanted) > 20
    assert {each.name: pinned.get(each.name) for each in wanted if pinned.get(each.name) not in each.specifier} == {}


def test_pins_name_no_host_no_path_and_nothing_twice():
    assert len({pin.name for pin in PINS}) == len(PINS) > 50
    assert not [pin.name for pin in PINS if pin.url is not None or pin.extras]


@pytest.mark.parametrize("elsewhere", [{"platform_system": "Darwin"}, {"platform_machine": "aarch64"}])
def test_pins_of_cuda_machines_hold_nowhere_else(elsewhere):
    held = {pin.name for pin in PINS if pin.marker is None or pin.marker.evaluate(LINUX | elsewhere)}
    assert "torch" in held
    assert not [name for name in held if name.startswith(("nvidia", "cuda", "triton", "faiss-gpu"))]


def test_held_releases_are_those_of_the_makefile():
    (line,) = [line for line in (ROOT / "Makefile").read_text().splitlines() if line.startswith("HELD := ")]
    assert set(line.removeprefix("HELD := ").split()) <= {f"{pin.name}{pin.specifier}" for pin in PINS}


def report(*names):
    install = [{"metadata": {"name": name, "version": "1.2"}} for name in names]
    return json.dumps({"install": install, "environment": LINUX, "version": "1"})


def test_pins_of_a_report():
    assert pins.resolved_pins(report("PyYAML", "ruamel.yaml", "faiss_gpu", "triton_like", "Own.Name"), "own-name") == [
        "faiss-gpu==1.2; platform_system == 'Linux' and platform_machine == 'x86_64'",
        "pyyaml==1.2",
        "ruamel-yaml==1.2",
        "triton-like==1.2",
    ]


def pyproject(*dependencies):
    return f"[project]\nname = 'own'\ndependencies = {list(dependencies)}\noptional-dependencies.all = ['own[all]', 'b>=2']\n"


def test_lowest_pins_are_the_lower_ends():
    assert pins.lowest_pins(pyproject("a>=1.0.26; os_name == 'nt'", "b>=2")) == ["a==1.0.26; os_name == 'nt'", "b==2"]


@pytest.mark.parametrize("line", ["a", "a==1.0", "a>=1,<2", "a~=1.4"])
def test_requirement_without_a_plain_lower_end_is_refused(line):
    with pytest.raises(
        SystemExit, match=rf"^'{line}' in pyproject.toml is no range: write name>=version, with a marker"
    ):
        pins.lowest_pins(pyproject(line))


def test_lowest_pins_of_the_project_are_within_its_ranges():
    lowest = {
        pin.name: version_of(pin) for pin in map(Requirement, pins.lowest_pins((ROOT / "pyproject.toml").read_text()))
    }
    assert [
        each.name for each in ranges(LINUX) if each.name in lowest and lowest[each.name] not in each.specifier
    ] == []
    assert {each.name for each in ranges(LINUX)} <= {*lowest, PROJECT["project"]["name"]}


def test_the_version_stands_in_one_place():
    written = f'__version__ = "{tcs.__version__}"'
    assert (ROOT / "tcs" / "__init__.py").read_text().count(written) == 1
    assert "version" in PROJECT["project"]["dynamic"]
    sources = [path for place in ("cache", "tcs", "scripts") for path in (ROOT / place).rglob("*.py")]
    files = [
        *sources,
        *(ROOT / name for name in ("pyproject.toml", "Makefile", "CITATION.cff", "README.md")),
    ]
    found = [
        path.relative_to(ROOT).as_posix()
        for path in files
        if re.search(rf"\b{re.escape(tcs.__version__)}\b", path.read_text())
    ]
    assert found == ["tcs/__init__.py"]
    assert tcs.__version__ in (ROOT / "CHANGELOG.md").read_text().splitlines()[5]


def test_citation_and_hooks_say_what_is_so():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["license"] == PROJECT["project"]["license"]
    assert citation["title"].partition(":")[0] == PROJECT["project"]["name"]
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    assert "version" not in citation
    (repository,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    entries = [
        hook["entry"].removeprefix(".venv/bin/").removesuffix(" --force-exclude") for hook in repository["hooks"]
    ]
    lint = (ROOT / "Makefile").read_text().partition("\nlint: venv\n")[2].partition("\n\n")[0]
    commands = [line.strip().removeprefix("$(VENV)/bin/") for line in lint.splitlines()]
    assert [" ".join(word for word in line.split() if word not in (".", "--check")) for line in commands] == entries


@pytest.mark.parametrize("package", ["cache", "tcs"])
def test_wheel_has_every_file_of_a_package(package):
    """Folders with modules are found by their __init__.py; all else needs a pattern in package-data."""
    patterns = PROJECT["tool"]["setuptools"]["package-data"][package]
    folder = ROOT / package
    files = [path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    modules = {path for path in files if path.suffix == ".py" and (path.parent / "__init__.py").exists()}
    data = [list(folder.glob(each)) for each in patterns]
    assert len(modules) > 10
    assert all(data)
    assert set(files) == modules.union(*data)


def test_packages_are_found_and_not_listed():
    assert PROJECT["tool"]["setuptools"]["packages"]["find"] == {
        "include": ["cache", "cache.*", "tcs", "tcs.*"],
        "namespaces": False,
    }
