"""The PCA benchmark, once and small, so that it cannot rot."""

import pathlib
import runpy

import numpy as np
import pytest

PATH = pathlib.Path(__file__).parent.parent / "benchmarks" / "pca.py"


@pytest.fixture
def benchmark():
    return runpy.run_path(str(PATH))


def test_the_contestants_compute_the_same_spectrum(benchmark):
    features = benchmark["make_features"](300, 24, 0)
    functions = benchmark["contestants"](features, 8)
    exact = np.linalg.eigvalsh(np.cov(features.T.astype(np.float64)))[::-1]
    for name in ("tcs, float32 rows", "scikit-learn PCA(covariance_eigh)"):
        np.testing.assert_allclose(functions[name]()[:8], exact[:8], rtol=1e-3)
    np.testing.assert_allclose(functions["tcs, float16 rows"]()[:8], exact[:8], rtol=2e-2)


def test_it_prints_one_row_per_contestant(benchmark, capsys):
    benchmark["main"](["--rows", "200", "--dims", "16", "--components", "4", "--repeats", "2"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "| 200 x 16 | seconds, median [least - most] | n | x bare |"
    assert [line.split("|")[3].strip() for line in lines[2:7]] == ["2"] * 5
    assert "versions" in lines[-1]
