"""What is drawn inside a step: by dropout, drop-path and a few optimisers."""

import contextlib
from collections.abc import Iterator

import torch


@contextlib.contextmanager
def own_randomness(seed: int, device: torch.device) -> Iterator[None]:
    """Dropout, drop-path and optimisers draw from the student's own seed, and the process's generators stay as they were."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else [], device_type="cuda"):
        torch.manual_seed(seed)
        yield
