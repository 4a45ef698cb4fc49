"""What a run reads: a store and its targets, opened once, and what a method needs of them.

Legend: n rows of this run, H hash bits, K coordinates.
"""

import dataclasses
import functools
import math
import pathlib
import re
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

import cache
from tcs.config.pool import LOGISTIC
from tcs.config.train import TrainConfig
from tcs.coordinates.from_store import StoreCoordinates, fit_store_coordinates
from tcs.coordinates.stores import open_stores
from tcs.coordinates.targets import Targets, targets_of
from tcs.errors import ArtefactError, ConfigError
from tcs.functional.coordinates import HashPlanes
from tcs.images.stored import Images, ReadRow, cores, decode, decode_rows, find_images
from tcs.methods.named import Method, needs_targets
from tcs.splits.relabelling import labelled_as, relabelled
from tcs.training.images import ResidentImages, StreamedImages, fits

POOL_LABELS = "pool-labels"  # the folder, in a run or a grid, of labels that were spread


@dataclasses.dataclass(kw_only=True)
class RunData:
    """A store with its targets (None where none are given), how its images are read, and those decoded so far.

    `pool_labels_folder` is where runs that share this data find and leave spread labels; None: each in its own folder. `excluded` is
    the digest of the keys that `store` is seen without (tcs.training.exclusion), None where it is seen whole. `decoded` has sorted
    rows and their images by (size, whole, scaled), the arguments of `resident`.
    """

    store: cache.Store
    targets: Targets | None
    data: str | None = None
    pool_labels_folder: pathlib.Path | None = None
    excluded: str | None = None
    fitted: dict[str, StoreCoordinates] = dataclasses.field(default_factory=dict)
    decoded: dict[tuple[int, bool, bool], tuple[NDArray[np.int64], Tensor]] = dataclasses.field(default_factory=dict)

    @property
    def has_views(self) -> bool:
        """Whether the store holds augmented views, which a run replays from frames that show the whole image."""
        return self.store.manifest.plan.views is not None

    def coordinates(self, readout: str | None) -> Targets | StoreCoordinates:
        """The coordinates of rows: those of the targets, or else axes fitted to all rows of `readout`, once for each."""
        if self.targets is not None:
            return self.targets
        name = vector_readout(self.store, readout)
        if name not in self.fitted:
            self.fitted[name] = fit_store_coordinates(self.store, name)
        return self.fitted[name]

    @functools.cached_property
    def by_store(self) -> tuple["RunData", ...]:
        """What is read of each part of a joined store, with the labels of the whole and coordinates of its own; empty for any other."""
        return tuple(
            RunData(
                store=labelled_as(part, self.store),
                targets=None,
                data=self.data,
                pool_labels_folder=self.pool_labels_folder,
                excluded=self.excluded,
            )
            for part in self.store.parts
        )

    @functools.cached_property
    def read(self) -> ReadRow:
        """The bytes of a row's image. DataError where the store holds none and no --data is given."""
        return find_images(self.store, self.data)

    def require_images(self) -> None:
        """DataError where no images can be had: before anything is trained."""
        _ = self.read

    def has_decoded(self, rows_n: NDArray[np.int64], size: int, *, whole: bool = False, scaled: bool = False) -> bool:
        """Whether all of `rows_n` were decoded before, at this size and in this way."""
        known = self.decoded.get((size, whole, scaled))
        return known is not None and bool(np.isin(rows_n, known[0], assume_unique=True).all())

    def resident(self, rows_n: NDArray[np.int64], size: int, *, whole: bool = False, scaled: bool = False) -> Tensor:
        """uint8 (n, 3, size, size) of sorted `rows_n`, decoded on first use; a superset decoded before is reused.

        Images are cropped to their centre, or squashed as a `whole`; `scaled` as of `tcs.images.stored.decode`.
        """
        if not self.has_decoded(rows_n, size, whole=whole, scaled=scaled):
            images_n3HW = decode_rows(self.store, rows_n, size, self.read, whole=whole, scaled=scaled)
            self.decoded[size, whole, scaled] = (rows_n, images_n3HW)
        known = self.decoded[size, whole, scaled]
        if len(known[0]) == len(rows_n):
            return known[1]
        return known[1][torch.from_numpy(np.searchsorted(known[0], rows_n))]

    def images(self, rows_n: NDArray[np.int64], size: int, device: torch.device, config: TrainConfig) -> Images:
        """The images of a run: resident where they fit --resident-share of the device's free memory, else streamed."""
        read, whole, scaled = self.read, self.has_views, config.augment.scaled_decoding
        is_decoded = self.has_decoded(rows_n, size, whole=whole, scaled=scaled)
        if is_decoded or fits(len(rows_n), size, device, config.resident_share):
            return ResidentImages(self.resident(rows_n, size, whole=whole, scaled=scaled).to(device))

        def decode_row(at: int) -> NDArray[np.uint8]:
            return decode(self.store, read, int(rows_n[at]), size, whole=whole, scaled=scaled)

        return StreamedImages(decode_row, size, cores() if config.workers is None else config.workers, device)


