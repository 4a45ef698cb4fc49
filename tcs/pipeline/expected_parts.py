"""What `--val-split` will leave to train on, told before there are features: copies, which it keeps on one side, are not known yet."""

import dataclasses
from collections import Counter
from collections.abc import Sequence

from tcs.config.distill import DistillConfig
from tcs.errors import ArtefactError, DataError
from tcs.pipeline.division import TRAIN, held_of, read_parts
from tcs.splits.counts import rows_of_classes
from tcs.splits.shots import require_shots


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExpectedParts:
    """The images to train on: how many, and how many labelled ones of each class; how many labelled ones are held out to score on.

    `is_exact` where nothing is held out, or a split file of an earlier run says what; else copies may shift each number.
    """

    images: int
    rows: dict[str, int]
    held: int
    is_exact: bool

    @property
    def about(self) -> str:
        """What stands before a number of these."""
        return "" if self.is_exact else "about "


def expected_parts(
    config: DistillConfig, keys: Sequence[str], labels: Sequence[int], classes: Sequence[str]
) -> ExpectedParts:
    """The parts of the images `keys`, `labels` indexing `classes` (-1: none). DataError where no image can be held out."""
    rows = rows_of_classes(labels, classes)
    if config.val_split is None:
        return ExpectedParts(images=len(keys), rows=rows, held=0, is_exact=True)
    parts = _followed(config, keys)
    if parts is not None:
        left = [label for label, part in zip(labels, parts, strict=True) if part == TRAIN]
        left_rows = rows_of_classes(left, classes)
        held = sum(rows.values()) - sum(left_rows.values())
        return ExpectedParts(images=len(left), rows=left_rows, held=held, is_exact=True)
    held_rows = {name: held_of(config.val_split, count) for name, count in rows.items()}
    held = sum(held_rows.values())
    if not held:
        raise DataError(
            f"no class of {config.extract.data} has two labelled images, so --val-split {config.val_split:g} can hold none out; label "
            "more, or give test images of their own: --test DATA."
        )
    left_rows = {name: count - held_rows[name] for name, count in rows.items()}
    return ExpectedParts(images=len(keys) - held, rows=left_rows, held=held, is_exact=False)


def require_shots_left(config: DistillConfig, before: dict[str, int], parts: ExpectedParts) -> None:
    """DataError where no class has as many labelled images as `--shots`, `before` anything is held out or once it is."""
    shots = config.train.shots
    if shots is None:
        return
    require_shots(shots, before)
    name, most = Counter(parts.rows).most_common(1)[0] if parts.rows else ("", shots)
    if 0 < most < shots:
        raise DataError(
            f"--val-split {config.val_split:g} leaves no class {shots} labelled images, which --shots {shots} asks for (class '{name}' "
            f"keeps {parts.about}{most} of {before[name]}); use --shots {most} or fewer, label more, or give test images of their own: "
            "--test DATA."
        )


def _followed(config: DistillConfig, keys: Sequence[str]) -> list[str] | None:
    """The parts that an earlier run chose. None where there was none, or its images were others: of that the extraction tells more."""
    path = config.places.split_file
    try:
        return read_parts(path, list(keys)) if path.exists() else None
    except ArtefactError:
        return None
