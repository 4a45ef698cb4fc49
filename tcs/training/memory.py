"""The end of memory, said in a line that names the options which lower the need."""

import contextlib
from collections.abc import Iterator

import torch

from tcs.config.train import TrainConfig
from tcs.errors import ResourceError, either

# Of torch's allocator on a CPU (Windows, else), and of C++, which all come as RuntimeError.
CPU_SIGNS = ("not enough memory", "can't allocate memory", "bad_alloc")


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
