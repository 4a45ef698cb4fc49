"""What a run reads: a store and its targets, opened once, and the rows, probe and selection of a split.

Legend: N rows of the store, n rows of this run, m labelled rows, K coordinates, D teacher dims, C classes.
"""

import dataclasses
import functools
import math
import pathlib
import re

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

import cache
from tcs.config_train import SELECT_GATES, SELECT_RIDGE, TrainConfig
from tcs.coordinates import load_coordinates
from tcs.errors import ArtefactError, ConfigError
from tcs.frozen_probe import probe_logits
from tcs.functional.coordinates import HashPlanes
from tcs.methods import TRAINED, Method
from tcs.probe import fit_ridge
from tcs.runtime import seed_for
from tcs.selection import Selection, check_selection, select_coordinates
from tcs.splits import Split, choose_split
from tcs.targets import Targets, open_targets
from tcs.training.given_images import find_images
from tcs.training.images import (
    Images,
    ReadRow,
    ResidentImages,
    StreamedImages,
    cores,
    decode,
    decode_rows,
    fits,
)
from tcs.training.probe_start import Probe
from tcs.training.rows import TrainingRows, pool_rows

MAPS_BYTES = 8 << 30


@dataclasses.dataclass(kw_only=True)
class Source:
    """A store with its targets (None for runs that read labels only), how its images are read, and those decoded so far."""

    store: cache.Store
    targets: Targets | None
    data: str | None = None
    decoded: dict[int, tuple[NDArray[np.int64], Tensor]] = dataclasses.field(default_factory=dict)

    @functools.cached_property
    def read(self) -> ReadRow:
        """The bytes of a row's image. DataError where the store holds none and no --data is given."""
        return find_images(self.store, self.data)

    def require_images(self) -> None:
        """DataError where no images can be had: before anything is trained."""
        _ = self.read

    def resident(self, rows_n: NDArray[np.int64], size: int) -> Tensor:
        """uint8 (n, 3, size, size) of sorted `rows_n`, decoded on first use; a superset decoded before is reused."""
        known = self.decoded.get(size)
        if known is None or not np.isin(rows_n, known[0], assume_unique=True).all():
            known = (rows_n, decode_rows(self.store, rows_n, size, self.read))
            self.decoded[size] = known
        if len(known[0]) == len(rows_n):
            return known[1]
        return known[1][torch.from_numpy(np.searchsorted(known[0], rows_n))]

    def images(self, rows_n: NDArray[np.int64], size: int, device: torch.device, config: TrainConfig) -> Images:
        """The images of a run: resident where they fit --resident-share of the device's free memory, else streamed."""
        read = self.read
        if size in self.decoded or fits(len(rows_n), size, device, config.resident_share):
            return ResidentImages(self.resident(rows_n, size).to(device))
        workers = cores() if config.workers is None else config.workers
        return StreamedImages(lambda at: decode(self.store, read, int(rows_n[at]), size), size, workers, device)


def open_source(store: str, targets: str | None, data: str | None = None) -> Source:
    """Open a store and, if named, its targets, which must be of that store (ArtefactError names both identities)."""
    opened = cache.open(pathlib.Path(store))
    return Source(
        store=opened,
        targets=None if targets is None else open_targets(pathlib.Path(targets), opened.identity),
        data=data,
    )


def find_split(store: cache.Store, config: TrainConfig) -> Split:
    """The labelled rows of a run: from --split-file, --shots, or every labelled row."""
    split_seed = config.seed if config.split_seed is None else config.split_seed
    return choose_split(
        store.keys,
        store.labels_N,
        store.classes,
        shots=config.shots,
        split_seed=split_seed,
        split_file=config.split_file,
    )


