"""Four small students trained on one stream of batches, against four runs of one student each: wall time, and equal weights.

    tar xf photos.tar -C PHOTOS                              # any folder of JPEG photographs
    OMP_WAIT_POLICY=passive python -m benchmarks.one_stream TRAIN.store --targets pca.h5 --photos PHOTOS --rounds 5

About 20 minutes on 2 idle cores (estimated). A try in a minute: `--rounds 1 --steps 5 --streamed-steps 5 --photo-rows 64`.

Two ways of reading images:
  resident   TRAIN.store (CIFAR-10 in the results) at `--img-size`, decoded once at the start of every run, which is counted
  streamed   a store of the photographs, each decoded again in every step (`--resident-share 0`) at `--photo-size`: here the
             decoding bounds. Photographs are saved anew with `--megapixels` (0: as they are), repeated up to `--photo-rows`, and
             stored with random features and labels
A run is `tcs.training.train.train` as `tcs train` calls it: opening the store, building, decoding, steps, saving. What comes before it
(starting Python, importing torch; four times for four runs) is left out, to the favour of the four runs. The method is
`labels`, or with `--targets` the TCS head with `ce + 1.0*elsh` on the resident store. After every round the weights of each
student must be equal bit for bit in both ways, or the script stops. The ratio is that of wall seconds, four runs over one
stream, inside a round: 1.5 or more is expected where decoding bounds, less than 1 never. Writes results/NAME/.
"""

import argparse
import dataclasses
import io
import itertools
import pathlib
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

import cache
from benchmarks.turns import Table, report
from tcs.config.train import TrainConfig
from tcs.images.folder import list_images
from tcs.plain_files import FOLDED, LAST, load_json
from tcs.runtime import say
from tcs.training.train import train

STUDENTS = (
    "resnet18,layers=(1,1,1,1),channels=(16,32,48,64)",
    "resnet18,layers=(1,1,1,1),channels=(8,16,24,32)",
    "cifar_resnet8",
    "vit_tiny_patch16_224,img_size=32,patch_size=8,embed_dim=64,depth=4,num_heads=2",
)
PHOTO_STUDENTS = (
    "resnet18,layers=(1,1,1,1),channels=(8,16,24,32)",
    "resnet18,layers=(1,1,1,1),channels=(16,16,24,32)",
    "resnet18,layers=(1,1,1,1),channels=(8,16,32,64)",
    "vit_tiny_patch16_224,img_size={size},patch_size=16,embed_dim=64,depth=2,num_heads=2",
)
ONE, FOUR = "one stream", "a run each"
CLASSES = 4
DIMS = 16
QUALITY = 90


@dataclasses.dataclass(frozen=True, kw_only=True)
class Case:
    """What is trained on; `config` names all students of the one stream, and an `out` to be replaced."""

    title: str
    config: TrainConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class Turn:
    """Wall seconds of training all students, the shares of them that were waits for images, and the folders."""

    seconds: float
    waits: tuple[float, ...]
    folders: tuple[pathlib.Path, ...]


def run_turn(config: TrainConfig, scratch: pathlib.Path, apart: bool) -> Turn:
    """Train the students of `config` together, or `apart` one after another."""
    groups = [(model,) for model in config.models] if apart else [config.models]
    folders: list[pathlib.Path] = []
    start = time.perf_counter()
    for number, models in enumerate(groups):
        folders += train(dataclasses.replace(config, models=models, out=str(scratch / f"run{number}")))
    seconds = time.perf_counter() - start
    costs = [load_json(folder / "config.json")["cost"] for folder in folders]
    return Turn(seconds=seconds, waits=tuple(cost["wait_share"] for cost in costs), folders=tuple(folders))


def require_equal(one: Sequence[pathlib.Path], other: Sequence[pathlib.Path]) -> None:
    """Stop where two folders of one student hold other weights than each other."""
    for first, second in zip(one, other, strict=True):
        for name in (LAST, FOLDED):
            if (first / name).read_bytes() != (second / name).read_bytes():
                raise SystemExit(f"{name} of {first.name} differs between one stream and a run of its own.")


def measure(case: Case, rounds: int) -> tuple[Table, str]:
    """The seconds of both ways, in turns that alternate, and a sentence; the weights are compared in every round."""
    seconds: dict[str, list[float]] = {ONE: [], FOUR: []}
    waits: dict[str, list[float]] = {ONE: [], FOUR: []}
    for number in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            turns: dict[str, Turn] = {}
            for name in (ONE, FOUR) if number % 2 == 0 else (FOUR, ONE):
                say(f"{case.title}, round {number + 1} of {rounds}: {name}")
                turns[name] = run_turn(case.config, pathlib.Path(folder) / name, name == FOUR)
            require_equal(turns[ONE].folders, turns[FOUR].folders)
        for name, turn in turns.items():
            seconds[name].append(turn.seconds)
            waits[name].append(statistics.mean(turn.waits))
    table = Table(title=case.title, unit="s", base=ONE, values=seconds)
    return table, verdict(table, waits)


