"""A file written in pieces: whole or not at all, one writer at a time, and nothing left behind."""

import os

import numpy as np
import pytest

from cache import errors
from cache.files import PARTIAL_SUFFIX, StreamedFile


def test_pieces_in_any_order_make_the_file_at_commit(tmp_path):
    target = tmp_path / "sub" / "x.h5"
    with StreamedFile(target, 20) as file:
        file.write(12, np.arange(2, dtype="<i4"))
        file.write(2, b"ab")
        file.write(5, np.empty((0, 3)))
        file.write(5, b"")
        assert not target.exists()
        file.commit()
    assert target.read_bytes() == b"\0\0ab" + bytes(8) + b"\0\0\0\0\1\0\0\0"
    assert [path.name for path in target.parent.iterdir()] == ["x.h5"]


def test_the_bytes_are_on_the_disk_before_they_have_the_name_and_the_name_before_the_call_is_over(
    tmp_path, monkeypatch
):
    waited, target = [], tmp_path / "x.h5"

    def note(descriptor):
        waited.append((os.path.samestat(os.fstat(descriptor), tmp_path.stat()), target.exists()))

    monkeypatch.setattr(os, "fsync", note)
    with StreamedFile(target, 3) as file:
        file.write(0, b"new")
        assert waited == []
        file.commit()
    assert waited == [(False, False), (True, True)]


def test_without_commit_the_earlier_file_stays(tmp_path):
    target = tmp_path / "x.h5"
    target.write_bytes(b"earlier")
    with StreamedFile(target, 10) as file:
        file.write(0, b"later")
    assert target.read_bytes() == b"earlier"
    assert [path.name for path in tmp_path.iterdir()] == ["x.h5"]


def test_one_writer_at_a_time(tmp_path):
    target = tmp_path / "x.h5"
    with StreamedFile(target, 3) as file:
        with pytest.raises(errors.LockedStoreError, match=r"x\.h5 is being written by another process; wait for it"):
            StreamedFile(target, 3)
        file.write(0, b"one")
        file.commit()
    with StreamedFile(target, 3) as file:
        file.write(0, b"two")
        file.commit()
    assert target.read_bytes() == b"two"


def test_a_link_in_the_place_of_the_partial_file_is_not_followed(tmp_path):
    (tmp_path / "mine").write_text("mine")
    (tmp_path / f"x.h5{PARTIAL_SUFFIX}").symlink_to(tmp_path / "mine")
    with pytest.raises(errors.StoreWriteError, match=r"cannot write .*x\.h5: Too many levels of symbolic links"):
        StreamedFile(tmp_path / "x.h5", 3)
    assert (tmp_path / "mine").read_text() == "mine"


def test_a_refused_write_is_one_line_and_leaves_nothing(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", refuse)
    with (
        StreamedFile(tmp_path / "x.h5", 3) as file,
        pytest.raises(errors.StoreWriteError, match=r"x\.h5: No space left on device; free space and rerun the same"),
    ):
        file.commit()
    assert list(tmp_path.iterdir()) == []
