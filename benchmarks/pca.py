"""PCA of stored features: one streaming pass here, against scikit-learn and against one bare product.

    python benchmarks/pca.py --rows 100000 --dims 768 --repeats 5

Prints Markdown rows: median seconds [least - most] over interleaved repeats in one process, and the ratio to the bare
X.T @ X in float32, the least that any covariance method must do. X has a mean larger than its spread and a falling
spectrum, as features of self-supervised teachers have.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA, IncrementalPCA

from tcs.coordinates.axes import principal_axes
from tcs.coordinates.moments import streaming_moments
from tcs.runtime import environment


def make_features(rows: int, dims: int, seed: int) -> NDArray[np.float32]:
    """Float32 (N, D) rows with spread falling from 1 to 0.05 about a mean of 3."""
    generator = np.random.default_rng(seed)
    features_ND = generator.standard_normal((rows, dims), np.float32)
    features_ND *= np.geomspace(1, 0.05, dims, dtype=np.float32)
    features_ND += np.float32(3)
    return features_ND


def streamed(features_ND: NDArray[np.floating]) -> NDArray[np.float64]:
    """Our eigenvalues, by `tcs fit`'s own functions."""
    _, covariance_DD = streaming_moments(features_ND)
    return principal_axes(covariance_DD)[1]


def contestants(features_ND: NDArray[np.float32], components: int) -> dict[str, Callable[[], NDArray[np.floating]]]:
    """Name -> function that does the work once and returns something of it (the eigenvalues where there are any)."""
    half_ND = features_ND.astype(np.float16)
    return {
        "bare X.T @ X, float32": lambda: features_ND.T @ features_ND,
        "tcs, float32 rows": lambda: streamed(features_ND),
        "tcs, float16 rows": lambda: streamed(half_ND),
        "scikit-learn PCA(covariance_eigh)": lambda: _spectrum(
            PCA(components, svd_solver="covariance_eigh"), features_ND
        ),
        "scikit-learn IncrementalPCA": lambda: _spectrum(IncrementalPCA(components), features_ND),
    }


def _spectrum(model: PCA | IncrementalPCA, features_ND: NDArray[np.float32]) -> NDArray[np.floating]:
    spectrum: NDArray[np.floating] = model.fit(features_ND).explained_variance_
    return spectrum


def measure(features_ND: NDArray[np.float32], components: int, repeats: int) -> dict[str, list[float]]:
    """Seconds of every repeat; the contestants take turns, so that a slow minute of the machine hits all of them."""
    functions = contestants(features_ND, components)
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    functions["bare X.T @ X, float32"]()  # wakes the threads
    for _ in range(repeats):
        for name, function in functions.items():
            start = time.perf_counter()
            function()
            seconds[name].append(time.perf_counter() - start)
    return seconds


def markdown(seconds: dict[str, list[float]], size: str) -> str:
    """The table; the first entry of `seconds` is the unit of the last column."""
    unit = statistics.median(next(iter(seconds.values())))
    lines = [f"| {size} | seconds, median [least - most] | n | x bare |", "|---|---|---|---|"]
    for name, values in seconds.items():
        middle = statistics.median(values)
        spread = f"{middle:.2f} [{min(values):.2f} - {max(values):.2f}]"
        lines.append(f"| {name} | {spread} | {len(values)} | {middle / unit:.2f} |")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--dims", type=int, default=768)
    parser.add_argument("--components", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    features_ND = make_features(options.rows, options.dims, options.seed)
    seconds = measure(features_ND, min(options.components, options.dims), options.repeats)
    print(markdown(seconds, f"{options.rows} x {options.dims}"))
    facts = environment()
    print(f"\n{facts['processor']}, {facts['cores']} cores; versions {facts['versions']}; commit {facts['commit']}.")


if __name__ == "__main__":
    main()
