"""Extraction that is cut short: a refused write, a worker that crashes, kills at any moment, Ctrl-C; and the same call resumes."""

import contextlib
import dataclasses
import multiprocessing
import os
import pathlib
import random
import signal
import time

import pytest
import torch
from extraction import SIDE, config, fill, full_at
from forks import forked, tcs_command
from store_folders import shard_files, stood

import cache
from cache.errors import LockedStoreError
from tcs.config.extract import ExtractConfig
from tcs.config.pixels import PixelRules
from tcs.errors import DataError
from tcs.extraction.extract import extract
from tcs.images.decode import Decoded, decode_told

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    return fill(tmp_path_factory.mktemp("data"), 26)


def test_refused_write_passes_through_and_the_same_call_resumes(
    data: pathlib.Path, teacher: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with full_at(2, monkeypatch):
        extract(config(data, tmp_path / "s", teacher))
    before = stood(tmp_path / "s")
    assert len(before) == 2
    after = stood(extract(config(data, tmp_path / "s", teacher)))
    assert {name: after[name] for name in before} == before
    assert shard_files(tmp_path / "s") == shard_files(extract(config(data, tmp_path / "whole", teacher)))


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_crash_of_a_worker_is_one_line_and_resumable(
    data: pathlib.Path, teacher: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parent = os.getpid()

    def crash(raw: bytes, rules: PixelRules) -> Decoded:
        if os.getpid() != parent:
            os._exit(1)
        return decode_told(raw, rules)

    with monkeypatch.context() as patch:
        patch.setattr("tcs.extraction.decoding.decode_told", crash)
        with pytest.raises(
            DataError, match=r"a worker process ended unexpectedly .*; run the same command again to res"
        ):
            extract(config(data, tmp_path / "s", teacher, workers=1))
    assert len(cache.open(extract(config(data, tmp_path / "s", teacher)))) == 26


def run_unless_locked(settings: ExtractConfig) -> None:
    """In a forked child: extract, waiting for the workers of a killed predecessor to let go of the lock."""
    with pathlib.Path(os.devnull).open("w") as nowhere, contextlib.redirect_stderr(nowhere):
        while True:
            with contextlib.suppress(LockedStoreError):
                extract(settings)
                return
            time.sleep(0.05)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills forked children")
@pytest.mark.parametrize("workers", [0, 2])
def test_kills_at_any_moment_leave_a_store_that_resumes_to_the_same_bytes(
    teacher: pathlib.Path, tmp_path: pathlib.Path, workers: int
) -> None:
    data = fill(tmp_path / "data", 90)
    settings = config(data, tmp_path / "s", teacher, rows_per_shard=2, workers=workers)
    chance, done, kills = random.Random(workers), 0, 0
    for _ in range(7):
        child = multiprocessing.get_context("fork").Process(target=run_unless_locked, args=(settings,))
        child.start()
        kill_at = done + chance.randint(1, 5)  # of 45 shards in all
        while child.is_alive() and len(shard_files(tmp_path / "s")) < kill_at:
            time.sleep(0.001)
        time.sleep(chance.uniform(0, 0.02))
        child.kill()
        child.join()
        kills += child.exitcode == -signal.SIGKILL
        assert len(shard_files(tmp_path / "s")) >= done
        done = len(shard_files(tmp_path / "s"))
    assert kills >= 3
    run_unless_locked(settings)
    whole = extract(dataclasses.replace(settings, out=str(tmp_path / "whole")))
    assert shard_files(tmp_path / "s") == shard_files(whole)
    assert cache.open(tmp_path / "s").identity == cache.open(whole).identity
    assert not list((tmp_path / "s").glob("*.partial"))


def test_ctrl_c_ends_with_130_and_one_line(teacher: pathlib.Path, tmp_path: pathlib.Path) -> None:
    data = fill(tmp_path / "data", 400)
    command = ["extract", str(data), "--out", str(tmp_path / "s"), "--teacher", "test_vit", "--teacher-checkpoint"]
    command += [str(teacher), "--img-size", str(SIDE), "--rows-per-shard", "2"]
    with forked(tmp_path / "said", tcs_command, *command) as child:
        child.until(lambda: (tmp_path / "s/shard-00003.h5").exists())
        child.send(signal.SIGINT)  # the workers get it too
        assert child.ended() == 130, child.stderr
        assert child.stderr.endswith("stopped; run the same command again to resume.\n")
        assert "Traceback" not in child.stderr