def check_needs(method: Method, source: Source, name: str) -> None:
    """ConfigError or ArtefactError, with the command that helps, where the method reads something that is not there."""
    reads_cache = method.needs & {"coordinates", "bits"}
    if reads_cache and source.targets is None:
        raise ConfigError(
            f"{name} reads cached {' and '.join(sorted(reads_cache))}; run tcs fit {source.store.path} --out c.safetensors, then "
            f"tcs targets {source.store.path} c.safetensors --out t.h5, and give --targets t.h5."
        )
    _check_readouts(method, source.store, name)
    made_by = None if source.targets is None else source.targets.coordinates.method
    if method.axes and made_by not in method.axes:
        raise ArtefactError(
            f"{name} needs coordinates of method {' or '.join(method.axes)}, these targets have '{made_by}'; "
            f"run tcs fit {source.store.path} --method {method.axes[0]} --out {method.axes[0]}.safetensors, then tcs targets "
            f"{source.store.path} {method.axes[0]}.safetensors --out {method.axes[0]}.h5."
        )


def _check_readouts(method: Method, store: cache.Store, name: str) -> None:
    """ArtefactError where the method reads features or maps that the store does not hold as it needs them."""
    views = store.manifest.plan.views
    reads_store = method.needs & {"features", "maps", "probe"}
    if reads_store and views is not None:
        raise ArtefactError(
            f"{name} reads one row of features an image, and {store.path} holds {views.count} views of each; extract the "
            "clean view: tcs extract without --views."
        )
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


def find_selection(source: Source, config: TrainConfig, split: Split, seed: int) -> Selection | None:
    """What --selection asks for: nothing (every coordinate), one computed from the split's labels, or one read from a file.

    Without it every coordinate is kept: on CIFAR-10 no selection beat the spectrum's first K (benchmarks/RESULTS.md). A
    selection that was computed on another split is refused.
    """
    assert source.targets is not None
    if config.selection in (None, SELECT_GATES):
        return None
    assert config.selection is not None
    if config.selection != SELECT_RIDGE:
        system = load_coordinates(pathlib.Path(config.selection))
        selection, made_on, ours = system.selection, system.identity, source.targets.coordinates.identity
        if made_on != ours:
            raise ArtefactError(
                f"--selection {config.selection} selects among coordinates {made_on}, the targets hold {ours}; "
                "run tcs fit with the options of the targets' coordinate system."
            )
        if selection is None:
            raise ArtefactError(
                f"--selection {config.selection} holds no selection; make it with tcs fit --shots or --split-file."
            )
        check_selection(selection, split)
        return selection
    z_mK = source.targets.coordinates_rows(split.rows_n)
    labels_m = source.store.labels_N[split.rows_n]
    return select_coordinates(z_mK, labels_m, len(source.store.classes), None, seed, split.digest)


def find_probe(source: Source, split: Split, selection: Selection | None) -> Probe:
    """The ridge probe of the labelled rows' cached coordinates, on the selected coordinates (all of them without a selection)."""
    assert source.targets is not None
    z_mK = source.targets.coordinates_rows(split.rows_n)
    labels_m, n_classes = source.store.labels_N[split.rows_n], len(source.store.classes)
    active_k = np.arange(z_mK.shape[1]) if selection is None else selection.active_k
    ridge = fit_ridge(z_mK[:, active_k], labels_m, n_classes)
    weight_CK = np.zeros((n_classes, z_mK.shape[1]))
    weight_CK[:, active_k] = ridge.weight_CK
    return Probe(weight_CK=weight_CK, bias_C=np.asarray(ridge.bias_C), active_k=active_k)


def probe_for(
    method: Method, source: Source, config: TrainConfig, split: Split, seed: int
) -> tuple[Probe | None, Selection | None]:
    """The probe and selection that the method and --selection ask for; (None, None) where they ask for neither."""
    if (
        method.head != "tcs"
        or source.targets is None
        or (method.classifier == TRAINED and config.selection in (None, SELECT_GATES))
    ):
        return None, None
    selection = find_selection(source, config, split, seed)
    return find_probe(source, split, selection), selection


