"""What `tcs train --scaled-decoding` saves and changes: frames of 32, 64 and 224 pixels from files of 0.2, 2 and 12 megapixels.

    tar xf photos.tar -C PHOTOS                              # any folder of JPEG photographs
    python -m benchmarks.scaled_decoding PHOTOS --rounds 3

The photographs of 0.2 megapixels are files as they are. The larger ones are mosaics of 4 x 3 and 9 x 8 of them, each cropped to 500 x
333 pixels and saved at quality 90: photographs that are enlarged instead would have no detail, so less to decode and to lose. Frames
are made as training streams them (`StreamedImages` of a store, without workers: on the calling thread), in turns, whole and scaled;
speeds are images per second of processor time, ratios those inside a round. Changes of frames are in levels of 255, over all pixels;
those of other choices that could have been made (how much larger than the frame an image has to be, and the box of its pixels
rounded) over the photographs whose pixels change at all by the choice that was made.
"""

import argparse
import io
import math
import pathlib
import tempfile
import time
import unittest.mock
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

import cache
from benchmarks.turns import Table, report, seconds_in_turns
from tcs.images.scaled import Extent
from tcs.images.stored import decode, stored_images
from tcs.training.images import StreamedImages

SIZES = (32, 64, 224)
TILE = (500, 333)  # width, height
MOSAICS = ((4, 3), (9, 8))  # columns, rows: 2 and 12 megapixels
QUALITY = 90
WAYS = {"whole": False, "scaled": True}


def photographs(folder: pathlib.Path, most: int) -> list[bytes]:
    """The files of up to `most` photographs that a tile can be cut from, landscape."""
    found: list[bytes] = []
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() not in (".jpg", ".jpeg") or len(found) == most:
            continue
        with Image.open(path) as image:
            if image.mode == "RGB" and image.width >= TILE[0] and image.height >= TILE[1]:
                found.append(path.read_bytes())
    assert found, f"{folder} holds no photograph of {TILE[0]} x {TILE[1]} pixels or more"
    return found


