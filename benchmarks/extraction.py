"""Extraction speed: the whole pass into a store, against the same loader and teacher with the store left out.

    OMP_WAIT_POLICY=passive python benchmarks/extraction.py photos/ --teacher vit_small_patch16_224 --images 500 --repeats 5

Prints a Markdown table of images/s, median [least - most] over interleaved repeats in one process: `extract` writes a
fresh store each time (fsync included; teacher loading and gate are not), `loader + forward` drops the features, `forward`
runs the teacher alone on a batch that is in memory. Files are links to DATA, repeated where DATA has fewer, and are read
once before, so disks play no part. The environment variable is what `tcs extract` sets for itself. Without
--teacher-checkpoint the weights are random, which costs the same time.
"""

import argparse
import contextlib
import itertools
import os
import pathlib
import shlex
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator

import torch
from safetensors.torch import save_file

import cache
from tcs.config import ExtractConfig
from tcs.decoding import Collate, cut, decoded_batches
from tcs.extract import MIN_BATCH, Extraction, prepare, write_pending
from tcs.image_folder import list_images
from tcs.runtime import environment
from tcs.teacher_hub import build


def link_images(data: pathlib.Path, folder: pathlib.Path, count: int) -> pathlib.Path:
    """A flat folder of `count` links, spread evenly over the images of `data`, or going round them."""
    images = list_images(data, labels="none")
    step = max(1, len(images.keys) // count)
    folder.mkdir()
    for number, key in enumerate(itertools.islice(itertools.cycle(images.keys[::step]), count)):
        (folder / f"{number}{pathlib.PurePath(key).suffix}").symlink_to(pathlib.Path(images.root, key).resolve())
    return folder


def settings(options: argparse.Namespace, scratch: pathlib.Path) -> ExtractConfig:
    """The extraction to be measured; random weights are saved where none are given."""
    checkpoint = options.teacher_checkpoint
    if checkpoint is None:
        checkpoint = scratch / "random.safetensors"
        kwargs = {} if options.img_size is None else {"img_size": options.img_size}
        with contextlib.suppress(Exception):
            save_file(build(options.teacher, kwargs).state_dict(), checkpoint)
        if not checkpoint.exists():  # an architecture without img_size
            save_file(build(options.teacher, {}).state_dict(), checkpoint)
    return ExtractConfig(
        data=str(link_images(options.data, scratch / "data", options.images)),
        out=str(scratch / "unused"),
        teacher=options.teacher,
        teacher_checkpoint=str(checkpoint),
        readouts=("pool",),
        img_size=options.img_size,
        batch_size=options.batch_size,
        workers=options.workers,
        device=options.device,
        max_bad=options.images,
    )


def extract_once(extraction: Extraction, stores: Iterator[pathlib.Path]) -> None:
    """The measured pass of `tcs extract`, into a store of its own."""
    with cache.StoreWriter(next(stores), extraction.plan, provenance={}) as writer:
        write_pending(extraction, writer)
        writer.close()


def load_and_forward(extraction: Extraction) -> None:
    """The same batches through the same teacher; the features are dropped."""
    plan, teacher = extraction.plan, extraction.teacher
    batches = [batch for index in range(plan.shard_count) for batch in cut(plan.positions(index), plan.batch_size)]
    collate = Collate(max(plan.batch_size, MIN_BATCH), teacher.input_shape)
    for batch in decoded_batches(extraction.positions, batches, collate, extraction.config.workers):
        teacher.features(batch.images_B3HW)


def forward_only(extraction: Extraction) -> None:
    """As many batches of zeros as the pass has."""
    plan, teacher = extraction.plan, extraction.teacher
    images_B3HW = torch.zeros(max(plan.batch_size, MIN_BATCH), *teacher.input_shape)
    for index in range(plan.shard_count):
        for _ in cut(plan.positions(index), plan.batch_size):
            teacher.features(images_B3HW)


def measure(extraction: Extraction, scratch: pathlib.Path, repeats: int) -> dict[str, list[float]]:
    """Images/s of every repeat; the contestants take turns, so that a slow minute of the machine hits all of them."""
    stores = (scratch / f"{number}.store" for number in itertools.count())
    contestants: dict[str, Callable[[], None]] = {
        "extract": lambda: extract_once(extraction, stores),
        "loader + forward": lambda: load_and_forward(extraction),
        "forward": lambda: forward_only(extraction),
    }
    speeds: dict[str, list[float]] = {name: [] for name in contestants}
    load_and_forward(extraction)  # reads every file once, wakes the threads
    for _ in range(repeats):
        for name, contestant in contestants.items():
            start = time.perf_counter()
            contestant()
            speeds[name].append(len(extraction.plan.keys) / (time.perf_counter() - start))
    return speeds


def markdown(speeds: dict[str, list[float]], title: str) -> str:
    """The table; the last column is against `loader + forward`."""
    unit = statistics.median(speeds["loader + forward"])
    lines = [f"| {title} | images/s, median [least - most] | n | x loader + forward |", "|---|---|---|---|"]
    for name, values in speeds.items():
        middle = statistics.median(values)
        spread = f"{middle:.1f} [{min(values):.1f} - {max(values):.1f}]"
        lines.append(f"| {name} | {spread} | {len(values)} | {middle / unit:.3f} |")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=pathlib.Path)
    parser.add_argument("--teacher", default="vit_small_patch16_224")
    parser.add_argument("--teacher-checkpoint", type=pathlib.Path)
    parser.add_argument("--img-size", type=int)
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        scratch = pathlib.Path(folder)
        extraction = prepare(settings(options, scratch))
        speeds = measure(extraction, scratch, options.repeats)
    side = extraction.teacher.input_shape[1]
    print(markdown(speeds, f"{options.teacher} at {side} px, {options.images} images, {options.device}"))
    facts = environment()
    policy = os.environ.get("OMP_WAIT_POLICY", "")
    words = [f"OMP_WAIT_POLICY={policy}", "python", "benchmarks/extraction.py"]
    command = shlex.join([*words, *(sys.argv[1:] if arguments is None else arguments)])
    print(
        f"\n`{command}`; {facts['processor']}, {facts['cores']} cores; {facts['versions']}; commit {facts['commit']}."
    )


if __name__ == "__main__":
    main()
