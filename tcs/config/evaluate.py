"""Options of `tcs eval`, `tcs fewshot` and `tcs probe`. Pure standard library."""

import dataclasses

from tcs.config.inference import require_temperature
from tcs.config.plain import PathText, take_plain
from tcs.errors import listed, refuse_idle, require, require_choice

# Of `tcs probe`.
PROJECTIONS = ("jl", "orthogonal", "pca", "selection")
TRANSDUCTIVE = "transductive"  # fitted on the pool as well, tcs.pool_labels
HEADS = ("ridge", "logistic", "ibm2", TRANSDUCTIVE)
SOURCE_OPTIONS = ("labels", "split", "data_dir", "input_key", "target_key")  # of `tcs eval`
# Of `tcs fewshot`.
LOCAL, RAY, SUBMITIT = "local", "ray", "submitit"
ENGINES = (LOCAL, RAY, SUBMITIT)

COMPRESSIONS = (2.0, 4.0, 8.0, 16.0, 32.0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvalConfig:
    """`tcs eval`: students of `run` (or another MODEL) on the labelled images of `store` (or other DATA).

    `probe` is a store to fit a classifier on. The options from `labels` to `target_key` say how images that are no store are read;
    `temperature` None is the one fitted in training, if there is one.
    """

    run: PathText = dataclasses.field(kw_only=False)
    store: PathText = dataclasses.field(kw_only=False)
    probe: PathText | None = None
    models: tuple[str, ...] = ()
    data: PathText | None = None  # the images, for a store that holds none
    labels: str = "auto"
    split: str | None = None
    data_dir: PathText | None = None
    input_key: str | None = None
    target_key: str | None = None
    temperature: float | None = None
    batch_size: int = 256
    workers: int | None = None
    device: str = "cpu"
    out: PathText | None = None  # a .csv, one row a student
    errors: PathText | None = None  # a folder of contact sheets
    overwrite: bool = False

    def __post_init__(self) -> None:
        take_plain(self)
        require(self.batch_size >= 1, f"--batch-size is {self.batch_size}; it must be 1 or more.")
        require(self.workers is None or self.workers >= 1, f"--workers is {self.workers}; it must be 1 or more.")
        require_temperature(self.temperature)
        require(
            self.out is None or self.out.lower().endswith(".csv"),
            f"--out is '{self.out}'; its name must end in .csv (--json gives JSON on stdout).",
        )

    def refuse_source_options(self) -> None:
        """ConfigError for an option that says how images are read, where a store is."""
        refuse_idle(self, [(SOURCE_OPTIONS, False, "images that are no store")])


@dataclasses.dataclass(frozen=True, kw_only=True)
class FewshotConfig:
    """`tcs fewshot`: the grid shots x students x methods x seeds, read from a recipe file.

    `jobs` are processes of this machine, tasks of Ray that run at once, or parts of a SLURM array, by `engine`; `slurm` are options of
    its jobs, as partition=gpu.
    """

    recipe: PathText = dataclasses.field(kw_only=False)
    out: PathText
    cells: str | None = None
    jobs: int = 1
    engine: str = LOCAL
    slurm: tuple[str, ...] = ()
    dry_run: bool = False
    device: str = "cpu"

    def __post_init__(self) -> None:
        take_plain(self)
        require(self.jobs >= 1, f"--jobs is {self.jobs}; it must be 1 or more.")
        require_choice(self.engine, ENGINES, "--engine")
        require(
            not self.slurm or self.engine == SUBMITIT,
            f"--slurm is {listed(self.slurm)}, and --engine is {self.engine}; it goes with --engine {SUBMITIT}.",
        )
        for option in self.slurm:
            name, equals, _ = option.partition("=")
            require(
                bool(equals) and name.isidentifier(),
                f"--slurm is '{option}'; write KEY=VALUE, as partition=gpu or timeout_min=120.",
            )
        require(
            self.cells is None or self.engine != SUBMITIT,
            f"--cells is {self.cells}, and --engine {SUBMITIT} gives each job of its array a part; leave --cells out.",
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProbeConfig:
    """`tcs probe`: a head on compressed features. `store` is fitted on, `test` is scored. Without dims and compressions: 2x to 32x.

    A seed draws the projection (and the noise of `ibm2`, and what `transductive` draws from its pool), and with `shots` the split
    as well, unless `split_seed` fixes it.
    """

    store: PathText = dataclasses.field(kw_only=False)
    test: PathText
    readout: str | None = None
    projections: tuple[str, ...] = PROJECTIONS
    dims: tuple[int, ...] = ()
    compressions: tuple[float, ...] = ()
    head: str = "ridge"
    shots: int | None = None
    split_seed: int | None = None
    split_file: PathText | None = None
    seeds: tuple[int, ...] = (0, 1, 2)
    copies: int = 200
    device: str = "cpu"
    out: PathText | None = None
    overwrite: bool = False

    def __post_init__(self) -> None:
        take_plain(self)
        for projection in self.projections:
            require_choice(projection, PROJECTIONS, "--projection")
        require_choice(self.head, HEADS, "--head")
        require(
            not (self.dims and self.compressions), "--dims and --compression exclude each other; give one of the two."
        )
        for option, values in (("--dims", self.dims), ("--compression", self.compressions)):
            for value in values:
                require(value >= 1, f"{option} is {value:g}; it must be 1 or more.")
        require(len(self.projections) > 0, "--projection is missing; name at least one, for example --projection jl.")
        require(len(self.seeds) > 0, "--seed is missing; give at least one.")
        for option, given in (("--projection", self.projections), ("--seed", self.seeds)):
            require(len(set(given)) == len(given), f"{option} names {listed(given)}; each may stand there once.")
        require(self.shots is None or self.shots >= 1, f"--shots is {self.shots}; it must be 1 or more.")
        require(
            self.shots is None or self.split_file is None,
            "--shots and --split-file exclude each other; give one of them.",
        )
        require(
            self.split_seed is None or self.shots is not None,
            f"--split-seed is {self.split_seed}, and no split is drawn; give --shots with it, or leave it out.",
        )
        require(self.copies >= 1, f"--copies is {self.copies}; it must be 1 or more.")
