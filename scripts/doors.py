"""Damage every file that tcs writes and reads back, and open it by every command that reads it: one line an error, nothing hangs.

    python scripts/doors.py --cases 500 [--seed 0] [--part 1/10] [--tally FILE.csv] [--only config.json] [--json] [--verbose]

A case is one damage of one file, or a pipe in its place, and one command, in a process of its own with a limit of memory and of time. It
is fine where the command ends with 0, or with 1 and one line of error (tcs verify: and its list of faults). Counted as faults: a
traceback, an error that nobody foresaw (exit code 70), several lines, a crash, a hang. `changed` is no fault: the command ended with 0
and told something else than of the sound file, as it must where a number of the file was replaced by another that could be true. A case
is a function of (seed, number). `door_signals.py` stops commands that write.
"""

import collections
import contextlib
import io
import itertools
import os
import pathlib
import random
import re
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence

import numpy as np
import yaml
from door_mutations import mutations
from door_table import FOLDER, STUDENT, TRAIN, Door, doors
from door_tally import Asked, command_line

import cache

MEMORY_BYTES = 16 << 30
CLASSES = ("ant", "bee")
LISTED = re.compile(r": \d+ problems?; sound: [^\n]*\n\Z")
FINE = ("refused", "same", "changed")


def prepare(folder: pathlib.Path, seconds: int) -> None:
    """One sound specimen of every file, made by the commands themselves."""
    for name, seed in (("train", 0), ("test", 1)):
        _store(folder / f"{name}.store", seed)
    rows = cache.open(folder / "train.store").keys
    lines = [(key.partition("/")[0], key) for key in rows]
    (folder / "split.txt").write_text("".join(f"{name} {key}\n" for name, key in lines[:16]))
    (folder / "labels.csv").write_text("key,class\n" + "".join(f"{key},{name}\n" for name, key in lines[:16]))
    (folder / "recipe.yaml").write_text(yaml.safe_dump(RECIPE, sort_keys=False))
    for arguments in (
        ("fit", "train.store", "--components", "4", "--ceiling-shots", "2", "--out", "c.safetensors"),
        ("targets", "train.store", "c.safetensors", "--bits", "32", "--out", "t.h5"),
        ("train", "train.store", "--out", "run", *TRAIN),
        ("export", "run", "--to", "timm", "--out", "exported"),
        ("fewshot", "recipe.yaml", "--out", "grid"),
        (
            "probe",
            "train.store",
            "--test",
            "test.store",
            "--dims",
            "4",
            "--shots",
            "2",
            "--seed",
            "0",
            "--out",
            "probed",
        ),
    ):
        code, said = call(folder, arguments, seconds)
        assert code == 0, (arguments, said)
    code, _ = call(folder, ("train", "train.store", "--out", "half", *TRAIN), seconds, stops=True)
    assert code == STOPPED
    assert (folder / "half" / FOLDER / "resume.pt").exists()


RECIPE = {
    "train": "train.store",
    "test": "test.store",
    "students": [STUDENT],
    "methods": ["labels", "tcs-pool"],
    "shots": [2],
    "seeds": [0],
    "unlabelled": ["all"],
    "references": ["teacher-probe"],
    "options": {"img_size": 16, "steps": 1, "batch_size": 8},
    "latency": False,
}


def _store(path: pathlib.Path, seed: int) -> None:
    """32 images of two classes, with features that tell them apart."""
    from PIL import Image

    rng = np.random.default_rng(seed)
    labels = tuple(index % 2 for index in range(32))
    plan = cache.Plan(
        identity={"teacher": {"name": "made-up"}, "semantics": 1},
        readouts=(cache.Readout(name="avg", dims=8, dtype="float32"),),
        keys=tuple(f"{CLASSES[label]}/{seed}-{index}.png" for index, label in enumerate(labels)),
        labels=labels,
        classes=CLASSES,
        images="original",
        rows_per_shard=32,
        batch_size=8,
    )
    blobs = []
    for index, label in enumerate(labels):
        buffer = io.BytesIO()
        Image.fromarray(rng.integers(100 * label, 100 * label + 99, (16, 16, 3), np.uint8)).save(buffer, "PNG")
        blobs.append(buffer.getvalue())
        image = path.parent / "images" / plan.keys[index]
        image.parent.mkdir(parents=True, exist_ok=True)
        image.write_bytes(blobs[-1])
    hashes = np.stack([np.frombuffer(cache.content_hash(blob), np.uint8) for blob in blobs])
    features = rng.normal(size=(32, 8)) + 3 * np.array(labels)[:, None]
    with cache.StoreWriter(path, plan, provenance={}) as writer:
        writer.write_shard(
            0, cache.ShardRows(positions_N=np.arange(32), hashes_N16=hashes, features={"avg": features}, images=blobs)
        )
        writer.close()


STOPPED = 9


def call(folder: pathlib.Path, arguments: Sequence[str], seconds: int, stops: bool = False) -> tuple[int | None, str]:
    """(exit code, stdout and stderr) of a command in a child; None after `seconds`, minus the signal where it was killed.
    `stops`: the child ends as by a kill before the student's last files are written."""
    told = folder.parent / f"{folder.name}.told"
    child = os.fork()
    if not child:
        _run(folder, told, arguments, stops)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            code = os.waitstatus_to_exitcode(status)
            return code, told.read_text(errors="replace")
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None, told.read_text(errors="replace")


