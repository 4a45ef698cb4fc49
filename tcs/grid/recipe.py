"""The plan of `tcs fewshot`: a recipe as it was read (tcs.grid.recipe_file), and the cells of its grid. Trains nothing."""

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeVar

from tcs.config.train import TrainConfig
from tcs.errors import ConfigError
from tcs.grid.method_rows import MethodRow
from tcs.grid.pairs import Pair
from tcs.methods.named import Method, resolve_method, without_pool
from tcs.reporting.rows import cell_digest
from tcs.splits.written_split import LINES

TEACHER = "teacher"  # the model of a reference row without a student
NO_PIXELS = ("none", "0")
METHOD_REFERENCES = ("labels", "bottleneck")  # of students: methods by another name
POOL_REFERENCES = ("teacher-transductive",)  # of the teacher, and of the pool's rows
STUDENT_REFERENCES = ("same-pixels",)
NEED_POOL = POOL_REFERENCES + STUDENT_REFERENCES
TEACHER_BOUND, STUDENT_BOUND = "teacher-all-labels", "all-labels"  # of every label of the training store: shots 0
BOUNDS = (TEACHER_BOUND, STUDENT_BOUND)
ALL_LABELS = 0  # the shots of their rows
CHEAP_REFERENCES = (  # without the key `references`; the others on request
    *(
        "labels",
        "teacher-probe",
        *POOL_REFERENCES,
        "teacher-knn",
        "teacher-centroids",
        *STUDENT_REFERENCES,
        TEACHER_BOUND,
    ),
)
REFERENCES = (*CHEAP_REFERENCES, STUDENT_BOUND, "bottleneck", "ibm2")
EXACT, UP_TO = "exact", "up-to"

Part = TypeVar("Part")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Grid:
    """A recipe file, checked. What is of one pair of stores (`train`, `targets`, ...) is asked of the grid of that pair, `of`."""

    pairs: tuple[Pair, ...]
    students: tuple[str, ...]
    methods: tuple[MethodRow, ...]
    shots: tuple[int, ...]
    seeds: tuple[int, ...]
    unlabelled: tuple[str, ...]
    references: tuple[str, ...]
    options: Mapping[str, Any]
    primary: tuple[str, str] | None = None
    shots_policy: str = EXACT
    splits_as: str = LINES
    near_copies: float | None = None
    latency: bool = True

    @property
    def datasets(self) -> tuple[str, ...]:
        """The names of the pairs; one that is empty where there is one pair."""
        return tuple(pair.name for pair in self.pairs)

    def of(self, dataset: str) -> "Grid":
        """The grid on one pair alone, its methods with the targets of that, its options with those of the pair."""
        pair = next(pair for pair in self.pairs if pair.name == dataset)
        options = {**self.options, **pair.options}
        return dataclasses.replace(
            self, pairs=(pair,), methods=tuple(row.of(dataset) for row in self.methods), options=options
        )

    @property
    def pair(self) -> Pair:
        """The only pair."""
        (pair,) = self.pairs
        return pair

    @property
    def train(self) -> str:
        """Path of the training store of the only pair, as the next ones are of it."""
        return self.pair.train

    @property
    def test(self) -> str:
        """Path of the test store."""
        return self.pair.test

    @property
    def targets(self) -> str | None:
        """Path of the targets, unless a method has its own."""
        return self.pair.targets

    @property
    def data(self) -> str | None:
        """The images of a training store that holds none."""
        return self.pair.data

    @property
    def test_data(self) -> str | None:
        """The images of a test store that holds none."""
        return self.pair.test_data

    @property
    def also(self) -> tuple[str, ...]:
        """Training stores of other teachers."""
        return self.pair.also

    @property
    def test_also(self) -> tuple[str, ...]:
        """Their test stores."""
        return self.pair.test_also

    @property
    def pixel_pools(self) -> tuple[str, ...]:
        """The pools that hold unlabelled pixels."""
        return tuple(pool for pool in self.unlabelled if pool not in NO_PIXELS)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cell:
    """One training run, or one reference row of the teacher (model `teacher`)."""

    model: str
    method: MethodRow
    shots: int
    seed: int
    unlabelled: str
    dataset: str = ""

    @property
    def key(self) -> tuple[str, ...]:
        """What tells its row in results.csv from the others: data set, model, method, shots, seed and pool."""
        return (self.dataset, self.model, self.method.label, str(self.shots), str(self.seed), self.unlabelled)

    @property
    def name(self) -> str:
        """The key in words."""
        return " ".join(self.key).strip()

    @property
    def digest(self) -> str:
        """16 hex digits that stand for it in files."""
        return cell_digest(self.key)


