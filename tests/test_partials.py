"""Files on their way to a name: what a killed writer leaves goes with the next run of it, what a living one is at stays."""

import contextlib
import errno
import fcntl
import itertools
import os
import pathlib
import signal
from collections.abc import Callable, Iterator

import pytest

import cache
from cache import partials
from cache.files import atomic_write_pieces
from cache.partials import claim
from tcs.export.place import Draft

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")


def names(folder: pathlib.Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@contextlib.contextmanager
def child(work: Callable[[], object]) -> Iterator[int]:
    """A process forked from this one that does `work`, and is gone at the end."""
    number = os.fork()
    if not number:
        try:
            work()
        finally:
            os._exit(0)
    try:
        yield number
    finally:
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            os.kill(number, signal.SIGKILL)
            os.waitpid(number, 0)


def killed(work: Callable[[], object]) -> None:
    """Let `work` end the process that it runs in by SIGKILL."""
    with child(work) as number:
        assert os.waitstatus_to_exitcode(os.waitpid(number, 0)[1]) == -signal.SIGKILL


def half() -> Iterator[bytes]:
    """The first piece of a file, and then the end of the process."""
    yield b"x" * 100_000
    os.kill(os.getpid(), signal.SIGKILL)


def test_what_killed_writers_left_goes_with_the_next_one(tmp_path: pathlib.Path) -> None:
    for name in ("a.csv", "b.csv"):
        killed(lambda name=name: atomic_write_pieces(tmp_path / name, half()))  # type: ignore[misc]
    theirs = ["a.csv.0123abcd.partial", "a.csv.partial", "xa.csv.00000000.partial"]
    for name in theirs:  # of another machine, and of nobody we know
        (tmp_path / name).write_bytes(b"mine")
    assert len(names(tmp_path)) == 5
    cache.atomic_write_bytes(tmp_path / "a.csv", b"whole")
    left = set(names(tmp_path)) - {"a.csv", *theirs}
    assert [name.partition(".csv.")[0] for name in left] == ["b"]
    assert (tmp_path / "a.csv").read_bytes() == b"whole"
    cache.atomic_write_bytes(tmp_path / "b.csv", b"whole")
    assert names(tmp_path) == sorted(["a.csv", "b.csv", *theirs])


def test_a_living_writer_keeps_its_file_and_a_dead_one_behind_it_is_removed(tmp_path: pathlib.Path) -> None:
    """Three writers of one file: the first lives, the second is killed, the third is done before the first."""
    target = tmp_path / "a.csv"
    reader, writer = os.pipe()

    def slow() -> Iterator[bytes]:
        yield b"the first's, " * 10_000
        assert os.read(reader, 1) == b"!"
        yield b"all of it"

    with child(lambda: atomic_write_pieces(target, slow())) as number:
        while not any(path.stat().st_size for path in tmp_path.glob("*.partial")):
            pass
        killed(lambda: atomic_write_pieces(target, half()))
        assert len(names(tmp_path)) == 2
        atomic_write_pieces(target, [b"the third's"])
        assert target.read_bytes() == b"the third's"
        assert len(names(tmp_path)) == 2
        os.write(writer, b"!")
        assert os.waitpid(number, 0)[1] == 0
    os.close(reader)
    os.close(writer)
    assert target.read_bytes() == b"the first's, " * 10_000 + b"all of it"
    assert names(tmp_path) == ["a.csv"]


def test_files_behind_a_living_writers_that_are_dead_are_removed_too(tmp_path: pathlib.Path) -> None:
    claims = [claim(tmp_path / "a") for _ in range(4)]
    paths = [path for path, _ in claims]
    assert [path.name[-10:-8] for path in paths] == ["00", "01", "02", "03"]
    for _, descriptor in claims[::2]:
        os.close(descriptor)  # as the system closes those of a dead process
    found, descriptor = claim(tmp_path / "a")
    assert found == paths[0]
    assert [path.exists() for path in paths] == [True, True, False, True]
    for opened in (descriptor, *(one for _, one in claims[1::2])):
        os.close(opened)


def test_a_file_that_was_taken_for_a_dead_writers_before_it_had_its_lock_is_made_again(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flock, calls = fcntl.flock, itertools.count()

    def late(descriptor: int, kind: int) -> None:
        if next(calls) == 0:
            next(tmp_path.iterdir()).unlink()
        flock(descriptor, kind)

    monkeypatch.setattr(fcntl, "flock", late)
    cache.atomic_write_bytes(tmp_path / "a.csv", b"whole")
    assert next(calls) == 2
    assert names(tmp_path) == ["a.csv"]


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_where_there_are_no_locks_every_writer_has_a_file_and_nothing_is_removed(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def refuse(descriptor: int, kind: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", refuse)
    first, descriptor = claim(tmp_path / "a.csv")
    cache.atomic_write_bytes(tmp_path / "a.csv", b"whole")
    assert names(tmp_path) == ["a.csv", first.name]
    os.close(descriptor)


def test_links_pipes_and_others_of_the_name_are_neither_followed_nor_removed(tmp_path: pathlib.Path) -> None:
    first, descriptor = claim(tmp_path / "a.csv")
    os.close(descriptor)
    first.unlink()
    (tmp_path / "mine").write_bytes(b"mine")
    first.symlink_to(tmp_path / "mine")
    second = first.with_name(first.name.replace("00.partial", "01.partial"))
    os.mkfifo(second)
    third = first.with_name(first.name.replace("00.partial", "02.partial"))
    third.mkdir()
    cache.atomic_write_bytes(tmp_path / "a.csv", b"whole")
    assert (tmp_path / "mine").read_bytes() == b"mine"
    assert (first.is_symlink(), second.is_fifo(), third.is_dir()) == (True, True, True)
    assert (tmp_path / "a.csv").read_bytes() == b"whole"


def test_names_tell_the_running_system_by_its_id_or_else_by_its_name(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for text in ("one\n", "two\n", None):
        source = tmp_path / "id"
        source.unlink(missing_ok=True)
        if text is not None:
            source.write_text(text)
        monkeypatch.setattr(partials, "_BOOT_ID", source)
        found.append(partials._system.__wrapped__())
    assert len({name for name in found if len(name) == 6 and int(name, 16) >= 0}) == 3


@pytest.mark.parametrize("contents", [b"model", {"config.json": b"{}", "model.safetensors": b"model"}])
def test_an_export_that_was_killed_leaves_nothing_once_it_ran_again(
    tmp_path: pathlib.Path, contents: bytes | dict[str, bytes]
) -> None:
    final = tmp_path / "out" / "student.onnx"

    def export(*, dies: bool) -> None:
        with Draft(final) as draft:
            draft.write(contents)
            assert draft.path.suffix == ".onnx"
            if dies:
                os.kill(os.getpid(), signal.SIGKILL)
            draft.commit()

    killed(lambda: export(dies=True))
    assert not final.exists()
    assert len(names(final.parent)) == 2  # the draft and the lock
    for _ in range(2):  # the second in place of the first
        export(dies=False)
        assert names(final.parent) == ["student.onnx"]
    found = (
        final.read_bytes()
        if isinstance(contents, bytes)
        else {path.name: path.read_bytes() for path in final.iterdir()}
    )
    assert found == contents


def test_a_second_export_to_one_place_is_refused_and_takes_nothing_away(tmp_path: pathlib.Path) -> None:
    with Draft(tmp_path / "a.onnx") as first, Draft(tmp_path / "a.onnx") as second:
        first.write(b"first")
        with pytest.raises(
            cache.errors.LockedStoreError, match=r"a\.onnx is being written by another process; wait for"
        ):
            second.write(b"second")
        first.commit()
    assert (tmp_path / "a.onnx").read_bytes() == b"first"
    assert names(tmp_path) == ["a.onnx"]


def test_an_earlier_export_is_put_back_where_the_new_one_cannot_appear(tmp_path: pathlib.Path) -> None:
    with Draft(tmp_path / "student") as first:
        first.write({"config.json": b"first"})
        first.commit()
    with Draft(tmp_path / "student") as second:
        second.write({"config.json": b"second"})
        second.path.rename(tmp_path / "taken")
        with pytest.raises(FileNotFoundError):
            second.commit()
    assert (tmp_path / "student" / "config.json").read_bytes() == b"first"


def folder_of(final: pathlib.Path, text: bytes) -> None:
    with Draft(final) as draft:
        draft.write({"config.json": text})
        draft.commit()


@pytest.mark.parametrize("name", ["old", "earlier", "a[0].partial"])
def test_a_folder_of_any_name_is_replaced(tmp_path: pathlib.Path, name: str) -> None:
    for text in (b"first", b"second"):
        folder_of(tmp_path / name, text)
        assert (tmp_path / name / "config.json").read_bytes() == text
        assert names(tmp_path) == [name]


@pytest.mark.parametrize("renamed", [1, 2])
def test_a_kill_at_either_rename_loses_no_folder(tmp_path: pathlib.Path, renamed: int) -> None:
    """With one rename done there is no folder of the name, and the next draft puts the earlier one back; with two the new one is there."""
    final = tmp_path / "student"
    folder_of(final, b"first")

    def dies(*_: object) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def export() -> None:
        with Draft(final) as draft, pytest.MonkeyPatch.context() as patched:
            draft.write({"config.json": b"second"})
            if renamed == 1:
                patched.setattr(pathlib.Path, "replace", dies)
            else:
                patched.setattr("cache.draft.Draft._settle", dies)
            draft.commit()

    killed(export)
    assert final.exists() is (renamed == 2)
    with Draft(final) as third:
        third.write({"config.json": b"third"})  # and is given up
    assert (final / "config.json").read_bytes() == (b"first" if renamed == 1 else b"second")
    assert names(tmp_path) == ["student"]


def test_a_link_to_a_folder_is_replaced_and_what_it_names_stays(tmp_path: pathlib.Path) -> None:
    folder_of(tmp_path / "theirs", b"first")
    (tmp_path / "student").symlink_to("theirs")
    folder_of(tmp_path / "student", b"second")
    assert [(tmp_path / name / "config.json").read_bytes() for name in ("theirs", "student")] == [b"first", b"second"]
    assert names(tmp_path) == ["student", "theirs"]


def test_folders_reach_the_disk_before_and_after_the_rename(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[tuple[str, bool]] = []
    final = tmp_path / "student"
    with Draft(final) as draft:
        draft.write({"config.json": b"{}"})
        (draft.path / "inner").mkdir()
        monkeypatch.setattr("cache.draft.sync_folder", lambda folder: synced.append((folder.name, final.exists())))
        draft.commit()
    assert synced == [("student", False), ("inner", False), (tmp_path.name, True)]
