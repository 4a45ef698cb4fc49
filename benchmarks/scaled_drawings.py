"""How far `--scaled-decoding` changes what it suits least: text and coloured lines, saved as JPEG.

    python -m benchmarks.scaled_drawings

Photographs are measured by benchmarks/scaled_decoding.py; edges from white to black are what a decoder's smaller image keeps least of.
Pages of 1200 x 900 pixels, drawn by Pillow with its own font and a fixed seed, `PAGES` of each kind: black text on white, and lines of
full colours on white, whose chroma the file holds at half of the size (4:2:0). Frames are made as training streams them, whole and
scaled. Writes results/scaled-decoding/drawings.csv: levels of 255, on average over all pixels, of the frame that changes most, the
greatest.
"""

import io
import pathlib
import tempfile
from collections.abc import Callable, Mapping

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from benchmarks import turns
from benchmarks.scaled_decoding import frames, store_of
from tcs.plain_files import save_table
from tcs.runtime import environment

WIDTH, HEIGHT = 1200, 900
PAGES, LINES = 4, 150
SIZES = (32, 64, 100, 224)
QUALITY = 75
LETTERS = np.array(list("abcdefghijklmnopqrstuvwxyz     "))
COLOURS = ("#ff0000", "#00a000", "#0000ff", "#ff00ff", "#00c0c0")


def text_page(rng: np.random.Generator) -> Image.Image:
    """Rows of letters, 14 pixels high."""
    page, font = Image.new("RGB", (WIDTH, HEIGHT), "white"), ImageFont.load_default(size=14)
    pen = ImageDraw.Draw(page)
    for top in range(10, HEIGHT - 20, 18):
        pen.text((10, top), "".join(rng.choice(LETTERS, 150)), fill="black", font=font)
    return page


def line_page(rng: np.random.Generator) -> Image.Image:
    """Lines of two pixels between points of a page."""
    page = Image.new("RGB", (WIDTH, HEIGHT), "white")
    pen = ImageDraw.Draw(page)
    for number in range(LINES):
        ends = rng.integers(0, (WIDTH, HEIGHT, WIDTH, HEIGHT))
        pen.line([int(end) for end in ends], fill=COLOURS[number % len(COLOURS)], width=2)
    return page


KINDS: Mapping[str, Callable[[np.random.Generator], Image.Image]] = {"text": text_page, "coloured lines": line_page}


def jpeg(page: Image.Image) -> bytes:
    """With chroma at half of the size."""
    buffer = io.BytesIO()
    page.save(buffer, "JPEG", quality=QUALITY, subsampling="4:2:0")
    return buffer.getvalue()


def changes(kind: str, scratch: pathlib.Path) -> list[dict[str, str]]:
    """A row for each size of frame."""
    rng = np.random.default_rng(0)
    store = store_of(scratch / "drawings.store", [jpeg(KINDS[kind](rng)) for _ in range(PAGES)])
    rows = []
    for size in SIZES:
        whole, scaled = (frames(store, size, scaled=scaled).astype(np.int16) for scaled in (False, True))
        gap = np.abs(scaled - whole)
        found = {"mean": gap.mean(), "mean_most": gap.mean(axis=(1, 2, 3)).max()}
        facts = {"kind": kind, "px": str(size), "pages": str(PAGES), "quality": str(QUALITY)}
        rows.append(facts | {name: f"{value:.2f}" for name, value in found.items()} | {"greatest": str(gap.max())})
    return rows


def main() -> None:
    """Measure, print, write the table."""
    torch.set_num_threads(1)
    rows: list[dict[str, str]] = []
    for kind in KINDS:
        with tempfile.TemporaryDirectory() as scratch:
            rows += changes(kind, pathlib.Path(scratch))
    commit = str(environment()["commit"])
    for row in rows:
        row["commit"] = commit
        print(*row.values())
    folder = turns.RESULTS / "scaled-decoding"
    folder.mkdir(parents=True, exist_ok=True)
    save_table(folder / "drawings.csv", rows)


if __name__ == "__main__":
    main()
