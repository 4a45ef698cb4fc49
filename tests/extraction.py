"""Extraction from folders of small noisy images by a tiny ViT, and images that cannot be read."""

import contextlib
import io
import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from PIL import Image

import cache
from cache.errors import StoreWriteError
from tcs.config.extract import ExtractConfig

SIDE = 32


def encoded(seed: int, kind: str = "PNG") -> bytes:
    height, width = 20 + seed % 30, 20 + seed % 17
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


def fill(folder: pathlib.Path, count: int, classes: int = 2) -> pathlib.Path:
    for i in range(count):
        path = folder / f"c{i % classes}" / f"{i}.{'png' if i % 3 else 'jpg'}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(i, "PNG" if i % 3 else "JPEG"))
    return folder


def config(data: pathlib.Path, out: pathlib.Path, teacher: pathlib.Path, **options: Any) -> ExtractConfig:
    plain = {"img_size": SIDE, "rows_per_shard": 7, "batch_size": 3, "workers": 0}
    return ExtractConfig(
        data=str(data), out=str(out), teacher="test_vit", teacher_checkpoint=str(teacher), **(plain | options)
    )


def break_some(data: pathlib.Path) -> dict[str, str]:
    """Spoil four of the images; returns key -> how the reason begins."""
    good = (data / "c0/4.png").read_bytes()
    (data / "c0/4.png").write_bytes(good[: len(good) // 2])
    (data / "c0/6.jpg").write_text("a text file")
    (data / "c1/7.png").write_bytes(b"")
    (data / "c1/25.png").unlink()
    (data / "c1/25.png").symlink_to("nowhere.png")
    return {"c0/4.png": "", "c0/6.jpg": "not an image file", "c1/7.png": "empty file", "c1/25.png": "cannot be read"}


@contextlib.contextmanager
def full_at(index: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The system refuses the write of shard `index`, and that is told."""
    write = cache.StoreWriter.write_shard

    def full(self: cache.StoreWriter, at: int, rows: cache.ShardRows) -> None:
        if at == index:
            raise StoreWriteError("no space left; free some and run again.")
        write(self, at, rows)

    with monkeypatch.context() as patch:
        patch.setattr(cache.StoreWriter, "write_shard", full)
        with pytest.raises(StoreWriteError, match="no space left"):
            yield
