"""The folder of a grid: whose it is, which stores, targets and settings its rows are of, and where rows are added.

ledger.json is written before the first row, under the folder's lock, so that parts of a grid may start together. Stores and
targets are told apart by their identities and not by their paths: a store that was moved is the same, one that was extracted
again with other options is not, whatever it is called.
"""

import contextlib
import dataclasses
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import cache
from tcs.config.pool import JOINED
from tcs.errors import ArtefactError, shown
from tcs.grid.recipe import BOUNDS, EXACT, POOL_REFERENCES, STUDENT_REFERENCES, TEACHER, Cell, Grid
from tcs.ordinary import read_ordinary, require_ordinary
from tcs.plain_files import load_mapping, require_parts, save_json, save_table
from tcs.reporting.rows import CELL_KEY, DATASET, LEDGER, RECIPE, RESULTS, load_rows
from tcs.reporting.seal import seal
from tcs.runtime import environment, say
from tcs.schemas.check import require_schema
from tcs.schemas.grids import Ledger

try:
    import fcntl
except ImportError:  # not POSIX: no advisory locks, so start the parts of a grid one after the other there
    fcntl = None  # type: ignore[assignment]

LOCK = ".lock"
SEMANTICS = 1  # raised by hand, when the same recipe and stores would give other numbers


PARTS: Mapping[str, Any] = {  # of a ledger, and their types
    "origin": {"train": str, "test": str, "targets": dict, "semantics": int},
    "settings": {"options": dict, "methods": dict},
    "seal": {"primary": list | None, "rows": int, "at": str},
}

