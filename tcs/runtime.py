"""Device, rank, environment facts, seeds by purpose, and what is said on stderr: by rank 0 only, bars on a terminal only.

Ctrl-C and SIGTERM as requests that a loop answers between two steps.
"""

import contextlib
import dataclasses
import datetime
import functools
import hashlib
import os
import pathlib
import platform
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from importlib import metadata
from typing import Any, Protocol

from tcs.errors import ConfigError

RATE_SECONDS = {"s": 1, "min": 60, "h": 3600}  # what rates are told by, the first that gives one unit or more


class StopRequest:
    """Set by a signal, read between steps, so that no step is ever left half done."""

    def __init__(self) -> None:
        self.signal: int | None = None

    @property
    def requested(self) -> bool:
        """Whether a signal has come."""
        return self.signal is not None

    def leave(self) -> None:
        """End the process's work the way the signal asked for."""
        if self.signal == signal.SIGINT:
            raise KeyboardInterrupt
        raise SystemExit(128 + int(self.signal or signal.SIGTERM))


@contextlib.contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """Turn Ctrl-C and SIGTERM into a request for the duration (main thread only: others never get signals)."""
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return

    def remember(number: int, _frame: object) -> None:
        request.signal = number

    before = {number: signal.signal(number, remember) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@dataclasses.dataclass(frozen=True)
class Place:
    """This process among those that torchrun started for one command; the defaults are for a process that is alone."""

    rank: int = 0
    local_rank: int = 0
    world_size: int = 1


def place() -> Place:
    """The place that RANK, LOCAL_RANK and WORLD_SIZE give, as torchrun sets them; ConfigError for what is none."""
    given = [os.environ.get(name, default) for name, default in (("RANK", "0"), ("WORLD_SIZE", "1"))]
    rank, world_size = (int(text) if text.isdecimal() else -1 for text in given)
    local = os.environ.get("LOCAL_RANK", str(rank))
    if not 0 <= rank < world_size or not local.isdecimal():
        raise ConfigError(
            f"RANK is '{given[0]}', LOCAL_RANK '{local}' and WORLD_SIZE '{given[1]}'; torchrun sets them to whole numbers, "
            "RANK below WORLD_SIZE, so start with torchrun or unset them."
        )
    return Place(rank, int(local), world_size)


def seed_for(seed: int, purpose: str, step: int = 0) -> int:
    """A 63-bit seed that is a pure function of (seed, purpose, step), so that no generator state has to be saved."""
    digest = hashlib.blake2b(f"{seed}\0{purpose}\0{step}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def pick_device(name: str) -> Any:
    """The torch device called `name`; ConfigError where it is absent. Under torchrun `cuda` is that of the local rank."""
    import torch

    here = place()
    if name == "cuda" and here.world_size > 1:
        name = f"cuda:{here.local_rank}"
    try:
        device = torch.device(name)
        torch.empty(1, device=device).cpu()  # back as well: the device `meta` holds no numbers
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0][:120]
        few = ", or no more ranks than there are GPUs" if here.world_size > 1 else ""
        raise ConfigError(
            f"--device is '{name}', which this machine cannot use ({reason}); use --device cpu{few}."
        ) from error
    return device


def environment() -> dict[str, Any]:
    """Versions, hardware and commit: provenance, recorded and never refused."""
    return {
        "python": platform.python_version(),
        "versions": dict(_versions()),
        "system": platform.platform(),
        "processor": _processor_name(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "commit": _commit(),
    }


@functools.cache
def _versions() -> dict[str, str]:
    versions = {}
    for package in (
        "torch",
        "timm",
        "numpy",
        "h5py",
        "faiss-gpu",
        "faiss-cpu",
        "scikit-learn",
        "pillow",
        "simplejpeg",
        "tcs-distill",
    ):
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[package] = metadata.version(package)
    return versions


@functools.cache
def _processor_name() -> str:
    with contextlib.suppress(OSError):
        for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


@functools.cache
def _commit() -> str | None:
    """The commit that this process has loaded, so asked once: what is checked out later is not what runs."""
    root = pathlib.Path(__file__).parent.parent
    if not (root / ".git").exists():
        return None
    try:
        result = subprocess.run(
            ["git", "-C", str(root), "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=False
        )
    except OSError:  # a checkout on a machine without git, as in a slim container
        return None
    return result.stdout.strip() or None


def resident_mib() -> float:
    """Resident memory of this process now, in MiB (0.0 where the system does not tell)."""
    with contextlib.suppress(OSError):
        pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20
    return 0.0


class Stopwatch:
    """The time that a part of the work takes, over many pieces of it."""

    def __init__(self) -> None:
        self._seconds, self._images = 0.0, 0

    @contextlib.contextmanager
    def images(self, count: int) -> Iterator[None]:
        """Time what is done to `count` images inside."""
        started = time.perf_counter()
        yield
        self._seconds += time.perf_counter() - started
        self._images += count

    @property
    def seconds_per_image(self) -> float:
        """The mean so far; 0.0 before the first image."""
        return self._seconds / max(1, self._images)


class Bar(Protocol):
    """What a stage needs of a progress bar."""

    def advance(self, amount: int, note: str = "") -> None:
        """Count `amount` more units; show `note` beside them."""


class ResumableBar(Bar, Protocol):
    """What a stage needs that may go on where an earlier process stopped."""

    def begin_at(self, done: int) -> None:
        """Start now, with `done` units of an earlier process: the bar shows them, its rate leaves them out."""


class Rate:
    """How fast units are done by this process: their number over the time since it began, whatever they come in."""

    def __init__(self, total: int, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` tells seconds."""
        self._total, self._clock = total, clock
        self.begin_at(0)

    def begin_at(self, done: int) -> None:
        """Count from now on, with `done` units there."""
        self._before, self._here, self._started = done, 0, self._clock()
        self._seconds_per_unit = 0.0

    def advance(self, amount: int) -> None:
        """Count `amount` more."""
        self._here += amount
        if self._here:
            self._seconds_per_unit = (self._clock() - self._started) / self._here

    def speed(self, unit: str) -> str:
        """Units a second; a minute or an hour where that is less than one. Empty before the first."""
        if not self._seconds_per_unit:
            return ""
        period = next((name for name, most in RATE_SECONDS.items() if self._seconds_per_unit <= most), "h")
        rate = RATE_SECONDS[period] / self._seconds_per_unit
        return f"{rate:,.0f} {unit}/{period}" if rate >= 10 else f"{rate:.1f} {unit}/{period}"

    def left(self) -> str:
        """The time that the rest takes at this rate, as h:mm:ss; `-:--:--` before the first unit."""
        if not self._seconds_per_unit:
            return "-:--:--"
        rest = max(0, self._total - self._before - self._here)
        return str(datetime.timedelta(seconds=round(rest * self._seconds_per_unit)))


class _SilentBar:
    """Off a terminal nothing is drawn."""

    def begin_at(self, done: int) -> None:
        """Nothing to draw."""

    def advance(self, amount: int, note: str = "") -> None:
        """Nothing to draw."""


class _RichBar:
    def __init__(self, progress: Any, task: Any, rate: Rate, unit: str) -> None:
        self._progress, self._task, self._rate, self._unit = progress, task, rate, unit

    def begin_at(self, done: int) -> None:
        """Draw the bar from `done` on."""
        self._rate.begin_at(done)
        self._progress.update(self._task, completed=done)

    def advance(self, amount: int, note: str = "") -> None:
        """Draw the bar `amount` units further."""
        self._rate.advance(amount)
        shown = {"speed": self._rate.speed(self._unit), "left": self._rate.left(), "note": note}
        self._progress.update(self._task, advance=amount, **shown)


@contextlib.contextmanager
def progress_bar(total: int, title: str, unit: str) -> Iterator[ResumableBar]:
    """A bar on stderr with units/s and time left; nothing where stderr is no terminal, or on ranks other than 0."""
    if not sys.stderr.isatty() or place().rank > 0:
        yield _SilentBar()
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    fields = [TextColumn(f"{{task.fields[{name}]}}") for name in ("speed", "left", "note")]
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), *fields)
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(title, total=total, speed="", left="", note="")
        yield _RichBar(progress, task, Rate(total), unit)


def readable_seconds(seconds: float) -> str:
    """Seconds, minutes or hours, whichever reads best."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def say(message: str) -> None:
    """One line for the person at the terminal, on stderr, so that stdout stays machine-readable; said by rank 0 only."""
    if place().rank > 0:
        return
    print(message, file=sys.stderr, flush=True)
