"""The pretraining loop of a teacher: images -> encoder; killed anywhere, the same call goes on from the last checkpoint.

Letters: B images in a batch, S image side, V = 2 views.
"""

import json
import math
import pathlib
from typing import Any

import torch
from timm.optim import create_optimizer_v2
from torch import Tensor, nn
from torch.utils.data import DataLoader

from cache import digest_of_json
from tcs.artefact import plain_json
from tcs.checkpoint import load_resume, save_resume, save_weights
from tcs.config.extract import as_json
from tcs.errors import ArtefactError, DataError, DivergedError
from tcs.functional.contrast import nt_xent
from tcs.images.listing import ImageList
from tcs.pretraining.simclr import (
    VIEWS,
    BatchOrder,
    PretrainConfig,
    ViewPairs,
    build_encoder,
    build_projector,
    collate,
    encoder_dims,
    seeded,
)
from tcs.runtime import progress_bar, seed_for


def identity_of(images: ImageList, config: PretrainConfig) -> dict[str, Any]:
    """What must not change between a kill and the rerun: the settings, and names and sizes of the image files."""
    files = [[key, images.files.size(key)] for key in images.keys]
    return {**plain_json(as_json(config)), "images": len(files), "image_digest": digest_of_json(files)}


def learning_rate(config: PretrainConfig, step: int, steps: int) -> float:
    """Linear warm-up, then half a cosine down to zero."""
    warmup = int(config.warmup_share * steps)
    if step < warmup:
        return config.lr * (step + 1) / warmup
    return config.lr * 0.5 * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup)))


class Pretraining:
    """Encoder, projector, optimizer and step count: everything that a checkpoint holds."""

    def __init__(self, config: PretrainConfig, identity: dict[str, Any], device: torch.device) -> None:
        self.config, self.identity, self.device = config, identity, device
        self.encoder = build_encoder(config)
        self.projector = build_projector(config, encoder_dims(self.encoder, config))
        self.network = nn.Sequential(self.encoder, self.projector).to(device)
        self.optimizer = create_optimizer_v2(
            self.network, opt=config.opt, lr=config.lr, weight_decay=config.weight_decay
        )
        self.step = 0
        self.epochs: list[list[float]] = []  # mean loss and mean match of each finished epoch
        self._sums = [0.0, 0.0]
        self._scale = torch.tensor([config.mean, config.std], device=device).mul(255).view(2, 1, 3, 1, 1)

    def train_step(self, views_BVCHW: Tensor, steps_per_epoch: int) -> tuple[float, float]:
        """One update from uint8 (B, 2, 3, S, S); DivergedError, with nothing updated, where the loss is not finite."""
        batch = views_BVCHW.transpose(0, 1).to(self.device)
        mean, std = self._scale
        views = ((batch.float() - mean) / std).flatten(0, 1)  # (2B, 3, S, S)
        rate = learning_rate(self.config, self.step, steps_per_epoch * self.config.epochs)
        with (
            seeded(seed_for(self.config.seed, "dropout", self.step)),
            torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.amp),
        ):
            first_BP, second_BP = self.network(views).chunk(2)
        loss, match = nt_xent(first_BP, second_BP, self.config.temperature)
        if not math.isfinite(loss.item()):
            raise DivergedError(
                f"NT-Xent loss is {loss.item()} at step {self.step}, learning rate {rate:.3g}; use a smaller --lr."
            )
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        self._count(loss.item(), match.item(), steps_per_epoch)
        return loss.item(), match.item()

    def _count(self, loss: float, match: float, steps_per_epoch: int) -> None:
        self.step += 1
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

    def load(self, path: pathlib.Path) -> None:
        """Go on from a checkpoint; ArtefactError naming the settings that differ."""
        state = load_resume(path)
        refuse_other(path, state["identity"], self.identity)
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.epochs, self._sums = state["step"], state["epochs"], state["sums"]


def refuse_other(path: pathlib.Path, found: dict[str, Any], wanted: dict[str, Any]) -> None:
    """ArtefactError, naming each difference, unless the file at `path` was made with the settings of this call."""
    found, wanted = (
        {key: json.dumps(value, sort_keys=True) for key, value in side.items()} for side in (found, wanted)
    )
    odd = [f"{key} {found.get(key)} (now {wanted.get(key)})" for key in wanted if found.get(key) != wanted[key]]
    if odd:
        raise ArtefactError(
            f"{path} was made with {', '.join(odd)}; give the same settings, another --out, or --overwrite."
        )


def pretrain(
    images: ImageList,
    config: PretrainConfig,
    resume: pathlib.Path,
    *,
    device: torch.device,
    workers: int = 0,
    checkpoint_every: int = 200,
) -> Pretraining:
    """Train to the last step, writing `resume` on the way and at the end; rerun = resume. The encoder comes back in eval mode.

    DataError for an unreadable image or fewer images than a batch needs; labels in `images` are not read.
    """
    if len(images.keys) < 2:
        raise DataError(f"{images.root} holds {len(images.keys)} image; pretraining compares images: give 2 or more.")
    run = Pretraining(config, identity_of(images, config), device)
    if resume.exists():
        run.load(resume)
    order = BatchOrder(len(images.keys), min(config.batch_size, len(images.keys)), config.epochs, config.seed, run.step)
    loader = DataLoader(
        ViewPairs(images, VIEWS[config.views](config.img_size)),
        batch_sampler=order,
        num_workers=workers,
        collate_fn=collate,
        generator=torch.Generator(),
    )
    run.network.train()
    with progress_bar(len(order), "pretrain", "step") as bar:
        for views in loader:
            if isinstance(views, str):
                raise DataError(f"image {views}; remove it from {images.root} and start again.")
            loss, match = run.train_step(views, order.steps_per_epoch)
            bar.advance(1, f"loss {loss:.3f}, pairs found {match:.0%}")
            if run.step % checkpoint_every == 0:
                run.save(resume)
    run.save(resume)
    run.network.eval()
    return run


def save_encoder(path: pathlib.Path, encoder: nn.Module) -> None:
    """Write the encoder's state dict in float16 (whole numbers as they are); ArtefactError where a weight does not fit."""
    state = {key: value.half() if value.is_floating_point() else value for key, value in encoder.state_dict().items()}
    for key, value in state.items():
        if not torch.isfinite(value).all():
            raise ArtefactError(f"weight '{key}' has values that float16 cannot hold; use a smaller --lr.")
    save_weights(path, state)
