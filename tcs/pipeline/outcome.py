"""The table at the end of a chain: students, the same from labels alone, and the frozen teacher's probe on the same labels.

Scores are kept in `results.json` with what they are of, so that a rerun of a finished chain scores nothing again.
"""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import cache
from tcs.config.distill import DistillConfig
from tcs.config.evaluate import EvalConfig
from tcs.errors import ArtefactError
from tcs.evaluation.students import evaluate
from tcs.grid.references import score_reference
from tcs.inference.runs import find_students
from tcs.ordinary import read_ordinary
from tcs.plain_files import FOLDED, load_json, load_record, save_json
from tcs.reporting.tables import markdown
from tcs.runtime import say
from tcs.splits.relabelling import relabelled
from tcs.splits.shots import named_split

TEACHER = "teacher-probe"
HEADER = ("student", "method", "labels", "top-1", "top-5", "M parameters", "images/s")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of a chain: its plan, one row a student scored, seconds a stage, exported files by format, which of them were refused
    as losing too much in 8 bits (a sentence; None where none was), and closing words."""

    plan: Mapping[str, Any]
    rows: Sequence[Mapping[str, Any]] = ()
    seconds: Mapping[str, float] = dataclasses.field(default_factory=dict)
    exported: Mapping[str, Sequence[str]] = dataclasses.field(default_factory=dict)
    refused: str | None = None
    closing: str = ""

    def to_json(self) -> dict[str, Any]:
        """As JSON types, without the words."""
        return {name: value for name, value in dataclasses.asdict(self).items() if name != "closing"}

    def describe(self) -> str:
        """The table, and the closing words."""
        return "\n\n".join(text for text in (table(self.rows), self.closing) if text)


def scored(config: DistillConfig) -> list[dict[str, Any]]:
    """The rows of all students of the chain and of the teacher's probe on the test store; those kept, where nothing has changed."""
    places = config.places
    train, test = cache.open(places.train_store), cache.open(places.test_store)
    runs = [places.run, *([places.labels_run] if config.compare_labels else [])]
    folders = [folder for run in runs for folder in find_students(run, config.train.models)]
    state = {
        "train": train.labelled_identity,
        "test": test.labelled_identity,
        "students": {str(folder.relative_to(places.out)): _digest(folder) for folder in folders},
    }
    kept = _kept(places.results, state)
    if kept is not None:
        say(f"{places.results} has the scores of these students already; nothing to do.")
        return kept
    rows = [row for run in runs for row in _rows_of(run, config)]
    reads_labels = any(load_record(folder)["classes"] for folder in folders)
    rows += [_teacher_row(config, train, test)] if reads_labels else []
    save_json(places.results, {"of": state, "rows": rows})
    return rows


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows as Markdown; images per second of rows without a student are left out."""
    if not rows:
        return ""
    cells = [
        (
            str(row["model"]),
            str(row["method"]),
            f"{row['labels']:,}",
            f"{row['top1']:.2f}",
            f"{row['top5']:.2f}",
            f"{row['param_count']:.2f}" if "param_count" in row else "",
            f"{row['infer_samples_per_sec']:,.0f}" if "infer_samples_per_sec" in row else "",
        )
        for row in rows
    ]
    seen = max(row.get("seen", 0) for row in rows)
    warning = f"\n\n{seen:,} of the {rows[0]['rows']:,} scored images were SEEN in training or fitting." if seen else ""
    return (
        markdown(HEADER, cells) + f"\n\nTop-1 and top-5 in percent, of {rows[0]['rows']:,} images; one run." + warning
    )


def _digest(folder: pathlib.Path) -> str:
    return cache.digest_of_bytes(read_ordinary(folder / FOLDED)) if (folder / FOLDED).exists() else ""


def _kept(path: pathlib.Path, state: Mapping[str, Any]) -> list[dict[str, Any]] | None:
    """The rows in a file of scores, where they are of this state; a file that is none is written anew."""
    if not path.exists():
        return None
    try:
        found = load_json(path)
    except ArtefactError:
        return None
    return list(found["rows"]) if isinstance(found, dict) and found.get("of") == state else None


def _rows_of(run: pathlib.Path, config: DistillConfig) -> list[dict[str, Any]]:
    """One row a student of `run`; by a ridge probe of its features where it has no classifier."""
    places, train = config.places, config.train
    records = [load_record(folder) for folder in find_students(run, train.models)]
    headless = not records[0]["classes"]
    has_images = cache.open(places.test_store).has_images
    options = EvalConfig(
        run=str(run),
        store=str(places.test_store),
        models=train.models,
        probe=str(places.train_store) if headless and cache.open(places.train_store).is_labelled else None,
        data=None if has_images else config.test or config.extract.data,
        device=train.device,
    )
    labels = {record["identity"]["model"]: record["rows"]["labelled"] for record in records}
    return [row | {"labels": labels[row["model"]]} for row in evaluate(options)]


def _teacher_row(config: DistillConfig, train: cache.Store, test: cache.Store) -> dict[str, Any]:
    """A ridge probe of the frozen teacher's cached features on the labels of the run: what the students are measured against."""
    options = config.train
    store = relabelled(train, options.split_file)
    rows_n = named_split(store, options).rows_n
    scores = score_reference(TEACHER, store, test, rows_n, options.seed, options.device)
    return {
        "model": str(train.manifest.plan.identity.get("teacher", "")),
        "method": TEACHER,
        "labels": len(rows_n),
        "rows": int((test.labels_N >= 0).sum()),
        **scores,
    }
