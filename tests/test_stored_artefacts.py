"""Coordinate systems, targets and grids of earlier releases, read by this one: tests/fixtures/README.md says how they were made.

Values are compared with readers made of json, h5py and numpy alone, and with the formulas of scripts/make_artefact_fixtures.py.
"""

import csv
import json
import pathlib
import runpy
import shutil
import statistics
import struct

import h5py
import numpy as np
import pytest

import cache
import tcs
from tcs.reporting.results import load_runs

FIXTURES = pathlib.Path(__file__).parent / "fixtures"
SCRIPT = FIXTURES.parents[1] / "scripts" / "make_artefact_fixtures.py"
COORDINATES, TARGETS, TARGETS_OF_VIEWS = "coordinates_v1.safetensors", "targets_v1.h5", "targets_v2.h5"
STORE, COORDINATES_IDENTITY = "aec715ef1fca0090a2fda1efb3a4eb77", "3219fc3c0a1ab5979cb994d97d3ccf20"


@pytest.fixture(scope="module")
def script():
    return runpy.run_path(str(SCRIPT))


@pytest.fixture
def folder(tmp_path, monkeypatch, script):
    """The working folder, with what the examples were made from and copies of them; stores are written by today's code."""
    monkeypatch.chdir(tmp_path)
    script["make_stores"](tmp_path)
    for name in (COORDINATES, TARGETS):
        shutil.copy(FIXTURES / name, tmp_path / name)
    shutil.copytree(FIXTURES / "grid_v1", tmp_path / "grid_v1")
    return tmp_path


def features():
    """(30, 12) float64: the rows of train.store, by the formula."""
    i, d = np.ogrid[:30, :12]
    return (7 * (i + 1) * (d + 1) % 23) / 8 + 3.0 * (d % 3 == i % 3)


def safetensors_of(path):
    """Metadata and arrays, by the published layout: length of the header, header, bytes."""
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    metadata = header.pop("__metadata__")
    assert {entry["dtype"] for entry in header.values()} == {"F32"}
    body = data[8 + length :]
    found = {
        name: np.frombuffer(body[slice(*entry["data_offsets"])], "<f4").reshape(entry["shape"])
        for name, entry in header.items()
    }
    return metadata, found


def raw_targets(name):
    with h5py.File(FIXTURES / name) as file:
        return {key: file[key][...] for key in ("coordinates", "bits", "rotation", "thresholds", "rms", "hashes")}


def test_coordinates_hold_what_they_held():
    system = tcs.load_coordinates(FIXTURES / COORDINATES)
    _, stored = safetensors_of(FIXTURES / COORDINATES)
    assert set(stored) == set(system.arrays())
    for name, array in system.arrays().items():
        np.testing.assert_array_equal(array, stored[name])
    assert (system.dims, system.components, system.method, system.power) == (12, 10, "pca", 0.5)
    assert (system.readout, system.rows_fitted, system.seed) == ("avg", 30, 42)
    assert (system.store_identity, system.identity) == (STORE, COORDINATES_IDENTITY)
    assert system.selection.active_k.tolist() == [0, 1, 3, 4, 5, 6, 7, 8]
    assert system.selection.method == "ridge"
    assert len(system.ceiling["rows"]) == 8
    assert system.ceiling["rows"][0] | {"stderr": 0.0} == {
        "shots": 2,
        "axes": "pca",
        "power": 0.0,
        "components": 12,
        "accuracy": 100.0,
        "stderr": 0.0,
        "n": 5,
        "labelled_rows": 6,
        "scored_rows": 24,
    }


