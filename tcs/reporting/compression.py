"""The results of `tcs probe`: its folder, and its page of means with 95 % intervals.

The folder holds compression.csv, compression.md, compression.png, and probe.json, which has the recipe and the rows, so that the
same command reads instead of measuring, and another is refused.

Legend: D features, K coordinates, C classes, R the projection (D, K), W the head (C, K).
"""

import dataclasses
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from cache import atomic_write_bytes, is_partial
from tcs.artefact import is_finished, plain_json
from tcs.errors import ArtefactError
from tcs.ordinary import read_ordinary
from tcs.plain_files import save_table
from tcs.reporting.figures import draw_compression
from tcs.reporting.intervals import Interval, t_interval
from tcs.reporting.tables import markdown

RECORD, TABLE, PAGE, FIGURE = "probe.json", "compression.csv", "compression.md", "compression.png"
UNCOMPRESSED = "uncompressed"
DRAWN = ("jl", "orthogonal")  # projections that a seed draws
FLOAT_BYTES = 4
CLAIM_SEEDS = 5  # fewer are for looking, and the page says so

Cells = dict[tuple[str, int], Interval]  # by projection and K


def load_finished(
    out: str | None, recipe: Mapping[str, Any], overwrite: bool, name: str = RECORD
) -> dict[str, Any] | None:
    """What the record `name` of an earlier run of the same recipe in the folder `out` holds; None where there is nothing.

    ArtefactError where `out` is a file, holds files of something else, or results of another recipe without `overwrite`.
    """
    folder = pathlib.Path(out) if out is not None else None
    if folder is None or not folder.exists():
        return None
    if not folder.is_dir():
        raise ArtefactError(f"--out {folder} is a file; the results need a folder. Give another --out.")
    if not (folder / name).exists():
        if not all(is_partial(path, name) for path in folder.iterdir()):
            what = "no tcs probe made" if name == RECORD else f"are not beside a {name} of tcs probe"
            raise ArtefactError(f"--out {folder} holds files that {what}; give an empty or new folder.")
        return None
    if overwrite:
        return None
    record = _read(folder / name)
    is_finished(folder, record["recipe"], recipe)
    return record


def _read(path: pathlib.Path) -> dict[str, Any]:
    try:
        record = json.loads(read_ordinary(path))
        return {**record, **{key: record[key] for key in ("recipe", "rows", "environment")}}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtefactError(f"{path} cannot be read ({error}); pass --overwrite to measure again.") from error


def write_tables(folder: pathlib.Path, record: Mapping[str, Any], page: str) -> None:
    """Write all but the figure; probe.json first, since a rerun makes the rest of it."""
    folder.mkdir(parents=True, exist_ok=True)
    atomic_write_bytes(folder / RECORD, (json.dumps(plain_json(record), indent=1) + "\n").encode())
    save_table(folder / TABLE, record["rows"])
    atomic_write_bytes(folder / PAGE, page.encode())


@dataclasses.dataclass(frozen=True, kw_only=True)
class Compression:
    """`rows`: one a head and seed, with its accuracy in percent, parameters and bytes; `recipe`: all that decides them."""

    rows: Sequence[Mapping[str, Any]]
    recipe: Mapping[str, Any]
    environment: Mapping[str, Any]


def head_parameters(dims: int, size: int, classes: int, projection: str) -> dict[str, int | str]:
    """Numbers that a head of K coordinates holds: as two steps, with R drawn again from its seed, and merged into W R'.

    Biases count. R of `pca` and `selection` comes from data, so it cannot be drawn again (empty).
    """
    head = size * classes + classes
    stored = head if projection == UNCOMPRESSED else size * dims + head
    return {
        "params": stored,
        "params_regenerated": head if projection in DRAWN else "",
        "params_merged": dims * classes + classes,
        "bytes": FLOAT_BYTES * stored,
    }


def write_compression(result: Compression, out: pathlib.Path) -> None:
    """Write probe.json, compression.csv, compression.md and compression.png into `out`.

    ConfigError where matplotlib is missing; the tables are written before.
    """
    record = {"recipe": result.recipe, "rows": result.rows, "environment": result.environment}
    write_tables(out, record, render(result))
    draw_compression(intervals(result.rows), UNCOMPRESSED, _title(result.rows[0]), out / FIGURE)


def intervals(rows: Sequence[Mapping[str, Any]]) -> Cells:
    """(projection, K) -> top-1 over seeds; one value where no seed can change it."""
    values: dict[tuple[str, int], list[float]] = {}
    for row in rows:
        values.setdefault((row["method"], row["components"]), []).append(row["top1"])
    return {cell: t_interval(found) for cell, found in values.items()}


