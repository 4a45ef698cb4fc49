"""All options of `tcs distill` side by side. Written by scripts/make_distill_options.py; not to be edited."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from tcs.config.distill import DistillConfig
from tcs.config.plain import PathText


@dataclasses.dataclass(frozen=True, kw_only=True)
class DistillOptions:
    """All options of `tcs distill` side by side, as the command line has them and `tcs.distill(...)` takes them."""

    data: PathText = dataclasses.field(kw_only=False)
    out: PathText
    models: tuple[str, ...]
    test: PathText | None = None
    test_split: str | None = None
    val_split: float | None = None
    exports: tuple[str, ...] = ()
    with_preprocess: bool = False
    int8: PathText | None = None
    max_drop: float = 1.0
    compare_labels: bool = False
    overwrite: bool = False
    dry_run: bool = False
    readouts: tuple[str, ...] = ("avg",)
    map_size: tuple[int, int] | None = None
    project: Mapping[str, int] = dataclasses.field(default_factory=dict)
    projection: str = "orthogonal"
    projection_images: int = 512
    projection_from: PathText | None = None
    views: int | None = None
    view_scale: tuple[float, float] = (0.2, 1.0)
    view_ratio: tuple[float, float] = (0.75, 1.3333333333333333)
    hflip: float = 0.5
    color_jitter: float = 0.0
    grayscale_prob: float = 0.0
    seed: int = 42
    split: str | None = None
    labels: str = "auto"
    data_dir: PathText | None = None
    dataset_download: bool = False
    input_key: str | None = None
    target_key: str | None = None
    class_map: PathText | None = None
    unlabelled_data: tuple[PathText, ...] = ()
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
    images: str | None = None
    dtype: str = "float16"
    compute_dtype: str = "float32"
    teacher_channels_last: bool | None = None
    rows_per_shard: int = 8192
    batch_size: int = 64
    workers: int = 2
    device: str = "cpu"
    max_bad: int = 0
    opt: str = "adamw"
    lr: float = 0.002
    momentum: float = 0.9
    weight_decay: float = 0.05
    opt_eps: float | None = None
    opt_betas: tuple[float, float] | None = None
    layer_decay: float | None = None
    clip_grad: float | None = 1.0
    clip_mode: str = "norm"
    sched: str = "cosine"
    min_lr: float = 0.0
    warmup_lr: float | None = None
    warmup_share: float = 0.05
    decay_steps: int | None = None
    decay_milestones: tuple[int, ...] = ()
    decay_rate: float = 0.1
    grad_accum_steps: int = 1
    amp: bool = False
    amp_dtype: str = "bfloat16"
    channels_last: bool = True
    torchcompile: str | None = None
    model_ema: bool = False
    model_ema_decay: float = 0.9998
    model_ema_warmup: bool = False
    freeze: tuple[str, ...] = ()
    sync_bn: bool = False
    crop_padding: float = 0.125
    scale: tuple[float, float] | None = None
    ratio: tuple[float, float] = (0.75, 1.3333333333333333)
    train_interpolation: str = "bicubic"
    decode_size: int | None = None
    scaled_decoding: bool = False
    student_hflip: float = 0.5
    vflip: float = 0.0
    student_color_jitter: float = 0.0
    color_jitter_prob: float = 1.0
    student_grayscale_prob: float = 0.0
    reprob: float = 0.0
    remode: str = "const"
    recount: int = 1
    mixup: float = 0.0
    cutmix: float = 0.0
    mixup_prob: float = 1.0
    mixup_switch_prob: float = 0.5
    smoothing: float = 0.0
    probe_head: str = "logistic"
    pool_estimator: str = "average"
    class_prior: tuple[str, ...] = ()
    pool_teachers: str = "joined"
    pool_temperature: float = 1.0
    also: tuple[PathText, ...] = ()
    student_readout: str | None = None
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
    exclude: PathText | None = None
    exclude_kind: tuple[str, ...] = ()
    exclude_top: int | None = None
    steps: int | None = None
    epochs: int | None = None
    labelled_share: float | None = None
    student_batch_size: int = 128
    student_img_size: int | None = None
    warmup_phase_share: float = 0.1
    pretrained: bool = False
    student_checkpoint: PathText | None = None
    student_workers: int | None = None
    resident_share: float = 0.25
    held_out: int | None = None
    held_out_every: int | None = None
    log_interval: int | None = None
    tensorboard: bool = False
    checkpoint_every: int = 200
    fit_also: tuple[PathText, ...] = ()
    fit_method: str = "pca"
    components: int | None = None
    power: float = 0.0
    fit_selection: str = "ridge"
    ceiling_shots: tuple[int, ...] = (4, 16)
    ceiling_test_also: tuple[PathText, ...] = ()
    targets_also: tuple[PathText, ...] = ()
    bits: int = 1024
    sample_rows: int = 65536

    def config(self) -> DistillConfig:
        """The configuration of these options; ConfigError for values that make no sense."""
        return DistillConfig.from_options(vars(self))
