"""Coordinate systems: an origin, axes and scales in the teacher's feature space, fitted to a store without labels.

z = s * V'(x - o), with s_k = c (lambda_k + 1e-3 lambda_1)^(-power/2) and c such that the mean variance of z is 1, so that
loss weights carry over between teachers (design, "Scale"). Methods: `pca` (eigenvectors of the covariance, RdimKD-P),
`random` (the Q of a seeded Gaussian matrix, RdimKD-R), `autoencoder` (RdimKD-A), `jl` (a Gaussian matrix, not
orthonormal), `identity` (the features themselves) and `cospress` (learned from rows to keep their cosines, not orthonormal).

Of a joined store x holds the vectors of several teachers side by side, each of length 1. Axes are then those of C (x - o), C a weight a
teacher (tcs.coordinates.axes.block_weights) that gives all of them the same total variance; the basis is C V, and orthonormal no more.

Legend: N rows, D features, K coordinates.
"""

import dataclasses
import functools
import json
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import NDArray

from cache import atomic_write_bytes, digest_of_bytes, digest_of_json
from tcs.config.plain import AnyPath, given_path, plain_value
from tcs.coordinates.axes import axis_scales
from tcs.coordinates.selection import Selection
from tcs.errors import ArtefactError, ConfigError, DataError
from tcs.ordinary import require_ordinary
from tcs.schemas.check import broken_rule
from tcs.schemas.coordinates import CoordinateFacts

DEFAULT_COMPONENTS = 256
FORMAT = "tcs-coordinates"
FORMAT_VERSION = 1
ARRAY_SHAPES = {"basis_DK": "DK", "origin_D": "D", "scales_K": "K", "spectrum_D": "D"}
F32 = NDArray[np.float32]


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class CoordinateSystem:
    """Origin (D,), basis (D, K; orthonormal but for `jl`, `cospress` and joined stores), scales (K,) and variances along all D axes,
    float32.

    `store_identity` is the store it was fitted to and `teacher_identity` what that store says of its teacher; stores of
    the same teacher may be transformed too. `ceiling`, `selection` and `config` travel along and are no part of
    `identity`.
    """

    method: str
    power: float
    origin_D: F32
    basis_DK: F32
    scales_K: F32
    spectrum_D: F32
    rows_fitted: int
    seed: int
    readout: str = ""
    store_identity: str = ""
    teacher_identity: str = ""
    ceiling: Mapping[str, Any] | None = None
    selection: Selection | None = None
    config: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @functools.cached_property
    def identity(self) -> str:
        """Digest of everything that determines z."""
        digests = {name: [list(array.shape), digest_of_bytes(array.tobytes())] for name, array in self.arrays().items()}
        return digest_of_json(
            {
                "arrays": digests,
                "method": self.method,
                "power": self.power,
                "seed": self.seed,
                "readout": self.readout,
                "store": self.store_identity,
                "teacher": self.teacher_identity,
                "rows_fitted": self.rows_fitted,
            }
        )

    def arrays(self) -> dict[str, F32]:
        """The arrays by their name in a file."""
        return {
            "origin_D": self.origin_D,
            "basis_DK": self.basis_DK,
            "scales_K": self.scales_K,
            "spectrum_D": self.spectrum_D,
        }

    def to_json(self) -> dict[str, Any]:
        """Everything but the arrays, as JSON types, with the identity."""
        return {
            "identity": self.identity,
            "method": self.method,
            "power": self.power,
            "readout": self.readout,
            "store_identity": self.store_identity,
            "teacher_identity": self.teacher_identity,
            "rows_fitted": self.rows_fitted,
            "seed": self.seed,
            "ceiling": self.ceiling,
            "selection": None if self.selection is None else self.selection.to_json(),
            "config": dict(self.config),
        }

    @classmethod
    def from_parts(cls, facts: Mapping[str, Any], arrays: Mapping[str, Any], place: str) -> "CoordinateSystem":
        """The inverse of `to_json` and `arrays`; ArtefactError, naming `place`, where they do not make one."""
        _check_arrays(arrays, place)
        told = broken_rule(facts, CoordinateFacts)
        if told is not None:
            raise ArtefactError(f"{place} has a damaged header ({told}); make it again with tcs fit.")
        try:
            fields = {name: value for name, value in facts.items() if name not in ("identity", "environment")}
            if fields["selection"] is not None:
                fields["selection"] = Selection.from_json(fields["selection"])
            system = cls(**fields, **{name: arrays[name] for name in ARRAY_SHAPES})
        except (KeyError, TypeError, ValueError) as error:
            raise ArtefactError(f"{place} has a damaged header ({error}); make it again with tcs fit.") from error
        if system.selection is not None and (system.selection.active_k >= system.components).any():
            raise ArtefactError(
                f"{place} selects coordinate {system.selection.active_k.max()} of {system.components}; make it again with tcs fit."
            )
        if system.identity != facts.get("identity"):
            raise ArtefactError(
                f"{place} is damaged: its content has identity {system.identity}, its header says"
                f" {facts.get('identity')}; make it again with tcs fit."
            )
        return system

    @property
    def dims(self) -> int:
        """D, the width of the features."""
        return int(self.basis_DK.shape[0])

    @property
    def components(self) -> int:
        """K, the number of coordinates."""
        return int(self.basis_DK.shape[1])

    def transform(self, features_ND: NDArray[np.floating]) -> F32:
        """Coordinates z (N, K), float32, of float16 or float32 features (N, D); DataError for another width."""
        shape = getattr(features_ND, "shape", type(features_ND).__name__)
        if not isinstance(features_ND, np.ndarray) or features_ND.ndim != 2 or features_ND.shape[1] != self.dims:
            raise DataError(
                f"features of shape {shape} do not fit a coordinate system of {self.dims} dims; give (N, {self.dims})."
            )
        centred_ND: F32 = features_ND.astype(np.float32) - self.origin_D
        z_NK: F32 = (centred_ND @ self.basis_DK) * self.scales_K
        return z_NK

    def with_components(self, components: int) -> "CoordinateSystem":
        """The first `components` axes, rescaled so that the mean variance of z is 1 again; no ceiling or selection."""
        _check_components(components, self.components)
        scales_K = axis_scales(self.spectrum_D, components, self.power)
        basis_DK = np.ascontiguousarray(self.basis_DK[:, :components])
        return dataclasses.replace(self, basis_DK=basis_DK, scales_K=scales_K, ceiling=None, selection=None)


