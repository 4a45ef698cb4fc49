"""A small store with replayable views, made without a teacher: its features are colours of the view, so that what belongs to
another view is seen to."""

import io
import pathlib

import numpy as np
from pictures import smooth_picture
from PIL import Image

import cache
from tcs.augmentation.views import PARAMETERS, ViewPolicy, replay

ROWS, VIEWS, SIDE = 24, 3, 16
CLASSES = ("ant", "bee", "cow")


def write_view_store(path: pathlib.Path, *, views: int = VIEWS, maps: bool = False) -> cache.Store:
    """`avg` (V, 12): mean colours of the quarters of a view at 16 px, from 0 to 1; `map` (V, 2, 2, 3): the same as a grid."""
    policy = ViewPolicy(count=views, scale=(0.3, 1), ratio=(0.75, 4 / 3), hflip=0.5, jitter=0.3, grayscale=0.1, seed=5)
    pictures = [smooth_picture(48 + 4 * (row % 3), 40, row) for row in range(ROWS)]
    keys = [f"{CLASSES[row % 3]}/{row:02}.png" for row in range(ROWS)]
    views_NVP = np.stack([policy.draw(key, picture.size) for key, picture in zip(keys, pictures, strict=True)])
    readouts = [cache.Readout(name="avg", dims=12, dtype="float32")]
    readouts += [cache.Readout(name="map", dims=3, dtype="float32", grid=(2, 2))] if maps else []
    plan = cache.Plan(
        identity={"teacher": "colours", "views": policy.identity()},
        readouts=tuple(readouts),
        keys=tuple(keys),
        labels=tuple(row % 3 for row in range(ROWS)),
        classes=CLASSES,
        images="original",
        rows_per_shard=ROWS,
        batch_size=8,
        views=cache.Views(count=views, parameters=PARAMETERS),
    )
    shown = [
        [replay(picture, row, (SIDE, SIDE)) for row in rows] for picture, rows in zip(pictures, views_NVP, strict=True)
    ]
    maps_NVHWC = np.stack([[quarters(view) for view in views] for views in shown]).astype(np.float32)
    blobs = [_png(picture) for picture in pictures]
    hashes = b"".join(cache.content_hash(blob) for blob in blobs)
    with cache.StoreWriter(path, plan, provenance={}) as writer:
        rows = cache.ShardRows(
            positions_N=np.arange(ROWS),
            hashes_N16=np.frombuffer(hashes, np.uint8).reshape(-1, 16),
            features={item.name: maps_NVHWC.reshape(ROWS, *plan.row_shape(item)) for item in readouts},
            images=blobs,
            views_NVP=views_NVP,
        )
        writer.write_shard(0, rows)
        writer.close()
    return cache.open(path)


def quarters(view: Image.Image | np.ndarray) -> np.ndarray:
    """Mean colours (2, 2, 3) of the quarters of an image (height, width, 3), from 0 to 1."""
    pixels_HW3 = np.asarray(view, np.float64) / 255
    half = len(pixels_HW3) // 2
    return np.array(
        [
            [part.mean((0, 1)) for part in (rows[:, :half], rows[:, half:])]
            for rows in (pixels_HW3[:half], pixels_HW3[half:])
        ]
    )


def _png(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()
