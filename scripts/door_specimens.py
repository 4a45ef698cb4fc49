"""One sound specimen of every file that the harnesses of doors damage or read, made by the commands themselves."""

import io
import pathlib
import shutil

import numpy as np
import yaml
from door_calls import STOPPED, call
from door_table import FOLDER, STUDENT, TEACHER, TRAIN

import cache

CLASSES = ("ant", "bee")


def prepare(folder: pathlib.Path, seconds: int) -> None:
    """One sound specimen of every file, made by the commands themselves."""
    for name, seed in (("train", 0), ("test", 1)):
        _store(folder / f"{name}.store", seed)
    rows = cache.open(folder / "train.store").keys
    lines = [(key.partition("/")[0], key) for key in rows]
    (folder / "split.txt").write_text("".join(f"{name} {key}\n" for name, key in lines[:16]))
    (folder / "labels.csv").write_text("key,class\n" + "".join(f"{key},{name}\n" for name, key in lines[:16]))
    (folder / "recipe.yaml").write_text(yaml.safe_dump(RECIPE, sort_keys=False))
    for arguments in (
        ("fit", "train.store", "--components", "4", "--ceiling-shots", "2", "--out", "c.safetensors"),
        ("targets", "train.store", "c.safetensors", "--bits", "32", "--out", "t.h5"),
        ("train", "train.store", "--out", "run", *TRAIN),
        ("export", "run", "--to", "timm", "--out", "exported"),
        ("fewshot", "recipe.yaml", "--out", "grid"),
        (
            "probe",
            "train.store",
            "--test",
            "test.store",
            "--dims",
            "4",
            "--shots",
            "2",
            "--seed",
            "0",
            "--out",
            "probed",
        ),
    ):
        code, said = call(folder, arguments, seconds)
        assert code == 0, (arguments, said)
    code, _ = call(
        folder, ("train", "train.store", "--out", "half", *TRAIN), seconds, stops="tcs.training.stream:save_student"
    )
    assert code == STOPPED
    assert (folder / "half" / FOLDER / "resume.pt").exists()


RECIPE = {
    "train": "train.store",
    "test": "test.store",
    "students": [STUDENT],
    "methods": ["labels", "tcs-pool"],
    "shots": [2],
    "seeds": [0],
    "unlabelled": ["all"],
    "references": ["teacher-probe"],
    "options": {"img_size": 16, "steps": 1, "batch_size": 8},
    "latency": False,
}


def _store(path: pathlib.Path, seed: int) -> None:
    """32 images of two classes, with features that tell them apart."""
    from PIL import Image

    rng = np.random.default_rng(seed)
    labels = tuple(index % 2 for index in range(32))
    plan = cache.Plan(
        identity={"teacher": {"name": "made-up"}, "semantics": 1},
        readouts=(cache.Readout(name="avg", dims=8, dtype="float32"),),
        keys=tuple(f"{CLASSES[label]}/{seed}-{index}.png" for index, label in enumerate(labels)),
        labels=labels,
        classes=CLASSES,
        images="original",
        rows_per_shard=32,
        batch_size=8,
    )
    blobs = []
    for index, label in enumerate(labels):
        buffer = io.BytesIO()
        Image.fromarray(rng.integers(100 * label, 100 * label + 99, (16, 16, 3), np.uint8)).save(buffer, "PNG")
        blobs.append(buffer.getvalue())
        image = path.parent / "images" / plan.keys[index]
        image.parent.mkdir(parents=True, exist_ok=True)
        image.write_bytes(blobs[-1])
    hashes = np.stack([np.frombuffer(cache.content_hash(blob), np.uint8) for blob in blobs])
    features = rng.normal(size=(32, 8)) + 3 * np.array(labels)[:, None]
    with cache.StoreWriter(path, plan, provenance={}) as writer:
        writer.write_shard(
            0, cache.ShardRows(positions_N=np.arange(32), hashes_N16=hashes, features={"avg": features}, images=blobs)
        )
        writer.close()


def prepare_more(folder: pathlib.Path, seconds: int) -> None:
    """What the writers read beside what the doors read."""
    import timm
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(0)
    save_file(timm.create_model("test_resnet", num_classes=0).state_dict(), folder / "w.safetensors")
    for name in CLASSES:
        (folder / "few" / name).mkdir(parents=True)
        for path in sorted((folder / "images" / name).iterdir())[:6]:
            shutil.copy(path, folder / "few" / name / path.name)
    (folder / "keys.txt").write_text("".join(f"{line.split()[-1]}\n" for line in (folder / "split.txt").open()))
    for arguments in (
        ("cache", "pack", "train.store", "--out", "packed.h5"),
        ("cache", "export", "train.store", "--out", "plain"),
        ("extract", "few", "--out", "grown.store", *TEACHER),
    ):
        code, said = call(folder, arguments, seconds)
        assert code == 0, (arguments, said)
    first = sorted((folder / "few" / CLASSES[0]).iterdir())[0]
    first.rename(first.with_name("renamed.png"))
    shutil.copy(sorted((folder / "images" / CLASSES[0]).iterdir())[-1], folder / "few" / CLASSES[0] / "more.png")
