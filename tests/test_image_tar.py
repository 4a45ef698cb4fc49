"""Tars of images, against the folders they were made of; every way a tar can be damaged is refused or told."""

import gzip
import io
import multiprocessing
import os
import pathlib
import pickle
import tarfile
import time

import numpy as np
import pytest

from tcs.config.extract import DataConfig
from tcs.errors import DataError
from tcs.images.folder import list_images
from tcs.images.listing import ImageList
from tcs.images.tar import _follow, open_tar


def member(
    name: str, data: bytes = b"", kind: bytes = tarfile.REGTYPE, link: str = ""
) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, link, len(data)
    return info, data


def tar_of(path: pathlib.Path, *members: tuple[tarfile.TarInfo, bytes], kind: int = tarfile.PAX_FORMAT) -> pathlib.Path:
    with tarfile.open(path, "w", format=kind) as archive:
        for info, data in members:
            archive.addfile(info, io.BytesIO(data))
    return path


def listed(path: pathlib.Path, **options: str) -> ImageList:
    return open_tar(DataConfig(data=str(path), **options))


def fill(folder: pathlib.Path) -> pathlib.Path:
    long = "x" * 120
    for i, key in enumerate(
        ["c10/1.png", "c2/10.jpg", "c2/9.JPG", f"c2/{long}/é.png", "2.png", "c2/._9.jpg", "notes.txt"]
    ):
        (folder / key).parent.mkdir(parents=True, exist_ok=True)
        (folder / key).write_bytes(bytes([i]) * (i * 300))
    (folder / ".git").mkdir()
    (folder / ".git/a.png").write_bytes(b"hidden")
    (folder / "x.jpg").mkdir()
    return folder