def test_coordinates_are_those_of_the_features_they_were_fitted_to():
    """z of the formula's features has mean 0, is uncorrelated, and has the variances that the file says, scaled as it says."""
    system = tcs.load_coordinates(FIXTURES / COORDINATES)
    z_NK = system.transform(features().astype(np.float32)).astype(np.float64)
    np.testing.assert_allclose(z_NK.mean(0), 0, atol=1e-5)
    covariance_KK = np.cov(z_NK.T)
    variances_K = system.spectrum_D[:10].astype(np.float64) * system.scales_K.astype(np.float64) ** 2
    np.testing.assert_allclose(covariance_KK, np.diag(variances_K), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(np.linalg.eigvalsh(np.cov(features().T))[::-1], system.spectrum_D, rtol=1e-4, atol=1e-4)


def test_targets_hold_what_they_held(folder):
    targets = tcs.open_targets(FIXTURES / TARGETS, cache.open("train.store").identity)
    raw = raw_targets(TARGETS)
    for name, array in (("coordinates", targets.z_NK), ("bits", targets.bits_NP), ("hashes", targets.hashes_N16)):
        np.testing.assert_array_equal(array, raw[name])
    for name, array in (
        ("rotation", targets.rotation_HK),
        ("thresholds", targets.thresholds_H),
        ("rms", targets.rms_H),
    ):
        np.testing.assert_array_equal(array, raw[name])
    assert targets.identity == "a9d0df7517fc2cbdc8616caa1f314a56"
    assert targets.coordinates.identity == COORDINATES_IDENTITY
    np.testing.assert_array_equal(targets.hashes_N16, cache.open("train.store").hashes_N16)


def test_targets_are_those_of_the_coordinates():
    targets = tcs.open_targets(FIXTURES / TARGETS)
    _, stored = safetensors_of(FIXTURES / COORDINATES)
    z_NK = (features() - stored["origin_D"]) @ stored["basis_DK"].astype(np.float64) * stored["scales_K"]
    np.testing.assert_allclose(targets.z_NK, z_NK, rtol=1e-4, atol=1e-5)
    bits_NH = targets.z_NK @ targets.rotation_HK.T >= targets.thresholds_H
    unpacked_NH = np.unpackbits(targets.bits_NP, axis=1, bitorder="little").astype(bool)
    near_NH = (
        np.abs(targets.z_NK @ targets.rotation_HK.T - targets.thresholds_H) < 1e-5
    )  # at a median: either way by rounding
    assert np.array_equal(bits_NH | near_NH, unpacked_NH | near_NH)
    assert near_NH.mean() < 0.1


def test_targets_of_views_hold_what_they_held():
    store = cache.open(FIXTURES / "store_v2")
    targets = tcs.open_targets(FIXTURES / TARGETS_OF_VIEWS, store.identity)
    raw = raw_targets(TARGETS_OF_VIEWS)
    np.testing.assert_array_equal(targets.z_NK, raw["coordinates"])
    np.testing.assert_array_equal(targets.bits_NP, raw["bits"])
    assert targets.z_NK.shape == targets.bits_NP.shape == (4, 2, 2)
    assert targets.identity == "d0542b69eb04f8c188a17710241bd2c8"
    row, view, dim = np.ogrid[:4, :2, :3]
    features_NVD = row + view / 2 + dim / 4
    system = targets.coordinates
    z_NVK = (features_NVD - system.origin_D) @ system.basis_DK.astype(np.float64) * system.scales_K
    np.testing.assert_allclose(targets.z_NK, z_NVK, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(targets.coordinates_rows(np.array([2, 0])), targets.z_NK[[2, 0]])


def test_stages_take_finished_examples_for_their_own(folder, script, capsys):
    before = {name: (folder / name).read_bytes() for name in (COORDINATES, TARGETS)}
    assert tcs.fit(script["FIT"]).identity == COORDINATES_IDENTITY
    assert tcs.fit_targets(script["TARGETS"]) == pathlib.Path(TARGETS)
    assert capsys.readouterr().err.count("is already there, made with the same options; nothing to do.") == 2
    assert {name: (folder / name).read_bytes() for name in before} == before


def rows_of_csv(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_rows_of_a_grid_are_read_as_they_stand():
    runs, rows = load_runs(FIXTURES / "grid_v1"), rows_of_csv(FIXTURES / "grid_v1" / "results.csv")
    assert [sum(run.failed is failed for run in runs) for failed in (False, True)] == [12, 8]
    for run, row in zip(runs, rows, strict=True):
        assert (run.model, run.method, str(run.shots), run.seed) == (
            row["model"],
            row["method"],
            row["shots"],
            row["seed"],
        )
        assert ("" if run.top1 is None else f"{run.top1}") == row["top1"]
        assert run.origins["cache_id"] == row["cache_id"]


def test_a_report_of_a_grid_says_what_it_said(folder):
    tcs.write_report("grid_v1", "new/report.md")
    table = rows_of_csv(folder / "new" / "report.csv")
    assert table == rows_of_csv(FIXTURES / "grid_v1" / "report.csv")
    for row in table:
        rows = rows_of_csv(FIXTURES / "grid_v1" / "results.csv")
        model = "teacher" if row["method"] == "teacher-probe" else row["student"]
        asked = {"model": model, "method": row["method"], "shots": row["shots"]}
        cell = [found for found in rows if asked.items() <= found.items()]
        scores = [float(found["top1"]) for found in cell if found["status"] == "ok"]
        assert (int(row["n"]), int(row["failed"])) == (len(scores), len(cell) - len(scores))
        assert row["top1_mean"] == (f"{statistics.mean(scores):.4f}" if scores else "")


def test_a_grid_whose_rows_do_not_say_what_they_are_of_is_left_as_it_is(folder):
    before = (folder / "grid_v1" / "results.csv").read_bytes()
    with pytest.raises(tcs.ArtefactError, match=r"by an earlier release; read it with tcs report, and use another out"):
        tcs.fewshot(tcs.FewshotConfig(recipe="grid_v1/recipe.yaml", out="grid_v1"))
    assert (folder / "grid_v1" / "results.csv").read_bytes() == before
