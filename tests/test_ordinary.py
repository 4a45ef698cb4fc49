"""A pipe in the place of any file is refused in one line and at once, by every reader; no reader opens a file without asking. 2 s."""

import ast
import os
import pathlib
import signal
import socket

import pytest

import cache
from tcs.cli.config_file import _entries
from tcs.config.exchange import ImportConfig
from tcs.config.extract import DataConfig
from tcs.errors import ArtefactError, NotOrdinaryError, TcsError
from tcs.ordinary import open_ordinary, read_ordinary, read_text, require_ordinary

ROOT = pathlib.Path(__file__).parent.parent
PIPE = "is a pipe, a device or a socket, and must be an ordinary file"
SECONDS = (
    60  # an alarm in the midst of h5py leaves its lock taken: it must ring for what hangs, and never for what is slow
)


@pytest.fixture
def pipe(tmp_path):
    """A pipe that nobody writes into, and an alarm for whoever waits for it."""
    if not hasattr(os, "mkfifo"):
        pytest.skip("this system has no named pipes")

    def ring(_number, _frame):
        pytest.fail("a pipe was waited for")  # no Exception: readers tell those in words of their own

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, SECONDS, SECONDS)

    def make(name):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        os.mkfifo(path)
        return path

    yield make
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def test_what_is_no_file_is_refused_before_it_is_opened(pipe, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "open", None)  # a socket cannot be opened, and a tape would be wound
    listener = socket.socket(socket.AF_UNIX)
    monkeypatch.chdir(tmp_path)  # names of sockets are short
    listener.bind("s")
    for path in (pipe("p"), tmp_path / "s", pathlib.Path("/dev/zero")):
        for opened in (open_ordinary, read_ordinary, read_text, require_ordinary):
            with pytest.raises(NotOrdinaryError, match=f"^{path} {PIPE}\\.$") as caught:
                opened(path)
            assert isinstance(caught.value, ArtefactError)
            assert caught.value.strerror == f"it {PIPE}"
    listener.close()


def test_a_pipe_that_takes_the_place_of_a_file_after_the_look_is_not_waited_for(pipe, monkeypatch):
    path = pipe("p")
    monkeypatch.setattr("tcs.ordinary.require_ordinary", lambda _: None)
    table = pathlib.Path("/proc/self/fd")  # of open files
    before = list(table.iterdir()) if table.exists() else []
    with pytest.raises(NotOrdinaryError, match=PIPE):
        open_ordinary(path)
    assert not before or len(list(table.iterdir())) == len(before)


