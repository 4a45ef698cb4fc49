"""`tcs.pretrain`, as it is called. Written by scripts/make_stages.py; not to be edited."""

import pathlib
from collections.abc import Mapping
from typing import Any, overload

from tcs.config.plain import AnyPath
from tcs.config.pretrain import PretrainConfig
from tcs.config.stage import takes
from tcs.pretraining.teacher import pretrain as run

# fmt: off

@overload
def pretrain(
    config: PretrainConfig, /
) -> pathlib.Path: ...
@overload
def pretrain(
    data: AnyPath, *, out: AnyPath, test: AnyPath | None = None, model: str = "resnet18",
    model_kwargs: Mapping[str, Any] = ..., views: str = "natural", img_size: int = 224,
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406), std: tuple[float, float, float] = (0.229, 0.224, 0.225),
    epochs: int = 100, batch_size: int = 256, opt: str = "adamw", lr: float = 0.001, weight_decay: float = 0.05,
    warmup_share: float = 0.05, temperature: float = 0.2, projection_dims: int = 128, amp: bool = False,
    seed: int = 42, device: str = "cpu", workers: int = 1, checkpoint_every: int = 200, dry_run: bool = False,
    overwrite: bool = False
) -> pathlib.Path: ...
@takes(run, PretrainConfig)
def pretrain(*given: Any, **named: Any) -> Any:
    """Pretrain a teacher by SimCLR (Chen et al. 2020, arXiv 2002.05709) on images alone; returns the path of its card.

    The weights in `out` are float16 and load into `timm.create_model(teacher, num_classes=0, **teacher_kwargs)`. The card (JSON) has
    what `tcs extract --teacher-card` needs, how the teacher was made, and with `test` its scores: k-NN and ridge probes, on features and
    on raw pixels, in percent of the test images. A call that was cut short goes on from its last checkpoint, with the same
    result to the bit; a finished teacher is left as it is. With `dry_run` its cost is told and nothing is written.

    Raises DataError for images that cannot be listed or read and for fewer than 2, ModelError for an architecture that timm cannot
    build or that takes no such images, ArtefactError for a teacher there that was made otherwise (unless `overwrite`),
    DivergedError for a loss that is not finite, LockedStoreError where another process is at `out`.

    Takes the options below, which are those of tcs.PretrainConfig, or one such configuration as its only argument. A
    path is a text or any os.PathLike, and a list may stand for a tuple. TypeError for a name that is no option,
    ConfigError for a value that makes no sense.

    Args:
        data (path): The images: a folder, a .tar, a .csv or .parquet table, or a timm name such as torch/cifar10.
        out (path): Weights to write, NAME.safetensors; the card is NAME.json.
        test (path or None): Images with the same classes, to score the finished teacher on. Default: None.
        model (str): timm architecture. Default: "resnet18".
        model_kwargs (mapping of str to Any): For timm, as {K: V}. Default: {}.
        views (str): Kind of images: photographs, or signs: natural or glyphs. Default: "natural".
        img_size (int): Pixels a side. Default: 224.
        mean ((float, float, float)): Of the pixels, 0 to 1, as (R, G, B). Default: (0.485, 0.456, 0.406).
        std ((float, float, float)): Their spread, as (R, G, B). Default: (0.229, 0.224, 0.225).
        epochs (int): Passes over `data`. Default: 100.
        batch_size (int): Images per update, each seen twice. Default: 256.
        opt (str): timm optimizer. Default: "adamw".
        lr (float): Learning rate at the top of the cosine schedule. Default: 0.001.
        weight_decay (float): Not of biases and norms. Default: 0.05.
        warmup_share (float): Of the steps. Default: 0.05.
        temperature (float): Of the loss. Default: 0.2.
        projection_dims (int): Of the head that is thrown away. Default: 128.
        amp (bool): Forward passes in bfloat16. Default: False.
        seed (int): Everything random is a function of it. Default: 42.
        device (str): cpu, cuda, cuda:1 ... Default: "cpu".
        workers (int): Processes that decode; 0: this one. Default: 1.
        checkpoint_every (int): Steps. Default: 200.
        dry_run (bool): Print what it costs, and write nothing. Default: False.
        overwrite (bool): Delete the teacher that is there, and begin anew. Default: False.
    """
