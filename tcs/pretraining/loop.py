"""The pretraining loop of a teacher: images -> encoder; killed anywhere, the same call goes on from the last checkpoint.

Legend: B images in a batch, S image side, V = 2 views.
"""

import dataclasses
import math
import pathlib
from typing import Any

import torch
from timm.optim import create_optimizer_v2
from torch import Tensor, nn
from torch.utils.data import DataLoader

from cache import digest_of_json
from tcs.artefact import plain_json
from tcs.augmentation.pixels import network_inputs
from tcs.checkpoint import save_resume, save_weights
from tcs.config.pretrain import SimclrConfig
from tcs.errors import ArtefactError, DataError
from tcs.images.listing import ImageList
from tcs.pretraining.simclr import (
    VIEWS,
    BatchOrder,
    ViewPairs,
    build_encoder,
    build_projector,
    collate,
    encoder_dims,
)
from tcs.pretraining.state import load_state
from tcs.runtime import progress_bar
from tcs.simclr import PairLearner, PairTask, run_steps

SEMANTICS = 2  # raised by hand, when the same settings would give other weights


def identity_of(images: ImageList, config: SimclrConfig) -> dict[str, Any]:
    """What must not change between a kill and the rerun: the settings, and names and sizes of the image files."""
    files = [[key, images.files.size(key)] for key in images.keys]
    identity = plain_json(config.identity())
    return {**identity, "images": len(files), "image_digest": digest_of_json(files), "semantics": SEMANTICS}


def learning_rate(config: SimclrConfig, step: int, steps: int) -> float:
    """Linear warm-up, then half a cosine down to zero."""
    warmup = int(config.warmup_share * steps)
    if step < warmup:
        return config.lr * (step + 1) / warmup
    return config.lr * 0.5 * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup)))


class Pretraining:
    """Encoder, projector, optimizer and step count: everything that a checkpoint holds."""

    def __init__(self, config: SimclrConfig, identity: dict[str, Any], device: torch.device) -> None:
        self.config, self.identity, self.device = config, identity, device
        self.encoder = build_encoder(config)
        self.projector = build_projector(config, encoder_dims(self.encoder, config))
        self.network = nn.Sequential(self.encoder, self.projector).to(device)
        self.optimizer = create_optimizer_v2(
            self.network, opt=config.opt, lr=config.lr, weight_decay=config.weight_decay
        )
        task = PairTask(name=config.model, seed=config.seed, temperature=config.temperature, amp=config.amp)
        self.pairs = PairLearner(self.network, self.optimizer, self._set_rate, task, device)
        self.epochs: list[list[float]] = []  # mean loss and mean match of each finished epoch
        self._sums = [0.0, 0.0]
        self._steps = 0
        self._mean, self._std = (
            torch.tensor(values, device=device).view(3, 1, 1) for values in (config.mean, config.std)
        )

    @property
    def step(self) -> int:
        """Updates made so far, by this process and those before it."""
        return self.pairs.step

    def train_step(self, views_BVCHW: Tensor, steps_per_epoch: int) -> tuple[float, float]:
        """One update from uint8 (B, 2, 3, S, S); DivergedError, with nothing updated, where the loss is not finite."""
        self._steps = steps_per_epoch * self.config.epochs
        views_V3HW = views_BVCHW.transpose(0, 1).flatten(0, 1).to(self.device)
        loss, match = self.pairs.train_step(self.normalised(views_V3HW))
        self._count(loss, match, steps_per_epoch)
        return loss, match

    def normalised(self, images_B3SS: Tensor) -> Tensor:
        """What the encoder is fed for uint8 images on its device."""
        return network_inputs(images_B3SS, self._mean, self._std, channels_last=False)

    def _set_rate(self, step: int) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.config, step, self._steps)

    def _count(self, loss: float, match: float, steps_per_epoch: int) -> None:
        self._sums = [self._sums[0] + loss / steps_per_epoch, self._sums[1] + match / steps_per_epoch]
        if self.step % steps_per_epoch == 0:
            self.epochs.append(self._sums)
            self._sums = [0.0, 0.0]

    def save(self, path: pathlib.Path) -> None:
        """Write the checkpoint, whole or not at all."""
        save_resume(
            path,
            {
                "identity": self.identity,
                "network": self.network.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "step": self.step,
                "epochs": self.epochs,
                "sums": self._sums,
            },
        )

    def load(self, path: pathlib.Path, steps_per_epoch: int) -> None:
        """Go on from a checkpoint; ArtefactError where it is broken or another's, naming the settings that differ."""
        state = load_state(path, self.identity, steps_per_epoch, self._after_one_step)
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.pairs.step, self.epochs, self._sums = state["step"], state["epochs"], state["sums"]

    def _after_one_step(self) -> dict[str, Any]:
        """Network and optimiser of a run of these settings that has made an update: what a checkpoint has, in other numbers."""
        twin, size = Pretraining(self.config, self.identity, torch.device("cpu")), self.config.img_size
        shape_BVCHW = (2, 2, 3, size, size)
        twin.network.train()
        twin.train_step(torch.arange(math.prod(shape_BVCHW)).to(torch.uint8).view(shape_BVCHW), 1)
        return {"network": twin.network.state_dict(), "optimizer": twin.optimizer.state_dict()}


def train_encoder(
    images: ImageList,
    config: SimclrConfig,
    resume: pathlib.Path,
    *,
    device: torch.device,
    workers: int = 0,
    checkpoint_every: int = 200,
) -> Pretraining:
    """Train to the last step, writing `resume` on the way and at the end; rerun = resume. The encoder comes back in eval mode.

    DataError for an unreadable image or fewer images than a batch needs; labels in `images` are not read.
    """
    require_several(images)
    run = Pretraining(config, identity_of(images, config), device)
    rows = len(images.keys)
    order = BatchOrder(rows, min(config.batch_size, rows), config.epochs, config.seed)
    if resume.exists():
        run.load(resume, order.steps_per_epoch)
        order = dataclasses.replace(order, start=run.step)
    loader = DataLoader(
        ViewPairs(images, VIEWS[config.views](config.img_size)),
        batch_sampler=order,
        num_workers=workers,
        collate_fn=collate,
        generator=torch.Generator(),
    )
    run.network.train()
    steps = (run.train_step(_readable(views, images), order.steps_per_epoch) for views in loader)
    with progress_bar(order.steps_per_epoch * config.epochs, "pretrain", "steps") as bar:
        run_steps(steps, run.step, bar, lambda: run.save(resume), checkpoint_every)
    run.save(resume)
    run.network.eval()
    return run


def require_several(images: ImageList) -> None:
    """DataError for fewer than 2 images."""
    if len(images.keys) < 2:
        raise DataError(f"{images.root} holds {len(images.keys)} image; pretraining compares images: give 2 or more.")


def _readable(views: Tensor | str, images: ImageList) -> Tensor:
    """The views of a batch; DataError where there is the reason why an image could not be read instead."""
    if isinstance(views, str):
        raise DataError(f"image {views}; remove it from {images.root} and start again.")
    return views


def save_encoder(path: pathlib.Path, encoder: nn.Module) -> None:
    """Write the encoder's state dict in float16 (whole numbers as they are); ArtefactError where a weight does not fit."""
    state = {key: value.half() if value.is_floating_point() else value for key, value in encoder.state_dict().items()}
    for key, value in state.items():
        if not torch.isfinite(value).all():
            raise ArtefactError(f"weight '{key}' has values that float16 cannot hold; use a smaller --lr.")
    save_weights(path, state)
