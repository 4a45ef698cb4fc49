"""A part of the labelled images held out for scoring, from one store: `--val-split`. Copies of an image stay on one side.

Exact copies have one content hash; near copies (another size, another compression) have features that point the same way, once the
mean of all features is taken off. Whatever is linked so, by way of others too, is one group, and a group goes to one side whole.

Legend: N rows of the whole store, L labelled ones, B of a block, D teacher dims.
"""

import csv
import io
import pathlib
from collections import Counter

import numpy as np
from numpy.typing import NDArray

import cache
from tcs.config.distill import Places
from tcs.coordinates.vectors import row_vectors
from tcs.errors import ArtefactError, DataError
from tcs.ordinary import read_ordinary
from tcs.runtime import progress_bar, say
from tcs.splits.ranking import hash_rank

# Cosine of centred features above which two images count as copies. Of 50 flowers (EfficientNet-Lite0, 128 px) copies in JPEG of
# quality 40 had 0.83 to 1, mirrored ones 0.86, without a margin of 5 % 0.78, of half the size 0.68 (least of 50; medians 0.93, 0.94,
# 0.91, 0.86); of 500 different flowers 0.5 % had such a neighbour. A wrong link costs nothing but the choice of the side.
NEAR_COPY = 0.85
BLOCK_ROWS = 256
TRAIN, TEST = "train", "test"
COLUMNS = ("key", "part", "class")


def divide(places: Places, share: float, seed: int) -> None:
    """Write `places.split_file` and the two stores that it names, from `places.whole_store`; a rerun finds them.

    Of each class about `share` of the labelled images go to the test store, drawn by a hash of key and seed; images without a
    label go there only as copies. A split file that is there is followed, so that the parts stay when labels are added. DataError
    where no class has images enough.
    """
    store = cache.open(places.whole_store)
    parts = _read_parts(places.split_file, store.keys) if places.split_file.exists() else None
    if parts is None:
        parts = choose_parts(store, share, seed)
        _write_parts(places.split_file, store, parts)
    counts = Counter(parts)
    say(f"{places.split_file}: {counts[TRAIN]:,} images to train on, {counts[TEST]:,} to score on.")
    for part, path in ((TRAIN, places.train_store), (TEST, places.test_store)):
        _write_store(store, path, [key for key, own in zip(store.keys, parts, strict=True) if own == part])


def choose_parts(store: cache.Store, share: float, seed: int) -> list[str]:
    """`train` or `test` for each row of a store: a pure function of keys, labels, copies, share and seed."""
    group_N = copies_of(store)
    sizes = Counter(group_N.tolist())
    linked = [size for size in sizes.values() if size > 1]
    if linked:
        say(
            f"{sum(linked):,} images are copies of each other ({len(linked):,} groups, cosine above {NEAR_COPY}); none straddles."
        )
    members: dict[int, list[int]] = {}
    for row, group in enumerate(group_N.tolist()):
        members.setdefault(group, []).append(row)
    held: set[int] = set()
    for label, name in enumerate(store.classes):
        rows = np.flatnonzero(store.labels_N == label).tolist()
        ranked = sorted(rows, key=lambda row: hash_rank(seed, f"val {name}", store.keys[row]))
        _hold(ranked, group_N, members, store.labels_N, label, share, held)
    if not held:
        raise DataError(
            f"no class of {store.path} has two labelled images that are no copies of each other, so none can be held out; label "
            "more, or give test images of their own: --test DATA."
        )
    return [TEST if int(group) in held else TRAIN for group in group_N]


def _hold(
    ranked: list[int],
    group_N: NDArray[np.int64],
    members: dict[int, list[int]],
    labels_N: NDArray[np.int64],
    label: int,
    share: float,
    held: set[int],
) -> None:
    """Hold out whole groups of one class until its share is reached: at least one image, and never the last group of it."""
    groups = list(dict.fromkeys(int(group_N[row]) for row in ranked))
    wanted, taken = max(1, round(share * len(ranked))), 0
    for group in groups[:-1]:
        labels = {int(labels_N[row]) for row in members[group]} - {-1}
        if taken >= wanted:
            return
        if labels == {label}:  # copies under two classes are nobody's truth to be scored by
            held.add(group)
            taken += sum(int(labels_N[row]) == label for row in members[group])


