"""Cached views shown again while a student trains: the view that a row is shown is the one whose cached values it learns from.

Each step and row shows one of the row's V views, drawn by (seed, step). Frames hold the whole image squashed to a square, so that
a box, which is kept relative to the image, is the part that the teacher saw. What reads one view of a row (the refitted
projection, held-out rows) reads the first.

Legend: n rows of this run, V views, P parameters of a view, B rows of a batch, b those of this process, S frame side in pixels.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

import cache
from tcs.augmentation.replay import replay_views
from tcs.augmentation.views import PARAMETERS, SEMANTICS
from tcs.config.augment import AugmentConfig
from tcs.config.train import TrainConfig
from tcs.errors import ArtefactError, ConfigError, option_name
from tcs.runtime import seed_for

FIRST_VIEW = 0

# Options of what is done to images besides, and the values that leave them alone.
UNUSED: Mapping[str, Any] = {
    "crop_padding": 0.0,
    "scale": None,
    "ratio": None,
    "hflip": 0.0,
    "vflip": 0.0,
    "color_jitter": 0.0,
    "color_jitter_prob": None,
    "grayscale_prob": 0.0,
    "reprob": 0.0,
    "remode": None,
    "recount": None,
}


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class CachedViews:
    """The views of a run: parameters_nVP float32 on the CPU, how boxes are resized, and the seed of the draws."""

    parameters_nVP: Tensor
    interpolation: str
    seed: int

    @property
    def count(self) -> int:
        """V."""
        return self.parameters_nVP.shape[1]

    def draw(self, rows: int, step: int) -> Tensor:
        """Which view each row of a whole batch is shown, int64 (B,): a pure function of (seed, step)."""
        generator = torch.Generator().manual_seed(seed_for(self.seed, "view", step))
        return torch.randint(0, self.count, (rows,), generator=generator)

    def first(self, rows: int) -> Tensor:
        """The first view of so many rows, int64 (b,)."""
        return torch.full((rows,), FIRST_VIEW)

    def show(self, frames_b3SS: Tensor, positions_b: Tensor, view_b: Tensor, size: int) -> Tensor:
        """uint8 (b, 3, size, size): of the frames of the rows at `positions_b` the views `view_b`, on the frames' device."""
        if len(positions_b) == 0:
            return frames_b3SS.new_empty(0, 3, size, size)
        return replay_views(frames_b3SS, self.parameters_nVP[positions_b, view_b], size, self.interpolation)


def cached_views(store: cache.Store, rows_n: NDArray[np.int64], config: TrainConfig) -> CachedViews | None:
    """The views that `store` caches of its rows `rows_n`; None for a store of clean views."""
    if store.manifest.plan.views is None:
        return None
    parameters_nVP = torch.from_numpy(store.view_parameters(resident_bytes=0).gather(rows_n))
    return CachedViews(
        parameters_nVP=parameters_nVP, interpolation=config.augment.train_interpolation, seed=config.seed
    )


def check_views(store: cache.Store, config: TrainConfig) -> None:
    """ArtefactError for views that cannot be replayed, ConfigError for options that cannot go with replayed views."""
    views = store.manifest.plan.views
    if views is None:
        if config.augment.decode_size is not None and config.augment.scale is None:
            raise ConfigError(
                f"--decode-size is {config.augment.decode_size}; it goes with --scale, or with a store of several views: leave it out."
            )
        return
    made = store.manifest.plan.identity.get("views")
    semantics = made.get("semantics", SEMANTICS) if isinstance(made, Mapping) else SEMANTICS
    if views.parameters != PARAMETERS or semantics != SEMANTICS:
        raise ArtefactError(
            f"{store.path} has views by {', '.join(views.parameters)} (semantics {semantics}), this release replays "
            f"{', '.join(PARAMETERS)} (semantics {SEMANTICS}); extract again with tcs extract --views {views.count}."
        )
    _refuse_options(store, views.count, config)


def _refuse_options(store: cache.Store, count: int, config: TrainConfig) -> None:
    if config.mimic_view != "same":
        raise ConfigError(
            f"--mimic-view is {config.mimic_view}, and {store.path} holds {count} views of each image, which are replayed: "
            "the student always sees what the teacher saw; leave it out."
        )
    defaults = {field.name: field.default for field in dataclasses.fields(AugmentConfig)}
    for name, off in UNUSED.items():
        value = getattr(config.augment, name)
        if value not in (off, defaults[name]):
            raise ConfigError(
                f"{option_name(name)} is {value}, and {store.path} holds {count} views of each image, which are replayed: "
                "what is cached is of the view as it was; leave the option out, or extract with other --views."
            )


def cached_at(values_n: Tensor, place_B: Tensor, view_B: Tensor | None) -> Tensor:
    """Cached values (B, ...) of the rows at `place_B`; with views, values_n is (n, V, ...) and row b that of `view_B[b]`."""
    return values_n[place_B] if view_B is None else values_n[place_B, view_B]
