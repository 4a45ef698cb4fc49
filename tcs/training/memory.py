"""Memory: how much can be had now, and its end said in a line that names the options which lower the need."""

import contextlib
import os
import pathlib
from collections.abc import Iterator

import torch

from tcs.config.train import TrainConfig
from tcs.errors import ResourceError, either

PAGE_CACHE = ("total_inactive_file", "inactive_file")  # counted as used, and given up when asked for

# Of torch's allocator on a CPU (Windows, else), and of C++, which all come as RuntimeError.
CPU_SIGNS = ("not enough memory", "can't allocate memory", "bad_alloc")


def free_bytes(device: torch.device, root: pathlib.Path = pathlib.Path("/")) -> int:
    """Bytes that can be had on a device now.

    On a CPU the smallest of what the system calls available and what the control groups of this process leave (versions 1
    and 2), since a container sees the whole machine's memory. `root` is where /proc and /sys are. Without them, half of
    the physical memory.
    """
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    found = [*_available(root), *_left_to_groups(root)]
    return max(0, min(found)) if found else os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2


def _available(root: pathlib.Path) -> Iterator[int]:
    for line in _lines(root / "proc/meminfo"):
        if line.startswith("MemAvailable:"):
            yield int(line.split()[1]) * 1024


def _left_to_groups(root: pathlib.Path) -> Iterator[int]:
    """Limit minus use of every group above this process that has a limit; a limit of one holds for all below it."""
    for base, limit, used in _groups(root):
        limits, uses = _number(base / limit), _number(base / used)
        if limits is not None and uses is not None:
            yield limits - uses + _page_cache(base)


def _groups(root: pathlib.Path) -> Iterator[tuple[pathlib.Path, str, str]]:
    """Folders of the groups with the names of their files. In a container its own group is often mounted as the top one."""
    mounted = root / "sys/fs/cgroup"
    second, first = ("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes")
    yield mounted, *second
    yield mounted / "memory", *first
    for line in _lines(root / "proc/self/cgroup"):
        number, controllers, path = line.split(":", 2)
        top, names = (mounted, second) if number == "0" else (mounted / "memory", first)
        if number != "0" and "memory" not in controllers.split(","):
            continue
        for end in range(1, len(parts := pathlib.PurePosixPath(path.lstrip("/")).parts) + 1):
            yield top.joinpath(*parts[:end]), *names


def _page_cache(group: pathlib.Path) -> int:
    """Bytes of file pages that a group would give up before it runs out, 0 where it does not tell."""
    values = dict(line.split(maxsplit=1) for line in _lines(group / "memory.stat"))
    return next((int(values[name]) for name in PAGE_CACHE if name in values), 0)


def _number(path: pathlib.Path) -> int | None:
    """The whole number in a file; None for `max`, or without the file."""
    lines = _lines(path)
    return int(lines[0]) if lines and lines[0].strip().isdecimal() else None


def _lines(path: pathlib.Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []


@contextlib.contextmanager
def naming_memory(config: TrainConfig) -> Iterator[None]:
    """Turn what torch and Python raise when memory runs out into a ResourceError with the options to lower."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        known = isinstance(error, torch.OutOfMemoryError | MemoryError)
        if not known and not any(sign in str(error) for sign in CPU_SIGNS):
            raise
        raise ResourceError(_advice(config)) from error


def _advice(config: TrainConfig) -> str:
    advice = [
        f"a smaller --batch-size (now {config.batch_size})",
        "a larger --grad-accum-steps",
        "a smaller --img-size",
    ]
    if not config.optimiser.amp:
        advice.insert(2, "--amp")
    if len(config.models) > 1:
        advice.append(f"fewer --model at once (now {len(config.models)})")
    if config.resident_share > 0:
        advice.append("--resident-share 0")
    return f"--device {config.device} ran out of memory; use {either(advice)}."
