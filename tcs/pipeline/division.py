"""A part of the labelled images held out for scoring, from one store: `--val-split`. Copies of an image stay on one side.

Exact copies have one content hash; near copies (another size, another compression) have features that point the same way, once the
mean of all features is taken off. Whatever is linked so, by way of others too, is one group, and a group goes to one side whole. Where
groups are so large that the share is missed by far, images must be more alike to be linked.

Legend: N rows of the whole store, L labelled ones, B of a block, D teacher dims.
"""

import csv
import dataclasses
import io
import pathlib
from collections import Counter
from collections.abc import Iterator, Sequence

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
# 0.91, 0.86); of 500 different flowers 0.5 % had such a neighbour. A wrong link costs nothing but the choice of the side, as long as
# links do not chain: where all images of a class are alike (handwritten digits), they end in groups of half of it, and whole groups are
# no share any more. Then features tell copies only from higher up on, None: content hashes alone tell them.
NEAR_COPY = 0.85
COSINES = (NEAR_COPY, 0.9, 0.95, 0.98, 0.99, None)
ATTEMPTS = (
    *((cosine, False) for cosine in COSINES),
    (None, True),
)  # the last passes over groups that are larger than what is left
MOST_OFF = 0.25  # of the images asked for, or one a class where that is more
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
    parts = read_parts(places.split_file, store.keys) if places.split_file.exists() else None
    if parts is None:
        parts = choose_parts(store, share, seed)
        _write_parts(places.split_file, store, parts)
    counts = Counter(parts)
    say(f"{places.split_file}: {counts[TRAIN]:,} images to train on, {counts[TEST]:,} to score on.")
    for part, path in ((TRAIN, places.train_store), (TEST, places.test_store)):
        _write_store(store, path, [key for key, own in zip(store.keys, parts, strict=True) if own == part])


@dataclasses.dataclass(frozen=True, kw_only=True)
class Division:
    """A choice of groups to hold out: the group of each row, those held, how many labelled images that are, and above which cosine images
    were linked."""

    group_N: NDArray[np.int64]
    held: frozenset[int]
    images: int
    cosine: float | None

    @property
    def parts(self) -> list[str]:
        """`train` or `test` for each row."""
        return [TEST if int(group) in self.held else TRAIN for group in self.group_N]

    @property
    def linked(self) -> list[int]:
        """The sizes of groups of more than one image."""
        return [size for size in Counter(self.group_N.tolist()).values() if size > 1]


def choose_parts(store: cache.Store, share: float, seed: int) -> list[str]:
    """`train` or `test` for each row of a store: a pure function of keys, labels, copies, share and seed.

    Near copies are linked above NEAR_COPY. Where whole groups are off the share by more than a quarter, and by more than an image a class,
    the first of ATTEMPTS counts with which they are not; where there is none, the one that is off least. DataError where no class has
    images enough.
    """
    asked, classes = _asked(store, share)
    divisions: list[Division] = []
    copies = copies_by_cosine(store, (NEAR_COPY,))
    for cosine, passes_over in ATTEMPTS:
        if cosine not in copies:  # all others by one look at the features
            copies |= copies_by_cosine(store, COSINES[1:])
        divisions.append(divided(store, share, seed, copies[cosine], cosine, passes_over=passes_over))
        if abs(divisions[-1].images - asked) <= max(MOST_OFF * asked, classes):
            break
    chosen = min(divisions, key=lambda division: abs(division.images - asked))  # of equals the first
    if not chosen.held:
        raise DataError(
            f"no class of {store.path} has two labelled images that are no copies of each other, so none can be held out; label "
            "more, or give test images of their own: --test DATA."
        )
    _tell(divisions[0], chosen, asked)
    return chosen.parts


def _asked(store: cache.Store, share: float) -> tuple[int, int]:
    """How many labelled images `share` asks for, and of how many classes: of each one at least, and never the last."""
    counts = np.bincount(store.labels_N[store.labels_N >= 0], minlength=1).tolist()
    wanted = [held_of(share, count) for count in counts if count > 1]
    return sum(wanted), len(wanted)


def held_of(share: float, images: int) -> int:
    """How many of the labelled `images` of a class `share` asks to hold out, where no two are copies: one at least, and never the last."""
    return min(_wanted(share, images), images - 1) if images > 1 else 0


def _wanted(share: float, images: int) -> int:
    return max(1, round(share * images))


def _tell(first: Division, chosen: Division, asked: int) -> None:
    """One line on copies, and one where images were so much alike that other links had to be chosen."""
    by = "by content alone" if chosen.cosine is None else f"cosine above {chosen.cosine}"
    if chosen is not first:
        say(
            f"{max(first.linked):,} images are one group of copies by a cosine above {first.cosine}, and {first.images:,} would be held "
            f"out in place of {asked:,}; so copies are linked otherwise ({by}), and {chosen.images:,} are held out."
        )
    if chosen.linked:
        say(
            f"{sum(chosen.linked):,} images are copies of each other ({len(chosen.linked):,} groups, {by}); none straddles."
        )


