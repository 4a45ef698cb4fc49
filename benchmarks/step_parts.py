"""What a training step does beside its network, as it is done and as it was done before: processor time, in turns.

    python -m benchmarks.step_parts

A few seconds. `seeding` is `own_randomness`, which a step enters twice, against torch.manual_seed, which asks every kind of device and
walks the stack for a GPU that is not there (CALLS calls under as many frames as a training step is under). `inputs` are normalised
uint8 batches in channels_last, a few images at a time against whole batches. One thread. Writes results/step-parts/.
"""

import argparse
import contextlib
import time
from collections.abc import Callable, Iterator, Sequence

import torch

from benchmarks.turns import Table, report, seconds_in_turns
from tcs.augmentation.pixels import network_inputs, normalise
from tcs.training.optimisation import own_randomness

CALLS, FRAMES = 200, 20
BATCHES = ((32, 224), (64, 64), (128, 32))  # images, and their side in pixels
BEFORE, NOW = "before", "now"
CPU = torch.device("cpu")


@contextlib.contextmanager
def seeded_everywhere(seed: int, _device: torch.device) -> Iterator[None]:
    """As `own_randomness` was."""
    with torch.random.fork_rng(devices=[], device_type="cuda"):
        torch.manual_seed(seed)
        yield


def under(frames: int, work: Callable[[], None]) -> None:
    """Call `work` under so many frames of the stack."""
    if frames:
        under(frames - 1, work)
    else:
        work()


def seeding(rounds: int) -> Table:
    """Microseconds a call."""

    def calls(own: Callable[[int, torch.device], contextlib.AbstractContextManager[None]]) -> Callable[[], None]:
        def work() -> None:
            for seed in range(CALLS):
                with own(seed, CPU):
                    pass

        return lambda: under(FRAMES, work)

    ways = {BEFORE: calls(seeded_everywhere), NOW: calls(own_randomness)}
    for way in ways.values():
        way()
    seconds = seconds_in_turns(ways, rounds, time.process_time)
    values = {name: [1e6 * value / CALLS for value in found] for name, found in seconds.items()}
    return Table(title="seeding", unit="microseconds", base=BEFORE, values=values)


def inputs(batch: int, side: int, rounds: int) -> Table:
    """Milliseconds for 100 images, of 10 to 100 batches."""
    images_B3SS = torch.randint(0, 256, (batch, 3, side, side), dtype=torch.uint8)
    mean, std = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1), torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    count = min(100, max(10, 10_000_000 // images_B3SS.numel()))

    def whole() -> torch.Tensor:
        return normalise(images_B3SS, mean, std).contiguous(memory_format=torch.channels_last)

    def by_groups() -> torch.Tensor:
        return network_inputs(images_B3SS, mean, std, channels_last=True)

    assert torch.equal(whole(), by_groups())
    ways = {BEFORE: lambda: [whole() for _ in range(count)], NOW: lambda: [by_groups() for _ in range(count)]}
    seconds = seconds_in_turns(ways, rounds, time.process_time)
    values = {name: [1e5 * value / (count * batch) for value in found] for name, found in seconds.items()}
    return Table(title=f"inputs, {batch} images of {side} px", unit="ms for 100 images", base=BEFORE, values=values)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, write the files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--name", default="step-parts", help="folder of the results")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    tables = [seeding(options.rounds), *(inputs(batch, side, options.rounds) for batch, side in BATCHES)]
    report(options.name, tables, "benchmarks.step_parts", arguments)


if __name__ == "__main__":
    main()
