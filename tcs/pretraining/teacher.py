"""The stage `tcs pretrain`: images -> a teacher's weights, scores, and the card that `tcs extract --teacher-card` reads."""

import pathlib
import time
from typing import Any

import torch

from cache import digest_of_bytes, locked_file
from tcs.config.extract import DataConfig
from tcs.config.pretrain import PretrainConfig
from tcs.images.listing import ImageList
from tcs.images.sources import open_images
from tcs.ordinary import read_ordinary
from tcs.plain_files import load_mapping, save_json
from tcs.pretraining.cost import estimate_cost
from tcs.pretraining.loop import Pretraining, identity_of, require_several, save_encoder, train_encoder
from tcs.pretraining.scores import require_scorable, score
from tcs.pretraining.state import refuse_other
from tcs.runtime import environment, pick_device, say

FORMAT = 1  # of the card
ANEW = "remove it, or pass --overwrite, to pretrain anew"


def pretrain(config: PretrainConfig) -> pathlib.Path:
    """Pretrain a teacher by SimCLR (Chen et al. 2020, arXiv 2002.05709) on images alone; returns the path of its card.

    The weights in `out` are float16 and load into `timm.create_model(teacher, num_classes=0, **teacher_kwargs)`. The card (JSON) has
    what `tcs extract --teacher-card` needs, how the teacher was made, and with `test` its scores: k-NN and ridge probes, on features and
    on raw pixels, in percent of the test images. A call that was cut short goes on from its last checkpoint, with the same
    result to the bit; a finished teacher is left as it is. With `dry_run` its cost is told and nothing is written.

    Raises DataError for images that cannot be listed or read and for fewer than 2, ModelError for an architecture that timm cannot
    build or that takes no such images, ArtefactError for a teacher there that was made otherwise (unless `overwrite`),
    DivergedError for a loss that is not finite, LockedStoreError where another process is at `out`.
    """
    images = open_images(DataConfig(config.data))
    require_several(images)
    if _is_finished(config, images):
        return config.card
    scored_on = None if config.test is None else open_images(DataConfig(config.test))
    if scored_on is not None:
        require_scorable(images, scored_on)
    device = pick_device(config.device)
    say(estimate_cost(images, config, device, config.workers).describe())
    if config.dry_run:
        say("Nothing was written.")
        return config.card
    out = pathlib.Path(config.out)
    out.parent.mkdir(parents=True, exist_ok=True)
    with locked_file(out):
        if not _is_finished(config, images):  # by another process, while this one came so far
            _make(config, images, scored_on, device)
    return config.card


def _is_finished(config: PretrainConfig, images: ImageList) -> bool:
    """Whether the very teacher is there already; ArtefactError for one that was made otherwise."""
    if config.overwrite or not config.card.exists():
        return False
    found = load_mapping(config.card, {"pretraining": dict}, ANEW)["pretraining"]
    refuse_other(config.card, found, identity_of(images, config))
    config.resume.unlink(missing_ok=True)
    say(f"{config.out} is finished; nothing to do.")
    return True


def _make(config: PretrainConfig, images: ImageList, scored_on: ImageList | None, device: torch.device) -> None:
    """Train, save, score: weights first, then the card, which says that all is there."""
    out = pathlib.Path(config.out)
    if config.overwrite:
        for path in (config.card, out, config.resume):
            path.unlink(missing_ok=True)
    started = time.perf_counter()
    run = train_encoder(
        images, config, config.resume, device=device, workers=config.workers, checkpoint_every=config.checkpoint_every
    )
    wall_seconds = round(time.perf_counter() - started, 1)
    save_encoder(out, run.encoder)
    card = card_of(run, out, config.data) | {"wall_seconds_of_last_run": wall_seconds}
    if scored_on is not None:
        card["scores"] = score(run, images, scored_on)
    save_json(config.card, card)
    config.resume.unlink(missing_ok=True)
    say(
        f"{out}: loss {card['final_loss']}, pairs found {card['final_match']:.0%}, scores {card.get('scores', 'none')}."
    )


def card_of(run: Pretraining, weights: pathlib.Path, data: str) -> dict[str, Any]:
    """Everything `tcs extract` needs to use the teacher, and where it comes from."""
    config = run.config
    return {
        "format": FORMAT,
        "teacher": config.model,
        "teacher_kwargs": dict(config.model_kwargs),
        "readout": "pool",
        "img_size": config.img_size,
        "mean": list(config.mean),
        "std": list(config.std),
        "crop_pct": 1.0,
        "interpolation": "bicubic",
        "weights": weights.name,
        "weights_digest": digest_of_bytes(read_ordinary(weights)),
        "data": data,
        "parameters": sum(parameter.numel() for parameter in run.encoder.parameters()),
        "pretraining": run.identity,
        "steps": run.step,
        "final_loss": round(run.epochs[-1][0], 4),
        "final_match": round(run.epochs[-1][1], 4),
        "environment": environment(),
    }