def open_data(
    store: str,
    targets: str | None,
    data: str | None = None,
    split_file: str | None = None,
    also: Sequence[str] = (),
) -> RunData:
    """Open a store and, if named, its targets, which must be of that store (ArtefactError names both identities).

    The vectors of the stores `also` (other teachers' of the same images) stand beside its own: CacheError where they are not. Labels
    and classes are those that `split_file` gives the store.
    """
    opened = relabelled(open_stores(store, also), split_file)
    return RunData(
        store=opened,
        targets=None if targets is None else targets_of(targets, opened),
        data=data,
    )


def check_needs(method: Method, data: RunData, name: str) -> None:
    """ConfigError or ArtefactError, with the command that helps, where the method reads something that is not there."""
    if needs_targets(method) and data.targets is None:
        axes = f" --method {method.axes[0]}" if method.axes else ""
        what = "bits" if "bits" in method.needs else f"coordinates of method {' or '.join(method.axes)}"
        raise ConfigError(
            f"{name} reads cached {what}; run tcs fit {data.store.path}{axes} --out c.safetensors, then "
            f"tcs targets {data.store.path} c.safetensors --out t.h5, and give --targets t.h5."
        )
    _check_readouts(method, data.store, name)
    made_by = "pca" if data.targets is None else data.targets.coordinates.method
    if method.axes and made_by not in method.axes:
        raise ArtefactError(
            f"{name} needs coordinates of method {' or '.join(method.axes)}, these targets have '{made_by}'; "
            f"run tcs fit {data.store.path} --method {method.axes[0]} --out {method.axes[0]}.safetensors, then tcs targets "
            f"{data.store.path} {method.axes[0]}.safetensors --out {method.axes[0]}.h5."
        )


def reads_coordinates(method: Method, config: TrainConfig) -> bool:
    """Whether anything of a run reads coordinates: a loss, a probe that a classifier starts from, or spread labels."""
    if "probe" in method.needs and config.pool.probe_head != LOGISTIC:
        return True
    return bool(method.needs & {"coordinates", "pool"})


def reads_targets(method: Method) -> bool:
    """Whether the method reads coordinates or bits, which come from a targets file."""
    return bool(method.needs & {"coordinates", "bits"})


def _check_readouts(method: Method, store: cache.Store, name: str) -> None:
    """ArtefactError where the method reads maps that the store does not hold."""
    if "maps" in method.needs and not map_readouts(store):
        raise ArtefactError(
            f"{name} reads cached maps (pooled vectors would make another loss, or none), and {store.path} has the readouts "
            f"{', '.join(store.readouts)}; extract it again with maps, deep ones last: tcs extract ... --readout avg "
            "--readout stage2.map --readout stage3.map --readout map (of a ViT: block3.map and so on)."
        )


def map_readouts(store: cache.Store) -> list[str]:
    """The readouts that are spatial maps, shallow to deep: by the number of their block or stage, the final map last."""
    names = [name for name, readout in store.readouts.items() if readout.grid is not None]
    return sorted(names, key=_depth)


def _depth(readout: str) -> float:
    number = re.search(r"\d+", readout)
    return math.inf if number is None else int(number.group())


def vector_readout(store: cache.Store, name: str | None) -> str:
    """The readout whose vectors the losses read: `name`, or the only one there is. ArtefactError where that is not clear."""
    vectors = [item for item, readout in store.readouts.items() if readout.grid is None]
    if not vectors:
        raise ArtefactError(
            f"{store.path} has maps only ({', '.join(store.readouts)}); extract vectors too: tcs extract ... --readout avg."
        )
    if name is None and len(vectors) == 1:
        return vectors[0]
    if name not in vectors:
        wrong = "--readout is missing" if name is None else f"--readout is '{name}'"
        raise ArtefactError(f"{wrong}; {store.path} has the vectors {', '.join(vectors)}: name one of them.")
    return name


def hash_planes(targets: Targets) -> HashPlanes:
    """The eLSH loss's constants, on the CPU."""
    return HashPlanes(
        rotation_HK=torch.as_tensor(targets.rotation_HK),
        thresholds_H=torch.as_tensor(targets.thresholds_H),
        rms_H=torch.as_tensor(targets.rms_H),
    )
