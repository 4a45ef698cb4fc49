"""What is installed: built from the sources as released, unpacked into an environment that has the dependencies and nothing of ours.

The environment is an empty one of this Python; the packages of the one that runs the tests are behind it on the path, where an
editable install, which is a file for start-up, has no effect.
"""

import email
import importlib.metadata
import os
import pathlib
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import venv
import zipfile

import pytest
from pages import SHELL, code_blocks

import tcs

ROOT = pathlib.Path(__file__).parent.parent
SOURCES = ("pyproject.toml", "README.md", "LICENSE", "NOTICE", "cache", "tcs", "tests")
BUILD = "from setuptools import build_meta; print(build_meta.build_{0}({1!r}))"

RIGHT = """\
import pathlib

import cache
import numpy as np
import tcs

work, photos = pathlib.Path("work"), pathlib.Path("photos")
store = tcs.extract("photos", out="a.store", teacher="resnet18", readouts=("avg",), img_size=64)
other = tcs.extract(photos, out=work / "b.store", teacher="resnet34", readouts=["avg"], label_file=work / "labels.csv")
print(len(cache.open(store)), store.name)
config = tcs.ExtractConfig("photos", out="a.store", teacher="resnet18")
again = tcs.extract(config)
system = tcs.fit(store, out=work / "c.safetensors", also=[other])
targets = tcs.fit_targets(store, work / "c.safetensors", out=work / "t.h5", also=(other, "c.store"))
folders = tcs.train(store, out=work / "run", models=["resnet18"], targets=targets, also=[other], lr=1e-3, shots=4)
print(tcs.forecast(store, out="run", models=("resnet18",), split_file=work / "split.txt")[0]["seconds"])
for scored in tcs.evaluate(work / "run", other, errors=work / "errors"):
    print(scored["top1"])
for exported in tcs.export_students(folders[0], to="onnx", out=work / "onnx", store=store):
    print(exported["path"])
print(tcs.predict(folders[0], [photos, "x.jpg"], out=work / "found.csv").broken, tcs.verify(targets).problems)
print(tcs.load_coordinates(work / "c.safetensors").components, tcs.open_targets(targets).z_NK.shape, system.dims)
print(tcs.store_facts(store), tcs.write_report(work, out=work / "report.html"), tcs.suggest(store, n=4, out=work / "s.csv"))
outcome = tcs.distill("photos", out="w", teacher="resnet18", models=("resnet18",), student_img_size=32)
for row in outcome.rows:
    print(row["top1"])
student = tcs.load_student("run")
for found in student.predict([np.zeros((8, 8, 3), np.uint8), "x.jpg"]):
    print(found.label.upper(), found.probability + 1)
"""

# A line of a script -> what mypy says of it
WRONG = {
    "import tcs": "",
    'tcs.extract("photos", out="a.store", techer="resnet18")': 'Unexpected keyword argument "techer"',
    'tcs.train("a.store", out="run", models=("resnet18",), lr="fast")': "No overload variant",
    'tcs.fit(3, out="c.safetensors")': "No overload variant",
    'tcs.fit("a.store", out="c.safetensors", also="b.store")': "No overload variant",
    'tcs.train("a.store", out="run", models="resnet18")': "No overload variant",
    'tcs.fit(tcs.FitConfig("a.store", out="c.safetensors"), power=1.0)': "No overload variant",
    'tcs.distill("photos", out="w", teacher="t", models=("m",), shot=4)': 'Unexpected keyword argument "shot"',
    'tcs.ExtractConfig("photos", teacher="t")': 'Missing named argument "out"',
    'tcs.load_student("run").predict(3)': 'Argument 1 to "predict" of "Student" has incompatible type "int"',
    'tcs.fit("a.store", out="c.safetensors").component': 'has no attribute "component"',
}


# Torch's types take a minute to read, and nothing here asks for them.
MYPY = "[mypy]\nstrict = true\n[mypy-torch.*,torchvision.*,timm.*]\nfollow_imports = skip\n"


