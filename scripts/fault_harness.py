"""Kill, starve and confuse every operation that writes a store; check that it is never unreadable and never wrong.

    python scripts/fault_harness.py --kills 200 [--teacher] [--fuzz 20000] [--out DIR] [--json]

`--kills` is per operation, by SIGKILL: half of them after a random time, half at a random one of the moments at which the
process opens, locks, renames or removes a file. After each kill every file that is there is verified and compared with
an undisturbed run's; then the operation runs again. `--teacher` adds tcs extract and tcs cache repair (they need torch).
`--out` keeps the folders of what failed. The operations are in fault_operations.py, the places in fault_places.py.
"""

import argparse
import contextlib
import importlib
import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from typing import Any

from fault_operations import OPERATIONS, WITH_TEACHER, Operation
from fault_places import PLACES, PLACES_WITH_TEACHER, SkippedError

import cache
from cache.errors import CacheError

MOMENTS = ("open", "os.rename", "os.remove", "os.mkdir", "fcntl.flock")
GO_ON = 0.8  # how often the next kill strikes the resumed run rather than a new one


def fork(
    folder: pathlib.Path,
    run: Callable[[], object],
    moment: int | None = None,
    channel: int | None = None,
    number: int = signal.SIGKILL,
) -> int:
    """A child that runs `run` in `folder` and exits 0; at the `moment`-th moment it sends itself the signal `number`, or tells how many
    moments there were. A SystemExit of `run` is its exit code."""
    child = os.fork()
    if child:
        return child
    seen = 0

    def watch(event: str, _: tuple[Any, ...]) -> None:
        nonlocal seen
        if event in MOMENTS:
            seen += 1
            if seen == moment:
                os.kill(os.getpid(), number)

    code = 1
    try:
        os.chdir(folder)
        with pathlib.Path("stderr.txt").open("w") as told:
            os.dup2(told.fileno(), 2)
        sys.addaudithook(watch)
        run()
        code = 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 0
    except BaseException as error:
        sys.stderr.write(f"{type(error).__name__}: {error}")
        sys.stderr.flush()
    finally:
        if channel is not None and code == 0:
            os.write(channel, str(seen).encode())
        os._exit(code)


def ended(child: int, folder: pathlib.Path) -> bool:
    """Wait for the child: True where it was killed, False where it was done. AssertionError where it failed."""
    status = os.waitpid(child, 0)[1]
    told = (folder / "stderr.txt").read_text() if status and not os.WIFSIGNALED(status) else ""
    assert status == 0 or os.WIFSIGNALED(status), f"it failed: {told}"
    return status != 0


def state_of(path: pathlib.Path) -> dict[str, Any]:
    """What must be equal at the end: the bytes of the data files, and of the manifest what does not tell of the run."""
    if path.is_file():
        return {path.name: path.read_bytes()}
    manifest = json.loads((path / "manifest.json").read_text())
    told = ("state", "identity", "shards", "quarantine", "gate", "labels", "plan")
    kept = {name: manifest[name] for name in told if name in manifest}
    return {**kept, **{file.name: file.read_bytes() for file in path.glob("shard-*.h5")}}


def require_never_wrong(path: pathlib.Path, whole: Mapping[str, Any], mends: bool) -> None:
    """Raise AssertionError unless all that stands at `path` is readable, whole, and equal to the undisturbed run's."""
    if path.is_file():
        assert path.read_bytes() == whole[path.name], "a packed store of other bytes"
        return
    try:
        found = cache.verify(path)
    except cache.errors.StoreNotFoundError:
        return  # killed before its manifest stood
    assert found.state in ("open", "closed"), found.problems
    bad = found.bad_shards if mends else ()
    assert mends or not found.problems, found.problems
    for file in path.glob("shard-*.h5"):
        assert file.name in bad or file.read_bytes() == whole[file.name], f"{file.name} has other bytes"
    try:
        cache.open(path)
    except cache.errors.IncompleteStoreError:
        assert found.state == "open"
    except CacheError:
        assert bad, "a store without problems cannot be opened"


def require_either(
    operation: Operation, path: pathlib.Path, before: Mapping[str, Any], whole: Mapping[str, Any]
) -> None:
    """Raise AssertionError unless the store at `path` is the former or the new one, whole; or, between two renames, not there."""
    if operation.at_once or path.exists():
        assert path.exists(), "neither the former store nor the new one has the name"
        assert cache.verify(path).is_sound, "the store is not sound"
        assert {**state_of(path), "gate": None} in ({**before, "gate": None}, {**whole, "gate": None}), "a third store"


