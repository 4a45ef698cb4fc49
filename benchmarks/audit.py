"""Does `tcs audit` find what was planted: wrong labels, and copies that were re-encoded, resized or cropped?

    python benchmarks/audit.py labels STORES/flowers5-train.store STORES/cifar10-lite2-train.store --out benchmarks/results/audit/labels.csv
    python benchmarks/audit.py plant STORES/flowers5-train.store --out copies
    tcs extract copies --teacher tf_efficientnet_lite2.in1k ... --out copies.store
    python benchmarks/audit.py copies STORES/flowers5-train.store copies.store --without STORES/pbc8-train.store --out copies.csv
    OMP_NUM_THREADS=1 python -m benchmarks.audit speed --rows 100000 --dims 384 --classes 100 --out speed.csv

`labels`: 5 % of the labels are replaced by another class, drawn evenly; the share of them in the first tenth of the ranked rows.
Seeds from 100 on: the penalty and the number of axes were chosen on two other draws of these stores. `plant` writes three copies of
each of 150 images. `copies`: at each cosine, the share of copies that are as near to their image, in two halves of the images, and
the share of rows of stores without planted copies that have such a neighbour (a false alarm, or a copy that was there before). The
default was chosen on an earlier draw of images of the same store, and on these stores without planted copies. `speed`: what each step of
an audit of random rows costs, in processor seconds, and the most memory of this process up to its end; `faiss` is its exact index asked for
the same neighbours, which alone is not all that the step before finds.
Legend: N rows, K coordinates.
"""

import argparse
import io
import pathlib
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image

import cache
from benchmarks.imagenet_size import RandomRows, peak_mib
from tcs.auditing.labels import suspect_labels
from tcs.auditing.neighbours import find_neighbours
from tcs.auditing.space import directions, fit_space
from tcs.coordinates.vectors import row_vectors
from tcs.plain_files import save_table
from tcs.runtime import seed_for

WRONG_SHARE, LISTED_SHARE, NEIGHBOURS = 0.05, 0.1, 10
COSINES = (0.7, 0.75, 0.8, 0.85, 0.9, 0.95)
COPIED_IMAGES = 150
Row = dict[str, Any]


def main(given: list[str] | None = None) -> None:
    """Run one part."""
    parser = argparse.ArgumentParser(description="Plant errors and look for them.")
    parser.add_argument("part", choices=("labels", "plant", "copies", "speed"))
    parser.add_argument("stores", nargs="*", type=pathlib.Path)
    parser.add_argument("--without", nargs="+", default=[], type=pathlib.Path)
    parser.add_argument("--seeds", nargs="+", type=int, default=[100, 101, 102, 103, 104])
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--dims", type=int, default=384)
    parser.add_argument("--classes", type=int, default=100)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    options = parser.parse_args(given)
    if options.part == "plant":
        plant_copies(cache.open(options.stores[0]), options.out)
        return
    options.out.parent.mkdir(parents=True, exist_ok=True)
    if options.part == "speed":
        rows = speed_rows(options.rows, options.dims, options.classes)
    elif options.part == "labels":
        rows = [row for path in options.stores for row in label_rows(path, options.seeds)]
    else:
        rows = copy_rows(options.stores[0], options.stores[1], options.without)
    save_table(options.out, rows, tuple(rows[0]))


def label_rows(path: pathlib.Path, seeds: list[int]) -> list[Row]:
    """A row a seed: the share of the planted errors in the first tenth, and of rows there that were planted."""
    store = cache.open(path)
    vectors = row_vectors(store, next(iter(store.readouts)))
    points_NK = fit_space(vectors).points(vectors)
    groups_N = np.unique(store.hashes_N16, axis=0, return_inverse=True)[1].reshape(-1)
    true_N, classes = store.labels_N.astype(np.int64), len(store.classes)
    near_Nk = find_neighbours(directions(points_NK), groups_N, true_N, NEIGHBOURS).rows_Nk  # the same for all labels
    rows = []
    for seed in seeds:
        generator = np.random.default_rng(seed_for(seed, "planted labels"))
        wrong = generator.choice(len(true_N), round(WRONG_SHARE * len(true_N)), replace=False)
        labels_N = true_N.copy()
        labels_N[wrong] = (labels_N[wrong] + generator.integers(1, classes, len(wrong))) % classes
        found = suspect_labels(points_NK, labels_N, groups_N, near_Nk, classes)
        first = np.argsort(-found.scores_L, kind="stable")[: round(LISTED_SHARE * len(true_N))]
        listed = found.rows_L[first]
        hits = np.isin(wrong, listed)
        named = dict(zip(found.rows_L.tolist(), found.suggested_L.tolist(), strict=True))
        right = sum(named[row] == true_N[row] for row in wrong.tolist())
        rows.append(
            {
                "store": path.stem,
                "rows": len(true_N),
                "seed": seed,
                "planted": len(wrong),
                "in_first_tenth": round(float(hits.mean()), 4),
                "true_class_suggested": round(right / len(wrong), 4),
            }
        )
    return rows


