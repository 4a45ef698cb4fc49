"""`tcs.extract`, as it is called. Written by scripts/make_stages.py; not to be edited."""

import pathlib
from collections.abc import Mapping
from typing import Any, overload

from tcs.config.extract import ExtractConfig
from tcs.config.plain import AnyPath, Several
from tcs.config.stage import takes
from tcs.extraction.extract import extract as run

# fmt: off

@overload
def extract(
    config: ExtractConfig, /
) -> pathlib.Path: ...
@overload
def extract(
    data: AnyPath, *, out: AnyPath, teacher: str = "", teacher_card: AnyPath | None = None,
    teacher_checkpoint: AnyPath | None = None, checkpoint_key: str | None = None, key_map: Mapping[str, str] = ...,
    teacher_kwargs: Mapping[str, Any] = ..., readouts: Several[str] = ("avg",),
    map_size: tuple[int, int] | None = None, project: Mapping[str, int] = ..., projection: str = "orthogonal",
    projection_images: int = 512, projection_from: AnyPath | None = None, views: int | None = None,
    view_scale: tuple[float, float] = (0.2, 1.0), view_ratio: tuple[float, float] = (0.75, 1.3333333333333333),
    hflip: float = 0.5, color_jitter: float = 0.0, grayscale_prob: float = 0.0, seed: int = 42,
    split: str | None = None, labels: str = "auto", label_file: AnyPath | None = None,
    unlabelled_data: Several[AnyPath] = (), data_dir: AnyPath | None = None, dataset_download: bool = False,
    input_key: str | None = None, target_key: str | None = None, class_map: AnyPath | None = None,
    img_size: int | None = None, mean: tuple[float, float, float] | None = None,
    std: tuple[float, float, float] | None = None, crop_pct: float | None = None, interpolation: str | None = None,
    ignore_orientation: bool = False, background: str = "white", pixel_rules: int | None = None,
    images: str | None = None, dtype: str = "float16", compute_dtype: str = "float32",
    teacher_channels_last: bool | None = None, rows_per_shard: int = 8192, batch_size: int = 64, workers: int = 2,
    device: str = "cpu", max_bad: int = 0, dry_run: bool = False, overwrite: bool = False
) -> pathlib.Path: ...
@takes(run, ExtractConfig)
def extract(*given: Any, **named: Any) -> Any:
    """Run the pass that `config` describes, or what is left of it; returns the store's path.

    A finished store is left as it is, but for labels that `label_file` adds or corrects.
    Raises TcsError or CacheError, one line each; the shards written stay, and the
    same call resumes. With more than `max_bad` bad images all of them are found first, and the store stays open.

    Takes the options below, which are those of tcs.ExtractConfig, or one such configuration as its only argument. A
    path is a text or any os.PathLike, and a list may stand for a tuple. TypeError for a name that is no option,
    ConfigError for a value that makes no sense.

    Args:
        data (path): The images: a folder, a .tar, a .csv or .parquet table, or a timm name such as torch/cifar10.
        out (path): Folder of the store, NAME.store by custom.
        teacher (str): timm name, hf-hub:OWNER/NAME, local-dir:FOLDER or MODULE:FUNCTION. Default: "".
        teacher_card (path or None): In place of it: a card with teacher, weights and preprocessing. Default: None.
        teacher_checkpoint (path or None): Weights: .safetensors, or .pth with tensors only. Default: None.
        checkpoint_key (str or None): Dict of that file to read. Default: found by its layout.
        key_map (mapping of str to str): Beginnings of keys to change, as {OLD: NEW}. Default: {}.
        teacher_kwargs (mapping of str to Any): For timm's constructor, as {K: V}. Default: {}.
        readouts (tuple of str): cls, avg, pool or map; of an inner layer block3.avg, stage2.map ... All come from one
            pass. Default: ("avg",).
        map_size ((int, int) or None): Average maps to this size, as (height, width). Default: as they are.
        project (mapping of str to int): Make vectors of this readout shorter, as {"map": 64}. Default: {}.
        projection (str): What `project` projects with: orthogonal, pca or autoencoder. Default: "orthogonal".
        projection_images (int): Images that pca and autoencoder are fitted on. Default: 512.
        projection_from (path or None): Project as the store does, for a test set. Default: None.
        views (int or None): Augmented views of each image. Default: the clean centre view.
        view_scale ((float, float)): Area of a view's crop, as (min, max). Default: (0.2, 1.0).
        view_ratio ((float, float)): Its width / height, as (min, max). Default: (0.75, 1.3333333333333333).
        hflip (float): Probability that a view is mirrored. Default: 0.5.
        color_jitter (float): Change of a view's colours, as 0.4. Default: 0.0.
        grayscale_prob (float): Probability that a view is grey. Default: 0.0.
        seed (int): Of projections and views. Default: 42.
        split (str or None): Part of `data` to use, as train or val: a sub-folder, or a split of a named data set.
            Default: None.
        labels (str): Where classes come from; folder demands class folders: auto, folder or none. Default: "auto".
        label_file (path or None): Classes of some images (path,class or key,...,class rows, or class key lines); all
            others have none. Default: None.
        unlabelled_data (tuple of paths): More images without labels: a folder, .tar or table. Default: ().
        data_dir (path or None): Where a table's paths start, or a named data set is kept. Default: None.
        dataset_download (bool): Let a named data set be fetched where it is missing. Default: False.
        input_key (str or None): Column of the images or paths. Default: image; path in a table.
        target_key (str or None): Column of the classes. Default: label.
        class_map (path or None): Text file: one class name a line, in the order of the labels. Default: None.
        img_size (int or None): Teacher's image size in pixels. Default: timm's for the teacher.
        mean ((float, float, float) or None): Pixel mean, as (R, G, B). Default: timm's for the teacher.
        std ((float, float, float) or None): Pixel spread, as (R, G, B). Default: timm's for the teacher.
        crop_pct (float or None): Share kept by the centre crop. Default: timm's for the teacher.
        interpolation (str or None): bilinear, bicubic ... Default: timm's for the teacher.
        ignore_orientation (bool): Show images as they are stored, not as their EXIF says. Default: False.
        background (str): What lies behind transparency: name or #rrggbb. Default: "white".
        pixel_rules (int or None): 1: as earlier releases made pixels. Default: 2.
        images (str or None): original, resized:PX or none. Default: original, up to 10 GB.
        dtype (str): Of the stored features: float16 or float32. Default: "float16".
        compute_dtype (str): Of the teacher's pass: float32, bfloat16 or float16. Default: "float32".
        teacher_channels_last (bool or None): Memory layout of the teacher's pass. Default: the faster one.
        rows_per_shard (int): Images per file of the store. Default: 8192.
        batch_size (int): Images per teacher batch. Default: 64.
        workers (int): Decoding processes; 0 decodes in this one. Default: 2.
        device (str): cpu, cuda, cuda:1 ...; under torchrun cuda is the rank's GPU. Default: "cpu".
        max_bad (int): Bad images that are left out without failing. Default: 0.
        dry_run (bool): Print what the pass costs, and write nothing. Default: False.
        overwrite (bool): Delete the store that is there, and begin anew. Default: False.
    """
