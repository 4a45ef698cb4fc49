"""How many images of each class carry a label, in words. Legend: N rows."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tcs.errors import listed

MOST_NAMED = 10


def rows_of_classes(labels_N: NDArray[np.integer] | Sequence[int], classes: Sequence[str]) -> dict[str, int]:
    """Class name -> how many of `labels_N` (-1: none) index it, in the order of `classes`."""
    found_N = np.asarray(labels_N, np.int64)
    counts_C = np.bincount(found_N[found_N >= 0], minlength=len(classes))
    return dict(zip(classes, counts_C.tolist(), strict=True))


def counted(rows: dict[str, int]) -> str:
    """`daisy 12, rose 9` for a line: of more than ten classes the first ten and how many more there are."""
    return listed((f"{name} {count:,}" for name, count in rows.items()), MOST_NAMED)


def describe_labels(labels_N: NDArray[np.integer] | Sequence[int], classes: Sequence[str]) -> str:
    """One sentence on the labels of a store or of a list of images."""
    rows, total = rows_of_classes(labels_N, classes), len(labels_N)
    labelled = sum(rows.values())
    if not labelled:
        return f"none of the {total:,} images has a label."
    few = "all" if labelled == total else f"{labelled:,} of"
    return f"{few} {total:,} images are labelled, {len(rows)} classes: {counted(rows)}."
