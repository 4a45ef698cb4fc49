"""What memory can be had: faked /proc and /sys of machines and containers."""

import pathlib

import pytest
import torch

import tcs.memory
from tcs.memory import free_bytes, group_limit
from tcs.training import images

CPU = torch.device("cpu")
GIB = 1 << 30


def write(root: pathlib.Path, **files: str) -> None:
    for name, text in files.items():
        path = root / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def machine(root: pathlib.Path, available: int = 64 * GIB, groups: str = "0::/\n") -> pathlib.Path:
    write(root, proc__meminfo=f"MemTotal: 99 kB\nMemAvailableX: 1 kB\nMemAvailable:  {available >> 10} kB\n")
    write(root, proc__self__cgroup=groups)
    return root


def limit(folder: pathlib.Path, most: int | str, used: int, cached: int = 0, version: int = 2) -> None:
    names = ("memory.max", "memory.current") if version == 2 else ("memory.limit_in_bytes", "memory.usage_in_bytes")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / names[0]).write_text(f"{most}\n")
    (folder / names[1]).write_text(f"{used}\n")
    cache = "inactive_file" if version == 2 else "total_inactive_file"
    (folder / "memory.stat").write_text(f"anon 5\n{cache} {cached}\nslab 7\n")


def test_a_machine_without_groups_tells_what_is_available(tmp_path: pathlib.Path) -> None:
    assert free_bytes(CPU, machine(tmp_path, 10 * GIB)) == 10 * GIB


@pytest.mark.parametrize("version", [1, 2])
def test_a_container_sees_the_machine_and_has_the_limit_of_its_group(tmp_path: pathlib.Path, version: int) -> None:
    top = machine(tmp_path) / "sys/fs/cgroup" / ("" if version == 2 else "memory")
    limit(top, 8 * GIB, 5 * GIB, cached=GIB, version=version)
    assert free_bytes(CPU, tmp_path) == 4 * GIB
    limit(top, 8 * GIB, 9 * GIB, version=version)
    assert free_bytes(CPU, tmp_path) == 0


@pytest.mark.parametrize(("version", "line"), [(1, "5:cpu,memory:/user/job"), (2, "0::/user/job")])
def test_the_tightest_group_above_the_process_counts(tmp_path: pathlib.Path, version: int, line: str) -> None:
    top = machine(tmp_path, groups=f"7:pids:/other\n{line}\n") / "sys/fs/cgroup" / ("" if version == 2 else "memory")
    limit(top / "other", GIB, 0, version=version)
    limit(top / "user", 6 * GIB, 4 * GIB, version=version)
    limit(top / "user/job", 9 * GIB, GIB, version=version)
    assert free_bytes(CPU, tmp_path) == 2 * GIB


def test_a_group_without_a_limit_and_a_limit_above_the_machine_change_nothing(tmp_path: pathlib.Path) -> None:
    top = machine(tmp_path, 3 * GIB) / "sys/fs/cgroup"
    limit(top, "max", 5 * GIB)
    assert free_bytes(CPU, tmp_path) == 3 * GIB
    limit(top / "memory", 0x7FFFFFFFFFFFF000, GIB, version=1)
    assert free_bytes(CPU, tmp_path) == 3 * GIB


@pytest.mark.parametrize(("version", "line"), [(1, "5:cpu,memory:/user/job"), (2, "0::/user/job")])
def test_the_limit_is_that_of_the_tightest_group_whatever_is_used(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, version: int, line: str
) -> None:
    monkeypatch.setattr(tcs.memory, "machine_bytes", lambda: 64 * GIB)
    top = machine(tmp_path, 3 * GIB, groups=f"{line}\n") / "sys/fs/cgroup" / ("" if version == 2 else "memory")
    assert group_limit(tmp_path) is None
    limit(top, "max" if version == 2 else 0x7FFFFFFFFFFFF000, 5 * GIB, version=version)
    limit(top / "user", 64 * GIB, 0, version=version)
    assert group_limit(tmp_path) is None
    limit(top / "user", 8 * GIB, 7 * GIB, version=version)
    limit(top / "user/job", 9 * GIB, GIB, version=version)
    assert group_limit(tmp_path) == 8 * GIB


def test_without_either_it_is_half_of_the_memory(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tcs.memory.os, "sysconf", {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 1000}.__getitem__)
    assert free_bytes(CPU, tmp_path) == 4096 * 500


def test_the_memory_of_a_gpu_is_asked_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (7 * GIB + device.index, 80 * GIB))
    assert free_bytes(torch.device("cuda:1")) == 7 * GIB + 1


def test_images_must_fit_the_share_of_the_gpu_and_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    free = {"cpu": 3000, "cuda": 6000}
    monkeypatch.setattr(images, "free_bytes", lambda device: free[device.type])
    pixels = {"rows": 10, "size": 10}  # 3,000 bytes
    assert images.fits(**pixels, device=CPU, share=1.0)
    assert not images.fits(**pixels, device=CPU, share=0.99)
    assert not images.fits(**pixels, device=CPU, share=0.0)
    assert not images.fits(**pixels, device=torch.device("cuda"), share=0.6)
    free["cpu"] = 5000
    assert images.fits(**pixels, device=torch.device("cuda"), share=0.6)
    assert not images.fits(**pixels, device=torch.device("cuda"), share=0.49)
