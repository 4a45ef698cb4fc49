"""Files of a grid of tcs fewshot: ledger.json and a line of cells.jsonl. results.csv is a table, checked line by line by its reader."""

from typing import Annotated, Any, Literal

import msgspec

from tcs.schemas.values import Count, Seconds


class GridOrigin(msgspec.Struct):
    """What all rows of a data set are of: identities of both stores, and of the targets by their path in the recipe."""

    train: str
    test: str
    targets: dict[str, str]
    semantics: Count


class GridSettings(msgspec.Struct):
    """What must not change between rows: options for all cells, and those of each method."""

    options: dict[str, Any]
    methods: dict[str, dict[str, Any]]


class GridDataset(msgspec.Struct):
    """Origin and settings of one of several data sets."""

    origin: GridOrigin
    settings: GridSettings


class GridSeal(msgspec.Struct):
    """The comparison that was named before the first row (None: none), how many rows there were, and the time (UTC)."""

    primary: Annotated[list[str], msgspec.Meta(min_length=2, max_length=2)] | None
    rows: Count
    at: str
    digest: str
    origin: dict[str, Any] = msgspec.field(default_factory=dict)


class GridEnvironment(msgspec.Struct):
    """The machine and the versions of the last start."""

    versions: dict[str, str]
    processor: str
    cores: Count | None = None
    python: str | None = None
    system: str | None = None
    commit: str | None = None


class Ledger(msgspec.Struct):
    """ledger.json: origin and settings of the only data set, or `datasets` by name; a ledger of the first releases has no seal."""

    origin: GridOrigin | None = None
    settings: GridSettings | None = None
    datasets: dict[str, GridDataset] | None = None
    seal: GridSeal | None = None
    environment: GridEnvironment | None = None


class CellLine(msgspec.Struct):
    """A line of cells.jsonl, one an attempt; the last line of a cell is its state."""

    cell: str
    state: Literal["running", "done", "failed"]
    attempt: Count
    error: str
    where: str
    key: list[str] = msgspec.field(default_factory=list)
    seconds: Seconds | None = None
    predictions: str = ""
    at: str = ""