def plant_copies(store: cache.Store, folder: pathlib.Path) -> None:
    """Three copies of each drawn image: `KIND/ROW.jpg`."""
    generator = np.random.default_rng(seed_for(0, "planted copies"))
    for row in np.sort(generator.choice(len(store), COPIED_IMAGES, replace=False)).tolist():
        image = Image.open(io.BytesIO(store.image_bytes(row))).convert("RGB")
        size_2 = np.array(image.size)
        small = generator.uniform(0.5, 0.8)
        kept_2 = (size_2 * generator.uniform(0.90, 0.95)).astype(int)
        corner_2 = (generator.uniform(0, 1, 2) * (size_2 - kept_2)).astype(int)
        made = {
            "encoded": (image, int(generator.integers(50, 91))),
            "resized": (image.resize(tuple((size_2 * small).astype(int).tolist()), Image.Resampling.BICUBIC), 90),
            "cropped": (image.crop((*corner_2.tolist(), *(corner_2 + kept_2).tolist())), 90),
        }
        for kind, (copy, quality) in made.items():
            path = folder / kind / f"{row:06}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            copy.save(path, quality=quality)


def copy_rows(source: pathlib.Path, copies: pathlib.Path, without: list[pathlib.Path]) -> list[Row]:
    """A row for every cosine, and kind of copy and half, or store without planted copies."""
    store, planted = cache.open(source), cache.open(copies)
    vectors = row_vectors(store, next(iter(store.readouts)))
    space = fit_space(vectors)
    kinds = np.array([key.split("/")[0] for key in planted.keys])
    rows_M = np.array([int(pathlib.PurePosixPath(key).stem) for key in planted.keys])
    copied_MK = directions(space.points(row_vectors(planted, next(iter(planted.readouts)))))
    cosines_M = (copied_MK * directions(space.points(vectors))[rows_M]).sum(axis=1)
    halves_M = np.unique(rows_M, return_inverse=True)[1] % 2
    groups = {
        f"{kind}, {half} half": cosines_M[(kinds == kind) & (halves_M == number)]
        for kind in sorted(set(kinds.tolist()))
        for number, half in enumerate(("first", "second"))
    }
    groups |= {f"none planted: {path.stem}": _nearest(path) for path in (source, *without)}
    return [
        {"cosine": cosine, "of": name, "images": len(found), "share": round(float((found >= cosine).mean()), 4)}
        for cosine in COSINES
        for name, found in groups.items()
    ]


def speed_rows(rows: int, dims: int, classes: int) -> list[Row]:
    """A row for every step of an audit of `rows` random ones."""
    vectors_ND = RandomRows(rows=rows, dims=dims, classes=classes, part=0)[0:rows]
    numbers_N, labels_N = np.arange(rows), np.arange(rows) % classes
    told: list[Row] = []

    def timed(step: str, work: Callable[[], Any]) -> Any:
        started = time.process_time()
        found = work()
        seconds = round(time.process_time() - started, 2)
        told.append({"step": step, "rows": rows, "dims": dims, "classes": classes, "seconds": seconds})
        told[-1]["peak_mib"] = round(peak_mib())
        return found

    timed("start", lambda: None)
    points_NK = timed("space", lambda: fit_space(vectors_ND).points(vectors_ND))
    directions_NK = directions(points_NK)
    near = timed("neighbours", lambda: find_neighbours(directions_NK, numbers_N, labels_N, NEIGHBOURS))
    timed("labels", lambda: suspect_labels(points_NK, labels_N, numbers_N, near.rows_Nk, classes))
    timed("faiss", lambda: faiss_neighbours(directions_NK))
    return told


def faiss_neighbours(directions_NK: np.ndarray) -> np.ndarray:
    """The nearest rows and the row itself by faiss' exact index, (N, NEIGHBOURS + 1)."""
    import faiss

    index = faiss.IndexFlatIP(directions_NK.shape[1])
    index.add(directions_NK)
    rows_Nk: np.ndarray = index.search(directions_NK, NEIGHBOURS + 1)[1]
    return rows_Nk


def _nearest(path: pathlib.Path) -> np.ndarray:
    """The cosine of every row to its nearest one, (N,)."""
    store = cache.open(path)
    vectors = row_vectors(store, next(iter(store.readouts)))
    numbers_N = np.arange(len(store))
    near = find_neighbours(directions(fit_space(vectors).points(vectors)), numbers_N, np.full(len(store), -1), 1)
    cosines_N: np.ndarray = near.cosines_Nk[:, 0]
    return cosines_N


if __name__ == "__main__":
    main()
