"""What a store's rows are compared in: the teacher's features, coordinates, and hash bits of these.

Legend: N rows, n chosen ones, B rows of a block, D features, K coordinates, H hash bits, P = H / 8 bytes, X columns.
"""

import dataclasses
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

import cache
from tcs.config.coordinates import TargetsConfig
from tcs.config.look import LookConfig
from tcs.coordinates.build import build_coordinates
from tcs.coordinates.from_store import COMPONENTS
from tcs.coordinates.hash_bits import hash_coordinates
from tcs.coordinates.moments import streaming_moments
from tcs.coordinates.stores import check_same_store
from tcs.coordinates.system import CoordinateSystem, load_coordinates
from tcs.coordinates.targets import Targets, open_targets
from tcs.coordinates.vectors import RowVectors, require_vectors, row_vectors
from tcs.errors import ArtefactError, require
from tcs.looking.neighbours import COSINE_SCALE, Blocks
from tcs.probes.ridge import unit_rows

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
Ints = NDArray[np.int64]
BLOCK_ROWS = 2048
FEATURES, COORDINATES, BITS = "features", "coordinates", "hash bits"


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Space:
    """A measure of how near rows are. `prepared` gives rows (n, X) float32 whose products say it, in whole numbers of 1 / `scale`;
    `dims` is D, K or H, and `source` says in words where they come from."""

    name: str
    source: str
    dims: int
    rows: int
    scale: int
    prepared: Callable[[Ints], F32]

    def blocks(self) -> Blocks:
        """All rows in order, each block with the number of its first row."""
        for start in range(0, self.rows, BLOCK_ROWS):
            yield start, self.prepared(np.arange(start, min(start + BLOCK_ROWS, self.rows)))


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Given:
    """What was asked for: an open store, the readout to look at, and files of coordinates and targets, if any."""

    store: cache.Store
    readout: str
    system: CoordinateSystem | None
    targets: Targets | None


def open_given(config: LookConfig) -> Given:
    """The store and the files of the options. CacheError for what is no store or has no such readout; ArtefactError for files of another
    store or teacher, or that do not belong together; ConfigError for a `readout` that is not theirs."""
    store = cache.open(config.store)
    targets = None if config.targets is None else open_targets(config.targets, store.identity)
    system = None if config.coordinates is None else load_coordinates(config.coordinates)
    if system is not None:
        check_same_store(system, store)
        require_vectors(store, system.readout)
        if targets is not None and targets.coordinates.identity != system.identity:
            raise ArtefactError(
                f"--targets {config.targets} were made with coordinates {targets.coordinates.identity}, and --coordinates "
                f"{config.coordinates} are {system.identity}; leave one of them out."
            )
    theirs = targets.coordinates if targets is not None else system
    if theirs is not None:
        require(
            config.readout in (None, theirs.readout),
            f"--readout is '{config.readout}', and the coordinates are of '{theirs.readout}'; leave it out.",
        )
    asked = config.readout if theirs is None else theirs.readout
    store.features(asked)  # refuses an unknown name, or none among several
    return Given(
        store=store, readout=asked if asked is not None else next(iter(store.readouts)), system=system, targets=targets
    )


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Spaces:
    """The spaces to compare, the features first; `notes` say what is missing. `mean_D`, `covariance_DD`: moments of the features."""

    vectors: RowVectors
    mean_D: F64
    covariance_DD: F64
    spaces: tuple[Space, ...]
    notes: tuple[str, ...]


def find_spaces(given: Given, config: LookConfig) -> Spaces:
    """Features, coordinates and bits of the rows. DataError for features that are not finite or do not vary, or a single row."""
    vectors = row_vectors(given.store, given.readout)
    mean_D, covariance_DD = streaming_moments(vectors)
    rows, origin_D = len(vectors), mean_D.astype(np.float32)
    features = Space(
        name=FEATURES,
        source=f"readout {given.readout}",
        dims=vectors.shape[1],
        rows=rows,
        scale=COSINE_SCALE,
        prepared=lambda rows_n: unit_rows(vectors[rows_n].astype(np.float32) - origin_D),
    )
    z_NK, source = _coordinates(given, config, vectors, mean_D, covariance_DD)
    coordinates = Space(
        name=COORDINATES,
        source=source,
        dims=z_NK.shape[1],
        rows=rows,
        scale=COSINE_SCALE,
        prepared=lambda rows_n: unit_rows(z_NK[rows_n]),
    )
    bits, notes = _bits(given, config, z_NK)
    return Spaces(
        vectors=vectors,
        mean_D=mean_D,
        covariance_DD=covariance_DD,
        spaces=(features, coordinates, *bits),
        notes=notes,
    )


def _coordinates(
    given: Given, config: LookConfig, vectors: RowVectors, mean_D: F64, covariance_DD: F64
) -> tuple[F32, str]:
    """z (N, K) of the rows, of the first view where there are several, and where they come from."""
    every_N = np.arange(len(vectors))
    if given.targets is not None:
        return given.targets.first_coordinates(
            every_N
        ), f"those of {config.targets} ({given.targets.coordinates.method})"
    system = given.system
    source = f"{config.coordinates} ({system.method})" if system is not None else ""
    if system is None:
        components = min(COMPONENTS, len(mean_D))
        system = build_coordinates(mean_D, covariance_DD, len(vectors), "pca", components, 0.0, config.seed)
        source = "principal, fitted to this store"
    z_NK = np.empty((len(vectors), system.components), np.float32)
    for start, block_BD in vectors.blocks():
        z_NK[start : start + len(block_BD)] = system.transform(block_BD)
    return z_NK, source


def _bits(given: Given, config: LookConfig, z_NK: F32) -> tuple[tuple[Space, ...], tuple[str, ...]]:
    """The space of the bits, and a note where there is none."""
    if given.targets is not None:
        bits_NP = given.targets.bits_rows(np.arange(len(z_NK)))
        bits_NP = bits_NP if bits_NP.ndim == 2 else bits_NP[:, 0]
        source = f"those of {config.targets}"
    else:
        try:
            hashed = hash_coordinates(z_NK, TargetsConfig.bits, TargetsConfig.sample_rows, config.seed)
        except ArtefactError as error:
            return (), (f"No hash bits are shown: {error}",)
        bits_NP, source = hashed.bits_MP, "eLSH of these coordinates, as tcs targets makes it"
    space = Space(
        name=BITS,
        source=source,
        dims=8 * bits_NP.shape[1],
        rows=len(z_NK),
        scale=1,
        prepared=lambda rows_n: signs(bits_NP[rows_n]),
    )
    return (space,), ()


def signs(bits_NP: NDArray[np.uint8]) -> F32:
    """Packed bits as +1 and -1, (N, H) float32: their products are H less twice the Hamming distance."""
    signs_NH: F32 = np.unpackbits(bits_NP, axis=1, bitorder="little").astype(np.float32) * 2 - 1
    return signs_NH
