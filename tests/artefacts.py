"""Small artefacts for the tests of later stages: stores written with plain arrays, so that no teacher is needed."""

import functools
import io
import pathlib
import tempfile
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image

import cache

SIZE, DIMS = 16, 24
LOCK = ".lock"  # of the writer, which goes with it
CLASSES = ("ant", "bee", "cow")


def png(pixels_HW3: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels_HW3).save(buffer, "PNG")
    return buffer.getvalue()


def make_store(path: pathlib.Path, **options: Any) -> cache.Store:
    """A closed store: class c has bright pixels in column block c, and features around a class centre.

    `options` are those of `store_files`. Equal ones give equal bytes, which are made once a process.
    """
    path.mkdir(parents=True)
    for name, data in store_files(png, **options).items():
        (path / name).write_bytes(data)
    return cache.open(path)


@functools.cache
def store_files(
    encode: Callable[[np.ndarray], bytes],
    *,
    rows: int = 60,
    seed: int = 0,
    classes: tuple[str, ...] = CLASSES,
    labelled: bool = True,
    teacher: str = "made-up",
    images: str = "original",
    dims: int = DIMS,
    grid: tuple[int, int] | None = None,
    views: int | None = None,
) -> dict[str, bytes]:
    """The files of such a store by name; `encode` makes an image's bytes of its pixels.

    Positions of a `grid` and `views` scatter around the row's feature, which is their mean.
    """
    rng = np.random.default_rng(seed)
    labels_N = np.arange(rows) % len(classes)
    centres_CD = np.random.default_rng(123).standard_normal((len(classes), dims)) * 3
    features_ND = (centres_CD[labels_N] + rng.standard_normal((rows, dims)) + 5).astype(np.float32)
    shape = (*(() if views is None else (views,)), *(grid or ()))
    scatter_NXD = rng.standard_normal((rows, int(np.prod(shape)), dims)) if shape else np.zeros((rows, 1, dims))
    stored_NXD = features_ND[:, None] + scatter_NXD - scatter_NXD.mean(1, keepdims=True)
    stored = stored_NXD.reshape(rows, *shape, dims).astype(np.float32)
    blobs = []
    for label in labels_N:
        pixels = rng.integers(0, 90, (SIZE, SIZE, 3), dtype=np.uint8)
        pixels[:, 5 * label : 5 * label + 5] += 150
        blobs.append(encode(pixels))
    plan = cache.Plan(
        identity={"teacher": teacher, "semantics": 1},
        readouts=(cache.Readout(name="avg", dims=dims, dtype="float32", grid=grid),),
        keys=tuple(f"{classes[label]}/{seed}-{row:04}.png" for row, label in enumerate(labels_N)),
        labels=tuple(int(label) if labelled else -1 for label in labels_N),
        classes=classes if labelled else (),
        images=images,
        rows_per_shard=40,
        batch_size=8,
        views=None if views is None else cache.Views(count=views, parameters=("flip",)),
    )
    with (
        tempfile.TemporaryDirectory() as folder,
        cache.StoreWriter(pathlib.Path(folder, "x.store"), plan, provenance={}) as writer,
    ):
        for index in writer.pending():
            at = slice(index * 40, min((index + 1) * 40, rows))
            writer.write_shard(
                index,
                cache.ShardRows(
                    positions_N=np.arange(rows)[at],
                    hashes_N16=np.stack([np.frombuffer(cache.content_hash(blob), np.uint8) for blob in blobs[at]]),
                    features={"avg": stored[at]},
                    images=None if images == "none" else blobs[at],
                    quarantine=(),
                    views_NVP=None if views is None else np.zeros((len(blobs[at]), views, 1)),
                ),
            )
        writer.close(provenance={})
        return {file.name: file.read_bytes() for file in pathlib.Path(folder, "x.store").iterdir() if file.name != LOCK}


def make_targets(
    folder: pathlib.Path, store: str = "train.store", *, method: str = "pca", components: int = 8
) -> pathlib.Path:
    """Coordinates, without a ceiling at any shots, and a targets file for a store of `folder`."""
    from tcs.config.coordinates import FitConfig, TargetsConfig
    from tcs.coordinates.fit import fit
    from tcs.coordinates.targets import fit_targets

    coordinates, out = folder / f"{method}.safetensors", folder / f"{method}.h5"
    given = {"store": str(folder / store), "out": str(coordinates), "components": components, "method": method}
    fit(FitConfig(**given, ceiling_shots=()))
    return fit_targets(TargetsConfig(store=str(folder / store), coordinates=str(coordinates), out=str(out), bits=32))


def save_vit(path: pathlib.Path, side: int) -> pathlib.Path:
    """Weights of a tiny ViT for images of `side` pixels, random but always the same."""
    import timm
    import torch
    from safetensors.torch import save_file

    with torch.random.fork_rng():
        torch.manual_seed(0)
        save_file(timm.create_model("test_vit", num_classes=0, img_size=side).state_dict(), path)
    return path
