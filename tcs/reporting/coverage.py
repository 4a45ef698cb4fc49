"""What of a grid's plan has a result: what is missing, failed or begun, and in how many rows the test images were seen in training.

The plan is told by whoever can read the recipe; the states of cells are the last lines of cells.jsonl. A line that was torn by a kill
is passed over, for the rows are in results.csv.
"""

import collections
import dataclasses
import json
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tcs.ordinary import read_text
from tcs.reporting.results import Run
from tcs.reporting.rows import CELL_KEY, CELLS

MOST_NAMED = 6  # groups of missing cells in one sentence
Key = tuple[str, ...]  # dataset, model, method, shots, seed, unlabelled: Run.key


@dataclasses.dataclass(frozen=True, kw_only=True)
class Coverage:
    """Cells of the plan by what became of them; `planned` is None where nothing tells the plan, and then nothing is missing. Those of
    `begun` that are also `at_work` are trained at this moment; the others were killed, or are trained on another machine."""

    planned: int | None
    done: int
    failed: tuple[Key, ...]
    begun: tuple[Key, ...]
    missing: tuple[Key, ...]
    at_work: frozenset[Key] = frozenset()

    @property
    def partial(self) -> bool:
        """Whether a planned cell has no result."""
        return bool(self.failed or self.begun or self.missing)


def cover(
    runs: Sequence[Run],
    planned: Iterable[Key] | None,
    states: Mapping[Key, str],
    at_work: frozenset[Key] = frozenset(),
) -> Coverage:
    """Hold the rows against the plan. A cell that is `running` by its last line is begun; `at_work` tells which of them still run."""
    done = {run.key for run in runs if not run.failed}
    failed = {run.key for run in runs if run.failed} | {key for key, state in states.items() if state == "failed"}
    begun = {key for key, state in states.items() if state == "running"}
    plan = dict.fromkeys(planned if planned is not None else [*done, *failed, *begun])
    open_cells = [key for key in plan if key not in done]
    return Coverage(
        planned=None if planned is None else len(plan),
        done=sum(key in done for key in plan),
        begun=tuple(key for key in open_cells if key in begun),
        failed=tuple(key for key in open_cells if key in failed - begun),
        missing=tuple(key for key in open_cells if key not in failed | begun),
        at_work=at_work,
    )


def coverage_sentence(coverage: Coverage) -> str:
    """The first line of the report of a grid that is not whole; empty for a whole one."""
    if not coverage.partial:
        return ""
    running = sum(key in coverage.at_work for key in coverage.begun)
    counts = [
        (len(coverage.failed), "failed"),
        (running, "running now"),
        (len(coverage.begun) - running, "begun and not finished (killed, or run elsewhere)"),
        (len(coverage.missing), "not begun"),
    ]
    told = ", ".join(f"{count} {what}" for count, what in counts if count)
    of = (
        f"{coverage.done} of {coverage.planned} planned cells have"
        if coverage.planned
        else f"{coverage.done} cell{'s have' if coverage.done != 1 else ' has'}"
    )
    lacking = _by_method([*coverage.failed, *coverage.begun, *coverage.missing])
    return f"This grid is partial: {of} a result; {told} ({lacking}). Every mean below is of what is there."


def _by_method(keys: Sequence[Key]) -> str:
    counts = collections.Counter(" ".join(part for part in (key[0], key[2]) if part) for key in keys)
    named = [f"{name}: {count}" for name, count in counts.most_common(MOST_NAMED)]
    rest = sum(counts.values()) - sum(count for _, count in counts.most_common(MOST_NAMED))
    return ", ".join([*named, *([f"others: {rest}"] if rest else [])])


def overlap_sentence(runs: Sequence[Run]) -> str:
    """How many test images are copies of training rows, with the accuracy without them; empty where there are none or no row says."""
    told = [run for run in runs if run.overlap or run.near_overlap]
    if not told:
        return ""
    most, near = max(run.overlap or 0 for run in told), max(run.near_overlap or 0 for run in told)
    shifts = [run.top1 - run.top1_clean for run in told if run.top1 is not None and run.top1_clean is not None]
    without, nearly = "", f", and up to {near:,} near copies" if near else ""
    if shifts:
        mean, least, largest = sum(shifts) / len(shifts), min(shifts), max(shifts)
        without = f" Without them top-1 is {_by_how_much(mean)} on average ({-largest:+.2f} to {-least:+.2f} points)."
    return f"In {len(told)} of {len(runs)} rows test images are copies of training rows, up to {most:,} of them{nearly}.{without}"


def _by_how_much(shift: float) -> str:
    return "the same" if abs(shift) < 0.005 else f"{abs(shift):.2f} points {'lower' if shift > 0 else 'higher'}"


def load_states(folder: pathlib.Path) -> dict[Key, str]:
    """The last state of every cell in `folder`/cells.jsonl; empty without the file."""
    return {key: str(line.get("state", "")) for key, line in load_lines(folder).items()}


def load_lines(folder: pathlib.Path) -> dict[Key, dict[str, Any]]:
    """The last line of every cell in `folder`/cells.jsonl, by its key; empty without the file."""
    path = folder / CELLS
    if not path.exists():
        return {}
    found: dict[Key, dict[str, Any]] = {}
    for text in read_text(path, errors="replace").splitlines():
        try:
            line = json.loads(text)
            key = line["key"]
        except (ValueError, KeyError, TypeError, RecursionError):
            continue
        if isinstance(key, list) and len(key) == len(CELL_KEY):
            found[tuple(map(str, key))] = line
    return found
