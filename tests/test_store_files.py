"""Atomic writes and the folder lock: a file is old or new, a lock is held by one."""

import errno
import os

import pytest

import cache
from cache import errors
from cache.files import FolderLock


def test_atomic_write_leaves_exactly_the_file(tmp_path):
    cache.atomic_write_bytes(tmp_path / "a.h5", b"old")
    cache.atomic_write_bytes(tmp_path / "a.h5", b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["a.h5"]
    assert (tmp_path / "a.h5").read_bytes() == b"new"


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (errno.ENOSPC, "No space left on device; free space and rerun the same command; it resumes"),
        (errno.EDQUOT, "free space and rerun"),
        (errno.EFBIG, "File too large; free space and rerun"),
        (errno.EROFS, "Read-only file system; make the folder writable, or name another output"),
        (errno.EACCES, "Permission denied; make the folder writable"),
    ],
)
def test_a_refused_write_keeps_the_old_file_and_leaves_nothing_beside_it(tmp_path, monkeypatch, code, message):
    cache.atomic_write_bytes(tmp_path / "a.h5", b"old")

    def refuse(descriptor):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(errors.StoreWriteError, match=message) as caught:
        cache.atomic_write_bytes(tmp_path / "a.h5", b"new")
    assert str(tmp_path / "a.h5") in str(caught.value)
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["a.h5"]
    assert (tmp_path / "a.h5").read_bytes() == b"old"


def test_the_bytes_are_on_the_disk_before_they_have_the_name_and_the_name_before_the_call_is_over(
    tmp_path, monkeypatch
):
    waited, target = [], tmp_path / "a.h5"

    def note(descriptor):
        about = os.fstat(descriptor)
        folder = os.path.samestat(about, tmp_path.stat())
        waited.append((folder, about.st_size if not folder else None, target.read_bytes()))

    cache.atomic_write_bytes(target, b"old")
    monkeypatch.setattr(os, "fsync", note)
    cache.atomic_write_bytes(target, b"newer")
    assert waited == [(False, 5, b"old"), (True, None, b"newer")]


def test_an_interrupt_in_the_middle_leaves_nothing(tmp_path, monkeypatch):
    def interrupt(descriptor):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        cache.atomic_write_bytes(tmp_path / "a.h5", b"new")
    assert list(tmp_path.iterdir()) == []


def test_a_missing_folder_is_one_line(tmp_path):
    with pytest.raises(errors.StoreWriteError, match=r"a\.h5: No such file or directory; make the folder writable"):
        cache.atomic_write_bytes(tmp_path / "none" / "a.h5", b"new")


def test_one_holder_at_a_time_and_no_lock_file_afterwards(tmp_path):
    lock = FolderLock(tmp_path)
    with pytest.raises(errors.LockedStoreError, match="is being written by another process; wait for it to end"):
        FolderLock(tmp_path)
    lock.release()
    lock.release()
    assert list(tmp_path.iterdir()) == []
    FolderLock(tmp_path).release()


def test_one_writer_of_a_file_at_a_time_and_no_lock_file_afterwards(tmp_path):
    target = tmp_path / "t.h5"
    with cache.locked_file(target):
        with (
            pytest.raises(
                errors.LockedStoreError, match=r"t\.h5 is being written by another process; wait for it to end"
            ),
            cache.locked_file(target),
        ):
            raise AssertionError
        with cache.locked_file(tmp_path / "u.h5"):
            assert len(list(tmp_path.iterdir())) == 2
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_writer_left_of_a_file_is_removed_by_the_next(tmp_path):
    mine = ["t.h5.0123abcd.partial", ".t.h5.lock"]
    others = [
        "t.h5",
        "u.h5.0123abcd.partial",
        "t.h5.tcs.partial",
        "t.h5.0123abcd.partial.txt",
        "[t].h5.0123abcd.partial",
    ]
    for name in (*mine, *others):
        (tmp_path / name).write_text("x")
    with cache.locked_file(tmp_path / "t.h5"):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(others)
    with cache.locked_file(tmp_path / "[t].h5"):
        pass
    assert "[t].h5.0123abcd.partial" not in [path.name for path in tmp_path.iterdir()]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_writer_that_fails_lets_go_of_its_file(tmp_path, error):
    with pytest.raises(error), cache.locked_file(tmp_path / "t.h5"):
        raise error
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_a_folder_that_is_not_there_cannot_be_locked(tmp_path):
    message = r"\.lock: No such file or directory; make the folder writable"
    with pytest.raises(errors.StoreWriteError, match=message), cache.locked_file(tmp_path / "none" / "t.h5"):
        raise AssertionError


def test_a_lock_file_left_by_a_killed_process_is_no_lock(tmp_path):
    (tmp_path / ".lock").touch()
    FolderLock(tmp_path).release()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_release_frees_the_folder_although_a_forked_child_lives(tmp_path):
    lock = FolderLock(tmp_path)
    child = os.fork()
    if child == 0:
        os.read(os.pipe()[0], 1)  # waits until it is killed, holding a copy of the descriptor
        os._exit(0)
    try:
        lock.release()
        FolderLock(tmp_path).release()
    finally:
        os.kill(child, 9)
        os.waitpid(child, 0)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_hold_a_lock_is_one_line(tmp_path):
    with pytest.raises(errors.StoreWriteError, match=r"\.lock: No such file or directory"):
        FolderLock(tmp_path / "none")
