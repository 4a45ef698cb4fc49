"""Pretrain a teacher by SimCLR on a folder of images, without labels; write its weights and a card beside them.

    python scripts/pretrain_teacher.py IMAGES --out my_teacher.safetensors --model resnet18 --img-size 64

DATA is a folder (class folders are read like any others; their names never reach the training), or the word `digits` for
the training part of scikit-learn's digit images. Run it again after a kill: it goes on. Labels, where folders give them,
score the finished encoder and nothing else. The files: FILE.safetensors (float16, loads into
`timm.create_model(model, num_classes=0, **model_kwargs)`), FILE.json (the card), FILE.resume.pt (until it is finished).
"""

import contextlib
import pathlib
import shlex
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import Any

import click
import numpy as np
import torch
from torch import nn

from cache import digest_of_bytes
from cache.errors import CacheError
from tcs.config.extract import DataConfig
from tcs.config.pixels import PixelRules
from tcs.demonstration.digits import write_digits
from tcs.errors import ConfigError, TcsError
from tcs.images.decode import decode_square
from tcs.images.folder import list_images
from tcs.images.listing import ImageList
from tcs.images.sources import open_images
from tcs.plain_files import load_json, save_json
from tcs.pretraining.loop import Pretraining, identity_of, pretrain, refuse_other, save_encoder
from tcs.pretraining.simclr import VIEWS, PretrainConfig
from tcs.probes.ridge import fit_ridge, knn_accuracy
from tcs.runtime import environment, pick_device, say
from tcs.splits.shots import k_shot_split
from tcs.students.backbone import parse_value

SHOTS = (1, 4, 16)
SPLITS = 5


def parse_kwargs(pairs: tuple[str, ...]) -> dict[str, Any]:
    """`k=v` texts as keyword arguments for timm; ConfigError for a text without `=`."""
    for pair in pairs:
        if "=" not in pair:
            raise ConfigError(
                f"--model-kwargs is '{pair}'; write it as k=v, for example --model-kwargs layers=(1,1,1,1)."
            )
    return {key: parse_value(value) for key, _, value in (pair.partition("=") for pair in pairs)}


def encode(encoder: nn.Module, images: ImageList, config: PretrainConfig, device: torch.device) -> tuple[Any, Any]:
    """Features (N, D) and pixels (N, 3SS), float32, of the clean centre view of every image."""
    mean, std = (torch.tensor(values, device=device).view(3, 1, 1) for values in (config.mean, config.std))
    features, pixels = [], []
    for start in range(0, len(images.keys), 256):
        keys = images.keys[start : start + 256]
        batch_BHWC = np.stack([decode_square(images.read(key), config.img_size, PixelRules()) for key in keys])
        batch_BCHW = torch.from_numpy(batch_BHWC).to(device).permute(0, 3, 1, 2).float() / 255
        with torch.no_grad():
            features.append(encoder((batch_BCHW - mean) / std).float().cpu().numpy())
        pixels.append(batch_BCHW.flatten(1).cpu().numpy())
    return np.concatenate(features), np.concatenate(pixels)


def score(run: Pretraining, train: ImageList, test: ImageList) -> dict[str, Any]:
    """k-NN with all labels, and ridge probes on features and on raw pixels, fitted on train and scored on test (percent)."""
    (features, pixels), (test_features, test_pixels) = (
        encode(run.encoder, images, run.config, run.device) for images in (train, test)
    )
    labels_N, truth_N = (
        np.array([train.classes.index(images.classes[label]) for label in images.labels]) for images in (train, test)
    )
    scores: dict[str, Any] = {"test_images": len(test.keys), "splits": SPLITS}
    scores["knn_top1"] = round(knn_accuracy(features, labels_N, test_features, truth_N), 1)
    smallest = int(np.bincount(labels_N).min())
    for shots in (shots for shots in SHOTS if shots <= smallest):
        splits = [k_shot_split(train.keys, labels_N, train.classes, shots, seed).rows_n for seed in range(SPLITS)]
        for name, known, unseen in (("probe", features, test_features), ("pixels", pixels, test_pixels)):
            top1 = [
                fit_ridge(known[rows_n], labels_N[rows_n], len(train.classes)).accuracy(unseen, truth_N)
                for rows_n in splits
            ]
            scores[f"{name}_{shots}_shots"] = {
                "mean": round(float(np.mean(top1)), 1),
                "std": round(float(np.std(top1, ddof=1)), 1),
            }
    return scores


