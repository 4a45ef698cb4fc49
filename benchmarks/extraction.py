"""Extraction speed: the whole pass into a store, against the same loader and teacher with the store left out; and its steps.

    OMP_WAIT_POLICY=passive python -m benchmarks.extraction PHOTOS --teacher vit_small_patch16_224 --images 1000 --rounds 3

First table: images/s of interleaved passes in one process: `extract` writes a fresh store each time (fsync included; teacher
loading and gate are not), `loader + forward` drops the features, `forward` runs the teacher alone on a batch that is in
memory. Second table: where the time goes, every step by itself on one thread, in ms of processor time per image (of wall
time for forward and write, which wait for a device or a disk). Files are links to PHOTOS, repeated where there are fewer,
and are read once before, so disks play no part. The environment variable is what `tcs extract` sets for itself. Without
--teacher-checkpoint the weights are random, which costs the same time.
"""

import argparse
import contextlib
import dataclasses
import itertools
import os
import pathlib
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

import numpy as np
import torch
from safetensors.torch import save_file
from torch.utils.data import DataLoader, Dataset

import cache
from benchmarks.turns import Table, per_second, report, seconds_in_turns
from cache.files import atomic_write_pieces
from cache.fingerprint import digest_of_pieces
from cache.shard import shard_pieces
from tcs.config.extract import ExtractConfig
from tcs.config.pixels import PixelRules
from tcs.extraction.decoding import CleanInputs, Collate, DecodedImage, cut
from tcs.extraction.extract import MIN_BATCH, write_pending
from tcs.extraction.plan import Extraction, prepare
from tcs.extraction.workers import decoded_batches
from tcs.images.decode import decode_image, shrink
from tcs.images.folder import list_images
from tcs.teacher.hub import build

Result = TypeVar("Result")


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
        compute_dtype=options.compute_dtype,
        max_bad=options.images,
        images=options.keep,
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
        teacher.features(batch.images_VB3HW[0])


def forward_only(extraction: Extraction) -> None:
    """As many batches of zeros as the pass has."""
    plan, teacher = extraction.plan, extraction.teacher
    images_B3HW = torch.zeros(max(plan.batch_size, MIN_BATCH), *teacher.input_shape)
    for index in range(plan.shard_count):
        for _ in cut(plan.positions(index), plan.batch_size):
            teacher.features(images_B3HW)


def passes_table(extraction: Extraction, scratch: pathlib.Path, rounds: int, title: str) -> Table:
    """Images/s of the pass and of its parts."""
    stores = (scratch / f"{number}.store" for number in itertools.count())
    contestants: dict[str, Callable[[], None]] = {
        "loader + forward": lambda: load_and_forward(extraction),
        "extract": lambda: extract_once(extraction, stores),
        "forward": lambda: forward_only(extraction),
    }
    load_and_forward(extraction)  # reads every file once, wakes the threads
    speeds = per_second(seconds_in_turns(contestants, rounds), len(extraction.plan.keys))
    return Table(title=title, unit="images/s", base="loader + forward", values=speeds)


def steps_table(extraction: Extraction, scratch: pathlib.Path, rounds: int, title: str) -> Table:
    """Milliseconds per image of every step, on the first shard."""
    values: dict[str, list[float]] = {}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    for number in range(rounds):
        for name, milliseconds in _steps(extraction, scratch / f"step-{number}").items():
            values.setdefault(name, []).append(milliseconds)
    torch.set_num_threads(threads)
    return Table(title=title, unit="ms/image", base="all steps", values=values)


