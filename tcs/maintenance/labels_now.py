"""What an update does with labels: those of the label file, and those that a store was given after its extraction.

A label file is followed as the data set is: what it says counts, and what it says no more goes. Of a later label a store does not know
which file gave it; so labels go where every one of them came from this file, and stay, with a word, where people gave others as well.
Rows that are kept though their images are gone keep their labels, too: nobody looks after their lines any more.
"""

import dataclasses
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import cache
from tcs.config.names import finder, same_form
from tcs.config.update import UpdateConfig
from tcs.errors import ConfigError, listed, number_of
from tcs.images.listing import ImageList
from tcs.maintenance.changes import LISTED, StoreChanges
from tcs.runtime import say
from tcs.splits.followed import Followed, followed_in
from tcs.splits.given_labels import label_sentence, passed_over, read_given_labels, set_given

HISTORY = "history"  # entry of a change of labels: those before it, of the store that this one grew from
GivenLabels = tuple[str, dict[str, str]]  # path of a label file, and class name by key


@dataclasses.dataclass(frozen=True, kw_only=True)
class LabelsNow:
    """`given` is what the label file says of images that count (None: there is none to follow); of labels that the store was given after
    its extraction, by key, `stay` have their class (None: it was taken away) and `go` what the data set says instead (None: nothing).

    `added`, `corrected` and `removed` are the keys whose label the file changes, `followed` is what the store records of it.
    """

    given: GivenLabels | None
    stay: Mapping[str, str | None]
    followed: Followed
    go: Mapping[str, str | None] = dataclasses.field(default_factory=dict)
    told: tuple[str, ...] = ()
    added: tuple[str, ...] = ()
    corrected: tuple[str, ...] = ()

    @property
    def removed(self) -> tuple[str, ...]:
        """Keys that the file labels no more."""
        return tuple(sorted(self.go))

    @property
    def are_others(self) -> bool:
        """Whether the file changes a label."""
        return bool(self.added or self.corrected or self.go)

    def among(self, changes: StoreChanges) -> StoreChanges:
        """The changes of a store with those of its labels."""
        return dataclasses.replace(
            changes, labels_added=self.added, labels_corrected=self.corrected, labels_removed=self.removed
        )

    def sentence(self, place: str, *, is_planned: bool = False) -> list[str]:
        """What the file changes, in a line; none where there is no file."""
        if self.given is None:
            return []
        path, names = self.given
        counts = (len(self.added), len(self.corrected), len(self.go))
        return [label_sentence(place, path, len(names), counts, is_planned=is_planned)]


def given_labels(config: UpdateConfig, store: cache.Store, images: ImageList) -> GivenLabels | None:
    """The label file of this command, or else the recorded one, and what it says of images that the data set has, or the store had.

    None where the store's labels are kept. ConfigError where a recorded file is not there.
    """
    provenance = store.manifest.provenance
    followed = followed_in(provenance)
    path = config.label_file or followed.present
    if path is None or config.keep_labels:
        return None
    if config.label_file is None and not pathlib.Path(path).exists():
        recorded = provenance.get("config")
        made = "extracted" if isinstance(recorded, Mapping) and recorded.get("label_file") is not None else "updated"
        raise ConfigError(
            f"{config.store} was {made} with the labels in {path}, which is not here; say where it is now with --label-file, or keep "
            "the labels that the store has: --keep-labels."
        )
    find = finder(images.keys)
    former = [key for key in (*store.manifest.plan.keys, *followed.gone) if find(key) is None]
    return path, read_given_labels(path, images.keys, images.origin, images.root, former)


