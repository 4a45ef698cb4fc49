"""Predictions as tables: CSV row by row for stdout; CSV, JSON or parquet as a file, whole or not at all.

Columns: `path`, then `class`, `probability`, `class2`, `probability2`, ... for the likeliest classes, best first.
Legend: b images, C classes.
"""

import csv
import dataclasses
import io
import json
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

import cache
from tcs.calibration import probabilities
from tcs.errors import ArtefactError, ConfigError

DIGITS = 6  # of probabilities

Row = dict[str, Any]


@dataclasses.dataclass(frozen=True, slots=True)
class Prediction:
    """The likeliest classes of an image, best first, and their probabilities (0 to 1). `path` is None for pixels in memory."""

    path: str | None
    classes: tuple[str, ...]
    probabilities: tuple[float, ...]

    @property
    def label(self) -> str:
        """The likeliest class."""
        return self.classes[0]

    @property
    def probability(self) -> float:
        """Its probability."""
        return self.probabilities[0]


def columns(topk: int) -> list[str]:
    """The columns of a table of the `topk` likeliest classes."""
    numbers = ["", *(str(number) for number in range(2, topk + 1))]
    return ["path", *(f"{name}{number}" for number in numbers for name in ("class", "probability"))]


def predictions_of(
    paths: Sequence[str | None],
    logits_bC: NDArray[np.float32],
    classes: Sequence[str],
    topk: int,
    temperature: float | None,
) -> list[Prediction]:
    """The `topk` likeliest classes of each image; of equally likely classes the first comes first."""
    shares_bC = probabilities(logits_bC, temperature)
    best_bk = np.argsort(-logits_bC, axis=1, kind="stable")[:, :topk]
    return [
        Prediction(path, tuple(classes[c] for c in best_k), tuple(float(shares_C[c]) for c in best_k))
        for path, shares_C, best_k in zip(paths, shares_bC, best_bk, strict=True)
    ]


def row_of(found: Prediction) -> Row:
    """A prediction as a row of a table."""
    pairs = zip(found.classes, found.probabilities, strict=True)
    values = [value for name, share in pairs for value in (name, round(share, DIGITS))]
    return dict(zip(columns(len(found.classes)), [found.path, *values], strict=True))


def csv_text(rows: Sequence[Row], header: Sequence[str] | None = None) -> str:
    """The rows as CSV, below the `header` where it is given."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([] if header is None else [header])
    writer.writerows(row.values() for row in rows)
    return text.getvalue()


def require_free(path: pathlib.Path, option: str, *, overwrite: bool) -> None:
    """ArtefactError where something is at `path` already and is not to be replaced."""
    if path.is_dir() or (path.exists() and not overwrite):
        remedy = "name a file" if path.is_dir() else "name another place, or pass --overwrite to replace it"
        raise ArtefactError(f"{option} {path} exists; {remedy}.")


def require_table(path: pathlib.Path) -> None:
    """ConfigError, before anything is predicted, where a table of this kind cannot be written."""
    if path.suffix.lower() == ".parquet":
        _pyarrow(path)


def save_predictions(path: pathlib.Path, rows: Sequence[Row], facts: Mapping[str, Any], topk: int) -> None:
    """Write `rows` to `path`, by the end of its name; `facts` on the student go into JSON, and into parquet's metadata."""
    writers: Mapping[str, Callable[[], bytes]] = {
        ".csv": lambda: csv_text(rows, columns(topk)).encode(),
        ".json": lambda: (json.dumps({**facts, "results": list(rows)}, indent=1, ensure_ascii=False) + "\n").encode(),
        ".parquet": lambda: _parquet(path, rows, facts, topk),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    cache.atomic_write_bytes(path, writers[path.suffix.lower()]())


def _pyarrow(path: pathlib.Path) -> Any:
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise ConfigError(f'writing {path} needs pyarrow: pip install "tcs-distill[data]"') from error
    return pyarrow


def _parquet(path: pathlib.Path, rows: Sequence[Row], facts: Mapping[str, Any], topk: int) -> bytes:
    pyarrow = _pyarrow(path)
    kinds = {"p": pyarrow.float64(), "c": pyarrow.string()}
    fields = [(name, pyarrow.string() if name == "path" else kinds[name[0]]) for name in columns(topk)]
    schema = pyarrow.schema(fields, metadata={"tcs": json.dumps(facts)})
    buffer = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(list(rows), schema=schema), buffer)
    return buffer.getvalue()
