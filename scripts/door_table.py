"""Every file that tcs writes and reads back, with the commands that read it: what `doors.py` opens."""

import dataclasses
from collections.abc import Mapping, Sequence

STUDENT = "resnet18,layers=(1,1,1,1),channels=(4,4,8,8)"
FOLDER = "resnet18-layers-1-1-1-1-channels-4-4-8-8"

UNSPLIT = (
    "--model",
    STUDENT,
    "--steps",
    "2",
    "--batch-size",
    "8",
    "--img-size",
    "16",
    "--method",
    "tcs",
    "--workers",
    "0",
)
TEACHER = ("--teacher", "test_resnet", "--teacher-checkpoint", "w.safetensors", "--img-size", "32", "--workers", "0")
TRAIN = ("--shots", "4", *UNSPLIT, "--checkpoint-every", "1")


@dataclasses.dataclass(frozen=True)
class Door:
    """A command that reads `file`."""

    file: str
    arguments: tuple[str, ...]


def doors() -> list[Door]:
    """Every file with every command that reads it, relative to the folder of `prepare`."""
    run, resumed = f"run/{FOLDER}", f"half/{FOLDER}"
    scored = ("eval", "run", "test.store", "--json")
    trained = ("train", "train.store", "--out", "run", *TRAIN)
    probe_page = ("report", "probed", "--out", "r.html")
    table: Mapping[str, Sequence[tuple[str, ...]]] = {
        f"{run}/config.json": (
            scored,
            trained,
            ("predict", "run", "images"),
            ("export", "run", "--out", "ex", "--to", "timm"),
            ("report", "run", "--out", "r.html"),
            ("latency", "run", "--seconds", "0.01", "--device", "cpu"),
        ),
        f"{run}/last.safetensors": (("verify", "run"),),
        f"{run}/folded.safetensors": (
            scored,
            ("verify", f"run/{FOLDER}"),
            ("export", "run", "--out", "ex", "--to", "timm"),
        ),
        f"{run}/seen.npy": (scored, ("verify", f"{run}/seen.npy")),
        f"{run}/metrics.jsonl": (("report", "run", "--out", "r.html"), ("verify", "run")),
        "run/args.yaml": (("verify", "run"), ("report", "run", "--out", "r.html")),
        "probed/probe.json": (probe_page, ("verify", "probed")),
        f"{resumed}/resume.pt": (("train", "train.store", "--out", "half", *TRAIN),),
        f"{resumed}/config.json": (("train", "train.store", "--out", "half", *TRAIN),),
        "c.safetensors": (
            ("targets", "train.store", "c.safetensors", "--out", "u.h5", "--bits", "32"),
            ("verify", "c.safetensors"),
        ),
        "t.h5": (
            ("verify", "t.h5"),
            ("train", "train.store", "--targets", "t.h5", "--out", "new", *TRAIN),
        ),
        "recipe.yaml": (("fewshot", "recipe.yaml", "--out", "new", "--dry-run"),),
        "split.txt": (("train", "train.store", "--out", "new", "--split-file", "split.txt", *UNSPLIT),),
        "labels.csv": (("train", "train.store", "--out", "new", "--split-file", "labels.csv", *UNSPLIT),),
        "grid/ledger.json": (
            ("verify", "grid"),
            ("fewshot", "recipe.yaml", "--out", "grid"),
        ),
        "grid/results.csv": (
            ("fewshot", "recipe.yaml", "--out", "grid"),
            ("report", "grid", "--out", "r.html"),
            ("report", "grid", "--out", "r.md"),
        ),
        "grid/cells.jsonl": (
            ("verify", "grid"),
            ("report", "grid", "--out", "r.html"),
            ("fewshot", "recipe.yaml", "--out", "grid"),
        ),
        "grid/recipe.yaml": (("report", "grid", "--out", "r.html"),),
        "exported/tcs.json": (
            ("verify", "exported"),
            ("predict", "exported", "images"),
        ),
        "exported/model.safetensors": (("predict", "exported", "images"),),
    }
    return [Door(file, arguments) for file, lines in table.items() for arguments in lines]