def summary(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One entry a projection and K: mean, half-width and spread of top-1 (None for one value), with the head's parameters."""
    first = {(row["method"], row["components"]): row for row in reversed(rows)}
    sizes = ("params", "params_regenerated", "params_merged", "bytes")
    return [
        {
            "method": method,
            "components": size,
            "compression": first[method, size]["compression"],
            "n": cell.n,
            "top1_mean": cell.mean,
            "top1_half_width": cell.half,
            "top1_std": cell.std,
            **{name: first[method, size][name] for name in sizes},
        }
        for (method, size), cell in intervals(rows).items()
    ]


def render(result: Compression) -> str:
    """The page: accuracy by projection and K, parameters by K, and where the numbers come from."""
    rows = result.rows
    spreading = [spreading_note(rows)] if "estimator" in rows[0] else []
    parts = [
        f"# {_title(rows[0])}",
        _preface(rows),
        accuracy_table(rows),
        *spreading,
        size_table(rows),
        _origins(result),
    ]
    return "\n\n".join(parts) + "\n"


def _title(row: Mapping[str, Any]) -> str:
    labels = f"{row['shots']} labels a class" if isinstance(row["shots"], int) else f"{row['labelled']:,} labels"
    return f"{row['head']} head on compressed {row['readout']} features, {labels}"


def _preface(rows: Sequence[Mapping[str, Any]]) -> str:
    row, seeds = rows[0], len({row["seed"] for row in rows})
    lines = [
        f"Top-1 accuracy in percent on {row['rows']:,} images: mean ± half-width of the 95 % t-interval over seeds (n); n = 1"
        " where no seed changes the head. Principal axes are of all rows of the training store; `selection` keeps principal axes"
        " by elimination with a ridge probe."
    ]
    if 1 < seeds < CLAIM_SEEDS:
        lines.append(f"With {seeds} of the {CLAIM_SEEDS} seeds that a claim needs, this table is for looking.")
    if row["seen"]:
        lines.append(f"**{row['seen']:,} of the scored images are SEEN: the training store holds them as well.**")
    return "\n\n".join(lines)


def spreading_note(rows: Sequence[Mapping[str, Any]]) -> str:
    """Of the head `transductive`: over how many rows labels were spread, and which heads are the ridge probe instead, and why."""
    pools = sorted({row["pool"] for row in rows})
    size = " to ".join(f"{rows_N:,}" for rows_N in dict.fromkeys((pools[0], pools[-1])))
    estimators = ", ".join(sorted({row["estimator"] for row in rows if not row["fell_back"]})) or "none"
    fallen = [row for row in rows if row["fell_back"]]
    lines = [
        f"Labels were spread over the {size} rows of the training store that do not score; estimator: {estimators}. A check fell"
        f" back to the ridge probe of the labelled rows in {len(fallen)} of {len(rows)} heads."
    ]
    if fallen:
        body = [[row["method"], str(row["components"]), str(row["seed"]), row["fell_back"]] for row in fallen]
        lines.append(markdown(["projection", "K", "seed", "why it fell back"], body))
    return "\n\n".join(lines)


def accuracy_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows projections, columns K, falling."""
    cells, dims = intervals(rows), _dims(rows)
    sizes = sorted({size for _, size in cells}, reverse=True)
    methods = list(dict.fromkeys(method for method, _ in cells))
    header = ["projection", *(f"{dims / size:.3g}x (K={size})" for size in sizes)]
    body = [[method, *(_cell(cells.get((method, size))) for size in sizes)] for method in methods]
    return markdown(header, body)


def _cell(interval: Interval | None) -> str:
    if interval is None:
        return "-"
    spread = "" if interval.half is None else f" ± {interval.half:.2f}"
    return f"{interval.mean:.2f}{spread} ({interval.n})"


def size_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Parameters of the head, biases included, by K; bytes are those of float32."""
    dims, whole = _dims(rows), next(row for row in rows if row["method"] == UNCOMPRESSED)
    classes = whole["params"] // (dims + 1)
    header = [
        "K",
        "compression",
        "R stored: K (D + C) + C",
        "bytes",
        "R drawn from its seed: K C + C",
        "merged: D C + C",
    ]
    body = []
    for size in sorted({row["components"] for row in rows if row["method"] != UNCOMPRESSED}, reverse=True):
        counts = head_parameters(dims, size, classes, DRAWN[0])
        numbers = (counts["params"], counts["bytes"], counts["params_regenerated"], counts["params_merged"])
        body.append([str(size), f"{dims / size:.3g}x", *(f"{number:,}" for number in numbers)])
    note = (
        f"D = {dims}, C = {classes}. Uncompressed: {whole['params']:,} parameters. Merged, W R' is one linear map as large as the"
        " uncompressed head; a head is smaller only where R is drawn again from its seed (jl, orthogonal) or absorbed by a"
        " student that is K wide, or where K (D + C) < D C."
    )
    return f"{markdown(header, body)}\n\n{note}"


def _dims(rows: Sequence[Mapping[str, Any]]) -> int:
    return next(int(row["components"]) for row in rows if row["method"] == UNCOMPRESSED)


def _origins(result: Compression) -> str:
    row, facts = result.rows[0], result.environment
    versions = ", ".join(f"{name} {version}" for name, version in sorted(facts["versions"].items()))
    seeds = ", ".join(str(seed) for seed in result.recipe["seeds"])
    lines = [
        f"- teacher: {row['teacher']}; training store {row['cache_id']}, test store {row['test_id']}",
        f"- seeds: {seeds}; splits: {', '.join(dict.fromkeys(result.recipe['splits']))}",
        f"- commit: {row['commit'] or 'unknown'}; hardware: {facts['processor']}, {facts['cores']} cores",
        f"- versions: Python {facts['python']}, {versions}",
    ]
    return "\n".join(lines)