def plan_cells(grid: Grid) -> list[Cell]:
    """Every cell, seed by seed, so that an interrupted grid has whole seeds. Methods without a pool run once, not once per pool."""
    rows = {pair.name: _rows(grid.of(pair.name)) for pair in grid.pairs}
    cells = []
    for seed in grid.seeds:
        cells += [
            Cell(model=model, method=method, shots=shots, seed=seed, unlabelled=pool, dataset=dataset)
            for dataset in grid.datasets
            for shots in grid.shots
            for model, method, pools in rows[dataset]
            for pool in pools
        ]
        cells += [cell for dataset in grid.datasets for cell in _bounds(grid, dataset, seed)]
    return cells


def _bounds(grid: Grid, dataset: str, seed: int) -> list[Cell]:
    """The rows of all labels: of the teacher once, for nothing of it is drawn; of students one a seed, which is their start."""
    models = {TEACHER_BOUND: (TEACHER,) if seed == grid.seeds[0] else (), STUDENT_BOUND: grid.students}
    options = {TEACHER_BOUND: {}, STUDENT_BOUND: {"method": "labels"}}
    return [
        Cell(
            model=model,
            method=MethodRow(label=name, options=options[name], uses_pool=False),
            shots=ALL_LABELS,
            seed=seed,
            unlabelled="none",
            dataset=dataset,
        )
        for name in BOUNDS
        if name in grid.references
        for model in models[name]
    ]


def _rows(grid: Grid) -> list[tuple[str, MethodRow, tuple[str, ...]]]:
    """(model, method, pools) of one split: the teacher's references, then each student's methods and references."""
    rows: list[tuple[str, MethodRow, tuple[str, ...]]] = [
        (TEACHER, MethodRow(label=name, options={}, uses_pool=name in NEED_POOL), _pools_of_reference(name, grid))
        for name in grid.references
        if name not in (*STUDENT_REFERENCES, *BOUNDS)
    ]
    for student in grid.students:
        rows += [
            (student, method, grid.unlabelled if method.uses_pool else ("none",))
            for method in grid.methods
            if student in method.run_with(grid.students)
        ]
        rows += [
            (student, MethodRow(label=name, options={}, uses_pool=True), _pools_of_reference(name, grid))
            for name in grid.references
            if name in STUDENT_REFERENCES
        ]
    return rows


def _pools_of_reference(name: str, grid: Grid) -> tuple[str, ...]:
    return grid.pixel_pools if name in NEED_POOL else ("none",)


def choose_part(groups: list[Part], part: str | None) -> list[Part]:
    """The i-th of n parts of the cells (or groups of them) for `part` = "i/n" (1-based), or all for None."""
    if part is None:
        return groups
    index, slash, count = part.partition("/")
    if not (slash and index.isdecimal() and count.isdecimal() and 1 <= int(index) <= int(count)):
        raise ConfigError(f"--cells is '{part}'; write i/n with 1 <= i <= n, as 1/4.")
    return groups[int(index) - 1 :: int(count)]


def cell_config(grid: Grid, cell: Cell, out: str, device: str) -> TrainConfig:
    """The TrainConfig of a cell: the grid's options, then the method's own."""
    grid, method = grid.of(cell.dataset), cell.method.of(cell.dataset)
    # Watching may keep rows out of training, and a benchmark reads the last step only: nothing is watched, unless asked for.
    options = {"targets": grid.targets, "held_out": 0} | dict(grid.options) | dict(method.options)
    own = {
        "store": grid.train,
        "also": grid.also,
        "data": grid.data,
        "out": out,
        "models": (cell.model,),
        "shots": cell.shots or None,  # of all labels: ALL_LABELS
        "seed": cell.seed,
        "unlabelled": cell.unlabelled,
        "device": device,
    }
    return TrainConfig.from_options(options | own)


def method_of(config: TrainConfig) -> Method:
    """The method that a cell trains by, which is a simpler one where it has no pool. ConfigError for a head and a loss that do not
    go together."""
    asked = resolve_method(config.method, config.head, config.loss, picks_labels=True)
    return without_pool(asked) if config.unlabelled in NO_PIXELS else asked
