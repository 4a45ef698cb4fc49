"""How a data set has changed since a store was made of it: by key and content hash, without a teacher.

Legend: P inputs of the plan that the data set asks for now, in order.
"""

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

import cache
from tcs.config.pixels import PixelRules
from tcs.errors import listed, number_of
from tcs.images.decode import BadImageError, decode_image
from tcs.images.listing import ImageList, natural_key
from tcs.images.stored import rules_of
from tcs.runtime import progress_bar

LISTED = 5
# of one image, and of more
WORDS = {
    "added": ("is new", "are new"),
    "changed": ("has other content", "have other content"),
    "moved": (
        "is known under another name, and keeps its features",
        "are known under another name, and keep their features",
    ),
    "mended": ("could not be read before, and can now", "could not be read before, and can now"),
    "relabelled": ("has another class", "have another class"),
}


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class StoreChanges:
    """Keys by what became of them, the plan of a store that follows, and where each of its inputs has its features.

    `added` and `changed` have content that no row has, or (`changed`) that another row has; `moved` have the content of a row that goes
    by another key; `mended` were in quarantine and can be read now; `relabelled` have another class than they were extracted with;
    `gone` are in the store and not in the data set, under no name. `row_P` int64 is the row of the store that holds the features of an
    input, -1 where the teacher has to see it. `inputs` is the digest of all this comes from. `labels_added`, `labels_corrected` and
    `labels_removed` are the keys whose label the label file changes in the store.
    """

    added: tuple[str, ...]
    changed: tuple[str, ...]
    moved: tuple[str, ...]
    mended: tuple[str, ...]
    gone: tuple[str, ...]
    relabelled: tuple[str, ...]
    keeps_gone: bool
    is_same_plan: bool
    plan: cache.Plan
    row_P: NDArray[np.int64]
    inputs: str
    rows_before: int
    classes_before: frozenset[str]
    labels_added: tuple[str, ...] = ()
    labels_corrected: tuple[str, ...] = ()
    labels_removed: tuple[str, ...] = ()

    @property
    def is_none(self) -> bool:
        """Whether the store is what would be made of the data set now."""
        return self.is_same_plan and not (self.changed or self.mended)

    @property
    def lost_classes(self) -> frozenset[str]:
        """Classes of the store that the data set has no more."""
        return self.classes_before - set(self.plan.classes)

    @property
    def leaves_most_out(self) -> bool:
        """Whether fewer than half of the store's rows go on: more likely another data set than this one, grown."""
        return 2 * self.counts["kept"] < self.rows_before

    @property
    def counts(self) -> dict[str, int]:
        """How many of each kind, and how many rows of the store go on."""
        kinds = (*WORDS, "gone")
        return {name: len(getattr(self, name)) for name in kinds} | {"kept": int((self.row_P >= 0).sum())}

    def to_json(self) -> dict[str, Any]:
        """Every key by kind, those whose label changes too, and how many rows of the store go on."""
        counts = self.counts
        names = (*(name for name in counts if name != "kept"), "labels_added", "labels_corrected", "labels_removed")
        return {name: list(getattr(self, name)) for name in names} | {"kept": counts["kept"]}

    def describe(self, data: str) -> list[str]:
        """One line for each kind that there is, the first few keys named, and one for what stays."""
        what = "kept" if self.keeps_gone else "left out"
        words = WORDS | {"gone": (f"is gone, and {what}", f"are gone, and {what}")}
        told = [
            f"{data}: {number_of(len(keys), 'image')} {texts[len(keys) != 1]}: {listed(keys, LISTED)}."
            for name, texts in words.items()
            if (keys := getattr(self, name))
        ]
        lost, new = sorted(self.lost_classes), sorted(set(self.plan.classes) - self.classes_before)
        told += [f"{data}: no image any more of {_classes(lost)}."] if lost else []
        told += [f"{data}: images of {_classes(new)}, new."] if new else []
        return [*told, f"{data}: {self.counts['kept']:,} of {len(self.row_P):,} images keep the features they have."]


def _classes(names: Sequence[str]) -> str:
    return f"{'the class' if len(names) == 1 else 'classes'} {listed(names, LISTED)}"


