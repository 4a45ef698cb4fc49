"""Damage every file that a person gives to tcs, or that no other harness of doors opens, and give it to every command that takes it.

    python scripts/door_given.py --cases 1000 [--seed 0] [--part 1/10] [--tally FILE.csv] [--only keys.txt] [--json] [--verbose]

A case and its verdict are those of `doors.py`, whose cases keep their numbers: files that users make by hand (options, cards, keys,
labels, tables, tars), weights of others, stores and their plain and packed forms, exports for the Hub and ONNX, and what a grid keeps.
"""

import functools
import json
import pathlib
import shutil
import tarfile
from collections.abc import Mapping, Sequence

import yaml
from door_calls import call
from door_specimens import prepare, prepare_more
from door_table import FOLDER, STUDENT, TEACHER, TRAIN, Door
from door_tally import command_line
from doors import FINE, run_cases

PRETRAIN = ("pretrain", "few", "--model", "test_resnet", "--img-size", "32", "--epochs", "1", "-b", "4", "-j", "0")
LIKELIEST = ("--exclude", "audited.csv", "--exclude-kind", "label-error", "--exclude-top", "2")
LABELLED = ("suggest", "train.store", "--n", "2", "--labelled", "labels.csv", "--out", "new.csv")


def prepare_given(folder: pathlib.Path, seconds: int) -> None:
    """What `doors.py` and `door_signals.py` read, and what a person gives beside it."""
    prepare(folder, seconds)
    prepare_more(folder, seconds)
    options = {
        "shots": 4,
        "models": [STUDENT],
        "steps": 2,
        "batch_size": 8,
        "img_size": 16,
        "method": "tcs",
        "workers": 0,
    }
    (folder / "train.yaml").write_text(yaml.safe_dump(options))
    images = sorted((folder / "few").rglob("*.png"))
    (folder / "names.txt").write_text("ant\nbee\n")
    rows = [f"{path.relative_to(folder)},{path.parent.name}" for path in images]
    (folder / "images.csv").write_text("path,label\n" + "\n".join(rows) + "\n")
    with tarfile.open(folder / "few.tar", "w") as tar:
        for path in images:
            tar.add(path, str(path.relative_to(folder / "few")))
    shutil.copy(images[0], folder / "photo.png")
    card = {"teacher": "test_resnet", "weights": "w.safetensors", "img_size": 32, "mean": [0.5] * 3, "std": [0.2] * 3}
    (folder / "card.json").write_text(json.dumps({"format": 1, **card, "teacher_kwargs": {"drop_rate": 0.0}}))
    for arguments in (
        ("audit", "train.store", "--out", "audited.csv"),
        ("export", "run", "--to", "onnx", "--out", "student.onnx"),
        ("export", "run", "--to", "hf", "--out", "hub"),
        (*PRETRAIN, "--out", "made.safetensors"),
    ):
        code, said = call(folder, arguments, seconds)
        assert code == 0, (arguments, said)
    (folder / "hub" / "tcs.json").unlink()  # as of any repository on the Hub
    half = (*PRETRAIN, "--out", "half.safetensors", "--checkpoint-every", "1")
    assert call(folder, half, seconds, stops="tcs.pretraining.teacher:save_encoder")[0] != 0
    shutil.copytree(folder / "grid", folder / "left", ignore=shutil.ignore_patterns("results.csv", "runs", "costs"))