@pytest.mark.parametrize("kind", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
@pytest.mark.parametrize("prefix", ["", "./"])
def test_tar_of_a_folder_lists_and_reads_as_the_folder(tmp_path: pathlib.Path, kind: int, prefix: str) -> None:
    folder = list_images(fill(tmp_path / "f"))
    with tarfile.open(tmp_path / "f.tar", "w", format=kind) as archive:
        for entry in sorted((tmp_path / "f").iterdir(), reverse=True):
            archive.add(entry, prefix + entry.name)
    found = listed(tmp_path / "f.tar")
    assert (found.keys, found.labels, found.classes) == (folder.keys, folder.labels, folder.classes)
    assert (found.ignored, found.size_bytes()) == (folder.ignored, folder.size_bytes())
    assert [found.read(key) for key in found.keys] == [folder.read(key) for key in folder.keys]


def test_split_is_a_folder_of_the_tar_as_in_folders(tmp_path: pathlib.Path) -> None:
    path = tar_of(
        tmp_path / "a.tar", member("training/a/1.png", b"1"), member("val/b/1.png", b"2"), member("val/n.txt")
    )
    found = listed(path, split="validation")
    assert (found.keys, found.classes, found.ignored) == (("b/1.png",), ("b",), 1)
    assert found.read("b/1.png") == b"2"
    with pytest.raises(DataError, match="holds the splits training, val, not classes; choose one, as --split training"):
        listed(path)
    with pytest.raises(DataError, match=r"--split is 'vall', but .* no such split .* Did you mean val\?"):
        listed(path, split="vall")


def test_links_inside_the_tar_are_followed_and_others_cannot_be_read(tmp_path: pathlib.Path) -> None:
    path = tar_of(
        tmp_path / "a.tar",
        member("c/hard.png", kind=tarfile.LNKTYPE, link="c/1.png"),
        member("c/1.png", b"one"),
        member("d/soft.png", kind=tarfile.SYMTYPE, link="../c/chain.png"),
        member("c/chain.png", kind=tarfile.SYMTYPE, link="hard.png"),
        member("d/out.png", kind=tarfile.SYMTYPE, link="../../../etc/passwd"),
        member("d/root.png", kind=tarfile.SYMTYPE, link="/etc/passwd"),
        member("d/loop.png", kind=tarfile.SYMTYPE, link="pool.png"),
        member("d/pool.png", kind=tarfile.SYMTYPE, link="loop.png"),
        member("d/pipe.png", kind=tarfile.FIFOTYPE),
    )
    found = listed(path)
    assert [found.read(f"{key}.png") for key in ("c/1", "c/hard", "c/chain", "d/soft")] == [b"one"] * 4
    for key in ("out", "root", "loop", "pool"):
        with pytest.raises(OSError, match=r"a link to .*, which is not in the tar"):
            found.read(f"d/{key}.png")
    with pytest.raises(OSError, match="not a regular file"):
        found.read("d/pipe.png")
    assert found.size_bytes() == 4 * 3


@pytest.mark.parametrize("name", ["../1.png", "/1.png", "a/../1.png"])
def test_names_that_lead_out_are_refused(tmp_path: pathlib.Path, name: str) -> None:
    with pytest.raises(DataError, match="which leads out of it; pack it again with relative names"):
        listed(tar_of(tmp_path / "a.tar", member(name, b"1")))


def test_a_name_twice_is_refused(tmp_path: pathlib.Path) -> None:
    with pytest.raises(DataError, match=r"holds a/1\.png twice; unpack it \(the later one wins\) and pack it again"):
        listed(tar_of(tmp_path / "a.tar", member("a/1.png", b"1"), member("./a//1.png", b"2")))


def test_names_that_cannot_be_recorded_are_refused(tmp_path: pathlib.Path) -> None:
    with pytest.raises(DataError, match=r"file name 'a\\nb.png' under .* has a line break"):
        listed(tar_of(tmp_path / "a.tar", member("a\nb.png", b"1")))
    with pytest.raises(DataError, match="is not valid UTF-8; rename it"):
        listed(tar_of(tmp_path / "b.tar", member(os.fsdecode(b"\xff.png"), b"1"), kind=tarfile.GNU_FORMAT))


def test_tars_of_nothing_and_of_tars_are_named(tmp_path: pathlib.Path) -> None:
    with pytest.raises(DataError, match=r"holds no images \(1 other files\)"):
        listed(tar_of(tmp_path / "a.tar", member("a.txt", b"1")))
    with pytest.raises(
        DataError, match="holds tars, not images; unpack it, and give the folder or one of the tars in it"
    ):
        listed(tar_of(tmp_path / "b.tar", member("n0.tar", b"1")))
    with pytest.raises(DataError, match=r"cannot be read \(No such file or directory\); DATA must be a .tar file"):
        listed(tmp_path / "none.tar")
    (tmp_path / "dir.tar").mkdir()
    with pytest.raises(DataError, match=r"cannot be read \(Is a directory\)"):
        listed(tmp_path / "dir.tar")


def test_compressed_tar_under_a_plain_name_is_refused_with_the_remedy(tmp_path: pathlib.Path) -> None:
    plain = tar_of(tmp_path / "a.tar", member("1.png", b"1"))
    plain.write_bytes(gzip.compress(plain.read_bytes()))
    with pytest.raises(
        DataError, match=r"compressed \(gzip\), .*; unpack it and give the folder, or pack it again as a plai"
    ):
        listed(plain)


def whole(tmp_path: pathlib.Path) -> bytes:
    return tar_of(tmp_path / "w.tar", *(member(f"a/{i}.png", bytes([i]) * 700) for i in range(3))).read_bytes()


@pytest.mark.parametrize("kept_bytes", [0, 100, 512, 700, 1536, 1800, 3072, 3500, 4608])
def test_every_cut_is_refused(tmp_path: pathlib.Path, kept_bytes: int) -> None:
    data = whole(tmp_path)
    (tmp_path / "cut.tar").write_bytes(data[:kept_bytes])
    with pytest.raises(
        DataError, match=r"cut\.tar is (no whole tar \(.*\)|cut off or damaged at byte .*); copy or pack it"
    ):
        listed(tmp_path / "cut.tar")


def test_cut_behind_the_end_mark_is_whole(tmp_path: pathlib.Path) -> None:
    (tmp_path / "cut.tar").write_bytes(whole(tmp_path)[: 4608 + 1024])
    assert len(listed(tmp_path / "cut.tar").keys) == 3


def test_damaged_header_and_joined_tars_are_refused(tmp_path: pathlib.Path) -> None:
    data = bytearray(whole(tmp_path))
    (tmp_path / "joined.tar").write_bytes(data + data)
    with pytest.raises(
        DataError, match=r"goes on after its end mark \(two tars joined\?\); unpack it with tar --ignore-zeros"
    ):
        listed(tmp_path / "joined.tar")
    data[1536 + 3] ^= 1
    (tmp_path / "bad.tar").write_bytes(data)
    with pytest.raises(DataError, match="is cut off or damaged at byte 1,536; copy or pack it again"):
        listed(tmp_path / "bad.tar")


def test_any_damage_is_a_data_error_or_a_list(tmp_path: pathlib.Path) -> None:
    good = np.frombuffer(
        tar_of(tmp_path / "g.tar", *(member(f"a/{'é' * 90}{i}.png", bytes([i]) * 700) for i in range(3))).read_bytes(),
        np.uint8,
    )
    generator = np.random.default_rng(0)
    refused = 0
    for _ in range(150):
        bad = good.copy()
        bad[generator.integers(0, len(bad), 6)] = generator.integers(0, 256, 6)
        (tmp_path / "bad.tar").write_bytes(bad.tobytes())
        try:
            assert len(listed(tmp_path / "bad.tar").keys) == 3
        except DataError:
            refused += 1
    assert refused > 20


def test_garbage_and_empty_files_are_refused(tmp_path: pathlib.Path) -> None:
    (tmp_path / "a.tar").write_bytes(b"this is no tar, however long it may be. " * 100)
    with pytest.raises(DataError, match=r"is no whole tar \(.*\); copy or pack it again"):
        listed(tmp_path / "a.tar")


def test_tar_replaced_after_listing_cannot_be_read(tmp_path: pathlib.Path) -> None:
    path = tar_of(tmp_path / "a.tar", member("1.png", b"1"))
    found = listed(path)
    tar_of(path, member("2.png", b"2"))
    os.utime(path, ns=(0, 0))
    with pytest.raises(OSError, match="has changed since it was listed"):
        found.read("1.png")


def test_tar_written_over_in_its_place_cannot_be_read_on(tmp_path: pathlib.Path) -> None:
    path = tar_of(tmp_path / "a.tar", member("1.png", b"1"), member("2.png", b"2"))
    found = listed(path)
    assert found.read("1.png") == b"1"
    with path.open("r+b") as file:  # the same file, so an open descriptor sees it
        file.write(tar_of(tmp_path / "b.tar", member("2.png", b"1"), member("1.png", b"2")).read_bytes())
    os.utime(path, ns=(0, 0))
    with pytest.raises(OSError, match="has changed since it was listed"):
        found.read("1.png")


def read_into(found: ImageList, queue: "multiprocessing.Queue[bytes]") -> None:
    for _ in range(200):
        for key in found.keys:
            assert found.read(key) == bytes([int(key[2:-4])]) * 700
    queue.put(found.read("a/1.png"))


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_processes_share_no_descriptor(tmp_path: pathlib.Path) -> None:
    whole(tmp_path)
    found = listed(tmp_path / "w.tar")
    assert found.read("a/1.png") == b"\x01" * 700
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    children = [context.Process(target=read_into, args=(found, queue)) for _ in range(3)]
    for child in children:
        child.start()
    assert [queue.get(timeout=30) for _ in children] == [b"\x01" * 700] * 3
    for child in children:
        child.join()
    assert pickle.loads(pickle.dumps(found)).read("a/2.png") == b"\x02" * 700  # noqa: S301 as spawned workers receive it


def test_a_long_chain_of_links_takes_no_time() -> None:
    """Each link is followed once, however many chains lead over it."""
    links = {f"{number}.png": f"{number + 1}.png" for number in range(24_000)}
    extents = {"24000.png": (512, 9), **dict.fromkeys(links, "not a regular file")}
    ends: dict = {}
    start = time.process_time()
    assert {_follow(name, links, extents, ends) for name in links} == {(512, 9)}
    assert time.process_time() - start < 2
    lost = {"a": "b", "b": "c", "c": "b", "d": "e"}
    assert all("which is not in the tar" in str(_follow(name, lost, {}, {})) for name in lost)