def divided(
    store: cache.Store,
    share: float,
    seed: int,
    group_N: NDArray[np.int64],
    cosine: float | None,
    *,
    passes_over: bool = False,
) -> Division:
    """Hold out groups of images, `group_N` as of `copies_of` at `cosine`; with `passes_over` none that takes a class a quarter beyond its
    share."""
    members: dict[int, list[int]] = {}
    for row, group in enumerate(group_N.tolist()):
        members.setdefault(group, []).append(row)
    held: set[int] = set()
    for label, name in enumerate(store.classes):
        rows = np.flatnonzero(store.labels_N == label).tolist()
        ranked = sorted(rows, key=lambda row: hash_rank(seed, f"val {name}", store.keys[row]))
        groups = [members[group] for group in dict.fromkeys(group_N[ranked].tolist())]
        held |= _held(groups, store.labels_N, label, _wanted(share, len(rows)), passes_over)
    images = sum(int(store.labels_N[row]) >= 0 for group in held for row in members[group])
    return Division(group_N=group_N, held=frozenset(held), images=images, cosine=cosine)


def _held(groups: list[list[int]], labels_N: NDArray[np.int64], label: int, wanted: int, passes_over: bool) -> set[int]:
    """Whole groups (their lowest row) of one class, in the order given, until `wanted` of its images are held out: at least one image, and
    never the last group of it."""
    held: set[int] = set()
    taken = 0
    for members in groups[:-1]:
        labels = labels_N[members]
        size = int((labels == label).sum())
        if taken >= wanted:
            break
        if set(labels.tolist()) - {-1} != {label}:  # copies under two classes are nobody's truth to be scored by
            continue
        if not passes_over or taken + size <= (1 + MOST_OFF) * wanted:
            held.add(members[0])
            taken += size
    return held


def copies_of(store: cache.Store, cosine: float | None = NEAR_COPY) -> NDArray[np.int64]:
    """The group of each row, int64 (N,): the lowest row of all that are linked as copies, by content or above `cosine`. Links of unlabelled
    rows among themselves do not matter, and are not looked for."""
    return copies_by_cosine(store, (cosine,))[cosine]


def copies_by_cosine(store: cache.Store, cosines: Sequence[float | None]) -> dict[float | None, NDArray[np.int64]]:
    """`copies_of` at each of several cosines, by one look at the features."""
    groups = {cosine: Groups(len(store)) for cosine in cosines}
    first: dict[bytes, int] = {}
    for row, digest in enumerate(store.hashes_N16):
        for found in groups.values():
            found.link(first.setdefault(digest.tobytes(), row), row)
    near = {cosine: found for cosine, found in groups.items() if cosine is not None}
    for rows_B, cosines_BN in _cosines(store) if near else ():
        for cosine, found in near.items():
            for one, other in np.argwhere(cosines_BN > cosine).tolist():
                found.link(int(rows_B[one]), int(other))
    return {cosine: found.lowest() for cosine, found in groups.items()}


class Groups:
    """Rows in groups: each alone at first, then whatever is linked in one."""

    def __init__(self, rows: int) -> None:
        self._parent = list(range(rows))

    def link(self, one: int, other: int) -> None:
        """Make one group of the groups of two rows."""
        low, high = sorted((self._root(one), self._root(other)))
        self._parent[high] = low

    def lowest(self) -> NDArray[np.int64]:
        """The lowest row of the group of each row, int64 (N,)."""
        return np.array([self._root(row) for row in range(len(self._parent))], np.int64)

    def _root(self, row: int) -> int:
        parent = self._parent
        while parent[row] != row:
            parent[row] = parent[parent[row]]
            row = parent[row]
        return row


def _cosines(store: cache.Store) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
    """Blocks of labelled rows (B,), and the cosines (B, N) between their centred features of the first readout and those of all rows. They
    are never all in memory: of images that are alike there are as many as rows squared."""
    features_ND = row_vectors(store, next(iter(store.readouts)))[np.arange(len(store))].astype(np.float32)
    features_ND -= features_ND.mean(axis=0)
    features_ND /= np.linalg.norm(features_ND, axis=1, keepdims=True).clip(1e-12)
    labelled_L = np.flatnonzero(store.labels_N >= 0)
    with progress_bar(len(labelled_L), "looking for copies", "images") as bar:
        for start in range(0, len(labelled_L), BLOCK_ROWS):
            rows_B = labelled_L[start : start + BLOCK_ROWS]
            yield rows_B, features_ND[rows_B] @ features_ND.T
            bar.advance(len(rows_B))


def _write_parts(path: pathlib.Path, store: cache.Store, parts: list[str]) -> None:
    """The table `key,part,class`, whole or not at all; as a split file it gives the labels."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for key, part, label in zip(store.keys, parts, store.labels_N.tolist(), strict=True):
        writer.writerow((key, part, store.classes[label] if label >= 0 else ""))
    cache.atomic_write_bytes(path, text.getvalue().encode("utf-8", "surrogateescape"))


def read_parts(path: pathlib.Path, keys: list[str]) -> list[str]:
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
