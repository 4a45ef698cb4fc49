"""Tables of what a small machine takes, made of measured speeds: the passes of teachers, the training of students, and what is fitted.

Minutes are images over images a second, nothing else: what a command needs to start is not in them.
"""

import pathlib
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tcs.plain_files import load_table
from tcs.reporting.tables import markdown
from tcs.runtime import readable_seconds

RESULTS = pathlib.Path(__file__).parents[2] / "benchmarks" / "results"
IMAGES = (1_000, 10_000, 50_000)
STEPS, BATCH = (300, 2_000), 128
Row = Mapping[str, Any]

# (what a page calls it, folder, contestant, features of an image)
PASSES = (
    ("ResNet-18", "extraction-resnet18", "extract", 512),
    ("ViT-S/16", "extraction-vit", "extract", 384),
)
# (what a page calls it, the student's name in benchmarks/results/students begins with, caches, pixels)
SMALL, LARGER = "resnet18,layers=(1,1,1,1),channels=(16,32,48,64)", "resnet18,layers=(1,1,1,1),channels=(32,64,128,256)"
PHOTOGRAPHS, CIFAR = ("flowers5", "pbc8"), ("cifar10-lite2", "cifar10-simclr")
TRAINED = (
    ("four blocks of ResNet, 0.14 M parameters", SMALL, CIFAR, 32),
    ("the same", SMALL, PHOTOGRAPHS, 64),
    ("four blocks of ResNet, 1.25 M", LARGER, PHOTOGRAPHS, 64),
    ("ViT of six blocks, 1.3 M", "vit_tiny_patch16_224", PHOTOGRAPHS, 64),
    ("EfficientNet-Lite0, 3.4 M", "tf_efficientnet_lite0", PHOTOGRAPHS, 128),
)
ONLINE = (("MobileNetV3-small, 1.6 M", "mobilenetv3_small_100"), ("ResNet-18, 11 M", "resnet18"))
FITTED = {
    "axes": "axes (`tcs fit` without its ceiling)",
    "targets": "`tcs targets`",
    "probe": "ridge probe, 1,000 classes",
}


def small_tables() -> dict[str, Callable[[], str]]:
    """Name of a part -> what makes it."""
    return {
        "small-passes": passes_table,
        "small-students": students_table,
        "small-whole": whole_table,
        "small-fits": fits_table,
    }


def passes_table() -> str:
    """Minutes of a teacher's pass for IMAGES, and megabytes of its features in float16."""
    lines = []
    for title, folder, contestant, dims in PASSES:
        speed = _pass(folder, contestant)
        minutes = [f"{readable_seconds(count / speed)}, {2 * dims * count / 1e6:.0f} MB" for count in IMAGES]
        lines.append([f"{title}, 224 px", f"{speed:.0f}", *minutes])
    return markdown(["teacher", "images/s", *(f"{count:,} images" for count in IMAGES)], lines)


def students_table() -> str:
    """Minutes of STEPS steps of BATCH images, and the most memory of a run."""
    rows = [row for row in load_table(RESULTS / "students" / "results.csv") if row["status"] == "ok"]
    lines = []
    for title, name, caches, pixels in TRAINED:
        found = [row for row in rows if str(row["model"]).startswith(name) and row["dataset"] in caches]
        found = [row for row in found if row["unlabelled"] == "all" and row["images_per_s"] and row["peak_mem_mb"]]
        speed = statistics.median(float(row["images_per_s"]) for row in found)
        most = max(float(row["peak_mem_mb"]) for row in found)
        lines.append([title, str(pixels), "one", f"{speed:,.0f}", *_of_steps(speed), f"{most / 1000:.1f}"])
    timed = load_table(RESULTS / "online-teacher" / "online-teacher.csv")
    for title, name in ONLINE:
        speed = _labels_only(timed, name)
        lines.append([title, "224", "two", f"{speed:,.0f}", *_of_steps(speed), "-"])
    steps = [f"{count:,} steps of {BATCH}" for count in STEPS]
    return markdown(["student", "px", "cores", "images/s", *steps, "memory, GB"], lines)


def whole_table() -> str:
    """Minutes of the first pass and of the first STEPS of the first student at 224 px, apart and together."""
    _, folder, contestant, _ = PASSES[0]
    timed = load_table(RESULTS / "online-teacher" / "online-teacher.csv")
    teacher, training = _pass(folder, contestant), STEPS[0] * BATCH / _labels_only(timed, ONLINE[0][1])
    lines = [
        [f"{count:,}", *map(readable_seconds, (count / teacher, training, count / teacher + training))]
        for count in IMAGES
    ]
    return markdown(["images", "teacher's pass", "training", "together"], lines)


def fits_table() -> str:
    """Processor seconds, and the most memory, of what is fitted to 12,812 and 128,117 cached rows."""
    rows = load_table(RESULTS / "imagenet-size" / "imagenet-size.csv")
    sizes = sorted({int(row["rows"]) for row in rows})[:2]
    cells = {(row["stage"], int(row["rows"])): row for row in rows}
    lines = []
    for stage, title in FITTED.items():
        here = [cells[stage, size] for size in sizes]
        lines.append(
            [title, *(f"{float(row['seconds']):.1f} s, {float(row['peak_mib']) / 1024:.1f} GiB" for row in here)]
        )
    return markdown(["", *(f"{size:,} rows" for size in sizes)], lines)


def _pass(folder: str, contestant: str) -> float:
    """Images a second of an extraction, the median of its rounds."""
    speeds = [row for row in load_table(RESULTS / folder / f"{folder}.csv") if row["unit"] == "images/s"]
    return statistics.median(float(row["value"]) for row in speeds if row["contestant"] == contestant)


def _of_steps(speed: float) -> list[str]:
    return [readable_seconds(count * BATCH / speed) for count in STEPS]


def _labels_only(timed: Sequence[Row], student: str) -> float:
    """Images a second of a student that trains on labels alone, as fast as one that distils from a cache."""
    table, contestant = f"{student}, labels only", "tcs, labels only"
    return statistics.median(
        float(row["value"]) for row in timed if (row["table"], row["contestant"]) == (table, contestant)
    )
