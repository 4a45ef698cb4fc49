"""Options of `tcs extract`, and of the commands that repeat a part of it: `tcs cache repair`, `tcs cache verify --teacher`.

As every module of this package: one frozen, typed dataclass a command, checked when built, and nothing but the standard
library, so that reading one loads nothing heavy.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from tcs.config.pixels import FIRST, NEWEST, VERSIONS, PixelRules, hex_colour
from tcs.config.plain import PathText, take_plain
from tcs.errors import option_name, refuse_idle, require, require_choice

DEFAULT_READOUTS = ("avg",)
LABEL_SOURCES = ("auto", "folder", "none")
PROJECTIONS = ("orthogonal", "pca", "autoencoder")
FITTED_PROJECTIONS = ("pca", "autoencoder")  # to a sample of the images
MAP = "map"  # readouts that end so keep their positions
STORED_DTYPES = ("float16", "float32")
COMPUTE_DTYPES = ("float32", "bfloat16", "float16")
MOST_VIEWS = 1000
VIEW_OPTIONS = ("view_scale", "view_ratio", "hflip", "color_jitter", "grayscale_prob")


def as_json(config: Any) -> dict[str, Any]:
    """The configuration as plain JSON types, for the artefact that was made with it."""
    return dataclasses.asdict(config)


@dataclasses.dataclass(frozen=True, kw_only=True)
class FeatureConfig:
    """Readouts of one pass; how maps are made smaller; and V augmented views of each image instead of the clean one.

    `map_size` None keeps maps as they are; `views` None means the clean centre view. An option that has nothing to act on is
    refused, never passed over. The colour jitter c changes brightness, contrast and saturation by up to c, and the hue by up to
    c / 4 of the circle. `seed` is of projections and views.
    """

    readouts: tuple[str, ...] = DEFAULT_READOUTS
    map_size: tuple[int, int] | None = None
    project: Mapping[str, int] = dataclasses.field(default_factory=dict)
    projection: str = "orthogonal"
    projection_images: int = 512
    projection_from: PathText | None = None
    views: int | None = None
    view_scale: tuple[float, float] = (0.2, 1.0)
    view_ratio: tuple[float, float] = (0.75, 4 / 3)
    hflip: float = 0.5
    color_jitter: float = 0.0
    grayscale_prob: float = 0.0
    seed: int = 42

    def __post_init__(self) -> None:
        take_plain(self)
        require(len(self.readouts) > 0, "--readout is missing; name at least one, for example --readout avg.")
        require(
            len(set(self.readouts)) == len(self.readouts),
            f"--readout names {', '.join(self.readouts)}; each may stand there once.",
        )
        require(
            self.map_size is None or min(self.map_size) >= 1,
            f"--map-size is {self.map_size}; it must be HEIGHTxWIDTH, 1 or more each.",
        )
        require_choice(self.projection, PROJECTIONS, "--projection")
        require(self.projection_images >= 2, f"--projection-images is {self.projection_images}; it must be 2 or more.")
        require(
            self.projection_from is None or not self.project,
            "--project and --projection-from exclude each other; give one of them.",
        )
        require(self.views is None or self.views >= 1, f"--views is {self.views}; it must be 1 or more.")
        require(
            self.views is None or self.views <= MOST_VIEWS,
            f"--views is {self.views}; it must be {MOST_VIEWS:,} or less: each is a pass of the teacher over all images.",
        )
        least, most = self.view_scale
        require(
            0 < least <= most <= 1,
            f"--view-scale is {least} {most}; it must be two shares of the area, above 0, at most 1, the smaller first.",
        )
        least, most = self.view_ratio
        require(
            0 < least <= most < math.inf,
            f"--view-ratio is {least} {most}; it must be two ratios width / height above 0, the smaller first.",
        )
        for option in ("hflip", "color_jitter", "grayscale_prob"):
            value = getattr(self, option)
            require(0 <= value <= 1, f"{option_name(option)} is {value}; it must lie between 0 and 1.")
        self._refuse_idle_options()

    def _refuse_idle_options(self) -> None:
        """Raise ConfigError for an option that would change nothing: what it acts on is not asked for."""
        conditions = (
            (("map_size",), any(name.endswith(MAP) for name in self.readouts), "a map; add --readout map"),
            (("projection", "projection_images"), bool(self.project), "--project; add --project READOUT=DIMS"),
            (
                ("projection_images",),
                self.projection in FITTED_PROJECTIONS,
                "a fitted projection; add --projection pca",
            ),
            (VIEW_OPTIONS, self.views is not None, "augmented views; add --views V"),
        )
        refuse_idle(self, conditions)


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataConfig:
    """The images to read: `data` is a folder, a .tar, a .csv or .parquet table, or a timm string such as torch/cifar10.

    `unlabelled_data` are more folders, .tar files or tables, of which no label is read.
    """

    data: PathText = dataclasses.field(kw_only=False)
    split: str | None = None
    labels: str = "auto"
    data_dir: PathText | None = None
    dataset_download: bool = False
    input_key: str | None = None
    target_key: str | None = None
    class_map: PathText | None = None
    unlabelled_data: tuple[PathText, ...] = ()

    def __post_init__(self) -> None:
        take_plain(self)
        require_choice(self.labels, LABEL_SOURCES, "--labels")
        for option in ("class_map", "target_key"):
            require(
                self.labels != "none" or getattr(self, option) is None,
                f"--labels none reads no labels, so it excludes {option_name(option)}; give one of them.",
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExtractConfig(DataConfig, FeatureConfig):
    """`tcs extract`: one teacher pass over images into a feature store. None means: the teacher's own data config from timm.

    With a `label_file` the labels are those that it gives to some of the images, and `labels` is none: no other is read.
    `teacher_card` is a file that names teacher, weights and preprocessing in place of the options for them.
    `pixel_rules` None means those of a store that is there and was begun by rules 1, else the newest; `teacher_channels_last` None the
    layout that a store was begun in, else the one that was measured to be the faster for the architecture.
    """

    out: PathText
    teacher: str = ""
    teacher_card: PathText | None = None
    label_file: PathText | None = None
    teacher_checkpoint: PathText | None = None
    checkpoint_key: str | None = None
    key_map: Mapping[str, str] = dataclasses.field(default_factory=dict)
    teacher_kwargs: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    img_size: int | None = None
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None
    crop_pct: float | None = None
    interpolation: str | None = None
    ignore_orientation: bool = False
    background: str = "white"
    pixel_rules: int | None = None
    images: str | None = None  # None: original, up to 10 GB
    dtype: str = "float16"
    compute_dtype: str = "float32"
    teacher_channels_last: bool | None = None
    rows_per_shard: int = 8192
    batch_size: int = 64
    workers: int = 2
    device: str = "cpu"
    max_bad: int = 0
    overwrite: bool = False
    dry_run: bool = False

    def __post_init__(self) -> None:
        if self.label_file is not None:
            self._leave_labels_to_the_file()
        DataConfig.__post_init__(self)
        FeatureConfig.__post_init__(self)
        self._check_teacher()
        require_choice(self.dtype, STORED_DTYPES, "--dtype")
        require_choice(self.compute_dtype, COMPUTE_DTYPES, "--compute-dtype")
        require(
            self.teacher_checkpoint is not None or (self.checkpoint_key is None and not self.key_map),
            "--checkpoint-key and --key-map say how a file is read; give the file with --teacher-checkpoint.",
        )
        require(self.rows_per_shard >= 1, f"--rows-per-shard is {self.rows_per_shard}; it must be 1 or more.")
        require(self.batch_size >= 1, f"--batch-size is {self.batch_size}; it must be 1 or more.")
        require(self.workers >= 0, f"--workers is {self.workers}; it must be 0 or more.")
        require(self.max_bad >= 0, f"--max-bad is {self.max_bad}; it must be 0 or more.")
        require(
            _is_image_policy(self.images),
            f"--images is '{self.images}'; "
            "it must be original, none, or resized:PX with PX a whole number, as resized:256.",
        )
        self._check_pixels()

    @property
    def rules(self) -> PixelRules:
        """How image files become pixels by these options alone."""
        if self.pixel_rules == FIRST:
            return PixelRules(version=FIRST, orientation=False)
        return PixelRules(
            version=self.pixel_rules or NEWEST,
            orientation=not self.ignore_orientation,
            background=hex_colour(self.background),
        )

    def _check_teacher(self) -> None:
        require(
            self.teacher != "" or self.teacher_card is not None,
            "--teacher is missing; name one, or give the --teacher-card of one.",
        )
        for option in ("teacher", "teacher_checkpoint", "teacher_kwargs", "checkpoint_key", "key_map"):
            require(
                self.teacher_card is None or not getattr(self, option),
                f"--teacher-card {self.teacher_card} names teacher and weights, so it excludes {option_name(option)}; give one of them.",
            )

    def _check_pixels(self) -> None:
        hex_colour(self.background)
        require(
            self.pixel_rules is None or self.pixel_rules in VERSIONS,
            f"--pixel-rules is {self.pixel_rules}; it must be one of {', '.join(map(str, VERSIONS))}.",
        )
        refuse_idle(
            self,
            ((("ignore_orientation", "background"), self.pixel_rules != FIRST, "rules 2; leave out --pixel-rules 1"),),
        )

    def _leave_labels_to_the_file(self) -> None:
        for option, is_given in (
            ("labels", self.labels == "folder"),
            ("class_map", self.class_map is not None),
            ("target_key", self.target_key is not None),
        ):
            require(
                not is_given,
                f"--label-file {self.label_file} says what is labelled, so it excludes {option_name(option)}; give one of them.",
            )
        object.__setattr__(self, "labels", "none")


def _is_image_policy(value: str | None) -> bool:
    head, _, pixels = (value or "").partition(":")
    return value in (None, "original", "none") or (head == "resized" and pixels.isdecimal() and int(pixels) >= 1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class RepairConfig:
    """`tcs cache repair`: the bad shards of a store extracted again. None means: as the store records it."""

    store: PathText = dataclasses.field(kw_only=False)
    data: PathText | None = None
    teacher: str | None = None  # asked for where the recorded one is Python code
    teacher_checkpoint: PathText | None = None
    device: str | None = None
    workers: int | None = None

    def __post_init__(self) -> None:
        take_plain(self)
        require(self.workers is None or self.workers >= 0, f"--workers is {self.workers}; it must be 0 or more.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class RecomputeConfig(RepairConfig):
    """`tcs cache verify --teacher`: `sample` rows of a store computed again. None means: as the store records it."""

    sample: int = 64
    seed: int = 42

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.sample >= 1, f"--sample is {self.sample}; it must be 1 or more.")