def verdict(table: Table, waits: Mapping[str, Sequence[float]]) -> str:
    """The median ratio, its spread, and which share of the steps' wall time was spent waiting for images."""
    ratios = table.ratios(FOUR)
    return (
        f"- {table.title}: a run each takes {statistics.median(ratios):.2f} x the time of one stream (n {len(ratios)}, "
        f"{min(ratios):.2f} - {max(ratios):.2f}); weights equal bit for bit in every round; waiting for images "
        f"{100 * statistics.median(waits[ONE]):.0f} % of the steps' time in one stream, {100 * statistics.median(waits[FOUR]):.0f} % "
        "in a run each."
    )


def saved_anew(photo: bytes, megapixels: float) -> bytes:
    """A photograph as a JPEG of so many megapixels in its own proportions; 0 leaves the bytes as they are."""
    if megapixels == 0:
        return photo
    image = Image.open(io.BytesIO(photo)).convert("RGB")
    factor = (megapixels * 1e6 / (image.width * image.height)) ** 0.5
    buffer = io.BytesIO()
    size = (round(image.width * factor), round(image.height * factor))
    image.resize(size, Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=QUALITY)
    return buffer.getvalue()


def photo_store(photos: pathlib.Path, out: pathlib.Path, rows: int, megapixels: float) -> pathlib.Path:
    """A store of `rows` photographs as files, going round those there are; features and labels are random."""
    found = list_images(photos, labels="none")
    files = [saved_anew(pathlib.Path(found.root, key).read_bytes(), megapixels) for key in found.keys[:rows]]
    rng = np.random.default_rng(0)
    return cache.create(
        out,
        {"avg": rng.standard_normal((rows, DIMS)).astype(np.float32)},
        keys=[f"{number:05}.jpg" for number in range(rows)],
        labels=[number % CLASSES for number in range(rows)],
        images=list(itertools.islice(itertools.cycle(files), rows)),
    )


def resident_case(options: argparse.Namespace) -> Case:
    """The given store, decoded once a run."""
    learns: dict[str, Any] = (
        {"method": "labels"} if options.targets is None else {"head": "tcs", "loss": "ce + 1.0*elsh"}
    )
    config = TrainConfig(
        store=str(options.store),
        targets=options.targets,
        out="",
        models=tuple(options.students or STUDENTS),
        img_size=options.img_size,
        batch_size=options.batch_size,
        steps=options.steps,
        held_out=0,
        device=options.device,
        resident_share=1.0,
        **learns,
    )
    return Case(title=f"resident, {options.img_size} px, {options.steps} steps of {options.batch_size}", config=config)


def streamed_case(options: argparse.Namespace, scratch: pathlib.Path) -> Case:
    """The photographs, decoded in every step."""
    size, steps, batch = options.photo_size, options.streamed_steps, options.photo_batch_size
    config = TrainConfig(
        store=str(photo_store(options.photos, scratch / "photos.store", options.photo_rows, options.megapixels)),
        out="",
        models=tuple(options.photo_students or [name.format(size=size) for name in PHOTO_STUDENTS]),
        method="labels",
        img_size=size,
        batch_size=batch,
        steps=steps,
        held_out=0,
        device=options.device,
        resident_share=0.0,
    )
    pixels = f"{options.megapixels:g} MP" if options.megapixels else "their own size"
    return Case(title=f"streamed, JPEGs of {pixels} at {size} px, {steps} steps of {batch}", config=config)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", type=pathlib.Path)
    parser.add_argument("--targets")
    parser.add_argument("--student", dest="students", action="append", help="of the resident part; repeatable")
    parser.add_argument("--img-size", type=int, default=32)
    parser.add_argument("-b", "--batch-size", type=int, default=128)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--photos", type=pathlib.Path, help="folder of JPEGs; without it nothing is streamed")
    parser.add_argument(
        "--photo-student", dest="photo_students", action="append", help="of the streamed part; repeatable"
    )
    parser.add_argument("--photo-size", type=int, default=96)
    parser.add_argument("--photo-rows", type=int, default=512)
    parser.add_argument("--photo-batch-size", type=int, default=64)
    parser.add_argument("--megapixels", type=float, default=1.5)
    parser.add_argument("--streamed-steps", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--name", default="one-stream", help="folder of the results")
    options = parser.parse_args(arguments)
    if options.photo_rows < options.photo_batch_size:
        parser.error(
            f"--photo-rows is {options.photo_rows}; it must be --photo-batch-size ({options.photo_batch_size}) or more."
        )
    return options


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, write the files."""
    options = parse(arguments)
    tables, said = [], []
    with tempfile.TemporaryDirectory() as folder:
        cases = [resident_case(options)]
        if options.photos is not None:
            cases.append(streamed_case(options, pathlib.Path(folder)))
        for case in cases:
            table, sentence = measure(case, options.rounds)
            tables.append(table)
            said.append(sentence)
    report(options.name, tables, "benchmarks.one_stream", arguments, "\n".join(said))


if __name__ == "__main__":
    main()