def given_doors(folder: pathlib.Path) -> list[Door]:
    """The files with the commands that take them, relative to `folder`, in which names that are digests are looked up."""
    train, extract = (
        ("train", "train.store", "--out", "new"),
        ("extract", "few", "--out", "new.store", "--workers", "0"),
    )
    table: Mapping[str, Sequence[tuple[str, ...]]] = {
        "train.yaml": ((*train, "-c", "train.yaml", "--dry-run"),),
        "audited.csv": (
            (*train, *TRAIN, *LIKELIEST),
            ("cache", "subset", "train.store", *LIKELIEST, "--out", "new.store"),
        ),
        f"run/{FOLDER}/folded.safetensors": (
            (*train, *TRAIN, "--student-checkpoint", f"run/{FOLDER}/folded.safetensors"),
        ),
        "w.safetensors": (("extract", "few", "--out", "new.store", *TEACHER),),
        "card.json": ((*extract, "--teacher-card", "card.json"),),
        "made.json": ((*PRETRAIN, "--out", "made.safetensors"), (*extract, "--teacher-card", "made.json")),
        "half.resume.pt": ((*PRETRAIN, "--out", "half.safetensors"),),
        "names.txt": (("extract", "few", "--out", "new.store", "--class-map", "names.txt", *TEACHER),),
        "keys.txt": (("cache", "subset", "train.store", "--keys", "keys.txt", "--out", "new.store"),),
        "labels.csv": (("cache", "label", "train.store", "--label-file", "labels.csv"), LABELLED),
        "split.txt": (
            (
                "probe",
                "train.store",
                "--test",
                "test.store",
                "--dims",
                "4",
                "--split-file",
                "split.txt",
                "--out",
                "new",
            ),
            ("fit", "train.store", "--components", "4", "--split-file", "split.txt", "--out", "new.safetensors"),
        ),
        "images.csv": (("predict", "run", "images.csv"), ("extract", "images.csv", "--out", "new.store", *TEACHER)),
        "few.tar": (("predict", "run", "few.tar"), ("extract", "few.tar", "--out", "new.store", *TEACHER)),
        "photo.png": (("predict", "run", "photo.png"),),
        "student.onnx": (("predict", "student.onnx", "few"),),
        "hub/config.json": (("predict", "hub", "few"), (*extract, "--teacher", "local-dir:hub")),
        "hub/model.safetensors": (("predict", "hub", "few"),),
        **{
            f"plain/{name}": (("cache", "import", "plain", "--out", "new.store"),)
            for name in ("avg.npy", "classes.txt", "hashes.npy", "keys.txt", "labels.npy", "store.json")
        },
        "packed.h5": (("cache", "unpack", "packed.h5", "--out", "new.store"), ("cache", "info", "packed.h5")),
        "train.store/manifest.json": (("cache", "info", "train.store"), (*train, *TRAIN), ("verify", "train.store")),
        "train.store/shard-00000.h5": (("cache", "verify", "train.store"), (*train, *TRAIN)),
        "c.safetensors": (("look", "train.store", "--coordinates", "c.safetensors", "--out", "new.html"),),
        "t.h5": (("look", "train.store", "--coordinates", "c.safetensors", "--targets", "t.h5", "--out", "new.html"),),
        **_grid_doors(folder),
    }
    return [Door(file, arguments) for file, lines in table.items() for arguments in lines]


def _grid_doors(folder: pathlib.Path) -> Mapping[str, Sequence[tuple[str, ...]]]:
    """The same of a recipe, and of what a grid keeps."""
    return {
        "recipe.yaml": (("fewshot", "recipe.yaml", "--out", "left"),),
        **{
            _first(folder, pattern): (
                ("report", "grid", "--out", "r.html"),
                ("fewshot", "recipe.yaml", "--out", "grid"),
            )
            for pattern in ("grid/predictions/[0-9a-f]*.npz", "grid/predictions/test-*.npz", "grid/costs/*.json")
        },
        **{
            _first(folder, pattern): (("fewshot", "recipe.yaml", "--out", "left"),)
            for pattern in ("left/pool-labels/*.safetensors", "left/splits/*.txt", "left/predictions/[0-9a-f]*.npz")
        },
    }


def _first(folder: pathlib.Path, pattern: str) -> str:
    return min(folder.glob(pattern)).relative_to(folder).as_posix()


def main() -> None:
    """The cases of files that are given."""
    run = functools.partial(run_cases, prepared=prepare_given, table=given_doors)
    command_line(__doc__ or "", "given", run, FINE, "files whose path holds this")


if __name__ == "__main__":
    main()