def _steps(extraction: Extraction, target: pathlib.Path) -> dict[str, float]:
    """One round: each step over all images of one batch, except writing, which takes the whole shard."""
    plan, images, teacher = extraction.plan, extraction.images, extraction.teacher
    policy, _, side = plan.images.partition(":")
    batch = list(cut(plan.positions(0), plan.batch_size)[0])
    clock = Clock(len(batch))
    blobs = clock("read", lambda: [images.read(plan.keys[position]) for position in batch])
    hashes = clock("content hash", lambda: [cache.content_hash(blob) for blob in blobs])
    pictures = clock("decode", lambda: [decode_image(blob, PixelRules()) for blob in blobs])
    make_inputs = CleanInputs(transform=teacher.transform)
    tensors = clock("resize, crop, normalise", lambda: [make_inputs("", picture) for picture in pictures])
    kept: list[bytes | None] = [None if policy == "none" else blob for blob in blobs]
    if policy == "resized":
        pairs = list(zip(blobs, pictures, strict=True))
        kept = clock("shrink what is kept", lambda: [shrink(blob, picture, int(side)) for blob, picture in pairs])
    items = [
        DecodedImage(position=position, inputs=tensor, content_hash=digest, kept=blob, reason=None)
        for position, tensor, digest, blob in zip(batch, tensors, hashes, kept, strict=True)
    ]
    collate = Collate(max(plan.batch_size, MIN_BATCH), teacher.input_shape)
    stacked = clock("collate", lambda: collate(items))
    collate_ms = clock.milliseconds["collate"]
    clock.milliseconds["send to the parent"] = max(
        0.0, 1e3 * _seconds_to_parent(items, collate) / len(batch) - collate_ms
    )
    features = clock("forward", lambda: teacher.features(stacked.images_VB3HW[0]), wall=True)
    _write_steps(plan, clock, items, {name: value.numpy()[: len(batch)] for name, value in features.items()}, target)
    return {**clock.milliseconds, "all steps": sum(clock.milliseconds.values())}


def _write_steps(
    plan: cache.Plan, clock: "Clock", items: list[DecodedImage], features: dict[str, np.ndarray], target: pathlib.Path
) -> None:
    """What a shard of these images goes through."""
    count = len(items)
    small = dataclasses.replace(plan, keys=plan.keys[:count], labels=plan.labels[:count], rows_per_shard=count)
    rows = cache.ShardRows(
        positions_N=np.arange(count),
        hashes_N16=np.frombuffer(b"".join(item.content_hash for item in items), dtype=np.uint8).reshape(count, -1),
        features=features,
        images=None if plan.images == "none" else [item.kept or b"" for item in items],
    )
    pieces = clock("check, digest and lay out the shard", lambda: shard_pieces(small, 0, rows))
    clock("digest of the frame", lambda: digest_of_pieces(pieces.frame))
    clock("write, fsync", lambda: atomic_write_pieces(target, pieces.every), wall=True)


class Clock:
    """Milliseconds per image of named steps."""

    def __init__(self, images: int) -> None:
        self.milliseconds: dict[str, float] = {}
        self._images = images

    def __call__(self, name: str, step: Callable[[], Result], wall: bool = False) -> Result:
        """Do the step, and write down what it took of the processor, or of the day."""
        now = time.perf_counter if wall else time.process_time
        start = now()
        result = step()
        self.milliseconds[name] = 1e3 * (now() - start) / self._images
        return result


class Ready(Dataset[DecodedImage]):
    """Images that need no decoding."""

    def __init__(self, items: list[DecodedImage]) -> None:
        self._items = items

    def __getitem__(self, position: int) -> DecodedImage:
        return self._items[position]


def _seconds_to_parent(items: list[DecodedImage], collate: Collate, batches: int = 6) -> float:
    """From one arrival of this batch to the next, where one worker does nothing but collate and send it."""
    loader = DataLoader(
        Ready(items),
        batch_sampler=[list(range(len(items)))] * batches,
        collate_fn=collate,
        num_workers=1,
        multiprocessing_context="fork" if hasattr(os, "fork") else None,
    )
    arrivals = [time.perf_counter() for _ in loader]
    return (arrivals[-1] - arrivals[0]) / (batches - 1)


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
    parser.add_argument("--compute-dtype", default="float32", help="float32, bfloat16 or float16, as of tcs extract")
    parser.add_argument("--keep", default="original", help="original, resized:PX or none, as --images of tcs extract")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--name", default="extraction")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        scratch = pathlib.Path(folder)
        extraction = prepare(settings(options, scratch))
        side = extraction.teacher.input_shape[1]
        title = f"{options.teacher} at {side} px, {options.images} images, {options.device}, --images {options.keep}"
        tables = [
            passes_table(extraction, scratch, options.rounds, title),
            steps_table(extraction, scratch, options.rounds, f"{title}: where the time goes"),
        ]
    report(options.name, tables, "benchmarks.extraction", arguments)


if __name__ == "__main__":
    main()
