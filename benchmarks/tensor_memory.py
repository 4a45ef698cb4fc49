"""Peak bytes of the tensors that a piece of code works with, on a CPU, where torch keeps no such count.

    python -P benchmarks/tensor_memory.py OUT.json DEVICE SCRIPT ARGUMENTS ...

Every torch operation shows its inputs and results to a dispatch mode, which counts each storage once, from the first
operation that touches it until it is freed: parameters, buffers, gradients, optimiser state, what autograd saved, and the
temporaries between operations, a frozen teacher's included. Not counted: scratch space inside one operation, batches that
wait in a loader, numpy arrays, the interpreter. Resident memory would count those too, but also what the allocator keeps
and what earlier contestants left behind. On CUDA the count is torch's own, `max_memory_allocated`.

As a script it runs another program (a rival's command line, in that rival's environment) under the same count. Nothing but
torch and the standard library is imported here, so any environment with torch will do.
"""

import argparse
import json
import pathlib
import runpy
import sys
import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

MIB = 2**20


class PeakTensors(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """While entered, follows the bytes of live storages; `peak_bytes` is their most so far, `image_bytes` the share of uint8
    then: decoded images that a loop holds, and packed bits."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.peak_bytes = self.image_bytes = 0
        self._live: dict[int, tuple[int, bool]] = {}
        self._bytes = {False: 0, True: 0}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run the operation, then look at all tensors that went in or came out."""
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves((args, kwargs, result)):
            if isinstance(leaf, torch.Tensor) and leaf.layout == torch.strided:
                self._see(leaf)
        total = self._bytes[False] + self._bytes[True]
        if total > self.peak_bytes:
            self.peak_bytes, self.image_bytes = total, self._bytes[True]
        return result

    def _see(self, tensor: torch.Tensor) -> None:
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        known = self._live.get(key)
        if known is None:
            # torch keeps a storage's Python object until the memory itself goes, also while only autograd holds it
            weakref.finalize(storage, self._forget, key).atexit = False
        elif known[0] == size:
            return
        else:  # resized in place
            self._bytes[known[1]] -= known[0]
        image = tensor.dtype == torch.uint8 if known is None else known[1]
        self._live[key] = size, image
        self._bytes[image] += size

    def _forget(self, key: int) -> None:
        size, image = self._live.pop(key)
        self._bytes[image] -= size


def peak_bytes(device: str, run: Callable[[], object]) -> tuple[int, int]:
    """(peak bytes, those of uint8 tensors among them) of `run` on `device`; on CUDA the second is 0: it is not known there."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        run()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before, 0
    with PeakTensors() as peak:
        run()
    return peak.peak_bytes, peak.image_bytes


def main() -> None:
    """Run a program under the count, and write it down."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("device")
    parser.add_argument("script", type=pathlib.Path)
    parser.add_argument("arguments", nargs=argparse.REMAINDER)
    options = parser.parse_args()
    sys.argv = [str(options.script), *options.arguments]
    peak, images = peak_bytes(options.device, lambda: _run_script(str(options.script)))
    options.out.write_text(json.dumps({"peak_bytes": peak, "image_bytes": images}))


def _run_script(script: str) -> None:
    try:
        runpy.run_path(script, run_name="__main__")
    except SystemExit as end:
        if end.code:
            raise


if __name__ == "__main__":
    main()
