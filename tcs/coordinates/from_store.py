"""Coordinates of a store's rows where no targets file holds them: principal axes of all its rows, fitted in memory, without labels.

Legend: N rows of the store, n chosen rows, V views, D teacher dims, K coordinates.
"""

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cache import Features, JoinedFeatures, Store
from tcs.artefact import teacher_identity_of
from tcs.coordinates.build import fit_coordinates
from tcs.coordinates.system import CoordinateSystem
from tcs.coordinates.vectors import EveryVector

COMPONENTS = 128  # at most; the first 128 axes were what spread labels were chosen on (benchmarks/heads.py)
BLOCK_ROWS = 8192


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class StoreCoordinates:
    """A coordinate system fitted to a store, and its rows, which are transformed when they are asked for."""

    coordinates: CoordinateSystem
    features: Features | JoinedFeatures

    def coordinates_rows(self, rows_n: NDArray[np.int64]) -> NDArray[np.float32]:
        """z of the store's rows `rows_n`: (n, K) float32; (n, V, K) of a store with views."""
        views, components = self.features.shape[1:-1], self.coordinates.components
        found = np.empty((len(rows_n), *views, components), np.float32)
        for start in range(0, len(rows_n), BLOCK_ROWS):
            block = self.features.gather(rows_n[start : start + BLOCK_ROWS])
            z = self.coordinates.transform(block.reshape(-1, block.shape[-1]))
            found[start : start + len(block)] = z.reshape(*block.shape[:-1], -1)
        return found

    def first_coordinates(self, rows_n: NDArray[np.int64]) -> NDArray[np.float32]:
        """z of the rows, of the first view where there are several: (n, K) float32."""
        z_nK = self.coordinates_rows(rows_n)
        return z_nK if z_nK.ndim == 2 else z_nK[:, 0]

    def recipe(self) -> dict[str, Any]:
        """What they were fitted by, as JSON: the same on every machine, whose last bits may differ."""
        system = self.coordinates
        return {
            "method": system.method,
            "components": system.components,
            "power": system.power,
            "readout": system.readout,
            "fitted_to": system.store_identity,
        }


def fit_store_coordinates(store: Store, readout: str) -> StoreCoordinates:
    """Principal axes of every row (of every view) of the store's vectors `readout`, K = min(128, D), no power. Of a joined
    store those of all its parts' vectors, each part with the same total variance.

    The same store gives the same bits on one machine. DataError where features are not finite or do not vary.
    """
    features = store.features(readout, resident_bytes=0)
    system = fit_coordinates(
        EveryVector(features),
        method="pca",
        components=min(COMPONENTS, store.readouts[readout].dims),
        store_identity=store.identity,
        teacher_identity=teacher_identity_of(store, readout),
        readout=readout,
        widths=store.widths(readout),
    )
    return StoreCoordinates(coordinates=system, features=features)
