"""All checks of `tcs doctor`, in order. One that breaks is a finding itself, and the others go on."""

import pathlib
from collections.abc import Callable, Iterable

from tcs.config.plain import AnyPath, given_path
from tcs.doctor.finding import ERROR, WARNING, Finding
from tcs.doctor.folder import check_disk, check_locking, check_names
from tcs.doctor.libraries import check_decoder, check_faiss, check_hdf5, check_timm
from tcs.doctor.machine import check_cores, check_memory, check_torch
from tcs.doctor.packages import check_faiss_build, check_packages, check_python
from tcs.errors import ConfigError

Check = Callable[[], Finding | Iterable[Finding]]


def diagnose(folder: AnyPath = ".", network: bool = False) -> list[Finding]:
    """What `tcs doctor` finds: Python, packages, torch, faiss, timm, the decoder, memory, and the `folder` that stores shall go to.

    Nothing is asked of the network without `network`. ConfigError where `folder` is none that can be written to.
    """
    place = given_path("folder", folder)
    _require_writable(place)
    checks: dict[str, Check] = {
        "python": check_python,
        "packages": check_packages,
        "faiss": check_faiss_build,
        "faiss runs": check_faiss,
        "gpu": check_torch,
        "timm runs": check_timm,
        "decoder": check_decoder,
        "cores": check_cores,
        "memory": check_memory,
        "hdf5": lambda: check_hdf5(place),
        "disk": lambda: check_disk(place),
        "locking": lambda: check_locking(place),
        "names": lambda: check_names(pathlib.Path.cwd()),
    }
    if network:
        checks["hub"] = check_hub
    return [finding for name, check in checks.items() for finding in _findings(name, check)]


def check_hub() -> Finding:
    """Whether the Hugging Face Hub takes a connection."""
    import huggingface_hub.constants

    from tcs.hub import hub_answers

    endpoint = huggingface_hub.constants.ENDPOINT
    if huggingface_hub.constants.HF_HUB_OFFLINE:
        remedy = "unset HF_HUB_OFFLINE, or give teachers by --teacher-checkpoint"
        return Finding(name="hub", level=WARNING, text="HF_HUB_OFFLINE is set: nothing is downloaded", remedy=remedy)
    if hub_answers():
        return Finding(name="hub", text=f"{endpoint} answers")
    return Finding(
        name="hub",
        level=WARNING,
        text=f"{endpoint} does not answer",
        remedy="look at HF_ENDPOINT and the proxy, or give teachers by --teacher-checkpoint",
    )


def _findings(name: str, check: Check) -> list[Finding]:
    try:
        found = check()
        return [found] if isinstance(found, Finding) else list(found)
    except Exception as error:  # a library that does not even import, for one
        lines = str(error).strip().splitlines() or [type(error).__name__]
        remedy = "install it again: pip install --force-reinstall tcs-distill"
        return [Finding(name=name, level=ERROR, text=f"{type(error).__name__}: {lines[0][:160]}", remedy=remedy)]


def _require_writable(folder: pathlib.Path) -> None:
    if not folder.is_dir():
        raise ConfigError(f"{folder} is no folder; name the one that stores and runs shall go to.")
    probe = folder / ".tcs-doctor-probe"
    try:
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        raise ConfigError(f"{folder} cannot be written to ({error.strerror or error}); name another folder.") from error
