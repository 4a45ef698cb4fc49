"""`tcs extract` and `tcs train` as torchrun starts them: one store, one voice, and kills that cost no finished shard.

One launch of two ranks runs all commands, the last of which is killed: starting torchrun takes longer than all they do.
"""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import launched
import pytest
import safetensors.torch
import torch
from artefacts import make_store, make_targets
from extraction import SIDE, config, fill
from processes import run_processes
from store_folders import manifest_of, shard_files, stood

from cache.files import FolderLock
from tcs.config.train import TrainConfig
from tcs.extraction.extract import extract
from tcs.training.train import train

ROOT = pathlib.Path(__file__).parents[1]
SHARDS = 120
VIT = "vit_tiny_patch16_224,img_size=16,patch_size=8,embed_dim=16,depth=1,num_heads=2"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """As many images as shards of two make; the last one is broken."""
    folder = fill(tmp_path_factory.mktemp("data"), 2 * SHARDS)
    (folder / f"c1/{2 * SHARDS - 1}.png").write_text("broken")
    return folder


@pytest.fixture(scope="module")
def one(data: pathlib.Path, teacher: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The store of one process."""
    out = tmp_path_factory.mktemp("one") / "s"
    return extract(config(data, out, teacher, rows_per_shard=2, batch_size=2, max_bad=1))


def extraction(data: pathlib.Path, out: pathlib.Path, teacher: pathlib.Path, *more: str) -> list[str]:
    options = ["extract", str(data), "--out", str(out), "--teacher", "test_vit", "--teacher-checkpoint", str(teacher)]
    return [*options, "--img-size", str(SIDE), "--rows-per-shard", "2", "-b", "2", "-j", "0", "--max-bad", "1", *more]


def training(folder: pathlib.Path) -> list[str]:
    options = ["train", str(folder / "train.store"), "--model", VIT, "--targets", str(folder / "pca.h5"), "--json"]
    options += ["--out", str(folder / "run"), "--seed", "3", "--method", "tcs+elsh", "--shots", "4", "--steps", "10"]
    return [*options, "-b", "15", "--img-size", "16"]


def kill_one_rank(launcher: "subprocess.Popen[str]", folder: pathlib.Path, store: pathlib.Path) -> None:
    """SIGKILL to rank 1 once ten shards of the last command are there."""
    while launcher.poll() is None and len(list(store.glob("shard-*.h5"))) < 10:
        time.sleep(0.001)
    os.kill(int((folder / "1.pid").read_text()), signal.SIGKILL)


@pytest.fixture(scope="module")
def launch(data: pathlib.Path, teacher: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The folder of what two ranks of torchrun have done and said; the launcher's exit code is in its "launcher"."""
    folder = tmp_path_factory.mktemp("launch")
    make_store(folder / "train.store")
    make_targets(folder)
    (folder / "locked").mkdir()
    lock = FolderLock(folder / "locked")
    commands = {"extract": extraction(data, folder / "s", teacher, "--json")}
    commands |= {"locked": extraction(data, folder / "locked", teacher), "train": training(folder)}
    commands |= {"killed": extraction(data, folder / "killed", teacher)}
    (folder / "commands.json").write_text(json.dumps(commands))
    line = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--local-addr", "127.0.0.1"]
    line += ["--nproc-per-node", "2", str(ROOT / "tests" / "launched.py"), str(folder)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with (folder / "launcher.err").open("w") as told:
        launcher = subprocess.Popen(line, cwd=ROOT, env=environment, stderr=told, text=True)
        try:
            kill_one_rank(launcher, folder, folder / "killed")
            (folder / "launcher").write_text(str(launcher.wait(60)))
        finally:
            launcher.kill()
            launcher.wait()
            lock.release()
    return folder


def require_same(path: pathlib.Path, one: pathlib.Path) -> None:
    assert shard_files(path) == shard_files(one)
    found, wanted = manifest_of(path), manifest_of(one)
    del found["provenance"], wanted["provenance"]
    assert found == wanted


def test_two_processes_make_the_store_of_one_and_speak_with_one_voice(launch: pathlib.Path, one: pathlib.Path) -> None:
    out, err = (launched.said(launch, "extract", end) for end in ("out", "err"))
    assert launched.said(launch, "extract", "code") == "00", err
    assert json.loads(out)["rows"] == 2 * SHARDS - 1  # one object: json.loads refuses two
    assert err.count(f"{2 * SHARDS} images, {2 * SHARDS} labelled, 2 classes.") == 1
    assert err.count(f"2 ranks take turns with the {SHARDS} shards to be written.") == 1
    assert "Traceback" not in err
    require_same(launch / "s", one)
    assert manifest_of(launch / "s")["provenance"]["ranks"]["world_size"] == 2


def test_a_locked_store_is_one_line_and_exit_code_1(launch: pathlib.Path) -> None:
    assert [launched.said(launch, "locked", end) for end in ("code", "out")] == ["11", ""]
    first, second = launched.said(launch, "locked", "err").splitlines()
    assert first.startswith("Error: ")
    assert first.endswith("locked is being written by another process; wait for it to end, or name another output.")
    assert second.startswith("rank 1: Error: rank 0 on ")
    assert second.endswith(first.removeprefix("Error: "))
    assert list((launch / "locked").iterdir()) == []


def train_as_a_rank(settings: TrainConfig) -> None:
    train(settings)


def test_training_ends_as_that_of_ranks_that_torchrun_did_not_start(launch: pathlib.Path) -> None:
    err = launched.said(launch, "train", "err")
    assert launched.said(launch, "train", "code") == "00", err
    (path,) = [path for path in (launch / "run").iterdir() if path.is_dir()]
    assert json.loads(launched.said(launch, "train", "out")) == {"students": [str(path)]}
    assert err.count("10 steps of 15 images") == 1
    given = {"store": str(launch / "train.store"), "targets": str(launch / "pca.h5"), "models": (VIT,), "shots": 4}
    given |= {"method": "tcs+elsh", "steps": 10, "batch_size": 15, "img_size": 16, "seed": 3}
    assert run_processes(2, train_as_a_rank, TrainConfig(out=str(launch / "other"), **given)) == [None, None]
    found, wanted = (
        safetensors.torch.load_file(launch / run / path.name / "last.safetensors") for run in ("run", "other")
    )
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], values) for name, values in wanted.items())


def test_a_killed_rank_ends_all_and_another_world_size_goes_on(
    data: pathlib.Path, teacher: pathlib.Path, launch: pathlib.Path, one: pathlib.Path
) -> None:
    path = launch / "killed"
    assert (launch / "launcher").read_text() == "1"
    assert launched.said(launch, "killed", "err").endswith(
        "stopped by SIGTERM; run the same command again to resume.\n"
    )
    before = stood(path)
    assert 10 <= len(before) < SHARDS
    assert manifest_of(path)["state"] == "open"
    copy = shutil.copytree(path, launch / "copy")
    kept = stood(copy)
    extract(config(data, copy, teacher, rows_per_shard=2, batch_size=2, max_bad=1))
    assert kept.items() <= stood(copy).items()
    require_same(copy, one)

    codes = run_processes(3, launched.run_command, launch, "resumed", extraction(data, path, teacher))
    err = launched.said(launch, "resumed", "err")
    assert codes == [0, 0, 0], err
    assert f"resuming: {len(before)} of {SHARDS} shards are there already." in err
    assert before.items() <= stood(path).items()
    require_same(path, one)