def resolve_components(components: int | None, dims: int) -> int:
    """K: what was asked for (ConfigError beyond D), or min(256, D)."""
    resolved = min(DEFAULT_COMPONENTS, dims) if components is None else components
    _check_components(resolved, dims)
    return resolved


def require_coordinates_file(path: pathlib.Path) -> None:
    """ArtefactError where `path` exists and is no coordinate system of any version, so that nothing foreign is replaced."""
    try:
        require_ordinary(path)
        with safetensors.safe_open(str(path), framework="numpy") as file:
            ours = (file.metadata() or {}).get("format") == FORMAT
    except (OSError, safetensors.SafetensorError):
        ours = False
    if not ours:
        raise ArtefactError(f"{path} exists and is no coordinate system; name another --out.")


def save_coordinates(
    path: str | pathlib.Path, system: CoordinateSystem, environment: Mapping[str, Any] | None = None
) -> None:
    """Write `path` (.safetensors, JSON metadata) whole or not at all; `environment` is provenance."""
    facts = system.to_json() | {"environment": dict(environment or {})}
    metadata = {"format": FORMAT, "format_version": str(FORMAT_VERSION), "facts": json.dumps(facts, sort_keys=True)}
    atomic_write_bytes(pathlib.Path(path), safetensors.numpy.save(system.arrays(), metadata))


def load_coordinates(path: AnyPath) -> CoordinateSystem:
    """The coordinate system in a file of `tcs fit`.

    ArtefactError for anything else, another version, or damaged content.
    """
    path = given_path("path", path)
    try:
        require_ordinary(path)
        with safetensors.safe_open(str(path), framework="numpy") as file:
            metadata = file.metadata() or {}
            _check_format(metadata, str(path))
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (a handle, no mapping)
    except FileNotFoundError as error:
        raise ArtefactError(f"there is no coordinate system at {path}; make one with tcs fit.") from error
    except (OSError, safetensors.SafetensorError) as error:
        raise ArtefactError(
            f"{path} is no coordinate system ({str(error)[:80]}); name a file that tcs fit wrote."
        ) from error
    return CoordinateSystem.from_parts(_facts(metadata, str(path)), arrays, str(path))


def _check_format(metadata: Mapping[str, str], path: str) -> None:
    if metadata.get("format") != FORMAT:
        found = metadata.get("format", "unknown")
        raise ArtefactError(f"{path} is no coordinate system (format '{found}'); name a file that tcs fit wrote.")
    if metadata.get("format_version") != str(FORMAT_VERSION):
        raise ArtefactError(
            f"{path} has format version {metadata.get('format_version')}, this release reads {FORMAT_VERSION};"
            " make it again with tcs fit, or use the release that wrote it."
        )


def _facts(metadata: Mapping[str, str], path: str) -> Mapping[str, Any]:
    try:
        facts = json.loads(metadata["facts"])
    except (KeyError, ValueError) as error:
        raise ArtefactError(f"{path} has a damaged header ({error}); make it again with tcs fit.") from error
    if not isinstance(facts, dict):
        raise ArtefactError(f"{path} has a damaged header (no JSON object); make it again with tcs fit.")
    return facts


def _check_arrays(arrays: Mapping[str, NDArray[Any]], place: str) -> None:
    missing = sorted(set(ARRAY_SHAPES) - set(arrays))
    if missing:
        raise ArtefactError(f"{place} lacks the array {missing[0]}; make it again with tcs fit.")
    sizes = dict(zip("DK", np.shape(arrays["basis_DK"]), strict=False))
    for name, letters in ARRAY_SHAPES.items():
        array, expected = arrays[name], tuple(sizes.get(letter, letter) for letter in letters)
        if array.shape != expected or array.dtype != np.float32:
            raise ArtefactError(
                f"{place}: {name} is {array.dtype} {array.shape}, and must be float32 {expected};"
                " make it again with tcs fit."
            )


def _check_components(components: int, available: int) -> None:
    plain_value("components", components, int)
    if not 1 <= components <= available:
        raise ConfigError(f"--components is {components}, and there are {available} axes; use 1 to {available}.")
