"""What else may be called `cache` in the user's folder, and what then becomes of tcs: one process a case.

Two ways of being installed: on Python's path (PYTHONPATH, a wheel, a .pth file), and by a finder behind Python's own, as editable
installs of setuptools are, which any folder of the name gets ahead of.
"""

import os
import pathlib
import shutil
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parent.parent
OWN = ROOT / "cache" / "__init__.py"

FINDER = f"""
import importlib.machinery, os, sys
from importlib.machinery import PathFinder

class Editable:
    def find_spec(self, name, path=None, target=None):
        return PathFinder.find_spec(name, [{str(ROOT)!r}]) if name in ("cache", "tcs") else None

sys.path[:] = [place for place in sys.path if not os.path.exists(os.path.join(place, "tcs", "shadowing.py"))]
sys.meta_path.insert(sys.meta_path.index(PathFinder) + 1, Editable())
"""

EMPTY, MODULE, PACKAGE, USED = "cache/", "cache.py", "cache/__init__.py", "cache/mine.py"


@pytest.fixture(params=["path", "finder"])
def environment(request, tmp_path):
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(FINDER)
    return os.environ | {"PYTHONPATH": str(ROOT if request.param == "path" else site), "PYTHONDONTWRITEBYTECODE": "1"}


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "work"
    path.mkdir()
    return path


def put(folder, name):
    """What the user has in their folder: an empty folder, or a file."""
    path = folder / name
    if name.endswith("/"):
        path.mkdir()
    else:
        path.parent.mkdir(exist_ok=True)
        path.write_text("WHOSE = 'mine'\n")


def python(folder, environment, *arguments):
    return subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def script(folder, environment, text):
    (folder / "s.py").write_text(text)
    return python(folder, environment, "s.py")


@pytest.mark.parametrize("order", ["import tcs, cache", "import cache, tcs"])
@pytest.mark.parametrize("name", [None, EMPTY])
def test_a_script_finds_the_store_beside_a_folder_of_its_name(folder, environment, order, name):
    if name is not None:
        put(folder, name)
    text = f"{order}\nprint(cache.__file__, cache.open.__module__, cache.__spec__.origin, *cache.__path__)"
    run = script(folder, environment, text)
    assert run.stderr == ""
    assert run.stdout.split() == [str(OWN), "cache.reader", str(OWN), str(OWN.parent)]


def test_names_bound_to_the_folder_see_the_store(folder, environment):
    put(folder, EMPTY)
    run = script(
        folder, environment, "import cache as before\nimport tcs\nimport cache\nprint(before is cache, before.open)"
    )
    assert run.stdout.startswith("True <function open")


WORKERS = """
import multiprocessing
import tcs

def place():
    import cache
    return cache.open.__module__, cache.__file__

if __name__ == "__main__":
    with multiprocessing.get_context("{method}").Pool(1) as pool:
        print(*pool.apply(place))
"""


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_workers_find_the_store_beside_a_folder_of_its_name(folder, environment, method):
    put(folder, EMPTY)
    run = script(folder, environment, WORKERS.format(method=method))
    assert run.stdout.split() == ["cache.reader", str(OWN)]


def test_the_command_works_beside_a_folder_of_that_name(folder, environment):
    put(folder, EMPTY)
    assert python(folder, environment, "-m", "tcs", "--help").stdout.startswith("Usage: tcs")
    run = python(folder, environment, "-m", "tcs", "cache", "info", "no.store")
    assert run.returncode == 1
    assert run.stderr.startswith("Error: ")
    assert "no.store" in run.stderr


@pytest.mark.parametrize("name", [MODULE, PACKAGE])
def test_the_command_says_in_a_line_what_hides_the_store(folder, environment, name):
    put(folder, name)
    run = python(folder, environment, "-m", "tcs", "--help")
    assert run.returncode == 1
    assert run.stderr == (
        f"Error: {folder / name} hides {OWN}, which tcs needs: Python takes the first 'cache' on its path. Rename it, or start "
        "where it does not come first (the command tcs instead of python -m tcs, a script in another folder).\n"
    )


@pytest.mark.parametrize("name", [EMPTY, MODULE])
def test_the_installed_command_does_not_look_into_the_working_folder(folder, environment, name, tmp_path):
    put(folder, name)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "tcs").write_text("import sys\nfrom tcs.cli import main\nsys.exit(main())\n")
    assert python(folder, environment, tmp_path / "bin" / "tcs", "--help").stdout.startswith("Usage: tcs")


@pytest.mark.parametrize("order", ["import tcs\nimport cache", "import cache\nimport tcs"])
@pytest.mark.parametrize("name", [MODULE, PACKAGE])
def test_a_script_is_told_what_hides_the_store(folder, environment, order, name):
    put(folder, name)
    last = script(folder, environment, order).stderr.splitlines()[-1]
    assert last.startswith(f"tcs.errors.ShadowedError: {folder / name} hides {OWN}")


def test_a_folder_with_modules_in_use_is_not_taken_away(folder, environment):
    put(folder, USED)
    last = script(folder, environment, "import cache.mine\nimport tcs").stderr.splitlines()[-1]
    by_finder = f"tcs.errors.ShadowedError: {folder / 'cache'} hides {OWN}"
    is_path = environment["PYTHONPATH"] == str(
        ROOT
    )  # where Python itself prefers a package to a folder without __init__.py
    assert last.startswith("ModuleNotFoundError: No module named 'cache.mine'" if is_path else by_finder)


def test_importing_tcs_loads_next_to_nothing(folder, environment):
    run = script(folder, environment, "import tcs, sys\nprint(*sys.modules)")
    loaded = set(run.stdout.split())
    assert {name for name in loaded if name.startswith("tcs")} == {"tcs", "tcs.errors", "tcs.shadowing"}
    assert not loaded & {"cache", "numpy", "h5py", "click", "torch"}


def test_the_error_is_an_import_error():
    from tcs.errors import ShadowedError, TcsError

    assert issubclass(ShadowedError, ImportError)
    assert issubclass(ShadowedError, TcsError)


def test_a_folder_called_tcs_that_is_merged_with_the_package_is_named(folder, tmp_path):
    (folder / "tcs").mkdir()
    merged = tmp_path / "merged" / "tcs"
    merged.mkdir(parents=True)
    shutil.copy(ROOT / "tcs" / "__main__.py", merged)
    run = python(folder, os.environ | {"PYTHONPATH": str(merged.parent)}, "-S", "-m", "tcs", "--help")
    assert run.returncode == 1
    assert run.stderr.startswith(f"Error: {folder / 'tcs'} hides the package tcs; rename it, or start the command tcs")
