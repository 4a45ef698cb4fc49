"""The processor, the memory, and the GPU as torch sees it."""

import os
import pathlib

from tcs.doctor.finding import ERROR, WARNING, Finding, gib

LEAST_FREE_BYTES = 2 * 2**30
DRIVER = pathlib.Path("/proc/driver/nvidia/version")


def check_memory() -> Finding:
    """What can be had now, of the machine or of the control group, whichever is less."""
    import torch

    from tcs.memory import free_bytes, group_limit, machine_bytes

    free, limit = free_bytes(torch.device("cpu")), group_limit()
    text = f"{gib(free)} free of {gib(machine_bytes())}"
    if limit is not None:
        text += f", limited to {gib(limit)} by a control group"
    if free < LEAST_FREE_BYTES:
        remedy = "end other programs, raise the limit, or train with a smaller --batch-size and --resident-share"
        return Finding(name="memory", level=WARNING, text=text, remedy=remedy)
    return Finding(name="memory", text=text)


def check_cores() -> Finding:
    """Cores that this process may use."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = os.environ.get("OMP_NUM_THREADS")
    return Finding(name="cores", text=f"{cores}" + (f", OMP_NUM_THREADS={threads}" if threads else ""))


def check_torch() -> Finding:
    """torch runs, on the GPU where there is one."""
    import torch
    import torch.backends.mps
    import torch.version

    built = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "built for the CPU"
    if torch.cuda.is_available():
        return _gpu(built)
    if DRIVER.exists():
        remedy = (
            f"install the torch for this driver ({_driver()}) from pytorch.org, and look at CUDA_VISIBLE_DEVICES "
            f"({os.environ.get('CUDA_VISIBLE_DEVICES', 'not set')})"
        )
        return Finding(
            name="gpu",
            level=WARNING,
            text=f"an NVIDIA driver is here, and torch ({built}) cannot use it",
            remedy=remedy,
        )
    if torch.backends.mps.is_available():
        return Finding(name="gpu", text="Apple's, by --device mps")
    return Finding(name="gpu", text=f"none: torch ({built}) runs on the CPU")


def _gpu(built: str) -> Finding:
    """A matrix product on every GPU, compared with the CPU's."""
    import torch

    names = []
    for number in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(number)
        names.append(f"{torch.cuda.get_device_name(number)} ({gib(free)} free of {gib(total)})")
        values = torch.arange(256.0).view(16, 16)
        try:
            there = values.to(f"cuda:{number}")
            agrees = torch.allclose((there @ there).cpu(), values @ values)
        except (RuntimeError, AssertionError) as error:  # no kernel image for this device, for one
            remedy = "install a torch that knows this GPU from pytorch.org"
            return Finding(
                name="gpu", level=ERROR, text=f"{names[-1]}: {str(error).splitlines()[0][:120]}", remedy=remedy
            )
        if not agrees:
            return Finding(
                name="gpu",
                level=ERROR,
                text=f"{names[-1]} computes wrongly",
                remedy="use --device cpu, and test the GPU",
            )
    return Finding(name="gpu", text=f"{', '.join(names)}; torch {built}, driver {_driver()}")


def _driver() -> str:
    """The NVIDIA driver's version, as the kernel module tells it."""
    try:
        words = DRIVER.read_text().splitlines()[0].split()
    except (OSError, IndexError):
        return "unknown"
    return next((word for word in words if word[:1].isdigit() and "." in word), "unknown")
