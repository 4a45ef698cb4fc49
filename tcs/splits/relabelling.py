"""A store with the classes that a split file gives it: rows without a label may have one there, classes may be new or left out.

Legend: N rows of the store.
"""

import copy
from collections.abc import Mapping, Sequence

import numpy as np

import cache
from tcs.config.names import finder
from tcs.errors import DataError, did_you_mean, listed
from tcs.runtime import say
from tcs.splits.label_file import LabelLine, read_label_lines, resolved_rows

MOST_NAMED = 5  # classes in a line that is said


def relabelled(store: cache.Store, split_file: str | None) -> cache.Store:
    """`store` with the labels and classes of a run on `split_file`; itself without one, or where the file changes neither.

    The classes are those of the store that the file names, in the store's order, and then its new ones by name. Rows outside the
    file keep their labels, but for those of classes left out. What differs is said in one line. DataError where the file gives a row
    another class than the store does, or names fewer than two classes; `store` itself is not changed.
    """
    if split_file is None:
        return store
    find = finder(store.classes)
    lines = [line.spelled(find) for line in read_label_lines(split_file)]
    named = {line.name for line in lines}
    if len(named) < 2:
        raise DataError(
            f"{split_file} labels {f'rows of 1 class ({min(named)})' if named else 'no row'}; a run needs two or more: label more "
            "rows."
        )
    new_labels = _checked(lines, store)
    classes = (*(name for name in store.classes if name in named), *sorted(named - set(store.classes)))
    if not new_labels and classes == tuple(store.classes):
        return store
    _tell(split_file, store.classes, classes, len(new_labels))
    return _with_labels(store, classes, new_labels)


def labelled_as(store: cache.Store, other: cache.Store) -> cache.Store:
    """`store` with the classes and labels of `other`, whose rows are the same."""
    changed = copy.copy(store)
    changed.classes, changed.labels_N = other.classes, other.labels_N
    return changed


def _checked(lines: Sequence[LabelLine], store: cache.Store) -> dict[int, str]:
    """Class names of the rows that only the file labels; DataError where file and store differ."""
    new_labels: dict[int, str] = {}
    for line, row in resolved_rows(lines, store.keys):
        label = int(store.labels_N[row])
        if label < 0:
            new_labels[row] = line.name
        elif store.classes[label] != line.name:
            raise DataError(
                f"{line.place} gives '{line.key}' the class '{line.name}', but the store holds '{store.classes[label]}'; "
                f"correct the file.{did_you_mean(line.name, store.classes)}"
            )
    return new_labels


def _with_labels(store: cache.Store, classes: tuple[str, ...], new_labels: Mapping[int, str]) -> cache.Store:
    number_of = {name: number for number, name in enumerate(classes)}
    numbers = np.array([number_of.get(name, -1) for name in store.classes] + [-1], np.int64)
    changed = copy.copy(store)
    changed.classes, changed.labels_N = classes, numbers[store.labels_N]
    for row, name in new_labels.items():
        changed.labels_N[row] = number_of[name]
    return changed


def _tell(split_file: str, before: Sequence[str], classes: Sequence[str], labelled: int) -> None:
    new, left_out = [
        [name for name in some if name not in others] for some, others in ((classes, before), (before, classes))
    ]
    facts = [
        f"labels {labelled:,} rows that the store does not" if labelled else "",
        f"names new classes ({listed(new, MOST_NAMED)})" if new else "",
        f"leaves out classes of the store ({listed(left_out, MOST_NAMED)})" if left_out else "",
    ]
    say(f"{split_file} {', '.join(fact for fact in facts if fact)}: {len(classes)} classes in all.")