def mosaic(photos: Sequence[bytes], columns: int, rows: int, first: int) -> bytes:
    """One large JPEG of many photographs, the `first` of them at the top left."""
    canvas = Image.new("RGB", (columns * TILE[0], rows * TILE[1]))
    for place in range(columns * rows):
        with Image.open(io.BytesIO(photos[(first + place) % len(photos)])) as image:
            left, top = (image.width - TILE[0]) // 2, (image.height - TILE[1]) // 2
            tile = image.crop((left, top, left + TILE[0], top + TILE[1]))
        canvas.paste(tile, (place % columns * TILE[0], place // columns * TILE[1]))
    buffer = io.BytesIO()
    canvas.save(buffer, "JPEG", quality=QUALITY)
    return buffer.getvalue()


def store_of(path: pathlib.Path, files: Sequence[bytes]) -> cache.Store:
    """A store of the files, with a feature each."""
    plan = cache.Plan(
        identity={"teacher": "none"},
        readouts=(cache.Readout(name="avg", dims=1, dtype="float32"),),
        keys=tuple(f"{number:04}.jpg" for number in range(len(files))),
        labels=(-1,) * len(files),
        classes=(),
        images="original",
        rows_per_shard=len(files),
        batch_size=len(files),
    )
    hashes = [np.frombuffer(cache.content_hash(data), np.uint8) for data in files]
    with cache.StoreWriter(path, plan, provenance={}) as writer:
        rows = cache.ShardRows(
            positions_N=np.arange(len(files)),
            hashes_N16=np.stack(hashes),
            features={"avg": np.zeros((len(files), 1), np.float32)},
            images=list(files),
        )
        writer.write_shard(0, rows)
        writer.close()
    return cache.open(path)


def frames(store: cache.Store, size: int, *, scaled: bool) -> NDArray[np.uint8]:
    """All frames of a store, uint8 (n, 3, size, size), as a run streams them."""
    read = stored_images(store)
    images = StreamedImages(
        lambda row: decode(store, read, row, size, scaled=scaled), size, workers=0, device=torch.device("cpu")
    )
    return images.begin(torch.arange(len(store))).result().numpy()


def compare(store: cache.Store, title: str, sizes: Sequence[int], rounds: int) -> tuple[list[Table], list[str]]:
    """A table of speeds for each size, and the lines of the changes."""
    tables, changes = [], []
    for size in sizes:
        made = {way: frames(store, size, scaled=scaled).astype(np.int16) for way, scaled in WAYS.items()}
        gap = np.abs(made["scaled"] - made["whole"])
        changes.append(
            f"| {title}, {size} px | {gap.mean():.2f} | {gap.mean(axis=(1, 2, 3)).max():.2f} | {gap.max()} |"
        )
        ways = {
            way: lambda scaled=scaled, size=size: frames(store, size, scaled=scaled) for way, scaled in WAYS.items()
        }
        seconds = seconds_in_turns(ways, rounds, time.process_time)
        speeds = {way: [len(store) / value for value in values] for way, values in seconds.items()}
        tables.append(Table(title=f"{title}, {size} px", unit="images/s per core", base="whole", values=speeds))
    return tables, changes


def rounded_box(size: tuple[int, int], divisor: int, _orientation: int) -> Extent:
    """All of an upright image that was decoded at a fraction, with the part of a pixel that lies beyond the file's."""
    return Extent(size, (0, 0, math.ceil(size[0] / divisor), math.ceil(size[1] / divisor)))


def choices(store: cache.Store, title: str, sizes: Sequence[int]) -> list[str]:
    """A Markdown table: how much frames change by this and other choices."""
    others: Mapping[str, Mapping[str, Any]] = {
        "2 x the frame, exact box": {"SCALED_MARGIN": 2},
        "1 x": {"SCALED_MARGIN": 1},
        "3 x": {"SCALED_MARGIN": 3},
        "2 x, rounded box": {"SCALED_MARGIN": 2, "extent_of": rounded_box},
    }
    lines = ["", f"| mean change, {title} | {' | '.join(others)} |", f"|---|{'---:|' * len(others)}"]
    for size in sizes:
        whole = frames(store, size, scaled=False).astype(np.int16)
        gaps = []
        for changes in others.values():
            with unittest.mock.patch.multiple("tcs.images.decode", **changes):
                gaps.append(np.abs(frames(store, size, scaled=True) - whole).mean(axis=(1, 2, 3)))
        changed = gaps[0] > 0
        if changed.any():
            cells = " | ".join(f"{gap[changed].mean():.2f}" for gap in gaps)
            lines.append(f"| {changed.sum()} at {size} px | {cells} |")
    return lines


def main(arguments: list[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=pathlib.Path, help="a folder of JPEG files, searched below")
    parser.add_argument("--images", type=int, default=40, help="photographs, at most")
    parser.add_argument("--large", type=int, default=4, help="files of each kind of mosaic")
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--name", default="scaled-decoding")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    photos = photographs(options.photos, options.images)
    kinds = {"photographs": photos}
    for columns, rows in MOSAICS:
        kinds[f"mosaics of {columns} x {rows}"] = [mosaic(photos, columns, rows, n) for n in range(options.large)]
    tables: list[Table] = []
    others: list[str] = []
    changes = ["| frames | mean change | of the frame that changes most | greatest |", "|---|---:|---:|---:|"]
    with tempfile.TemporaryDirectory() as folder:
        for number, (kind, files) in enumerate(kinds.items()):
            pixels = [np.prod(Image.open(io.BytesIO(data)).size) for data in files]
            title = f"{len(files)} {kind}, {np.mean(pixels) / 1e6:.2f} MP, {np.mean([*map(len, files)]) / 1e3:.0f} kB"
            store = store_of(pathlib.Path(folder, f"{number}.store"), files)
            found, lines = compare(store, title, options.sizes, options.rounds)
            tables += found
            changes += lines
            others += choices(store, title, options.sizes) if kind == "photographs" else []
    report(options.name, tables, "benchmarks.scaled_decoding", arguments, more="\n".join([*changes, *others]))


if __name__ == "__main__":
    main()