COLUMNS = (
    *("dataset", "model", "method", "shots", "seed", "split_id", "unlabelled"),
    *("status", "error", "top1", "top1_err", "top5"),
    *("balanced_acc", "nll", "ece", "overlap", "near_overlap", "top1_clean", "params_m", "gmacs", "latency_ms"),
    *("steps", "images_seen", "wall_s", "stream_students", "images_per_s", "peak_mem_mb", "online_teacher_s"),
    *("teacher", "cache_id", "test_id", "targets_id", "recipe_id", "semantics", "commit"),
)
# Columns that files of earlier releases lack, whose rows can be had without them.
LATER = (
    *("dataset", "balanced_acc", "nll", "ece", "overlap", "near_overlap", "top1_clean", "gmacs", "latency_ms"),
    *("online_teacher_s", "stream_students"),
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Origin:
    """What all rows of one data set in results.csv are of: the identities of both stores, and of the targets by their path in the
    recipe. `dataset` is empty for the only pair of a recipe."""

    train: str
    test: str
    targets: Mapping[str, str]
    semantics: int = SEMANTICS
    dataset: str = ""

    def recorded(self) -> dict[str, Any]:
        """As the ledger has it, which has the name elsewhere."""
        return {"train": self.train, "test": self.test, "targets": dict(self.targets), "semantics": self.semantics}

    def shared(self) -> dict[str, Any]:
        """The part that no row of the grid may differ in."""
        return {"train": self.train, "test": self.test, "semantics": self.semantics}

    def columns(self) -> dict[str, Any]:
        """The same as columns of a row."""
        return {"cache_id": self.train, "test_id": self.test, "semantics": self.semantics}


def settings_of(grid: Grid, origin: Origin) -> dict[str, Any]:
    """What must not change between the rows of one results.csv (lists may grow); targets by identity."""
    grid = grid.of(origin.dataset)
    methods = {row.label: _by_identity(row.options, origin) for row in grid.methods}
    options = _by_identity({"targets": grid.targets, **grid.options}, origin)
    if grid.shots_policy != EXACT:
        options["shots_policy"] = grid.shots_policy
    return {"options": options, "methods": methods}


def _by_identity(options: Mapping[str, Any], origin: Origin) -> dict[str, Any]:
    given = dict(options)
    if given.get("targets") is not None:
        given["targets"] = origin.targets[str(given["targets"])]
    return given


def recipe_id(settings: Mapping[str, Any], cell: Cell, *, reads_targets: bool, pool_teachers: str = JOINED) -> str:
    """The digest of what a cell reads of the recipe, beside its stores and its own columns: options, targets where they have a part
    in it, and the name of a reference; of the teacher's references, those options alone that they heed, and `pool_teachers`."""
    label, options, own = cell.method.label, settings["options"], settings["methods"].get(cell.method.label, {})
    if cell.model == TEACHER:
        return cache.digest_of_json({"reference": label, "options": _heeded(label, options, pool_teachers)})
    if not reads_targets:
        options, own = ({key: value for key, value in given.items() if key != "targets"} for given in (options, own))
    if label in (*STUDENT_REFERENCES, *BOUNDS):
        return cache.digest_of_json({"reference": label, "options": options})
    return cache.digest_of_json({"options": options, "method": own})


def _heeded(reference: str, options: Mapping[str, Any], pool_teachers: str) -> dict[str, Any]:
    """The options that a reference of the teacher follows: which rows are kept out of a pool, and how it reads several teachers
    (joined, as ever, is not named)."""
    if reference not in POOL_REFERENCES:
        return {}
    teachers = {} if pool_teachers == JOINED else {"pool_teachers": pool_teachers}
    return {"held_out": options.get("held_out", 0)} | teachers


def check_folder(out: pathlib.Path, grid: Grid, *origins: Origin) -> None:
    """ArtefactError, naming what differs, where `out` is no folder for this grid: no grid made it, or one of another recipe or
    of other stores. There is an origin a data set. Writes nothing."""
    if out.exists() and not out.is_dir():
        raise ArtefactError(f"--out {out} is a file; the grid needs a folder. Give another --out.")
    # Listed before the ledger is looked for: a part that claims the folder at this moment writes the ledger first.
    found = list(out.iterdir()) if out.is_dir() else []
    if not (out / LEDGER).exists() and not all(map(_may_lie_unclaimed, found)):
        raise ArtefactError(f"--out {out} holds files that no grid made; give an empty or new folder.")
    known = _load_ledger(out)
    if known:
        _check_ledger(known, grid, origins, out)
    _check_rows(load_results(out / RESULTS), origins, out)


def claim_folder(out: pathlib.Path, grid: Grid, recipe: pathlib.Path, *origins: Origin) -> None:
    """Make `out` the folder of this grid, or refuse it as `check_folder` does. The primary comparison is sealed here, before
    the first row."""
    check_folder(out, grid, *origins)
    out.mkdir(parents=True, exist_ok=True)
    with locked(out):
        check_folder(out, grid, *origins)  # again: a part that started at the same moment may have been first
        known = _load_ledger(out)
        if not known:
            known = {"seal": _sealed(out, grid, origins)}
        _tell_changed(known["seal"], grid)
        save_json(out / LEDGER, _content(known, grid, origins) | {"seal": known["seal"], "environment": environment()})
        cache.atomic_write_bytes(out / RECIPE, read_ordinary(recipe))


def _sealed(out: pathlib.Path, grid: Grid, origins: Sequence[Origin]) -> dict[str, Any]:
    """The comparison and what its rows are of, before the first row."""
    shared = {origin.dataset: origin.shared() for origin in origins}
    return seal(grid.primary, shared.get("", shared), len(load_results(out / RESULTS)))


def _content(known: Mapping[str, Any], grid: Grid, origins: Sequence[Origin]) -> dict[str, Any]:
    """Settings and origin of each data set, of earlier ones as well; those of the only pair stand alone, as they ever did."""
    parts = _by_dataset(known) if known.keys() & {"settings", "datasets"} else {}
    for origin in origins:
        settings, recorded = settings_of(grid, origin), origin.recorded()
        if origin.dataset in parts:
            before = parts[origin.dataset]
            settings["methods"] = before["settings"]["methods"] | settings["methods"]
            recorded["targets"] = before["origin"]["targets"] | recorded["targets"]
        parts[origin.dataset] = {"settings": settings, "origin": recorded}
    return dict(parts.get("", {"datasets": parts}))


def _by_dataset(known: Mapping[str, Any]) -> dict[str, Any]:
    """Settings and origin by data set of a ledger."""
    if "datasets" in known:
        return dict(known["datasets"])
    return {"": {"settings": known["settings"], "origin": known["origin"]}}


def _load_ledger(out: pathlib.Path) -> dict[str, Any] | None:
    """The ledger of a folder; None where there is none. ArtefactError for one of an earlier release, or a broken one."""
    path, remedy = out / LEDGER, "read the rows with tcs report, and use another --out"
    if not path.exists():
        return None
    known = load_mapping(path, {}, remedy)
    if "datasets" not in known and "origin" not in known:
        raise ArtefactError(f"{out} was made by an earlier release; read it with tcs report, and use another --out.")
    if "datasets" not in known:
        require_parts(path, known, PARTS, remedy)
        require_schema(path, known, Ledger, remedy)
        return known
    require_parts(path, known, {"datasets": dict, "seal": PARTS["seal"]}, remedy)
    of_one = {name: PARTS[name] for name in ("origin", "settings")}
    require_parts(path, known, {"datasets": dict.fromkeys(known["datasets"], of_one)}, remedy)
    require_schema(path, known, Ledger, remedy)
    return known


def _may_lie_unclaimed(path: pathlib.Path) -> bool:
    """What may lie in a folder without a ledger: rows that were copied there, and what a start that was killed leaves."""
    is_hidden = (
        path.name.startswith(".") and not path.is_dir()
    )  # the lock, and what systems leave in folders that were looked at
    return is_hidden or path.name == RESULTS or cache.is_partial(path, LEDGER)


def _check_rows(rows: list[dict[str, Any]], origins: Sequence[Origin], out: pathlib.Path) -> None:
    """Refuse to add to rows of other stores or of another release's numbers. Rows of data sets that the recipe has no more are left."""
    ours = {origin.dataset: {column: str(value) for column, value in origin.columns().items()} for origin in origins}
    names = {"cache_id": "the train store", "test_id": "the test store", "semantics": "the software's semantics"}
    for line, row in enumerate(rows, 2):
        for column, value in ours.get(row[DATASET], {}).items():
            if row[column] != value:
                raise ArtefactError(
                    f"{out / RESULTS} line {line} has {column} {row[column] or 'missing'}, {names[column]} of this recipe is "
                    f"{value}; rows of both would be averaged, so use another --out."
                )


def _check_ledger(known: Mapping[str, Any], grid: Grid, origins: Sequence[Origin], out: pathlib.Path) -> None:
    """Refuse a folder whose ledger is of other stores, targets or options than this recipe."""
    parts = _by_dataset(known)
    if ("" in parts) != (origins[0].dataset == ""):
        one, several = "one train and test", "datasets"
        there, here = (one, several) if "" in parts else (several, one)
        raise ArtefactError(f"{out} was made by a recipe with {there}, and this one has {here}; use another --out.")
    for origin in origins:
        if origin.dataset in parts:
            _check_part(parts[origin.dataset], settings_of(grid, origin), origin, out)


def _check_part(known: Mapping[str, Any], settings: Mapping[str, Any], origin: Origin, out: pathlib.Path) -> None:
    of = f", in dataset {origin.dataset}" if origin.dataset else ""
    for name, value in origin.shared().items():
        if known["origin"][name] != value:
            raise ArtefactError(
                f"{out} was made with another '{name}' ({shown(known['origin'][name])} there, {value} here){of}; use another --out."
            )
    for path, identity in origin.targets.items():
        before = known["origin"]["targets"].get(path, identity)
        if before != identity:
            raise ArtefactError(
                f"{out} was made with other targets at {path} ({shown(before)} there, {identity} here){of}; use another --out."
            )
    clash = _first_difference(known["settings"], settings)
    if clash:
        raise ArtefactError(f"{out} was made with another {clash}{of}; use another --out for this recipe.")


def _first_difference(known: Mapping[str, Any], now: Mapping[str, Any]) -> str | None:
    if known["options"] != now["options"]:
        return f"'options' ({shown(known['options'], 80)} there, {shown(now['options'], 80)} here)"
    for label, options in now["methods"].items():
        if label in known["methods"] and known["methods"][label] != options:
            return f"method '{label}' ({shown(known['methods'][label], 80)} there, {shown(options, 80)} here)"
    return None


def _tell_changed(sealed: Mapping[str, Any], grid: Grid) -> None:
    now = None if grid.primary is None else list(grid.primary)
    if now != sealed["primary"]:
        say(
            f"The recipe names primary: {now}, and {sealed['primary']} was sealed at {sealed['at']}; the report will call the new "
            "one exploratory."
        )


def load_results(path: pathlib.Path) -> list[dict[str, Any]]:
    """The rows of an earlier run, all values as strings; empty without a file. LATER columns that it lacks are empty. ArtefactError
    where the columns are others, or a line is broken."""
    if not path.exists():
        return []
    columns, rows = load_rows(path)
    if set(columns) | set(LATER) != set(COLUMNS):
        raise ArtefactError(
            f"{path} has other columns than this release writes (rows of earlier ones do not say of which test store they "
            "are); read it with tcs report, and use another --out to go on."
        )
    return [{column: row.get(column, "") for column in COLUMNS} for _, row in rows]


def row_key(row: Mapping[str, Any]) -> tuple[str, ...]:
    """The cell that a row of results.csv belongs to."""
    return tuple(str(row[column]) for column in CELL_KEY)


def add_row(out: pathlib.Path, row: Mapping[str, Any]) -> None:
    """Put `row` into results.csv, in place of an earlier row of its cell. Locked: parts of a grid may run side by side."""
    with locked(out):
        rows = [kept for kept in load_results(out / RESULTS) if row_key(kept) != row_key(row)]
        save_table(out / RESULTS, [*rows, row])


@contextlib.contextmanager
def locked(out: pathlib.Path) -> Iterator[None]:
    """The folder's lock, waited for; no lock where the system has none."""
    require_ordinary(out / LOCK)
    with (out / LOCK).open("w") as lock:
        if fcntl is not None:
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