def copies_of(store: cache.Store) -> NDArray[np.int64]:
    """The group of each row, int64 (N,): the lowest row of all that are linked as copies. Links of unlabelled rows among themselves
    do not matter, and are not looked for."""
    parent = list(range(len(store)))

    def root(row: int) -> int:
        while parent[row] != row:
            parent[row] = parent[parent[row]]
            row = parent[row]
        return row

    def link(one: int, other: int) -> None:
        low, high = sorted((root(one), root(other)))
        parent[high] = low

    first: dict[bytes, int] = {}
    for row, digest in enumerate(store.hashes_N16):
        link(first.setdefault(digest.tobytes(), row), row)
    for one, other in _near_pairs(store):
        link(one, other)
    return np.array([root(row) for row in range(len(store))], np.int64)


def _near_pairs(store: cache.Store) -> list[tuple[int, int]]:
    """(labelled row, any row) of a cosine above NEAR_COPY between centred features of the first readout."""
    features_ND = row_vectors(store, next(iter(store.readouts)))[np.arange(len(store))].astype(np.float32)
    features_ND -= features_ND.mean(axis=0)
    features_ND /= np.linalg.norm(features_ND, axis=1, keepdims=True).clip(1e-12)
    labelled_L = np.flatnonzero(store.labels_N >= 0)
    pairs = []
    with progress_bar(len(labelled_L), "looking for copies", "images") as bar:
        for start in range(0, len(labelled_L), BLOCK_ROWS):
            block_B = labelled_L[start : start + BLOCK_ROWS]
            near_BN = features_ND[block_B] @ features_ND.T > NEAR_COPY
            pairs += [
                (int(block_B[one]), int(other)) for one, other in np.argwhere(near_BN).tolist() if block_B[one] != other
            ]
            bar.advance(len(block_B))
    return pairs


def _write_parts(path: pathlib.Path, store: cache.Store, parts: list[str]) -> None:
    """The table `key,part,class`, whole or not at all; as a split file it gives the labels."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for key, part, label in zip(store.keys, parts, store.labels_N.tolist(), strict=True):
        writer.writerow((key, part, store.classes[label] if label >= 0 else ""))
    cache.atomic_write_bytes(path, text.getvalue().encode("utf-8", "surrogateescape"))


def _read_parts(path: pathlib.Path, keys: list[str]) -> list[str]:
    """The part of each key; ArtefactError where the table is of other images, or none of ours."""
    text = read_ordinary(path).decode("utf-8-sig", "surrogateescape")
    lines = list(csv.reader(io.StringIO(text, newline="")))
    found = {line[0]: line[1] for line in lines[1:] if len(line) == len(COLUMNS)}
    if tuple(lines[0] if lines else ()) != COLUMNS or set(found.values()) - {TRAIN, TEST} or found.keys() != set(keys):
        raise ArtefactError(f"{path} does not divide the images of this store; delete it, and it is made again.")
    return [found[key] for key in keys]


def _write_store(whole: cache.Store, path: pathlib.Path, keys: list[str]) -> None:
    """The store of one part. One that is there keeps its plan, and gets the labels that the whole store has by now."""
    plan = cache.stored_plan(path) if path.exists() else None
    if plan is None or cache.read_manifest(path).state == "open" or set(plan.keys) != set(keys):
        cache.subset(whole.path, path, keys=keys)
        return
    label_of = {key: int(label) for key, label in zip(whole.keys, whole.labels_N, strict=True)}
    names = {key: whole.classes[label_of[key]] for key in keys if label_of[key] >= 0}
    cache.set_labels(path, names, source={"store": str(whole.path), "identity": whole.labelled_identity})
