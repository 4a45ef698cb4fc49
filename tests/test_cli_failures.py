"""What the command line says of errors that no command told: known ones of the system, and those that nobody foresaw."""

import errno
import os
import pathlib
import pickle
import re
import stat

import pytest
from command_line import tcs

import cache
from tcs.cli import COMMANDS
from tcs.cli.cache import SUBCOMMANDS
from tcs.cli.failures import RESUMING, SYSTEM, failure_of, refused_write
from tcs.errors import ArtefactError

UNFORESEEN = re.compile(
    r"Error: tcs methods met an error that it should have foreseen \((?P<what>.*)\); what is known of it is in (?P<path>\S+)\.\n"
)


@pytest.fixture(autouse=True)
def temporary(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> pathlib.Path:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


def raising(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("click.echo", fail)


def test_an_unforeseen_error_is_one_line_and_its_report_is_kept(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, temporary: pathlib.Path
) -> None:
    raising(monkeypatch, KeyError("no\nsuch key"))
    code, out, err = tcs(capsys, "methods", "--json")
    told = UNFORESEEN.fullmatch(err)
    assert (code, out) == (70, "")
    assert told is not None
    assert told["what"] == r"KeyError: 'no\nsuch key'"
    (report,) = temporary.iterdir()
    assert str(report) == told["path"]
    assert stat.S_IMODE(report.stat().st_mode) == 0o600
    text = report.read_text()
    assert "command: ['tcs', 'methods', '--json']" in text
    assert "Traceback (most recent call last)" in text
    assert "in fail\n" in text
    assert "versions: {" in text


def test_where_no_report_can_be_written_the_line_says_so(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, temporary: pathlib.Path
) -> None:
    raising(monkeypatch, KeyError("x"))
    monkeypatch.setattr("tempfile.tempdir", str(temporary / "absent"))
    code, _, err = tcs(capsys, "methods", "--json")
    assert code == 70
    assert err.endswith("(KeyError: 'x'); no report of it could be written: --debug shows where it was.\n")


@pytest.mark.parametrize(
    ("error", "code"), [(KeyError("x"), 70), (ArtefactError("no run"), 1), (OSError(errno.EIO, "x"), 1)]
)
def test_debug_shows_the_traceback_before_the_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, error: Exception, code: int
) -> None:
    raising(monkeypatch, error)
    ended, _, err = tcs(capsys, "--debug", "methods", "--json")
    assert ended == code
    assert err.startswith("Traceback (most recent call last)")
    assert err.splitlines()[-1].startswith("Error: ")
    assert "Traceback" not in tcs(capsys, "methods", "--json")[2]


@pytest.mark.parametrize("number", sorted(SYSTEM))
def test_an_error_of_the_system_has_its_remedy_and_no_report(number: int, temporary: pathlib.Path) -> None:
    what, remedy = SYSTEM[number]
    failure = failure_of(OSError(number, os.strerror(number), "some/file"), ["train"])
    assert (failure.code, failure.message) == (1, f"Error: {what} (some/file); {remedy}.")
    assert not list(temporary.iterdir())


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (MemoryError(), "memory ran out; use a smaller batch"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), "memory ran out; use a smaller batch"),
        (RuntimeError("CUDA out of memory. Tried to allocate"), "memory ran out; use a smaller batch"),
        (
            ImportError("libGL.so.1: cannot open shared object file"),
            "a library of the system cannot be loaded: libGL.so.1",
        ),
        (
            RuntimeError("DataLoader worker (pid 7) exited unexpectedly"),
            "a worker process ended unexpectedly; run the same",
        ),
        (ModuleNotFoundError("No module named 'ray'", name="ray"), "the package 'ray' is not installed; install it"),
        (OSError(errno.EXDEV, "Cross-device link"), "Cross-device link; correct that, and run the same command again"),
        (OSError("told in words alone"), "told in words alone; correct that"),
    ],
)
def test_memory_libraries_and_packages_have_their_remedies(
    error: Exception, told: str, temporary: pathlib.Path
) -> None:
    failure = failure_of(error, ["train"])
    assert failure.code == 1
    assert failure.message.startswith(f"Error: {told}")
    assert "\n" not in failure.message
    assert not list(temporary.iterdir())


def test_other_runtime_errors_are_not_taken_for_memory() -> None:
    assert failure_of(RuntimeError("mat1 and mat2 shapes cannot be multiplied"), ["cache", "verify", "x"]).code == 70
    assert "tcs cache verify met an error" in failure_of(RuntimeError("x"), ["cache", "verify", "x"]).message


def test_a_file_that_ends_too_soon_is_not_told_as_ctrl_c(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    raising(monkeypatch, EOFError("no more bytes"))
    code, _, err = tcs(capsys, "methods", "--json")
    assert code == 70
    assert "EOFError: no more bytes" in err
    assert "stopped" not in err


WRITERS = {**COMMANDS, **{f"cache {name}": entry for name, entry in SUBCOMMANDS.items()}}


def test_commands_that_resume_are_commands() -> None:
    assert set(WRITERS) | {"pretrain"} >= RESUMING


@pytest.mark.parametrize("command", sorted(WRITERS))
def test_a_full_disk_is_told_with_what_a_rerun_does(command: str) -> None:
    full = cache.write_error(pathlib.Path("out"), OSError(errno.ENOSPC, "No space left on device"))
    refused = cache.write_error(pathlib.Path("out"), OSError(errno.EACCES, "Permission denied"))
    arguments = ["--debug", *command.split(), "--out", "x", "y"]
    resumes, kept = ("; it resumes", "; finished parts are kept") if command in RESUMING else ("", "")
    assert refused_write(full, arguments) == (
        f"cannot write out: No space left on device; free space and rerun the same command{resumes}."
    )
    assert refused_write(refused, arguments).endswith(f"or name another output, and rerun{kept}.")


def test_the_command_line_says_it_so(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    raising(monkeypatch, cache.write_error(pathlib.Path("out"), OSError(errno.ENOSPC, "No space left on device")))
    told = "Error: cannot write out: No space left on device; free space and rerun the same command.\n"
    assert tcs(capsys, "methods", "--json") == (1, "", told)


def test_a_refused_write_keeps_its_words_between_processes() -> None:
    error = cache.write_error(pathlib.Path("out"), OSError(errno.ENOSPC, "No space left on device"))
    assert str(pickle.loads(pickle.dumps(error))) == str(error)  # noqa: S301 (our own)


def test_control_characters_of_names_do_not_reach_the_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    raising(monkeypatch, ArtefactError("no 'a\x1b[31m\x00\u009b\u00e4', list:\n  b"))
    assert tcs(capsys, "methods", "--json")[2] == "Error: no 'a\\x1b[31m\\x00\\x9b\u00e4', list:\\n  b\n"
