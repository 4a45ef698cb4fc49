"""`tcs doctor`: what it finds here, and what it would say where something is wrong."""

import importlib.util
import json
import pathlib
import subprocess
import sys
import tomllib
from typing import Any

import pytest
from packaging.requirements import Requirement

import tcs.doctor.diagnose
import tcs.doctor.folder
import tcs.doctor.machine
from tcs.cli import main
from tcs.config.pixels import PixelRules
from tcs.doctor import libraries, packages
from tcs.doctor.diagnose import diagnose
from tcs.doctor.finding import ERROR, OK, WARNING, Finding
from tcs.errors import ConfigError
from tcs.images import decode, jpeg

ROOT = pathlib.Path(__file__).parents[1]


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main(["doctor", *arguments])
    output = capsys.readouterr()
    assert isinstance(ended.value.code, int)
    return ended.value.code, output.out, output.err


@pytest.fixture
def without_search(monkeypatch: pytest.MonkeyPatch) -> None:
    """No second process, which loads faiss."""
    monkeypatch.setattr(tcs.doctor.diagnose, "check_faiss", lambda: Finding(name="faiss runs", text="not asked"))


def test_this_environment_is_well(tmp_path: pathlib.Path) -> None:
    found = {finding.name: finding for finding in diagnose(str(tmp_path))}
    assert [finding for finding in found.values() if finding.level == ERROR] == []
    names = {
        "python",
        "torch",
        "faiss runs",
        "gpu",
        "timm runs",
        "decoder",
        "memory",
        "hdf5",
        "disk",
        "locking",
        "names",
    }
    assert names <= set(found)
    assert "a search and hash bits are right" in found["faiss runs"].text
    assert "hub" not in found  # nothing is asked of a network
    assert list(tmp_path.iterdir()) == []


def test_lines_and_json(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str], without_search: None) -> None:
    code, printed, said = run(capsys, str(tmp_path))
    assert (code, said) == (0, "")
    assert all(line.split()[0] in (OK, WARNING) for line in printed.splitlines())
    code, printed, _ = run(capsys, str(tmp_path), "--json")
    told = json.loads(printed)
    assert (code, told["ok"]) == (0, True)
    assert {"name", "level", "text", "remedy"} == set(told["findings"][0])


def test_an_error_is_exit_code_1_and_no_check_stops_the_others(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, without_search: None
) -> None:
    def broken() -> Finding:
        raise ImportError("libcudart.so.13: cannot open shared object file\nmore")

    monkeypatch.setattr(tcs.doctor.diagnose, "check_timm", broken)
    code, printed, _ = run(capsys, str(tmp_path))
    assert code == 1
    (line,) = [line for line in printed.splitlines() if line.startswith(ERROR)]
    assert line.split(maxsplit=3)[3].startswith("ImportError: libcudart.so.13: cannot open shared object file; install")
    assert printed.splitlines()[-1].split()[1] == "names"


def test_folders_that_are_none_are_refused(tmp_path: pathlib.Path) -> None:
    with pytest.raises(ConfigError, match="nowhere is no folder; name the one that stores and runs shall go to"):
        diagnose(str(tmp_path / "nowhere"))
    with pytest.raises(ConfigError, match=r"/proc cannot be written to \(.*\); name another folder"):
        diagnose("/proc")