def hash_planes(targets: Targets, device: torch.device) -> HashPlanes:
    """The eLSH loss's constants on `device`."""
    arrays = (targets.rotation_HK, targets.thresholds_H, targets.rms_H)
    rotation_HK, thresholds_H, rms_H = (torch.as_tensor(array, device=device) for array in arrays)
    return HashPlanes(rotation_HK=rotation_HK, thresholds_H=thresholds_H, rms_H=rms_H)


def run_rows(source: Source, split: Split, method: Method, config: TrainConfig) -> NDArray[np.int64]:
    """The sorted store rows whose pixels a run reads: its labelled rows, and its pool where the method uses one."""
    split_seed = config.seed if config.split_seed is None else config.split_seed
    return pool_rows(source.store.keys, split.rows_n, config.unlabelled if method.uses_pool else "none", split_seed)


def load_rows(
    source: Source,
    split: Split,
    method: Method,
    config: TrainConfig,
    rows_n: NDArray[np.int64],
    device: torch.device,
) -> TrainingRows:
    """All that the steps read beside images, resident on `device`. Labels outside the split are -1: they are never used."""
    labels_n = np.full(len(rows_n), -1, np.int64)
    labelled_m = np.searchsorted(rows_n, np.sort(split.rows_n))
    labels_n[labelled_m] = source.store.labels_N[rows_n[labelled_m]]
    needs, targets = method.needs, source.targets
    readout = vector_readout(source.store, config.readout) if needs & {"features", "probe"} else None
    coordinates = targets.coordinates_rows(rows_n) if targets is not None and "coordinates" in needs else None
    packed = targets.bits_rows(rows_n) if targets is not None and "bits" in needs else None
    return TrainingRows(
        labels_n=torch.from_numpy(labels_n).to(device),
        labelled_m=torch.from_numpy(labelled_m),
        coordinates_nK=None if coordinates is None else torch.as_tensor(coordinates, device=device),
        packed_nP=None if packed is None else torch.as_tensor(packed, device=device),
        teacher_nD=_cached(source.store, readout, rows_n, device) if readout and "features" in needs else None,
        teacher_maps=_cached_maps(source.store, rows_n, device) if "maps" in needs else (),
        teacher_logits_nC=_teacher_logits(source, split, readout, rows_n, config, device)
        if readout and "probe" in needs
        else None,
    )


def _cached(store: cache.Store, readout: str, rows_n: NDArray[np.int64], device: torch.device) -> Tensor:
    """The rows of a readout on `device`, in the stored dtype."""
    return torch.from_numpy(store.features(readout, resident_bytes=0).gather(rows_n)).to(device)


def _cached_maps(store: cache.Store, rows_n: NDArray[np.int64], device: torch.device) -> tuple[Tensor, ...]:
    """Every map readout of the rows, (n, height, width, channels) each. ArtefactError where they do not fit into memory."""
    names = map_readouts(store)
    row_bytes = sum(store.features(name, resident_bytes=0)[0].nbytes for name in names)
    if row_bytes * len(rows_n) > MAPS_BYTES:
        raise ArtefactError(
            f"the maps {', '.join(names)} of {len(rows_n):,} rows take {row_bytes * len(rows_n) / 2**30:.1f} GiB, more than "
            f"{MAPS_BYTES / 2**30:.0f} GiB; use --unlabelled N, or extract smaller maps."
        )
    return tuple(_cached(store, name, rows_n, device) for name in names)


def _teacher_logits(
    source: Source, split: Split, readout: str, rows_n: NDArray[np.int64], config: TrainConfig, device: torch.device
) -> Tensor:
    """Logits of the rows by a probe of the frozen teacher, fitted on the split's labels alone."""
    features, store = source.store.features(readout, resident_bytes=0), source.store
    logits_nC = probe_logits(
        features.gather(split.rows_n),
        store.labels_N[split.rows_n],
        features.gather(rows_n),
        len(store.classes),
        seed_for(config.seed, "probe"),
    )
    return torch.from_numpy(logits_nC).to(device)
