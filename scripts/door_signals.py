"""Stop every command that writes by SIGINT, SIGTERM or SIGKILL at a random moment, run it again, and compare with the undisturbed result.

    python scripts/door_signals.py --cases 200 [--seed 0] [--part 1/10] [--tally FILE.csv] [--only fit] [--json] [--verbose]

A case is one command and one signal, after a random time or at a random one of the moments at which the process opens, renames or
removes a file. It is fine where the command ends in time without a traceback, and the same command run again ends with 0 and leaves
what the undisturbed run leaves, bit for bit but for fields that say when and how fast it ran. `leftover`: a `*.partial` of the
stopped run is still there; `unsound`: the command failed, or left other files in a second run, though nobody stopped it. A case is a
function of (seed, number); times are not.
"""

import collections
import dataclasses
import os
import pathlib
import random
import shutil
import signal
import sys
import tempfile
import time
from typing import Any

from door_calls import preload
from door_specimens import prepare, prepare_more
from door_tally import Asked, command_line
from door_writers import WRITERS, Writer, state_of
from fault_harness import fork

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)
STOPPED = {signal.SIGINT: (130,), signal.SIGTERM: (143, -signal.SIGTERM), signal.SIGKILL: (-signal.SIGKILL,)}
FINE = ("same", "finished")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Undisturbed:
    """What a command leaves, and how many seconds and moments it takes."""

    state: dict[str, Any]
    seconds: float
    moments: int


def run_writer(arguments: tuple[str, ...]) -> None:
    """The command, in the current folder; its exit code as SystemExit."""
    from tcs.cli import main

    sys.stdout.flush()
    with pathlib.Path("told").open("w") as told:
        os.dup2(told.fileno(), 1)
    tempfile.tempdir = str(pathlib.Path.cwd())
    main(list(arguments))


def undisturbed(writer: Writer, sound: pathlib.Path, work: pathlib.Path, limit: int) -> Undisturbed:
    """The command in a copy of `sound`, twice: AssertionError where two runs that nobody stopped differ."""
    states, seconds, moments = [], 0.0, 0
    for _ in range(2):
        shutil.copytree(sound, work)
        reader, channel = os.pipe()
        began = time.perf_counter()
        code = waited(fork(work, lambda: run_writer(writer.arguments), channel=channel), limit)
        seconds = time.perf_counter() - began
        os.close(channel)
        moments = int(os.read(reader, 20) or b"1")
        os.close(reader)
        assert code == 0, (writer.arguments, _said(work))
        states.append(state_of(work, writer.outputs))
        shutil.rmtree(work)
    odd = [name for name in states[0] if states[0][name] != states[1].get(name)]
    assert not odd, (writer.arguments, "differ between two runs", odd)
    assert states[0], writer.arguments
    return Undisturbed(state=states[0], seconds=seconds, moments=moments)


def waited(child: int, seconds: float) -> int | None:
    """The exit code of the child, minus the signal where it died of one; None where it was still there after `seconds`."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


def strike(
    writer: Writer, work: pathlib.Path, whole: Undisturbed, chance: random.Random, limit: int
) -> tuple[str, str]:
    """(verdict, what was done in words) of one case in the folder `work`."""
    number, by_moment = chance.choice(SIGNALS), chance.random() < 0.5
    moment = chance.randint(1, whole.moments) if by_moment else None
    delay = chance.random() * whole.seconds
    child = fork(work, lambda: run_writer(writer.arguments), moment, number=number)
    if moment is None:
        time.sleep(delay)
        os.kill(child, number)
    code = waited(child, limit)
    what = f"{signal.Signals(number).name} {f'at moment {moment}' if by_moment else f'after {delay:.2f} s'}"
    said = _said(work)
    if code is None:
        return "hang", what
    if "Traceback" in said:
        return "traceback", f"{what}: {said.strip().splitlines()[-1][:200]}"
    if code not in (0, *STOPPED[number]):
        return "untold", f"{what}: exit code {code}: {said.strip()[-200:]}"
    return judged(writer, work, whole, what, limit, finished=code == 0)


def _said(work: pathlib.Path) -> str:
    """What the last command said on stderr: nothing where it was stopped before it had one."""
    path = work / "stderr.txt"
    return path.read_text(errors="replace") if path.exists() else ""


def judged(
    writer: Writer, work: pathlib.Path, whole: Undisturbed, what: str, limit: int, *, finished: bool
) -> tuple[str, str]:
    """The verdict after the same command was run again."""
    again = waited(fork(work, lambda: run_writer(writer.arguments)), limit)
    if again != 0:
        said = _said(work).strip()
        return "no rerun", f"{what}, then exit code {again}: {said[-300:]}"
    state = state_of(work, writer.outputs)
    odd = sorted(name for name in state.keys() | whole.state.keys() if state.get(name) != whole.state.get(name))
    if odd:
        return "differs", f"{what}: {', '.join(odd[:4])}"
    left = [path for output in writer.outputs for path in (work / output).parent.rglob("*.partial")]
    return ("leftover" if left else "finished" if finished else "same"), what


def run_cases(asked: Asked) -> dict[str, int]:
    """Verdict -> how many cases; the faults are told on stderr as they are found."""
    preload()
    for module in (
        "tcs.extraction.extract",
        "tcs.maintenance.update",
        "tcs.pipeline.chain",
        "tcs.looking.run",
        "tcs.evaluation.probe",
    ):
        __import__(module)
    names = [name for name in WRITERS if asked.only in name]
    tally: collections.Counter[str] = collections.Counter()
    with tempfile.TemporaryDirectory() as scratch:
        sound, work = pathlib.Path(scratch) / "sound", pathlib.Path(scratch) / "work"
        sound.mkdir()
        prepare(sound, asked.seconds)
        prepare_more(sound, asked.seconds)
        known: dict[str, Undisturbed | None] = {}
        for case in range(asked.first, asked.last):
            name = names[case % len(names)]
            writer = WRITERS[name]
            if name not in known:
                known[name] = _undisturbed_or_told(writer, sound, work, asked.seconds)
            whole = known[name]
            if whole is None:
                tally["unsound"] += 1
                continue
            shutil.copytree(sound, work)
            found, what = strike(writer, work, whole, random.Random(f"{asked.seed} {case}"), asked.seconds)
            shutil.rmtree(work)
            tally[found] += 1
            if found not in FINE or asked.verbose:
                print(f"{case} {found}: {name}, {what}", file=sys.stderr, flush=True)
    return dict(tally)


def _undisturbed_or_told(writer: Writer, sound: pathlib.Path, work: pathlib.Path, limit: int) -> Undisturbed | None:
    """None, and a line, where the command fails though nobody stops it, or leaves something else each time."""
    try:
        return undisturbed(writer, sound, work, limit)
    except AssertionError as error:
        print(f"unsound: {str(error)[-600:]}", file=sys.stderr, flush=True)
        shutil.rmtree(work, ignore_errors=True)
        return None


def main() -> None:
    """The cases of stopped commands."""
    command_line(__doc__ or "", "signals", run_cases, FINE, "commands whose name holds this")


if __name__ == "__main__":
    main()