def find_changes(store: cache.Store, images: ImageList, *, keep_gone: bool = False) -> StoreChanges:
    """Hash the images, and compare them with the rows of a store that is to follow them. `keep_gone` keeps rows without an image.

    Of augmented views the features of an image that has moved are others, since views are drawn by key: it counts as added.
    """
    row_of = {key: row for row, key in enumerate(store.keys)}
    row_P, digests, found = _compared(store, images, row_of)
    hash_of = dict(zip(images.keys, digests, strict=True))
    gone = _gone(store, images, row_of, [hash_of[key] for key in found["moved"]])
    kept = tuple(key for key in gone if key in row_of) if keep_gone else ()
    plan = _plan(store, images, kept)
    if kept:
        row_of_image = dict(zip(images.keys, row_P.tolist(), strict=True))
        row_P = np.array([row_of_image.get(key, row_of.get(key, -1)) for key in plan.keys], np.int64)
    return StoreChanges(
        **{name: tuple(keys) for name, keys in found.items()},
        gone=gone,
        relabelled=_relabelled(store, images),
        keeps_gone=keep_gone,
        is_same_plan=_arranged(plan) == _arranged(store.manifest.plan),
        plan=plan,
        row_P=row_P,
        inputs=cache.digest_of_json([store.identity, plan.plan_identity, digests]),
        rows_before=len(store),
        classes_before=frozenset(store.manifest.plan.classes),
    )


def _gone(store: cache.Store, images: ImageList, row_of: Mapping[str, int], moved: Sequence[str]) -> tuple[str, ...]:
    """Keys of the store that the data set has no more; one that has `moved`, as its hash says, is not gone."""
    there, left = set(images.keys), Counter(moved)
    gone = []
    for key in store.manifest.plan.keys:
        if key in there:
            continue
        digest = store.hashes_N16[row_of[key]].tobytes().hex() if key in row_of else ""
        if left[digest]:
            left[digest] -= 1
        else:
            gone.append(key)
    return tuple(gone)


def _compared(
    store: cache.Store, images: ImageList, row_of: Mapping[str, int]
) -> tuple[NDArray[np.int64], list[str], dict[str, list[str]]]:
    """Of each image the row that has its features (-1: none) and its hash, empty where it cannot be read; and keys by kind."""
    own_hash = [digest.tobytes() for digest in store.hashes_N16]
    first = {digest: row for row, digest in reversed(list(enumerate(own_hash)))}
    first = first if store.manifest.plan.views is None else {}
    quarantined, rules = {entry.key for entry in store.manifest.quarantine}, rules_of(store)
    found: dict[str, list[str]] = {name: [] for name in ("added", "changed", "moved", "mended")}
    rows, digests = [], []
    with progress_bar(len(images.keys), "hash images", "images") as bar:
        for key in images.keys:
            data, own = _read(images, key), row_of.get(key, -1)
            digest = b"" if data is None else cache.content_hash(data)
            is_own = own >= 0 and own_hash[own] == digest
            rows.append(own if is_own else first.get(digest, -1))
            digests.append(digest.hex())
            if own >= 0 and not is_own:
                found["changed"].append(key)
            elif key in quarantined:
                found["mended"].extend([key] if data is not None and _is_image(data, rules) else [])
            elif own < 0:
                found["moved" if rows[-1] >= 0 else "added"].append(key)
            bar.advance(1)
    return np.array(rows, np.int64), digests, found


def _read(images: ImageList, key: str) -> bytes | None:
    try:
        return images.read(key)
    except OSError:  # the extraction says why
        return None


def _is_image(data: bytes, rules: PixelRules) -> bool:
    try:
        decode_image(data, rules)
    except BadImageError:
        return False
    return True


def _arranged(plan: cache.Plan) -> tuple[Any, ...]:
    return plan.keys, plan.labels, plan.classes


def _plan(store: cache.Store, images: ImageList, kept: tuple[str, ...]) -> cache.Plan:
    """The plan of the store, of the images instead; and of rows that are kept without one, with their classes after the others."""
    plan = store.manifest.plan
    names = {key: images.classes[label] for key, label in zip(images.keys, images.labels, strict=True) if label >= 0}
    old = dict(zip(plan.keys, plan.labels, strict=True))
    names |= {key: plan.classes[old[key]] for key in kept if old[key] >= 0}
    lost = {names[key] for key in kept if key in names} - set(images.classes)
    classes = (*images.classes, *(name for name in plan.classes if name in lost))
    number = {name: label for label, name in enumerate(classes)}
    keys = tuple(sorted((*images.keys, *kept), key=natural_key)) if kept else images.keys
    return dataclasses.replace(
        plan,
        keys=keys,
        labels=tuple(number[names[key]] if key in names else -1 for key in keys),
        classes=classes,
        format_version=cache.FORMAT_VERSION,
    )


def _relabelled(store: cache.Store, images: ImageList) -> tuple[str, ...]:
    """Keys whose class in the data set is another one than it was when the store was extracted."""
    plan = store.manifest.plan
    label_of = dict(zip(plan.keys, plan.labels, strict=True))

    def name(classes: tuple[str, ...], label: int) -> str | None:
        return classes[label] if label >= 0 else None

    return tuple(
        key
        for key, label in zip(images.keys, images.labels, strict=True)
        if key in label_of and name(images.classes, label) != name(plan.classes, label_of[key])
    )
