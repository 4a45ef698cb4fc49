"""Damage small stores at random and open them: whatever the bytes, the answer is a CacheError or a listed problem.

    python scripts/store_fuzz.py --cases 20000 --seed 0 [--json]

Each case runs in a child process with a limit of memory and of time, so that a crash or a hang inside libhdf5 is seen
and counted, not suffered. A case is a pure function of (seed, number): --first N --cases 1 repeats one.
"""

import argparse
import collections
import json
import os
import pathlib
import random
import resource
import signal
import sys
import tempfile
from typing import Any

import numpy as np

import cache

SECONDS_A_CASE = 10
MEMORY_BYTES = 4 << 30  # address space, what is mapped already included
PACKED = "x.h5"
METADATA_BYTES = 2048  # the part of a small shard that is HDF5's own, where most cases should hit


def make_store(path: pathlib.Path) -> None:
    """A store of seven rows in two shards, with labels, images and one input in quarantine; and packed, `x.h5` beside it."""
    keys = tuple(f"a/{i}.png" for i in range(8))
    plan = cache.Plan(
        identity={"teacher": "a"},
        readouts=(cache.Readout(name="avg", dims=4, dtype="float32"),),
        keys=keys,
        labels=(0,) * 8,
        classes=("a",),
        images="original",
        rows_per_shard=4,
        batch_size=4,
    )
    with cache.StoreWriter(path, plan, provenance={"config": {}}) as writer:
        for index in range(2):
            bad = [cache.Quarantined(position=7, key=keys[7], reason="cut")] if index else []
            positions = [position for position in plan.positions(index) if not bad or position != 7]
            images = [keys[position].encode() * 9 for position in positions]
            hashes = b"".join(cache.content_hash(image) for image in images)
            writer.write_shard(
                index,
                cache.ShardRows(
                    positions_N=np.array(positions),
                    hashes_N16=np.frombuffer(hashes, np.uint8).reshape(-1, 16),
                    features={"avg": np.random.default_rng(index).normal(size=(len(positions), 4))},
                    images=images,
                    quarantine=bad,
                ),
            )
        writer.close()
    cache.pack(path, path.parent / PACKED)


def damaged(data: bytes, rng: random.Random) -> bytes:
    """`data` with one kind of damage: flipped bits, other bytes, a cut, a hole, a doubled or moved piece."""
    found = bytearray(data)
    limit = min(len(data), METADATA_BYTES) if rng.random() < 0.7 else len(data)
    at = rng.randrange(limit)
    size = rng.choice((1, 2, 4, 8, 16, 64))
    kind = rng.choice(("bits", "bits", "bits", "bytes", "extreme", "cut", "hole", "double", "move"))
    if kind == "bits":
        for _ in range(rng.choice((1, 1, 1, 2, 8))):
            found[rng.randrange(limit)] ^= 1 << rng.randrange(8)
    elif kind == "bytes":
        found[at : at + size] = rng.randbytes(min(size, len(data) - at))
    elif kind == "extreme":
        found[at : at + size] = rng.choice((b"\xff", b"\0", b"\x80", b"\x7f")) * min(size, len(data) - at)
    elif kind == "cut":
        del found[at:]
    elif kind == "hole":
        del found[at : at + size]
    elif kind == "double":
        found[at:at] = found[at : at + size]
    else:
        to = rng.randrange(len(data))
        found[to : to + size] = data[at : at + size]
    return bytes(found)


def answer(store: pathlib.Path, changed: str | None) -> str:
    """What open, all reads and verify say to a damaged store: refused, opened, or, where they are wrong, a sentence."""
    try:
        opened = cache.open(store)
        np.asarray(opened.features())
        for row in range(len(opened)):
            opened.image_bytes(row)
        verdict = "opened"
    except cache.errors.CacheError as error:
        if "\n" in str(error):
            return f"an error of more than one line: {error}"
        verdict = "refused"
    except Exception as error:  # what is looked for
        return f"open raised {type(error).__name__}: {error}"
    try:
        found = cache.verify(store)
    except cache.errors.CacheError:
        return verdict
    except Exception as error:
        return f"verify raised {type(error).__name__}: {error}"
    if changed is not None and changed.startswith("shard") and found.is_sound:
        return "verify calls a changed shard sound"
    return verdict


def run_cases(store: pathlib.Path, numbers: list[int], seed: int, channel: int) -> None:
    """The child: damage, ask, restore, and write `number verdict` for each case; before it, the number alone."""
    soft = resource.getrlimit(resource.RLIMIT_AS)[1]
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, soft))
    packed = store.parent / PACKED
    whole = {path.name: path.read_bytes() for path in (*sorted(store.iterdir()), packed)}
    for number in numbers:
        rng = random.Random(f"{seed} {number}")
        name = rng.choice(list(whole))
        data = damaged(whole[name], rng)
        path = packed if name == PACKED else store / name
        path.write_bytes(data)
        os.write(channel, f"{number} {name}\n".encode())
        signal.alarm(SECONDS_A_CASE)
        verdict = answer(packed if name == PACKED else store, name if data != whole[name] else None)
        signal.alarm(0)
        path.write_bytes(whole[name])
        os.write(channel, f"{number} {name} {verdict!a}\n".encode())


def fuzz(cases: int, seed: int, first: int = 0) -> dict[str, Any]:
    """Run the cases; `failures` lists those that ended in a signal, a hang, another exception or a wrong answer."""
    counts: collections.Counter[str] = collections.Counter()
    failures, todo = [], list(range(first, first + cases))
    with tempfile.TemporaryDirectory() as folder:
        while todo:
            store = pathlib.Path(folder) / str(todo[0]) / "x.store"
            make_store(store)
            told, status = _in_child(store, todo, seed)
            for number, name, *verdict in told:
                if verdict and verdict[0] in ("'refused'", "'opened'"):
                    counts[verdict[0].strip("'")] += 1
                else:
                    ended = (
                        verdict[0] if verdict else f"ended by signal {os.WTERMSIG(status)}" if status else "no answer"
                    )
                    failures.append({"case": number, "file": name, "what": ended})
            todo = [number for number in todo if number > told[-1][0]] if told else []
    return {"cases": cases, "seed": seed, **counts, "failures": failures}


def _in_child(store: pathlib.Path, numbers: list[int], seed: int) -> tuple[list[Any], int]:
    """The last thing told of each case, and the wait status of the child."""
    reader, channel = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        run_cases(store, numbers, seed, channel)
        os._exit(0)
    os.close(channel)
    with os.fdopen(reader) as lines:
        told = {}
        for line in lines:
            number, name, *verdict = line.rstrip("\n").split(" ", 2)
            told[int(number)] = (int(number), name, *verdict)
    _, status = os.waitpid(child, 0)
    return list(told.values()), status


def main() -> None:
    """Run, print a line or JSON, and exit 1 where a case failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found = fuzz(options.cases, options.seed, options.first)
    print(json.dumps(found) if options.json else "\n".join(f"{name}\t{value}" for name, value in found.items()))
    sys.exit(1 if found["failures"] else 0)


if __name__ == "__main__":
    main()