def finish(operation: Operation, work: pathlib.Path, whole: Mapping[str, Any]) -> None:
    """Run the operation to its end and compare everything with the undisturbed run."""
    ended(fork(work, operation.run), work)
    assert state_of(work / operation.out) == whole, "the finished store differs from the undisturbed one"
    assert cache.verify(work / operation.out).is_sound
    left = [path.name for path in (work / operation.out).parent.rglob("*.partial")]
    assert not left, f"{left} are left behind"


def kill_often(operation: Operation, kills: int, folder: pathlib.Path, rng: random.Random) -> dict[str, Any]:
    """Kill the operation until `kills` have hit it, letting it finish in between; AssertionError on any failure."""
    start, undisturbed, work = folder / "start", folder / "undisturbed", folder / "work"
    start.mkdir()
    assert not ended(fork(start, operation.prepare), start)
    shutil.copytree(start, undisturbed)
    reader, writer = os.pipe()
    began = time.perf_counter()
    assert not ended(fork(undisturbed, operation.run, channel=writer), undisturbed)
    seconds, moments = time.perf_counter() - began, int(os.read(reader, 20))
    os.close(reader)
    os.close(writer)
    whole = state_of(undisturbed / operation.out)
    before = state_of(start / operation.out) if operation.replaces else {}
    shutil.copytree(start, work)
    hits = finished = 0
    while hits < kills:
        moment = rng.randint(1, moments) if rng.random() < 0.5 else None
        child = fork(work, operation.run, moment)
        if moment is None:
            time.sleep(rng.random() * seconds)
            os.kill(child, signal.SIGKILL)
        if ended(child, work):
            hits += 1
            if operation.replaces:
                require_either(operation, work / operation.out, before, whole)
            else:
                require_never_wrong(work / operation.out, whole, operation.mends)
            if rng.random() < GO_ON and hits < kills:
                continue
        finish(operation, work, whole)
        finished += 1
        shutil.rmtree(work)
        shutil.copytree(start, work)
    return {"kills": hits, "moments": moments, "finished": finished, "result": "ok"}


def scenario(run: Callable[[pathlib.Path], dict[str, Any]], folder: pathlib.Path) -> dict[str, Any]:
    """The result of one scenario in a folder of its own, which is removed unless it failed."""
    folder.mkdir(parents=True)
    began = time.perf_counter()
    try:
        found = run(folder)
    except SkippedError as reason:
        found = {"result": f"skipped: {reason}"}
    except AssertionError as error:
        return {"result": f"FAILED: {error}", "folder": str(folder)}
    shutil.rmtree(folder)
    return {**found, "seconds": round(time.perf_counter() - began, 1)}


def run_all(options: argparse.Namespace, folder: pathlib.Path) -> dict[str, dict[str, Any]]:
    """Every scenario by name."""
    if options.teacher:  # once, here: a child that imported torch anew would be killed in the imports
        importlib.import_module("tcs.maintenance.repair")
        importlib.import_module("tcs.maintenance.update")
    operations = {**OPERATIONS, **(WITH_TEACHER if options.teacher else {})}
    places = {**PLACES, **(PLACES_WITH_TEACHER if options.teacher else {})}
    results = {}
    for number, (name, operation) in enumerate(operations.items()):
        rng = random.Random(f"{options.seed} {name}")
        results[f"kill: {name}"] = scenario(
            lambda place, o=operation, r=rng: kill_often(o, options.kills, place, r),  # type: ignore[misc]
            folder / f"kill-{number}",
        )
    for number, (name, place) in enumerate(places.items()):
        results[name] = scenario(lambda here, p=place: p(here) or {"result": "ok"}, folder / f"place-{number}")  # type: ignore[misc]
    if options.fuzz:
        results["random damage"] = fuzz(options.fuzz, options.seed)
    return results


def fuzz(cases: int, seed: int) -> dict[str, Any]:
    """store_fuzz.py as a process of its own."""
    script = pathlib.Path(__file__).with_name("store_fuzz.py")
    command = [sys.executable, str(script), "--cases", str(cases), "--seed", str(seed), "--json"]
    run = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    found = json.loads(run.stdout)
    return {**found, "result": "FAILED" if found["failures"] else "ok"}


def main() -> None:
    """Run, print a table or JSON, and exit 1 where a scenario failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20, help="per operation")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--teacher", action="store_true")
    parser.add_argument("--fuzz", type=int, default=0, help="cases of random damage")
    parser.add_argument("--out", help="a new folder to work in, kept")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        folder = options.out or stack.enter_context(tempfile.TemporaryDirectory())
        results = run_all(options, pathlib.Path(folder).resolve())
    if options.json:
        print(json.dumps(results))
    else:
        for name, found in results.items():
            print(f"{name:30} {', '.join(f'{key} {value}' for key, value in found.items())}")
    sys.exit(1 if any(found["result"].startswith("FAILED") for found in results.values()) else 0)


if __name__ == "__main__":
    main()
