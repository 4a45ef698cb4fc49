"""`tcs.fit`, as it is called. Written by scripts/make_stages.py; not to be edited."""

from typing import Any, overload

from tcs.config.coordinates import FitConfig
from tcs.config.plain import AnyPath, Several
from tcs.config.stage import takes
from tcs.coordinates.fit import fit as run
from tcs.coordinates.system import CoordinateSystem

# fmt: off

@overload
def fit(
    config: FitConfig, /
) -> CoordinateSystem: ...
@overload
def fit(
    store: AnyPath, *, out: AnyPath, also: Several[AnyPath] = (), method: str = "pca", components: int | None = None,
    power: float = 0.0, readout: str | None = None, shots: int | None = None, split_seed: int | None = None,
    split_file: AnyPath | None = None, selection: str = "ridge", ceiling_shots: Several[int] = (4, 16),
    ceiling_test: AnyPath | None = None, ceiling_test_also: Several[AnyPath] = (), seed: int = 42,
    overwrite: bool = False
) -> CoordinateSystem: ...
@takes(run, FitConfig)
def fit(*given: Any, **named: Any) -> Any:
    """Fit, measure, write `out`, and return what was written.

    Principal axes of the cached features, and the coordinates of them that a task needs: TCS (Zhou, Zhu and Wu 2024, arXiv 2412.09388).
    Every position of a map and every view of an image is a row of the fit; ceiling and selection see one vector an image, of its
    first view, and a line says so.
    The output of the same recipe on the same store is returned as it is. ArtefactError where `out` holds
    something else; `overwrite` replaces a coordinate system, never another file. ConfigError and DataError come from
    the parts: too many components, features that are not finite, a split that cannot be drawn.

    Takes the options below, which are those of tcs.FitConfig, or one such configuration as its only argument. A path is
    a text or any os.PathLike, and a list may stand for a tuple. TypeError for a name that is no option, ConfigError for
    a value that makes no sense.

    Args:
        store (path): A feature store, as `tcs.extract` made it.
        out (path): Coordinate system (.safetensors).
        also (tuple of paths): Another teacher's store of the same images. Default: ().
        method (str): Kind of axes: pca, random, jl, autoencoder, identity or cospress. Default: "pca".
        components (int or None): Coordinates K; min(256, D) without it. Default: None.
        power (float): 0 leaves variances as they are, 1 whitens fully. Default: 0.0.
        readout (str or None): Readout of the store; needed where it holds several. Default: None.
        shots (int or None): Also select coordinates from the labels of this k-shot split. Default: None.
        split_seed (int or None): Seed of the k-shot split; `seed` without it. Default: None.
        split_file (path or None): Also select coordinates from the labelled rows of this file. Default: None.
        selection (str): By the labelled rows alone, or by their labels spread over the pool, all rows of `store`: ridge
            or pool. Default: "ridge".
        ceiling_shots (tuple of int): Shots of the ceiling curve. Default: (4, 16).
        ceiling_test (path or None): Store to score the ceiling curve on; rows outside the shots without it. Default:
            None.
        ceiling_test_also (tuple of paths): Store of its images by a teacher of `also`. Default: ().
        seed (int): Of axes that are drawn or trained, and of splits. Default: 42.
        overwrite (bool): Replace a coordinate system made otherwise. Default: False.
    """