def _run(folder: pathlib.Path, told: pathlib.Path, arguments: Sequence[str], stops: bool) -> None:
    code = 99
    try:
        os.chdir(folder)
        tempfile.tempdir = str(folder)  # where reports of errors go
        with told.open("w") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
        from tcs.cli import main

        if stops:
            import tcs.training.stream

            vars(tcs.training.stream)["save_student"] = lambda *_: os._exit(STOPPED)
        with contextlib.suppress(SystemExit):
            try:
                main(list(arguments))
            except SystemExit as error:
                code = error.code if isinstance(error.code, int) else 0
                raise
    except BaseException as error:
        sys.stderr.write(f"Traceback: {type(error).__name__}: {error}")
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def verdict(code: int | None, said: str, sound: str) -> str:
    """One word for what a command did with a damaged file; `sound` is what it says of the sound one."""
    if code is None:
        return "hang"
    if code < 0:
        return "crash"
    if "Traceback" in said:
        return "traceback"
    if code == 70:
        return "unforeseen"
    if code == 1 and LISTED.search(said):  # tcs verify ends with 1 and no error
        return "refused"
    if code == 0:
        return "same" if _results(said) == _results(sound) else "changed"
    errors = [line for line in said.splitlines() if line.startswith("Error: ")]
    return "refused" if code in (1, 2) and len(errors) == 1 and said.rstrip().endswith(errors[0].rstrip()) else "untold"


def _results(said: str) -> str:
    """What is said on stdout, as far as it does not depend on the clock."""
    return "\n".join(line for line in said.splitlines() if line.startswith(("{", "[", "path,")))


def cases(folder: pathlib.Path, seed: int, only: str) -> Iterator[tuple[Door, str, bytes | None]]:
    """Damages of all doors in turn, without end."""
    chosen = [door for door in doors() if only in door.file]
    streams = [mutations(folder / door.file, random.Random(f"{seed} {number}")) for number, door in enumerate(chosen)]
    for turn in itertools.count():
        door = chosen[turn % len(chosen)]
        yield (door, *next(streams[turn % len(chosen)]))


def main() -> None:
    """The cases of damaged files."""
    command_line(__doc__ or "", "damages", run_cases, FINE, "files whose path holds this")


def _put(path: pathlib.Path, data: bytes | None) -> None:
    """Replace the file by one of these bytes, or by a pipe that nobody writes into."""
    path.unlink()
    if data is None:
        os.mkfifo(path)
    else:
        path.write_bytes(data)


# What commands import when they run: a child that imported it anew would take longer than its case
PRELOADED = (
    "torch._dynamo",  # of every optimiser, at its first step
    "timm",
    "tcs.training.train",
    "tcs.grid.run",
    "tcs.evaluation.students",
    "tcs.export.stage",
    "tcs.inference.prediction",
    "tcs.inference.latency",
    "tcs.coordinates.targets",
    "tcs.reporting.written",
    "tcs.reporting.run_page",
    "tcs.reporting.probe_page",
    "tcs.verifying.files",
    "tcs.verifying.folders",
    "tcs.verifying.verify",
)


def preload() -> None:
    """Import all that once, here, with one thread."""
    import torch
    from PIL import Image

    torch.set_num_threads(1)
    Image.init()
    for module in PRELOADED:
        __import__(module)


def run_cases(asked: Asked) -> dict[str, int]:
    """Verdict -> how many cases; the faults are told on stderr as they are found."""
    preload()
    tally: collections.Counter[str] = collections.Counter()
    with tempfile.TemporaryDirectory() as scratch:
        sound, work = pathlib.Path(scratch) / "sound", pathlib.Path(scratch) / "work"
        sound.mkdir()
        prepare(sound, asked.seconds)
        said_of: dict[Door, str] = {}
        stream = itertools.islice(cases(sound, asked.seed, asked.only), asked.first, asked.last)
        for number, (door, what, data) in enumerate(stream, asked.first):
            began = time.perf_counter()
            if door not in said_of:
                said_of[door] = _said_of_sound(door, sound, work, asked.seconds)
            found, last = _opened(door, data, sound, work, said_of[door], asked.seconds)
            tally[found] += 1
            if found not in FINE or asked.verbose:
                where = f"{door.file} ({what}) by {door.arguments[0]}, {time.perf_counter() - began:.1f} s"
                print(f"{number} {found}: {where}: {last}", file=sys.stderr, flush=True)
    return dict(tally)


def _said_of_sound(door: Door, sound: pathlib.Path, work: pathlib.Path, seconds: int) -> str:
    """What the command says of the sound file."""
    shutil.copytree(sound, work)
    code, said = call(work, door.arguments, seconds)
    assert code == 0, (door, said)
    shutil.rmtree(work)
    return said


def _opened(
    door: Door, data: bytes | None, sound: pathlib.Path, work: pathlib.Path, said_of_sound: str, seconds: int
) -> tuple[str, str]:
    """The verdict on the command with `data` in the place of the file, and the last line that it said."""
    shutil.copytree(sound, work)
    _put(work / door.file, data)
    code, said = call(work, door.arguments, seconds)
    shutil.rmtree(work)
    return verdict(code, said, said_of_sound), (said.strip().splitlines() or [""])[-1][:300]


if __name__ == "__main__":
    main()
