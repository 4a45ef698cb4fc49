"""`tcs extract` as torchrun starts it, in processes: one store, one voice, and kills that cost no finished shard."""

import json
import os
import pathlib
import shutil
import signal

import launched
import pytest
import torch
from extraction import SIDE, config, fill
from processes import LAUNCHER_SECONDS, run_processes, told, torchrun
from store_folders import manifest_of, shard_files, stood

import cache
from cache.errors import StoreWriteError
from cache.files import FolderLock
from tcs.extraction.extract import extract

torch.set_num_threads(1)
PROCESSES = pathlib.Path("/proc")
SHARDS = 120


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """As many images as shards of two make; the last one is broken."""
    folder = fill(tmp_path_factory.mktemp("data"), 2 * SHARDS)
    (folder / f"c1/{2 * SHARDS - 1}.png").write_text("broken")
    return folder


def command(data: pathlib.Path, out: pathlib.Path, teacher: pathlib.Path) -> list[str]:
    options = ["extract", str(data), "--out", str(out), "--teacher", "test_vit", "--teacher-checkpoint", str(teacher)]
    return [
        *options,
        "--img-size",
        str(SIDE),
        "--rows-per-shard",
        "2",
        "-b",
        "2",
        "-j",
        "0",
        "--max-bad",
        "1",
        "--json",
    ]


@pytest.fixture(scope="module")
def one(data: pathlib.Path, teacher: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The store of one process."""
    out = tmp_path_factory.mktemp("one") / "s"
    return extract(config(data, out, teacher, rows_per_shard=2, batch_size=2, max_bad=1))


def require_same(path: pathlib.Path, one: pathlib.Path) -> None:
    assert shard_files(path) == shard_files(one)
    found, wanted = manifest_of(path), manifest_of(one)
    del found["provenance"], wanted["provenance"]
    assert found == wanted


def process_of_rank(rank: int, launcher: int) -> int:
    """The process that `launcher` started as `rank`."""
    for folder in PROCESSES.iterdir():
        if folder.name.isdecimal():
            try:
                parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
                variables = (folder / "environ").read_bytes().split(b"\0")
            except OSError:  # it has ended, or is not ours
                continue
            if parent == launcher and f"RANK={rank}".encode() in variables:
                return int(folder.name)
    raise AssertionError(f"no rank {rank} below {launcher}")


@pytest.mark.skipif(not (PROCESSES / "self/environ").exists(), reason="finds the ranks in /proc")
def test_a_killed_rank_ends_all_and_another_world_size_goes_on_to_the_store_of_one_process(
    data: pathlib.Path, teacher: pathlib.Path, tmp_path: pathlib.Path, one: pathlib.Path
) -> None:
    path = tmp_path / "s"
    with torchrun(tmp_path / "said", 2, "-m", "tcs", *command(data, path, teacher)) as launcher:
        launcher.until((path / "manifest.json").exists)
        victim = process_of_rank(1, launcher.process.pid)
        launcher.until(lambda: len(list(path.glob("shard-*.h5"))) >= 10)
        os.kill(victim, signal.SIGKILL)
        assert launcher.ended(LAUNCHER_SECONDS) == 1
        err = launcher.stderr
    assert told(err)[-1] == "stopped by SIGTERM; run the same command again to resume."
    assert f"2 ranks take turns with the {SHARDS} shards to be written." in told(err)[-2]
    before = stood(path)
    assert 10 <= len(before) < SHARDS
    assert manifest_of(path)["state"] == "open"
    copy = shutil.copytree(path, tmp_path / "copy")
    kept = stood(copy)
    extract(config(data, copy, teacher, rows_per_shard=2, batch_size=2, max_bad=1))
    assert kept.items() <= stood(copy).items()
    require_same(copy, one)

    codes = run_processes(3, launched.run_command, tmp_path, "resumed", command(data, path, teacher))
    out, err = (launched.said(tmp_path, "resumed", end) for end in ("out", "err"))
    assert codes == [0, 0, 0], err
    assert json.loads(out)["rows"] == 2 * SHARDS - 1  # one object: json.loads refuses two
    assert err.count(f"{2 * SHARDS} images, {2 * SHARDS} labelled, 2 classes.") == 1
    assert err.count(f"3 ranks take turns with the {SHARDS - len(before)} shards to be written.") == 1
    assert err.count(f"resuming: {len(before)} of {SHARDS} shards are there already.") == 1
    assert "Traceback" not in err
    assert before.items() <= stood(path).items()
    require_same(path, one)
    assert manifest_of(path)["provenance"]["ranks"]["world_size"] == 2  # as it was begun


def test_a_locked_store_is_one_line_and_exit_code_1(
    data: pathlib.Path, teacher: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    (tmp_path / "s").mkdir()
    lock = FolderLock(tmp_path / "s")
    ends = run_processes(2, launched.run_command, tmp_path, "locked", command(data, tmp_path / "s", teacher))
    lock.release()
    assert [end.code for end in ends] == [1, 1]
    assert launched.said(tmp_path, "locked", "out") == ""
    line, other = ((tmp_path / f"locked.{rank}.err").read_text() for rank in (0, 1))
    assert line.startswith("Error: ")
    assert line.endswith("s is being written by another process; wait for it to end, or name another output.\n")
    assert other.startswith("rank 1: Error: rank 1 has lost the other ranks (")  # torchrun ends it before it says so
    assert (line + other).count("\n") == 2
    assert list((tmp_path / "s").iterdir()) == []


def fill_the_disk(folder: pathlib.Path, arguments: list[str]) -> int:
    """`tcs` as a rank, on whose disk shards of ranks beside rank 0 find no room."""

    def full(part: cache.PartWriter, index: int, rows: cache.ShardRows) -> None:
        raise StoreWriteError("no space left; free some and run again.")

    cache.PartWriter.write_shard = full  # type: ignore[method-assign]
    return launched.run_command(folder, "full", arguments)


def test_an_error_of_one_rank_is_told_by_that_rank(
    data: pathlib.Path, teacher: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    ends = run_processes(2, fill_the_disk, tmp_path, command(data, tmp_path / "s", teacher))
    assert [end.code for end in ends] == [1, 1]
    first, second = ((tmp_path / f"full.{rank}.err").read_text() for rank in (0, 1))
    assert second == "rank 1: Error: no space left; free some and run again.\n"
    assert first.splitlines()[-1].startswith(
        "Error: rank 0 has lost the other ranks ("
    )  # torchrun ends it before it says so
    assert "no space left" not in first
    assert manifest_of(tmp_path / "s")["state"] == "open"


def test_fewer_images_than_ranks_are_extracted_as_by_one(teacher: pathlib.Path, tmp_path: pathlib.Path) -> None:
    data = fill(tmp_path / "data", 2)  # one shard, and one rank of three to write it
    arguments = command(data, tmp_path / "s", teacher)
    assert run_processes(3, launched.run_command, tmp_path, "few", arguments) == [0, 0, 0]
    one = extract(config(data, tmp_path / "one", teacher, rows_per_shard=2, batch_size=2))
    require_same(tmp_path / "s", one)
    assert json.loads(launched.said(tmp_path, "few", "out"))["rows"] == 2  # one voice
    assert cache.open(tmp_path / "s").manifest.provenance["seen"] == cache.open(one).manifest.provenance["seen"]
