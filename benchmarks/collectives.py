"""Whether the collectives of torch.distributed work here at all: a group of one process, over NCCL on a GPU and over gloo on a CPU.

    python -m benchmarks.collectives --device cuda

`tcs` joins a group only where torchrun started two processes or more, so one process of it touches no NCCL. This makes a group of one
rank and asks that all_reduce, all_gather and broadcast give back what went in, float32 and int64. It shows that the library loads, makes
a communicator and runs its kernels; what several ranks say to each other it doesn't show. AssertionError where a value changed.
"""

import argparse
from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor
from torch._C._distributed_c10d import HashStore  # torch.distributed has it without telling type checkers

BACKENDS = {"cpu": "gloo", "cuda": "nccl"}


def check(sent: Tensor) -> None:
    """Of one rank every collective gives back `sent`."""
    reduced, cast, gathered = sent.clone(), sent.clone(), [torch.zeros_like(sent)]
    dist.all_reduce(reduced)
    dist.broadcast(cast, src=0)
    dist.all_gather(gathered, sent)
    for name, got in {"all_reduce": reduced, "broadcast": cast, "all_gather": gathered[0]}.items():
        assert torch.equal(got, sent), f"{name} of one rank changed what went in, {sent.dtype} on {sent.device}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Join, check, leave, and say so."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=tuple(BACKENDS), default="cpu")
    device = parser.parse_args(arguments).device
    dist.init_process_group(BACKENDS[device], store=HashStore(), rank=0, world_size=1)
    try:
        generator = torch.Generator().manual_seed(0)
        for sent in (torch.randn(1 << 20, generator=generator), torch.arange(1000)):
            check(sent.to(device))
    finally:
        dist.destroy_process_group()
    print(f"{BACKENDS[device]}: all_reduce, broadcast and all_gather of one rank give back what went in.")


if __name__ == "__main__":
    main()