def test_files_and_links_to_them_are_read_and_folders_are_not(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfone\r\ntwo\rthree\n")
    (tmp_path / "link").symlink_to("a.txt")
    assert read_ordinary(tmp_path / "link") == b"\xef\xbb\xbfone\r\ntwo\rthree\n"
    assert read_text(tmp_path / "link") == "one\ntwo\nthree\n"
    require_ordinary(tmp_path)
    require_ordinary(tmp_path / "missing")
    with pytest.raises(IsADirectoryError):
        read_ordinary(tmp_path)
    with pytest.raises(FileNotFoundError):
        read_ordinary(tmp_path / "missing")


def _readers():
    """Name of a file -> what reads it, and how the error begins or ends."""
    from tcs.auditing.findings import read_findings
    from tcs.checkpoint import load_resume, load_weights
    from tcs.coordinates.system import load_coordinates, require_coordinates_file
    from tcs.coordinates.targets import open_targets
    from tcs.coordinates.targets_layout import require_targets_file
    from tcs.exchange.arrays import load_array, names_of, read_export
    from tcs.export.metadata import read_metadata
    from tcs.grid.cells import CellLedger
    from tcs.grid.ledger import load_results, locked
    from tcs.grid.recipe_file import load_grid
    from tcs.images.listing import read_class_map
    from tcs.images.sources import open_images
    from tcs.inference.opening import find_models
    from tcs.labelling.table import require_replaceable
    from tcs.metrics import known_hashes
    from tcs.plain_files import load_json, load_record, load_table
    from tcs.reporting.compression import load_finished
    from tcs.reporting.coverage import load_states
    from tcs.reporting.folder import open_grid
    from tcs.reporting.run_page import run_page
    from tcs.reporting.teachers_page import teachers_page
    from tcs.reporting.written import require_own
    from tcs.splits.label_file import read_key_lines, read_label_lines
    from tcs.students.start import digest_of_file, read_weights
    from tcs.teacher.checkpoint import read_file
    from tcs.training.metrics import AppendedFile, load_metrics

    def of_folder(read):
        return lambda path: read(path.parent)

    def images(path):
        return open_images(DataConfig(data=str(path)))

    return {
        "run/config.json": of_folder(load_record),
        "run/resume.pt": load_resume,
        "run/folded.safetensors": load_weights,
        "run/seen.npy": known_hashes,
        "run/metrics.jsonl": load_metrics,
        "log/metrics.jsonl": AppendedFile,
        "shown/student/metrics.jsonl": lambda path: run_page(path.parent.parent),
        "any.json": load_json,
        "any.csv": load_table,
        "c.safetensors": load_coordinates,
        "old.safetensors": require_coordinates_file,
        "t.h5": open_targets,
        "old.h5": require_targets_file,
        "recipe.yaml": load_grid,
        "options.yaml": lambda path: list(_entries(str(path))),
        "grid/results.csv": load_results,
        "reported/results.csv": of_folder(open_grid),
        "states/cells.jsonl": of_folder(load_states),
        "cells/cells.jsonl": of_folder(CellLedger),
        "locked/.lock": lambda path: locked(path.parent).__enter__(),
        "split.txt": read_label_lines,
        "removed.txt": lambda path: read_key_lines(path, "--remove-file"),
        "findings.csv": lambda path: read_findings(str(path)),
        "suggested.csv": lambda path: require_replaceable(path, 3),
        "names.txt": lambda path: names_of(str(path)),
        "map.txt": lambda path: read_class_map(str(path)),
        "features.npy": lambda path: load_array(str(path)),
        "exported/export.json": lambda path: read_export(ImportConfig(source=str(path.parent), out="x")),
        "data.tar": images,
        "data.csv": images,
        "student.pth": lambda path: read_weights(str(path)),
        "student.safetensors": lambda path: digest_of_file(str(path)),
        "teacher.pth": read_file,
        "model.onnx": lambda path: find_models(str(path)),
        "probe/probe.json": lambda path: load_finished(str(path.parent), {}, overwrite=False),
        "teachers/teachers.json": of_folder(teachers_page),
        "report.md": require_own,
        "packed.h5": cache.open,
        "damaged.h5": cache.verify,
        "any.pt2": read_metadata,
    }


READERS = _readers()


@pytest.mark.parametrize("name", READERS)
def test_a_pipe_in_the_place_of_a_file_is_one_line_at_once(name, pipe):
    if name == "any.pt2":
        assert READERS[name](pipe(name)) is None  # no export of ours
        return
    with pytest.raises((TcsError, cache.errors.CacheError, Exception)) as caught:
        READERS[name](pipe(name))
    error = caught.value
    assert type(error).__module__ in ("tcs.errors", "cache.errors", "click.exceptions"), error
    assert "\n" not in str(error)
    assert name.rpartition("/")[2] in str(error) or str(pathlib.PurePath(name).parent) in str(error)


# Files of the package itself and of the system, or of a folder that this very process has made
OWN = {
    "tcs.demonstration.digits": "digits that the demonstration wrote",
    "tcs.demonstration.demo": "cards of the package, the report it wrote",
    "tcs.doctor.machine": "/proc and /sys",
    "tcs.doctor.libraries": "files that the check wrote",
    "tcs.export.check": "answers of the child",
    "tcs.export.fresh": "requests of the parent; it imports nothing of tcs",
    "tcs.export.folders": "a folder that timm wrote",
    "tcs.export.int8": "a file that the export wrote",
    "tcs.export.int8_files": "a file that the export wrote",
    "tcs.reporting.layout": "templates of the package",
    "tcs.criteria.terms": "a table of the package",
    "tcs.methods.catalogue": "a table of the package",
    "tcs.cli.completion": "tables of the package",
    "tcs.runtime": "/proc",
    "tcs.memory": "/proc and /sys",
    "tcs.ordinary": "what this test is about",
}
BY_NAME = {"File", "safe_open", "load_file", "load", "ParquetFile", "InferenceSession", "ZipFile"}
MODULES_OF = {"h5py", "safetensors", "torch", "np", "onnx", "zipfile", "tarfile", "pyarrow", "onnxruntime"}


def _opens(call):
    """Whether a call opens a file by its name and reads it."""
    function = call.func
    if isinstance(function, ast.Name):
        return function.id in ("open", "load_file", "safe_open")
    if not isinstance(function, ast.Attribute):
        return False
    if function.attr in ("read_bytes", "read_text"):
        return True
    if function.attr not in {*BY_NAME, "open"}:
        return False
    of = ast.unparse(function.value)
    if function.attr in BY_NAME:
        given = [ast.unparse(argument) for argument in call.args]
        in_memory = any("BytesIO" in text or "buffer" in text for text in given)
        return of.partition(".")[0] in MODULES_OF and not in_memory
    return of not in ("cache", "Image", "RunLog", "os", "self") and "choose_source" not in of


def _name(function):
    """The last word of what is called."""
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def _careless(tree):
    """Lines of functions that open a file and have not asked before what it is."""
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef):
            calls = [node for node in ast.walk(function) if isinstance(node, ast.Call)]
            asked = {_name(call.func) for call in calls}
            for call in calls:
                if not asked & {"require_ordinary", "open_ordinary", "is_file"} and _opens(call):
                    yield f"{function.name}, line {call.lineno}: {ast.unparse(call)[:60]}"


def test_no_reader_opens_a_file_that_it_has_not_asked_about():
    found = {}
    for path in sorted((ROOT / "tcs").rglob("*.py")):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        careless = [] if name in OWN else list(_careless(ast.parse(path.read_text())))
        if careless:
            found[name] = careless
    assert found == {}


@pytest.mark.parametrize(
    ("text", "is_careless"),
    [
        ("def f(p):\n    return p.read_bytes()", True),
        ("def f(p):\n    with p.open() as file:\n        return file.read()", True),
        ("def f(p):\n    return h5py.File(p)", True),
        ("def f(p):\n    require_ordinary(p)\n    return h5py.File(p)", False),
        ("def f(p):\n    return np.load(io.BytesIO(p))", False),
        ("def f(p):\n    return cache.open(p)", False),
    ],
)
def test_the_search_finds_what_it_looks_for(text, is_careless):
    assert bool(list(_careless(ast.parse(text)))) is is_careless
