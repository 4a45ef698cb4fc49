"""Options of `tcs train`, and the one place where they are split into parts. Pure standard library."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Self

from tcs.config.audit import DEFAULT_KINDS, ExclusionConfig
from tcs.config.augment import AugmentConfig
from tcs.config.optimiser import OptimiserConfig
from tcs.config.pixels import require_side
from tcs.config.plain import PathText, take_plain
from tcs.config.pool import JOINED, PoolConfig
from tcs.config.unlabelled import parse_pool
from tcs.errors import did_you_mean, option_name, require, require_choice

HEADS = ("linear", "tcs", "none")
MIMIC_VIEWS = ("same", "clean")
SELECT_RIDGE, SELECT_POOL, SELECT_GATES = "ridge", "pool", "gates"  # words of --selection, which else names a file
DEFAULT_COMPONENTS = 256

# The fields of TrainConfig that are configurations themselves. On the command line, in recipes and in stored files their
# options stand beside the others, in this order before them.
PARTS: Mapping[str, type[OptimiserConfig] | type[AugmentConfig] | type[PoolConfig]] = {
    "optimiser": OptimiserConfig,
    "augment": AugmentConfig,
    "pool": PoolConfig,
}

# Say where things lie, how fast they go and what is shown: a run may be resumed with others.
PLACES = (
    *(
        "store",
        "also",
        "data",
        "out",
        "models",
        "targets",
        "split_file",
        "selection",
        "student_checkpoint",
        *("exclude", "exclude_kind", "exclude_top"),  # the images that are left out count
        "device",
        "workers",
        "resident_share",
    ),
    *("checkpoint_every", "log_interval", "held_out_every", "tensorboard", "overwrite", "dry_run"),
)

# Options that came after runs were finished without them: at their defaults they are no part of what a run is told apart by.
LATER = (
    "also",
    "probe_head",
    "pool_estimator",
    "class_prior",
    "pool_teachers",
    "pool_temperature",
    "student_checkpoint",
    *("exclude", "exclude_kind", "exclude_top"),
    "scaled_decoding",
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunFields:
    """The options of `tcs train` that belong to none of its parts."""

    store: PathText = dataclasses.field(kw_only=False)
    out: PathText
    models: tuple[str, ...]
    also: tuple[PathText, ...] = ()  # stores of other teachers, of the same images
    targets: PathText | None = None
    data: PathText | None = None  # the images, for a store that holds none
    readout: str | None = None
    method: str | None = None
    head: str | None = None
    loss: str | None = None
    mimic_view: str = "same"
    shots: int | None = None
    split_seed: int | None = None
    split_file: PathText | None = None
    selection: PathText | None = None
    keep: int | None = None
    unlabelled: str = "all"
    exclude: PathText | None = None  # a table of tcs audit: images that it names are left out of all that the run reads
    exclude_kind: tuple[str, ...] = ()  # () means DEFAULT_KINDS
    exclude_top: int | None = None
    steps: int | None = None
    epochs: int | None = None
    labelled_share: float | None = None
    batch_size: int = 128
    img_size: int | None = None
    warmup_phase_share: float = 0.1
    pretrained: bool = False
    student_checkpoint: PathText | None = None  # a local file of weights that the student starts from
    seed: int = 42
    device: str = "cpu"
    workers: int | None = None
    resident_share: float = 0.25
    held_out: int | None = None  # None: as many as can be had without taking a label away
    held_out_every: int | None = None
    log_interval: int | None = None
    tensorboard: bool = False
    checkpoint_every: int = 200
    overwrite: bool = False
    dry_run: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainConfig(RunFields):
    """`tcs train`: students from a store and its targets, without the teacher. Batch size is global: rows per update, over
    all processes and accumulated parts."""

    optimiser: OptimiserConfig = dataclasses.field(default_factory=OptimiserConfig)
    augment: AugmentConfig = dataclasses.field(default_factory=AugmentConfig)
    pool: PoolConfig = dataclasses.field(default_factory=PoolConfig)

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> Self:
        """The configuration of flat `options`: those of the command line, of a recipe, or of a stored config.json.

        A list stands for a tuple, which YAML and JSON do not have. ConfigError for values that make no sense, TypeError for
        a name that is no option: whoever takes names from a user checks them against `option_defaults`.
        """
        given, known = dict(options), option_defaults()
        unknown = next((name for name in given if name not in known), None)
        if unknown is not None:
            raise TypeError(f"tcs.TrainConfig has no option '{unknown}'.{did_you_mean(str(unknown), known)}")
        for part, kind in PARTS.items():
            own = [field.name for field in dataclasses.fields(kind) if field.name in given]
            given[part] = kind(**{name: given.pop(name) for name in own})
        return cls(**given)

    def options(self) -> dict[str, Any]:
        """The flat options of this configuration, all of them: what `from_options` makes an equal one of."""
        flat = {name: value for part in PARTS for name, value in vars(getattr(self, part)).items()}
        return flat | {name: value for name, value in vars(self).items() if name not in PARTS}

    def __post_init__(self) -> None:
        # A recipe or Python code may give the number of unlabelled rows as a number; it is recorded as the command line's text.
        object.__setattr__(self, "unlabelled", str(self.unlabelled))
        take_plain(self)
        self._check_method()
        self._check_rows()
        self._check_run()

    def _check_method(self) -> None:
        require(
            len(self.models) > 0,
            "--model is missing; name at least one timm architecture, for example --model resnet18.",
        )
        require(
            self.head is None or self.head in HEADS,
            f"--head is '{self.head}'; it must be one of {', '.join(HEADS)}.",
        )
        require(
            self.method is None or (self.loss is None and self.head is None),
            "--method already fixes --head and --loss; give either the method or the two of them.",
        )
        require_choice(self.mimic_view, MIMIC_VIEWS, "--mimic-view")
        require(
            self.keep is None or (self.selection == SELECT_GATES and self.keep >= 1),
            f"--keep is {self.keep}; it must be 1 or more, and goes with --selection gates.",
        )
        require(
            0 < self.warmup_phase_share < 1,
            f"--warmup-phase-share is {self.warmup_phase_share}; it must lie above 0 and below 1.",
        )

        require(
            bool(self.also) or self.pool.pool_teachers == JOINED,
            f"--pool-teachers is {self.pool.pool_teachers}, and there is one teacher; give the others' stores with --also, or leave "
            "it out.",
        )
        require(
            self.student_checkpoint is None or not self.pretrained,
            "--pretrained and --student-checkpoint are two starts; give one of them.",
        )
        require(
            self.student_checkpoint is None or len(self.models) == 1,
            f"--student-checkpoint {self.student_checkpoint} is of one student, and there are {len(self.models)} --model; train "
            "each with its own file.",
        )

    @property
    def exclusion(self) -> ExclusionConfig | None:
        """What --exclude leaves out; None where nothing is."""
        if self.exclude is None:
            return None
        return ExclusionConfig(exclude=self.exclude, kinds=self.exclude_kind or DEFAULT_KINDS, top=self.exclude_top)

    @property
    def asks_for_pool(self) -> bool:
        """Whether --unlabelled asks for any row without a label."""
        return self.unlabelled.strip("0") not in ("none", "")

    @property
    def starts_trained(self) -> bool:
        """Whether students know something before the first step."""
        return self.pretrained or self.student_checkpoint is not None

    def _check_rows(self) -> None:
        require(self.shots is None or self.shots >= 1, f"--shots is {self.shots}; it must be 1 or more.")
        require(
            self.shots is None or self.split_file is None,
            "--shots and --split-file exclude each other; give one of them.",
        )
        parse_pool(self.unlabelled)
        require(
            self.exclusion is not None or (not self.exclude_kind and self.exclude_top is None),
            "--exclude-kind and --exclude-top have no effect without --exclude.",
        )
        require(
            self.labelled_share is None or 0 < self.labelled_share <= 1,
            f"--labelled-share is {self.labelled_share}; it must lie above 0 and at most at 1.",
        )
        require(
            self.held_out is None or self.held_out >= 0,
            f"--held-out is {self.held_out}; it must be 0 (none) or more.",
        )

    def _check_run(self) -> None:
        require(self.steps is None or self.epochs is None, "--steps and --epochs exclude each other; give one of them.")
        require_side(self.img_size)
        require(self.batch_size >= 1, f"--batch-size is {self.batch_size}; it must be 1 or more.")
        require(
            self.optimiser.grad_accum_steps <= self.batch_size,
            f"--grad-accum-steps is {self.optimiser.grad_accum_steps}, more than --batch-size ({self.batch_size}); use fewer "
            "parts.",
        )
        require(self.workers is None or self.workers >= 0, f"--workers is {self.workers}; it must be 0 or more.")
        require(
            0 <= self.resident_share <= 1,
            f"--resident-share is {self.resident_share}; it must lie between 0 (stream) and 1.",
        )
        for option in ("steps", "epochs", "checkpoint_every", "log_interval", "held_out_every"):
            value = getattr(self, option)
            require(value is None or value >= 1, f"{option_name(option)} is {value}; it must be 1 or more.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainOptions(PoolConfig, AugmentConfig, OptimiserConfig, RunFields):
    """All options of `tcs train` side by side, as the command line has them and `tcs.train(...)` takes them."""

    def __post_init__(self) -> None:
        """Nothing is checked before the parts are made."""

    def config(self) -> TrainConfig:
        """The configuration of these options; ConfigError for values that make no sense."""
        return TrainConfig.from_options(vars(self))


def may_score_labels(config: TrainConfig) -> bool:
    """Whether held-out labels may be read: where the run is given every label of its store (no --shots, no --split-file).

    In a few-shot run they lie outside the split; a score of them would leak labels into whatever is decided by it.
    """
    return config.shots is None and config.split_file is None


def without_later(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options without those of LATER that are at their defaults, which tell no run from those that were made before them."""
    defaults = option_defaults()
    return {name: value for name, value in options.items() if not (name in LATER and value == defaults[name])}


def option_defaults() -> dict[str, Any]:
    """Every option of `tcs train` with its default, dataclasses.MISSING where it has none, as `TrainConfig.options` orders them."""
    own = [field for field in dataclasses.fields(TrainConfig) if field.name not in PARTS]
    fields = [*(field for kind in PARTS.values() for field in dataclasses.fields(kind)), *own]
    return {field.name: field.default for field in fields}