def labels_now(
    store: cache.Store, changes: StoreChanges, given: GivenLabels | None, *, is_planned: bool = False
) -> LabelsNow:
    """Which later labels of the store stay, which the label file has no more, and which it changes. `is_planned`: nothing is written."""
    later, there = _later_labels(store, changes), set(changes.plan.keys)
    followed = followed_in(store.manifest.provenance).without({*store.manifest.plan.keys} - there, there)
    if given is None:
        return LabelsNow(given=None, stay=later, followed=followed)
    path, found = given
    names, passed = ({key: found[key] for key in found if (key in there) is counts} for counts in (True, False))
    told = [passed_over(path, passed)] if passed else []
    followed = followed.by(path).without(passed)
    kept = there.intersection(changes.gone)
    unnamed = {key for key, name in later.items() if name is not None and not (key in names or key in kept)}
    go: dict[str, str | None] = {}
    if unnamed and all(map(followed.is_source, _sources(store))):
        plan = changes.plan
        pairs = zip(plan.keys, plan.labels, strict=True)
        go = {key: plan.classes[label] if label >= 0 else None for key, label in pairs if key in unnamed}
        told.append(_lost(path, go, is_planned))
    elif unnamed:
        told.append(
            f"{number_of(len(unnamed), 'image')} {'keeps' if len(unnamed) == 1 else 'keep'} a label that {path} does not have "
            f"({listed(sorted(unnamed), LISTED)}): not all labels of {store.path} came from it; give others, or take "
            f"them away, with tcs cache label {store.path}."
        )
    added, corrected = _changed(store, names)
    return LabelsNow(
        given=(path, names),
        stay={key: name for key, name in later.items() if key not in go},
        go=go,
        told=tuple(told),
        added=added,
        corrected=corrected,
        followed=followed,
    )


def take_over_labels(place: pathlib.Path, store: cache.Store, labels: LabelsNow, config: UpdateConfig) -> None:
    """Give the store at `place`, which has the labels of the data set, the later ones that stay, then those of the label file."""
    if labels.stay:
        later = store.manifest.later_labels
        history = [] if later is None else [_without_history(entry) for entry in _flat(later.history)]
        source = {"store": config.store, "identity": store.labelled_identity, HISTORY: history}
        cache.set_labels(place, labels.stay, source=source)
    if labels.given is not None:
        entries = labels.followed.entries(cache.read_manifest(place).provenance)
        set_given(place, *labels.given, provenance=entries)
        for line in labels.sentence(config.out or config.store):
            say(line)


def follow_labels(store: cache.Store, labels: LabelsNow) -> bool:
    """Let the labels of a store whose images have not changed follow the label file; returns whether one is another now."""
    if labels.given is None:
        return False
    entries = labels.followed.entries(store.manifest.provenance)
    found = set_given(store.path, *labels.given, gone=labels.go, provenance=entries)
    for line in labels.sentence(str(store.path)):
        say(line)
    return bool(found.added or found.changed or found.removed)


def tell_labels(labels: LabelsNow) -> None:
    """Say which labels the file has lost, and what becomes of them."""
    for line in labels.told:
        say(line)


def _lost(path: str, go: Mapping[str, str | None], is_planned: bool) -> str:
    """The line on labels that the file has no more."""
    has, lose = ("has", "loses") if len(go) == 1 else ("have", "lose")
    lose = "would lose" if is_planned else lose
    return f"{path}: {number_of(len(go), 'image')} {has} a label no more, and {lose} it: {listed(sorted(go), LISTED)}."


def _changed(store: cache.Store, names: Mapping[str, str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Keys that have no label in the store and get one, and those that get another one."""
    now = store.manifest
    before = {
        key: now.classes[label] for key, label in zip(now.plan.keys, now.labels, strict=True) if label >= 0
    }  # names are compared as they are stored: in any normal form
    added = (key for key in names if key not in before)
    other = (key for key, name in names.items() if key in before and same_form(before[key]) != same_form(name))
    return tuple(sorted(added)), tuple(sorted(other))


def _later_labels(store: cache.Store, changes: StoreChanges) -> dict[str, str | None]:
    """Class by key of images that still count, whose class was given (None: taken away) after the extraction and is no matter of the data
    set now."""
    plan, now = store.manifest.plan, store.manifest
    there = set(changes.plan.keys) - set(changes.relabelled)
    before = [None if label < 0 else plan.classes[label] for label in plan.labels]
    after = [None if label < 0 else now.classes[label] for label in now.labels]
    return {key: name for key, old, name in zip(plan.keys, before, after, strict=True) if key in there and name != old}


def _sources(store: cache.Store) -> list[object]:
    """The files that gave later labels; None for what was no file. What took labels away alone gave none."""
    later = store.manifest.later_labels
    entries = [] if later is None else list(_flat(later.history))
    given = (entry for entry in entries if entry.get("added", 1) or entry.get("changed"))
    return [entry.get("file") for entry in given if "store" not in entry]  # that an update took over


def _flat(history: tuple[Mapping[str, Any], ...]) -> Iterator[Mapping[str, Any]]:
    """Every time that labels were given, those of stores that this one grew from before its own."""
    for entry in history:
        yield from entry.get(HISTORY, ())
        yield entry


def _without_history(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in entry.items() if name != HISTORY}
