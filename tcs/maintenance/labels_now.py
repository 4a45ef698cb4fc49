"""What an update does with labels: those of the label file, and those that a store was given after its extraction.

A label file is followed as the data set is: what it says counts, and what it says no more goes. Of a later label a store does not know
which file gave it; so labels go where every one of them came from this file, and stay, with a word, where people gave others as well.
"""

import dataclasses
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import cache
from tcs.config.extract import ExtractConfig
from tcs.config.update import UpdateConfig
from tcs.errors import ConfigError, listed
from tcs.images.listing import ImageList
from tcs.maintenance.changes import LISTED, StoreChanges
from tcs.runtime import say
from tcs.splits.given_labels import give_labels, read_given_labels

HISTORY = "history"  # entry of a change of labels: those before it, of the store that this one grew from
GivenLabels = tuple[str, dict[str, str]]  # path of a label file, and class name by key


@dataclasses.dataclass(frozen=True, kw_only=True)
class LabelsNow:
    """`given` is what the label file says (None: there is none to follow); of labels that the store was given after its extraction,
    by key, `stay` have their class and `go` what the data set says instead (None: nothing)."""

    given: GivenLabels | None
    stay: Mapping[str, str]
    go: Mapping[str, str | None]
    told: tuple[str, ...]

    @property
    def are_fewer(self) -> bool:
        """Whether the file has lost labels since."""
        return bool(self.go)


def given_labels(config: UpdateConfig, options: ExtractConfig, images: ImageList) -> GivenLabels | None:
    """The label file of this command, or else the recorded one, and what it says; None where the store's labels are kept.

    ConfigError where a recorded file is not there.
    """
    path = config.label_file or options.label_file
    if path is None or config.keep_labels:
        return None
    if config.label_file is None and not pathlib.Path(path).exists():
        raise ConfigError(
            f"{config.store} was extracted with the labels in {path}, which is not here; say where it is now with --label-file, or keep "
            "the labels that the store has: --keep-labels."
        )
    return path, read_given_labels(path, images.keys, images.origin, options.data)


def labels_now(
    store: cache.Store, changes: StoreChanges, given: GivenLabels | None, options: ExtractConfig
) -> LabelsNow:
    """Which later labels of the store stay, and which the label file has no more."""
    later = _later_labels(store, changes)
    if given is None:
        return LabelsNow(given=None, stay=later, go={}, told=())
    path, names = given
    unnamed = {key for key in later if key not in names}
    if not unnamed:
        return LabelsNow(given=given, stay=later, go={}, told=())
    if _sources(store) <= {path, options.label_file}:
        plan = changes.plan
        pairs = zip(plan.keys, plan.labels, strict=True)
        go = {key: plan.classes[label] if label >= 0 else None for key, label in pairs if key in unnamed}
        told = f"{path}: {len(go):,} images have a label no more, and lose it: {listed(sorted(go), LISTED)}."
        stay = {key: name for key, name in later.items() if key in names}
        return LabelsNow(given=given, stay=stay, go=go, told=(told,))
    told = (
        f"{len(unnamed):,} images keep a label that {path} does not have ({listed(sorted(unnamed), LISTED)}): not all labels of "
        f"{store.path} came from it; correct them with tcs cache label."
    )
    return LabelsNow(given=given, stay=later, go={}, told=(told,))


def take_over_labels(place: pathlib.Path, store: cache.Store, labels: LabelsNow, config: UpdateConfig) -> None:
    """Give the store at `place`, which has the labels of the data set, the later ones that stay, then those of the label file."""
    if labels.stay:
        later = store.manifest.later_labels
        history = [] if later is None else [_without_history(entry) for entry in _flat(later.history)]
        source = {"store": config.store, "identity": store.labelled_identity, HISTORY: history}
        cache.set_labels(place, labels.stay, source=source)
    if labels.given is not None:
        give_labels(place, *labels.given)


def follow_labels(store: pathlib.Path, labels: LabelsNow) -> bool:
    """Let the labels of a store whose images have not changed follow the label file; returns whether one is another now."""
    if labels.given is None:
        return False
    found = give_labels(store, *labels.given, gone=labels.go)
    return bool(found.added or found.changed or found.removed)


def tell_labels(labels: LabelsNow) -> None:
    """Say which labels the file has lost, and what becomes of them."""
    for line in labels.told:
        say(line)


def _later_labels(store: cache.Store, changes: StoreChanges) -> dict[str, str]:
    """Class by key of images that still count, whose class was given after the extraction and is no matter of the data set now."""
    plan, now = store.manifest.plan, store.manifest
    there = set(changes.plan.keys) - set(changes.relabelled)
    return {
        key: now.classes[label]
        for key, old, label in zip(plan.keys, plan.labels, now.labels, strict=True)
        if key in there and label >= 0 and (old < 0 or plan.classes[old] != now.classes[label])
    }


def _sources(store: cache.Store) -> set[str | None]:
    """The files that gave later labels; None for what was no file."""
    later = store.manifest.later_labels
    entries = [] if later is None else list(_flat(later.history))
    return {entry.get("file") for entry in entries if "store" not in entry}  # that an update took over


def _flat(history: tuple[Mapping[str, Any], ...]) -> Iterator[Mapping[str, Any]]:
    """Every time that labels were given, those of stores that this one grew from before its own."""
    for entry in history:
        yield from entry.get(HISTORY, ())
        yield entry


def _without_history(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in entry.items() if name != HISTORY}