def started(*command: object, folder: pathlib.Path) -> "subprocess.CompletedProcess[str]":
    """A command in a folder, without paths of ours in its environment."""
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "MYPYPATH")}
    words = [str(word) for word in command]
    return subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def run(*command: object, folder: pathlib.Path) -> str:
    done = started(*command, folder=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def copy_sources(folder: pathlib.Path) -> None:
    """What a release holds; pip and setuptools write beside it."""
    folder.mkdir()
    for name in SOURCES:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, folder / name)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A folder with the sdist, and the wheel that was built from it."""
    pytest.importorskip("setuptools")
    folder = tmp_path_factory.mktemp("built")
    sources, out = folder / "sources", folder / "dist"
    copy_sources(sources)
    run(sys.executable, "-c", BUILD.format("sdist", str(out)), folder=sources)
    (sdist,) = out.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder / "unpacked", filter="data")
    (unpacked,) = (folder / "unpacked").iterdir()
    run(sys.executable, "-c", BUILD.format("wheel", str(out)), folder=unpacked)
    return out


@pytest.fixture(scope="module")
def python(built: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Python of an environment in which the wheel is installed."""
    place = tmp_path_factory.mktemp("environment")
    venv.create(place, with_pip=False)
    executable = place / "bin" / "python"
    packages = pathlib.Path(
        run(executable, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", folder=place).strip()
    )
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(packages)
    return executable


def names_in(built: pathlib.Path) -> tuple[set[str], set[str]]:
    (wheel,), (sdist,) = built.glob("*.whl"), built.glob("*.tar.gz")
    with zipfile.ZipFile(wheel) as archive, tarfile.open(sdist) as packed:
        return set(archive.namelist()), {name.partition("/")[2] for name in packed.getnames()}


def test_wheel_and_sdist_hold_the_packages_and_nothing_else(built: pathlib.Path) -> None:
    wheel, sdist = names_in(built)
    ours = {
        path.relative_to(ROOT).as_posix()
        for package in ("cache", "tcs")
        for path in (ROOT / package).rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    assert {name for name in wheel if ".dist-info/" not in name} == ours
    assert ours | {"pyproject.toml", "README.md", "LICENSE", "NOTICE"} <= sdist
    assert {"cache/FORMAT.md", "cache/py.typed", "tcs/py.typed", "tcs/embedded/digits_teacher.safetensors"} <= ours
    assert any(name.startswith("tcs/reporting/templates/") for name in ours)
    assert not [name for name in wheel if name.startswith(("tests/", "benchmarks/", "scripts/"))]
    licences = {name.rpartition("/")[2] for name in wheel if ".dist-info/licenses/" in name}
    assert licences == {"LICENSE", "NOTICE"}


def test_metadata_has_the_version_and_what_is_needed(built: pathlib.Path) -> None:
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        facts = email.message_from_bytes(archive.read(name))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert (facts["Name"], facts["Version"]) == (project["name"], tcs.__version__)
    assert facts["License-Expression"] == project["license"]
    assert facts["Requires-Python"] == project["requires-python"]
    needed = {line.partition(";")[0] for line in project["dependencies"]}
    assert len(needed & {line.partition(";")[0] for line in facts.get_all("Requires-Dist")}) == len(needed)


def test_what_is_installed_runs(python: pathlib.Path, tmp_path: pathlib.Path) -> None:
    place = run(python, "-c", "import cache, tcs; print(cache.__file__, tcs.__file__)", folder=tmp_path).split()
    assert all(pathlib.Path(path).is_relative_to(python.parents[1]) for path in place)
    assert "distill" in run(python, "-m", "tcs", "--help", folder=tmp_path)
    assert "tcs-pool" in run(python, "-m", "tcs", "methods", folder=tmp_path)
    facts = "from tcs.demonstration.demo import teacher_card; print(teacher_card()[0]['teacher'])"
    assert run(python, "-c", facts, folder=tmp_path).strip() == "resnet18"


def test_type_checkers_see_the_types_of_what_is_installed(python: pathlib.Path, tmp_path: pathlib.Path) -> None:
    pytest.importorskip("mypy")
    (tmp_path / "right.py").write_text(RIGHT)
    (tmp_path / "wrong.py").write_text("\n".join(WRONG))
    (tmp_path / "mypy.ini").write_text(MYPY)
    done = started(sys.executable, "-m", "mypy", "--python-executable", python, "right.py", "wrong.py", folder=tmp_path)
    lines = [line for line in done.stdout.splitlines() if ": error: " in line]
    assert not [line for line in lines if not line.startswith("wrong.py:")], done.stdout + done.stderr
    for number, message in enumerate(WRONG.values(), 1):
        told = [line for line in lines if line.startswith(f"wrong.py:{number}:")]
        assert any(message in line for line in told) if message else not told, done.stdout


def test_the_commands_for_a_machine_without_a_network_make_a_wheel_and_install_it(tmp_path: pathlib.Path) -> None:
    """As the page has them, but for what they would fetch."""
    if not {"pip", "setuptools"} <= {found.name for found in importlib.metadata.distributions()}:
        pytest.skip("pip and setuptools make wheels")  # importing, or looking for, both in one process confuses them
    page = (ROOT / "docs" / "how-to" / "offline.md").read_text(encoding="utf-8")
    lines = [line for language, block in code_blocks(page) if language in SHELL for line in block.splitlines()]
    make, install = (shlex.split(line) for line in lines if line.startswith("pip "))
    sources = tmp_path / "sources"
    copy_sources(sources)
    shutil.copy(ROOT / "constraints.txt", sources)
    pip = (sys.executable, "-m", "pip", "--no-cache-dir", "--disable-pip-version-check")
    run(*pip, *make[1:], "--no-index", "--no-build-isolation", "--no-deps", folder=sources)
    assert [path.name for path in (sources / "wheels").iterdir()] == [f"tcs_distill-{tcs.__version__}-py3-none-any.whl"]
    (sources / "wheels").rename(tmp_path / "wheels")
    run(*pip, *install[1:], "--no-deps", "--target", "installed", folder=tmp_path)
    assert (tmp_path / "installed" / "tcs" / "__init__.py").is_file()