def ranges() -> dict[str, str]:
    """Lower ends of pyproject.toml by distribution."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    found = [Requirement(line) for line in project["dependencies"]]
    found += [Requirement(line) for lines in project["optional-dependencies"].values() for line in lines]
    return {each.name: str(each.specifier).removeprefix(">=") for each in found if each.name != project["name"]}


def test_the_table_of_versions_is_that_of_the_project() -> None:
    lowest = ranges()
    needed = {name: low for name, (low, _) in packages.NEEDED.items()}
    needed |= {name: low for name, (_, low, _) in packages.OPTIONAL.items()}
    needed |= dict.fromkeys(packages.FAISS, packages.FAISS_TESTED[0])
    developers = {
        "furo",
        "myst-parser",
        "sphinx",
        "pytest",
        "pytest-timeout",
        "pytest-xdist",
        "setuptools",
        "mypy",
        "ruff",
        "types-pyyaml",
    }
    assert needed == {name: low for name, low in lowest.items() if name not in developers}
    pins = [line.partition(";")[0].strip() for line in (ROOT / "constraints.txt").read_text().splitlines()]
    pinned = dict(line.split("==") for line in pins if "==" in line)
    newest = {name: high for name, (_, high) in packages.NEEDED.items()}
    newest |= {name: high for name, (_, _, high) in packages.OPTIONAL.items()}
    assert newest.keys() - pinned.keys() == {"ray", "submitit"}  # engines for clusters, which no test run installs
    for name, high in newest.items():
        if name in pinned:
            assert packages.release(pinned[name])[: len(packages.release(high))] <= packages.release(high), name


def test_extras_are_those_of_the_project() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for name, (extra, _, _) in packages.OPTIONAL.items():
        assert name in {Requirement(line).name for line in extras[extra]}


@pytest.mark.parametrize(
    ("found", "level", "words"),
    [
        ("2.6.3", ERROR, "2.6.3, older than 2.7; pip install 'torch>=2.7'"),
        ("2.7.0+cu126", OK, "2.7.0+cu126"),
        ("2.15.9", OK, "2.15.9"),
        (
            "2.16.0",
            WARNING,
            "2.16.0, newer than 2.15, the newest tested; if anything fails, go back: pip install 'torch==2.15.*'",
        ),
        ("3.0a1", WARNING, "3.0a1, newer than 2.15"),
        (None, ERROR, "not installed; pip install tcs-distill"),
    ],
)
def test_versions_are_judged(monkeypatch: pytest.MonkeyPatch, found: str | None, level: str, words: str) -> None:
    whole = packages.version_of
    monkeypatch.setattr(packages, "version_of", lambda name: found if name == "torch" else whole(name))
    (finding,) = [finding for finding in packages.check_packages() if finding.name == "torch"]
    assert finding.level == level
    assert words in finding.in_words()


def test_python_is_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 10, 1))
    assert packages.check_python().in_words().split(maxsplit=2)[2] == "3.10.1, older than 3.11; install Python >=3.11"


def test_optional_packages_that_are_missing_are_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "version_of", lambda name: None)
    lines = {finding.name: finding for finding in packages.check_packages()}
    assert lines["simplejpeg"].in_words().endswith("not installed (optional: pip install 'tcs-distill[fast]')")
    assert lines["simplejpeg"].level == OK
    assert packages.version_of("torch") is None


@pytest.mark.parametrize(
    ("installed", "module", "level", "words"),
    [
        (
            {"faiss-cpu": "1.15.0", "faiss-gpu": "1.15.1"},
            True,
            ERROR,
            "both installed and share files; pip uninstall -y faiss-cpu",
        ),
        ({"faiss-cpu": "1.13.0"}, True, ERROR, "1.13.0, older than 1.15; pip install 'faiss-cpu>=1.15'"),
        ({"faiss-gpu": "1.15.1"}, True, OK, "1.15.1"),
        ({}, True, OK, "of unknown origin"),
        ({}, False, ERROR, "not installed; pip install faiss-cpu"),
    ],
)
def test_builds_of_faiss(
    monkeypatch: pytest.MonkeyPatch, installed: dict[str, str], module: bool, level: str, words: str
) -> None:
    monkeypatch.setattr(packages, "version_of", installed.get)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object() if module else None)
    finding = packages.check_faiss_build()
    assert finding.level == level
    assert words in finding.in_words()


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "ended by signal 11; pip uninstall"),
        ("raise ImportError('libopenblas.so.0')", "ImportError: libopenblas.so.0; pip uninstall"),
    ],
)
def test_a_faiss_that_crashes_is_told(monkeypatch: pytest.MonkeyPatch, script: str, words: str) -> None:
    monkeypatch.setattr(libraries, "SEARCH", script)
    finding = libraries.check_faiss()
    assert finding.level == ERROR
    assert words in finding.in_words()


def test_a_faiss_that_hangs_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def late(*_: Any, **__: Any) -> None:
        raise subprocess.TimeoutExpired("python", 60)

    monkeypatch.setattr(subprocess, "run", late)
    assert "no answer in 60 s; set OMP_NUM_THREADS=1" in libraries.check_faiss().in_words()


def test_decoders(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jpeg, "simplejpeg", None)
    assert libraries.check_decoder().text.startswith("Pillow (simplejpeg takes a tenth less time")
    told = decode.decode_told
    for wrong in (None, 24):  # whole, and at a half

        def turned(data: bytes, rules: PixelRules, least: int | None, wrong: int | None = wrong) -> decode.Decoded:
            found = told(data, rules, least)
            return found._replace(image=found.image.rotate(180)) if least == wrong else found

        monkeypatch.setattr(decode, "decode_told", turned)
        assert (libraries.check_decoder().level, "differently" in libraries.check_decoder().text) == (WARNING, True)


def test_disk_and_memory_that_run_out(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert tcs.doctor.folder.check_disk(tmp_path).text.startswith(str(tmp_path))
    monkeypatch.setattr(tcs.doctor.folder, "_speeds", lambda folder: (1e6, 1e9))
    assert tcs.doctor.folder.check_disk(tmp_path).in_words().endswith("put stores and runs on a local disk")
    monkeypatch.setattr(tcs.doctor.folder, "LEAST_FREE_BYTES", 2**60)
    assert tcs.doctor.folder.check_disk(tmp_path).in_words().endswith("free space, or put stores and runs elsewhere")
    monkeypatch.setattr(tcs.doctor.machine, "LEAST_FREE_BYTES", 2**60)
    assert tcs.doctor.machine.check_memory().level == WARNING


def test_a_file_system_without_locks_is_told(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import fcntl

    def none(*_: Any) -> None:
        raise OSError(37, "No locks available")

    assert tcs.doctor.folder.check_locking(tmp_path).text == "a second writer is refused"
    monkeypatch.setattr(fcntl, "flock", lambda *_: None)
    assert "lets two hold one lock; do not let two commands" in tcs.doctor.folder.check_locking(tmp_path).in_words()
    monkeypatch.setattr(fcntl, "flock", none)
    finding = tcs.doctor.folder.check_locking(tmp_path)
    assert (finding.level, list(tmp_path.iterdir())) == (ERROR, [])
    assert (
        "takes no lock, and stores need one; use another folder, or mount this one with locks (No locks"
        in finding.in_words()
    )


def test_an_hdf5_file_that_cannot_be_made_is_told(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import h5py

    def refuses(*_: Any) -> None:
        raise OSError("unable to lock file, errno = 11")

    monkeypatch.setattr(h5py, "File", refuses)
    finding = libraries.check_hdf5(tmp_path)
    assert finding.level == ERROR
    assert (
        "unable to lock file, errno = 11; if it is about locking, set HDF5_USE_FILE_LOCKING=FALSE" in finding.in_words()
    )


def test_names_that_hide_packages_are_told(tmp_path: pathlib.Path) -> None:
    (finding,) = tcs.doctor.folder.check_names(tmp_path)
    assert finding.level == OK
    (tmp_path / "torch.py").write_text("")
    (tmp_path / "cache").mkdir()  # without modules: tcs takes its own
    (tmp_path / "timm").mkdir()
    (tmp_path / "timm" / "__init__.py").write_text("")
    found = [finding.in_words() for finding in tcs.doctor.folder.check_names(tmp_path)]
    assert len(found) == 2
    assert f"{tmp_path / 'torch.py'} hides the package torch from scripts beside it" in found[0]
    assert "rename it, or start the command tcs" in found[1]
    assert [finding.level for finding in tcs.doctor.folder.check_names(ROOT)] == [OK]  # its own packages


def test_the_hub_is_asked_on_request_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub.constants

    from tcs import hub

    assert "HF_HUB_OFFLINE is set: nothing is downloaded" in tcs.doctor.diagnose.check_hub().text
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    for answers, level in ((True, OK), (False, WARNING)):
        monkeypatch.setattr(hub, "hub_answers", lambda answers=answers: answers)
        assert tcs.doctor.diagnose.check_hub().level == level


@pytest.mark.parametrize(
    ("driver", "level", "words"),
    [(True, WARNING, "cannot use it; install the torch for this driver (580.95.05)"), (False, OK, "runs on the CPU")],
)
def test_machines_without_a_gpu_that_torch_can_use(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, driver: bool, level: str, words: str
) -> None:
    import torch
    import torch.backends.mps

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setattr(tcs.doctor.machine, "DRIVER", tmp_path / "version")
    if driver:
        (tmp_path / "version").write_text("NVRM version: NVIDIA UNIX Open Kernel Module  580.95.05  Release Build\n")
    finding = tcs.doctor.machine.check_torch()
    assert finding.level == level
    assert words in finding.in_words()


def test_a_gpu_that_cannot_compute_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """A device of a name that this machine does not have fails as one does that torch has no kernels for."""
    import torch

    if torch.cuda.is_available():
        pytest.skip("a GPU is here, and it computes")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda number: (2**30, 2**34))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda number: "Odd GPU")
    finding = tcs.doctor.machine.check_torch()
    assert finding.level == ERROR
    assert finding.text.startswith("Odd GPU (1.0 GiB free of 16.0 GiB): ")
    assert finding.remedy == "install a torch that knows this GPU from pytorch.org"


@pytest.mark.gpu
def test_a_gpu_that_is_here_computes() -> None:
    import torch

    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    finding = tcs.doctor.machine.check_torch()
    assert finding.level == OK
    assert torch.cuda.get_device_name(0) in finding.text
