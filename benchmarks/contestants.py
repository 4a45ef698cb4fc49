"""The contestants of benchmarks/online_teacher.py: `tcs` as its users call it, and what they would pick instead."""

import dataclasses
import itertools
import pathlib
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from benchmarks import lightly_train_loop, tensor_memory
from benchmarks.lightly_train_loop import LightlyConfig
from benchmarks.timm_loop import LoopConfig, TimmLoop
from tcs.config.coordinates import FitConfig, TargetsConfig
from tcs.config.extract import ExtractConfig
from tcs.config.train import TrainConfig
from tcs.coordinates.fit import fit
from tcs.coordinates.targets import fit_targets
from tcs.extraction.extract import extract
from tcs.images.folder import list_images
from tcs.plain_files import load_json
from tcs.training.train import train

LOSS = "ce + 1.0*elsh"
MEMORY_STEPS = 3
WARM_UP_STEPS = 2


@dataclasses.dataclass(frozen=True, kw_only=True)
class Setup:
    """What all contestants share. `lightly` None leaves lightly-train out."""

    data: pathlib.Path
    scratch: pathlib.Path
    images: int
    batch_size: int
    epochs: int
    workers: int
    img_size: int
    device: str
    readout: str
    lightly: pathlib.Path | None

    @property
    def steps(self) -> int:
        """Full batches of a turn: what is left of the images after the last of an epoch is dropped."""
        return self.epochs * (self.images // self.batch_size)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reading:
    """One turn: seconds of the work for each of the images, and seconds around it that come once, whatever the epochs."""

    per_image_seconds: float
    start_seconds: float = 0.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Contestant:
    """`turn` measures; `peak` gives the peak bytes of a short run. `student` None: the teacher's part, done once."""

    name: str
    turn: Callable[[], Reading]
    peak: Callable[[], tuple[int, int]] | None = None
    student: str | None = None
    teacher: str | None = None
    online: bool = False


def link_classes(photos: pathlib.Path, folder: pathlib.Path, images: int, classes: int = 4) -> pathlib.Path:
    """A folder of `images` links in class folders, going round the photographs where there are fewer. Labels mean nothing."""
    found = list_images(photos, labels="none")
    for number, key in enumerate(itertools.islice(itertools.cycle(found.keys), images)):
        place = folder / f"class{number % classes}" / f"{number:05}{pathlib.PurePath(key).suffix}"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(pathlib.Path(found.root, key).resolve())
    return folder


class CachedTeacher:
    """A teacher with random weights, and the artefacts made from it, in a new folder every time."""

    def __init__(self, setup: Setup, name: str) -> None:
        self.setup, self.name = setup, name
        self.weights = lightly_train_loop.save_random_weights(name, setup.img_size, setup.scratch / f"{name}.pt")
        self._folders: Iterator[pathlib.Path] = (setup.scratch / f"{name}-{number}" for number in itertools.count())
        self.folder = setup.scratch
        self.extract()
        self.make_targets()

    @property
    def store(self) -> str:
        """The latest store."""
        return str(self.folder / "x.store")

    @property
    def targets(self) -> str:
        """The latest targets; those of an earlier store fit too, for all stores are equal."""
        return str(self.folder / "targets.h5")

    def extract(self) -> Reading:
        """`tcs extract` into a store of its own, timed whole."""
        setup, self.folder = self.setup, next(self._folders)
        config = ExtractConfig(
            data=str(setup.data),
            out=self.store,
            teacher=self.name,
            teacher_checkpoint=str(self.weights),
            readouts=(setup.readout,),
            img_size=setup.img_size,
            batch_size=setup.batch_size,
            workers=setup.workers,
            device=setup.device,
        )
        return self._timed(lambda: extract(config))

    def make_targets(self) -> Reading:
        """`tcs fit` and `tcs targets` of the latest store, timed whole."""
        coordinates = str(self.folder / "coordinates.safetensors")

        def both() -> None:
            fit(FitConfig(store=self.store, out=coordinates))
            fit_targets(TargetsConfig(store=self.store, coordinates=coordinates, out=self.targets))

        return self._timed(both)

    def _timed(self, work: Callable[[], object]) -> Reading:
        start = time.perf_counter()
        work()
        return Reading(per_image_seconds=(time.perf_counter() - start) / self.setup.images)


def train_from_store(setup: Setup, cached: CachedTeacher, student: str, options: dict[str, Any]) -> Reading:
    """`tcs train` for a turn, in a run folder of its own; `options` say which method, and may override `steps`."""
    with tempfile.TemporaryDirectory(dir=setup.scratch) as out:
        settings: dict[str, Any] = {
            "store": cached.store,
            "targets": cached.targets,
            "out": str(pathlib.Path(out) / "run"),
            "models": (student,),
            "steps": setup.steps,
            "batch_size": setup.batch_size,
            "img_size": setup.img_size,
            "device": setup.device,
        }
        start = time.perf_counter()
        (folder,) = train(TrainConfig(**(settings | options)))
        whole = time.perf_counter() - start
        cost = load_json(folder / "config.json")["cost"]
    seconds = float(cost["wall_seconds"])
    return Reading(per_image_seconds=seconds / cost["images_seen"], start_seconds=whole - seconds)


def store_contestant(setup: Setup, cached: CachedTeacher, student: str, labels_only: bool) -> Contestant:
    """`tcs train` on labels, or on the cached targets of a teacher."""
    options: dict[str, Any] = {"method": "labels", "targets": None} if labels_only else {"head": "tcs", "loss": LOSS}
    short = options | {"steps": MEMORY_STEPS}
    return Contestant(
        name="tcs, labels only" if labels_only else f"tcs, ce + elsh, {cached.name}",
        turn=lambda: train_from_store(setup, cached, student, options),
        peak=lambda: tensor_memory.peak_bytes(setup.device, lambda: train_from_store(setup, cached, student, short)),
        student=student,
        teacher=None if labels_only else cached.name,
    )


def timm_contestant(setup: Setup, student: str, teacher: str | None, channels_last: bool = False) -> Contestant:
    """timm's loop, built anew in every turn."""
    config = LoopConfig(
        data=setup.data,
        model=student,
        teacher=teacher,
        img_size=setup.img_size,
        batch_size=setup.batch_size,
        workers=setup.workers,
        device=setup.device,
        channels_last=channels_last,
    )

    def turn() -> Reading:
        loop = TimmLoop(config)
        loop.train_steps(WARM_UP_STEPS)
        return Reading(per_image_seconds=loop.train_steps(setup.steps) / (setup.steps * setup.batch_size))

    return Contestant(
        name=f"timm, labels only{', channels_last' * channels_last}"
        if teacher is None
        else f"timm feature task, {teacher}",
        turn=turn,
        peak=lambda: tensor_memory.peak_bytes(setup.device, lambda: TimmLoop(config).train_steps(MEMORY_STEPS)),
        student=student,
        teacher=teacher,
        online=teacher is not None,
    )


def lightly_contestant(setup: Setup, lightly: pathlib.Path, cached: CachedTeacher, student: str) -> Contestant:
    """lightly-train's command, started anew in every turn."""
    config = LightlyConfig(
        environment=lightly,
        data=setup.data,
        model=student,
        teacher=cached.name,
        weights=cached.weights,
        img_size=setup.img_size,
        batch_size=setup.batch_size,
        workers=setup.workers,
        epochs=setup.epochs,
        device=setup.device,
    )
    return Contestant(
        name=f"lightly-train, {cached.name}",
        turn=lambda: Reading(per_image_seconds=lightly_train_loop.measure(config) / setup.batch_size),
        peak=lambda: lightly_train_loop.peak_bytes(dataclasses.replace(config, epochs=0, batches=MEMORY_STEPS)),
        student=student,
        teacher=cached.name,
        online=True,
    )


def all_contestants(setup: Setup, students: Sequence[str], teachers: Sequence[str]) -> list[Contestant]:
    """In the order of their turns; making the teachers' first artefacts warms up what makes them."""
    cached = [CachedTeacher(setup, name) for name in teachers]
    found = []
    for one in cached:
        found.append(Contestant(name=f"tcs extract, {one.name}", turn=one.extract, teacher=one.name))
        found.append(Contestant(name=f"tcs fit + targets, {one.name}", turn=one.make_targets, teacher=one.name))
    for student in students:
        found.append(store_contestant(setup, cached[0], student, labels_only=True))
        found.append(timm_contestant(setup, student, None))
        found.append(timm_contestant(setup, student, None, channels_last=True))
        for one in cached:
            found.append(store_contestant(setup, one, student, labels_only=False))
            found.append(timm_contestant(setup, student, one.name))
            if setup.lightly is not None:
                found.append(lightly_contestant(setup, setup.lightly, one, student))
    return found
