"""Frozen, typed configuration: one dataclass a stage, checked when built. Pure standard library, so reading one loads nothing heavy."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from tcs.config_features import FeatureConfig
from tcs.errors import require, require_choice

COORDINATE_METHODS = ("pca", "random", "jl", "autoencoder", "identity")
STORED_DTYPES = ("float16", "float32")
COMPUTE_DTYPES = ("float32", "bfloat16", "float16")
LABEL_SOURCES = ("auto", "folder", "none")


def as_json(config: Any) -> dict[str, Any]:
    """The configuration as plain JSON types, for the artefact that was made with it."""
    return dataclasses.asdict(config)


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataConfig:
    """The images to read: `data` is a folder, a .tar, a .csv or .parquet table, or a timm string such as torch/cifar10."""

    data: str
    split: str | None = None
    labels: str = "auto"
    data_dir: str | None = None
    dataset_download: bool = False
    input_key: str | None = None
    target_key: str | None = None
    class_map: str | None = None

    def __post_init__(self) -> None:
        require_choice(self.labels, LABEL_SOURCES, "--labels")
        for option in ("class_map", "target_key"):
            require(
                self.labels != "none" or getattr(self, option) is None,
                f"--labels none reads no labels, so it excludes --{option.replace('_', '-')}; give one of them.",
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExtractConfig(DataConfig, FeatureConfig):
    """`tcs extract`: one teacher pass over images into a feature store. None means: the teacher's own data config from timm."""

    out: str
    teacher: str
    teacher_checkpoint: str | None = None
    checkpoint_key: str | None = None
    key_map: Mapping[str, str] = dataclasses.field(default_factory=dict)
    teacher_kwargs: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    img_size: int | None = None
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None
    crop_pct: float | None = None
    interpolation: str | None = None
    images: str | None = None  # None: original, up to 10 GB
    dtype: str = "float16"
    compute_dtype: str = "float32"
    rows_per_shard: int = 8192
    batch_size: int = 64
    workers: int = 2
    device: str = "cpu"
    max_bad: int = 0
    overwrite: bool = False
    dry_run: bool = False

    def __post_init__(self) -> None:
        DataConfig.__post_init__(self)
        FeatureConfig.__post_init__(self)
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


def _is_image_policy(value: str | None) -> bool:
    head, _, pixels = (value or "").partition(":")
    return value in (None, "original", "none") or (head == "resized" and pixels.isdecimal() and int(pixels) >= 1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class RepairConfig:
    """`tcs cache repair`: the bad shards of a store extracted again. None means: as the store records it."""

    store: str
    data: str | None = None
    teacher: str | None = None  # asked for where the recorded one is Python code
    teacher_checkpoint: str | None = None
    device: str | None = None
    workers: int | None = None

    def __post_init__(self) -> None:
        require(self.workers is None or self.workers >= 0, f"--workers is {self.workers}; it must be 0 or more.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class RecomputeConfig(RepairConfig):
    """`tcs cache verify --teacher`: `sample` rows of a store computed again. None means: as the store records it."""

    sample: int = 64
    seed: int = 42

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.sample >= 1, f"--sample is {self.sample}; it must be 1 or more.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class FitConfig:
    """`tcs fit`: a coordinate system from a store. `components` None means min(256, D)."""

    store: str
    out: str
    method: str = "pca"
    components: int | None = None
    power: float = 0.0
    readout: str | None = None
    shots: int | None = None
    split_seed: int | None = None
    split_file: str | None = None
    ceiling_shots: tuple[int, ...] = (4, 16)
    ceiling_test: str | None = None
    seed: int = 42
    overwrite: bool = False

    def __post_init__(self) -> None:
        require_choice(self.method, COORDINATE_METHODS, "--method")
        require(
            self.components is None or self.components >= 1,
            f"--components is {self.components}; it must be 1 or more.",
        )
        require(
            0 <= self.power <= 1,
            f"--power is {self.power}; it must lie between 0 (no scaling) and 1 (full whitening).",
        )
        require(self.shots is None or self.shots >= 1, f"--shots is {self.shots}; it must be 1 or more.")
        require(
            self.shots is None or self.split_file is None,
            "--shots and --split-file exclude each other; give one of them.",
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class TargetsConfig:
    """`tcs targets`: coordinates and hash bits of every row of a store."""

    store: str
    coordinates: str
    out: str
    bits: int = 1024
    sample_rows: int = 65536
    seed: int = 42
    overwrite: bool = False

    def __post_init__(self) -> None:
        require(
            8 <= self.bits <= 8192 and self.bits % 8 == 0,
            f"--bits is {self.bits}; "
            "it must be a multiple of 8 from 8 to 8192 (faiss packs 8 bits a byte and factors a bits x bits matrix).",
        )
        require(self.sample_rows >= 1, f"--sample-rows is {self.sample_rows}; it must be 1 or more.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvalConfig:
    """`tcs eval`: students of a run on the images of another store; `probe` is a store to fit a classifier on."""

    run: str
    store: str
    probe: str | None = None
    models: tuple[str, ...] = ()
    data: str | None = None  # the images, for a store that holds none
    batch_size: int = 256
    device: str = "cpu"

    def __post_init__(self) -> None:
        require(self.batch_size >= 1, f"--batch-size is {self.batch_size}; it must be 1 or more.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class FewshotConfig:
    """`tcs fewshot`: the grid shots x students x methods x seeds, read from a recipe file."""

    recipe: str
    out: str
    cells: str | None = None
    dry_run: bool = False
    device: str = "cpu"
