"""Memory of this process: how much there is, and how much can be had now.

A container sees the whole machine's memory, and is ended where it takes more than its control group may; so the groups are read too
(versions 1 and 2). `root` is where /proc and /sys are.
"""

import os
import pathlib
from collections.abc import Iterator

import torch

PAGE_CACHE = ("total_inactive_file", "inactive_file")  # counted as used, and given up when asked for
ROOT = pathlib.Path("/")


def machine_bytes() -> int:
    """The physical memory of the machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def group_limit(root: pathlib.Path = ROOT) -> int | None:
    """The tightest limit of the control groups above this process, in bytes; None where they allow all that the machine has."""
    limits = [limit for base, name, _ in _groups(root) if (limit := _number(base / name)) is not None]
    return min((limit for limit in limits if limit < machine_bytes()), default=None)


def free_bytes(device: torch.device, root: pathlib.Path = ROOT) -> int:
    """Bytes that can be had on a device now.

    On a CPU the smallest of what the system calls available and what the control groups of this process leave. Without either, half
    of the physical memory.
    """
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    found = [*_available(root), *_left_to_groups(root)]
    return max(0, min(found)) if found else machine_bytes() // 2


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