def card_of(run: Pretraining, weights: pathlib.Path, command: str) -> dict[str, Any]:
    """Everything `tcs extract` needs to use the teacher, and where it comes from."""
    config = run.config
    return {
        "teacher": config.model,
        "teacher_kwargs": dict(config.model_kwargs),
        "readout": "pool",
        "img_size": config.img_size,
        "mean": list(config.mean),
        "std": list(config.std),
        "crop_pct": 1.0,
        "interpolation": "bicubic",
        "weights": weights.name,
        "weights_digest": digest_of_bytes(weights.read_bytes()),
        "parameters": sum(parameter.numel() for parameter in run.encoder.parameters()),
        "command": command,
        "pretraining": run.identity,
        "steps": run.step,
        "final_loss": round(run.epochs[-1][0], 4),
        "final_match": round(run.epochs[-1][1], 4),
        "environment": environment(),
    }


@contextlib.contextmanager
def open_data(data: str, test: str | None) -> Iterator[tuple[ImageList, ImageList | None]]:
    """The images to train on, and those to score on; the word `digits` writes the digit images into a passing folder."""
    if data != "digits":
        yield open_images(DataConfig(data=data)), open_images(DataConfig(data=test)) if test else None
        return
    with tempfile.TemporaryDirectory() as folder:
        digits = write_digits(pathlib.Path(folder) / "digits")
        yield list_images(digits / "train"), list_images(digits / "test")


def make_teacher(
    data: str, test: str | None, out: pathlib.Path, config: PretrainConfig, options: dict[str, Any], overwrite: bool
) -> None:
    """Pretrain, save, score: weights first, then the card, which says that all is there."""
    card_path, resume = out.with_suffix(".json"), out.with_suffix(".resume.pt")
    if overwrite:
        for path in (card_path, out, resume):
            path.unlink(missing_ok=True)
    with open_data(data, test) as (train, scored_on):
        if card_path.exists():
            refuse_other(card_path, load_json(card_path)["pretraining"], identity_of(train, config))
            resume.unlink(missing_ok=True)
            say(f"{out} is finished; nothing to do.")
            return
        started = time.perf_counter()
        run = pretrain(train, config, resume, **options)
        wall_seconds = round(time.perf_counter() - started, 1)
        save_encoder(out, run.encoder)
        card = card_of(run, out, shlex.join(["python", *sys.argv])) | {"wall_seconds_of_last_run": wall_seconds}
        if scored_on is not None and train.classes:
            card["scores"] = score(run, train, scored_on)
        save_json(card_path, card)
    resume.unlink(missing_ok=True)
    say(f"{out}: loss {card['final_loss']}, pairs found {card['final_match']:.0%}, scores {card.get('scores', 'none')}")


@click.command(help=__doc__)
@click.argument("data")
@click.option("--out", required=True, type=click.Path(path_type=pathlib.Path), help="FILE.safetensors to write.")
@click.option("--test", help="Folder with the same class folders, for scoring only.")
@click.option("--model", default="resnet18", show_default=True, help="timm architecture.")
@click.option("--model-kwargs", multiple=True, metavar="K=V", help="Keyword argument for timm, repeatable.")
@click.option("--views", type=click.Choice(sorted(VIEWS)), default="natural", show_default=True, help="Kind of images.")
@click.option("--img-size", default=224, show_default=True)
@click.option("--mean", nargs=3, type=float, default=PretrainConfig.mean, show_default=True)
@click.option("--std", nargs=3, type=float, default=PretrainConfig.std, show_default=True)
@click.option("--epochs", default=100, show_default=True)
@click.option("-b", "--batch-size", default=256, show_default=True)
@click.option("--opt", default="adamw", show_default=True, help="timm optimizer.")
@click.option("--lr", default=1e-3, show_default=True)
@click.option("--weight-decay", default=0.05, show_default=True)
@click.option("--warmup-share", default=0.05, show_default=True)
@click.option("--temperature", default=0.2, show_default=True)
@click.option("--projection-dims", default=128, show_default=True)
@click.option("--amp", is_flag=True, help="Forward passes in bfloat16.")
@click.option("--seed", default=42, show_default=True)
@click.option("--device", default="cpu", show_default=True)
@click.option("-j", "--workers", default=1, show_default=True, help="Processes that decode and draw views.")
@click.option("--checkpoint-every", default=200, show_default=True, help="Steps.")
@click.option("--overwrite", is_flag=True, help="Delete what --out holds and start again.")
def main(
    data: str,
    out: pathlib.Path,
    test: str | None,
    model_kwargs: tuple[str, ...],
    device: str,
    workers: int,
    checkpoint_every: int,
    overwrite: bool,
    **settings: Any,
) -> None:
    """Parse, run, print errors as one line."""
    try:
        config = PretrainConfig(model_kwargs=parse_kwargs(model_kwargs), **settings)
        options = {"device": pick_device(device), "workers": workers, "checkpoint_every": checkpoint_every}
        make_teacher(data, test, out, config, options, overwrite)
    except (TcsError, CacheError) as error:
        raise click.ClickException(" ".join(str(error).split())) from error


if __name__ == "__main__":
    main()
