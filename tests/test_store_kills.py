"""Kills at any moment and full disks, in subprocesses: the store stays readable and the rerun ends the same."""

import json
import random
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import h5py

import cache

ROOT = Path(cache.__file__).parents[1]


# 64 shards of 4 rows with 100 kB of images each: many writes for a kill to fall into.
CHILD = textwrap.dedent(
    """
    import sys
    import numpy as np
    import cache

    KEYS = tuple(str(i) for i in range(256))
    plan = cache.Plan(
        identity={"teacher": "a"}, readouts=(cache.Readout(name="avg", dims=8, dtype="float16"),), keys=KEYS,
        labels=(-1,) * 256, classes=(), images="original", rows_per_shard=4, batch_size=4,
    )

    def rows(index):
        positions = np.array(plan.positions(index))
        rng = np.random.default_rng(index)
        images = [rng.bytes(25_000) for _ in positions]
        hashes = b"".join(cache.content_hash(image) for image in images)
        return cache.ShardRows(
            positions_N=positions, hashes_N16=np.frombuffer(hashes, np.uint8).reshape(-1, 16),
            features={"avg": rng.normal(size=(4, 8))}, images=images,
        )

    if __name__ == "__main__":
        with cache.StoreWriter(sys.argv[1], plan, provenance={}) as writer:
            for index in writer.pending():
                writer.write_shard(index, rows(index))
            writer.close()
    """
)


def manifest_of(path):
    return json.loads((path / "manifest.json").read_text())


def shard_files(path):
    return {file.name: file.read_bytes() for file in path.glob("shard-*.h5")}


def child(path, before=""):
    command = [sys.executable, "-W", "error", "-c", before + CHILD, str(path)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def finish(process):
    output, _ = process.communicate(timeout=60)
    return process.returncode, output


def test_kills_at_any_moment_leave_a_store_that_resumes_to_the_same_bytes(tmp_path):
    rng = random.Random(0)
    path, whole = tmp_path / "x.store", tmp_path / "whole.store"
    kills = 0
    while kills < 5:
        have = len(list(path.glob("shard-*.h5")))
        process = child(path)
        while process.poll() is None and len(list(path.glob("shard-*.h5"))) < have + 2:
            time.sleep(0.001)
        time.sleep(rng.random() * 0.005)
        process.send_signal(signal.SIGKILL)
        assert finish(process)[0] == -signal.SIGKILL
        kills += 1
        assert manifest_of(path)["state"] == "open"
        for file in path.glob("shard-*.h5"):
            with h5py.File(file) as shard:
                assert len(shard["features/avg"]) == 4
    assert finish(child(path)) == (0, "")
    assert finish(child(whole)) == (0, "")
    assert shard_files(path) == shard_files(whole)
    assert manifest_of(path)["identity"] == manifest_of(whole)["identity"]
    assert len(list(path.iterdir())) == 65


def test_a_full_disk_is_one_line_and_the_rerun_resumes(tmp_path):
    path = tmp_path / "x.store"
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, resource.RLIM_INFINITY))\n"
    code, output = finish(child(path, before=limit))
    assert code == 1
    last = output.splitlines()[-1]
    assert last.startswith("cache.errors.StoreWriteError: cannot write ")
    assert last.endswith("shard-00000.h5: File too large; free space and rerun the same command; it resumes.")
    assert [file.name for file in path.iterdir()] == ["manifest.json"]
    assert finish(child(path)) == (0, "")
    assert manifest_of(path)["state"] == "closed"
