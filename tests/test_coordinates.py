"""Coordinate systems against numpy's SVD, and their files against damage. N rows, D features, K coordinates."""

import dataclasses
import json

import numpy as np
import pytest
import safetensors
import safetensors.numpy
from artefacts import make_store

from tcs.artefact import teacher_identity_of
from tcs.coordinates.build import fit_coordinates
from tcs.coordinates.selection import Selection
from tcs.coordinates.stores import check_same_store
from tcs.coordinates.system import load_coordinates, require_coordinates_file, save_coordinates
from tcs.errors import ArtefactError, ConfigError, DataError

METHODS = ("pca", "random", "identity")


def rows(count=400, dims=10, offset=5.0, seed=0):
    """float32 rows with 3 strong and 7 weak axes, so that there is a gap in the spectrum after the third."""
    generator = np.random.default_rng(seed)
    basis = np.linalg.qr(generator.normal(size=(dims, dims)))[0]
    spread = np.concatenate([[4.0, 3.0, 2.0], np.linspace(0.3, 0.05, dims - 3)])
    return ((generator.normal(size=(count, dims)) * spread) @ basis.T + offset).astype(np.float32)


def svd(features):
    """Eigenvalues and axes of the covariance by SVD of the centred rows, in float64."""
    centred = features.astype(np.float64) - features.mean(0, dtype=np.float64)
    _, singular, right = np.linalg.svd(centred, full_matrices=False)
    return singular**2 / (len(features) - 1), right.T


@pytest.mark.parametrize(("offset", "dtype"), [(5.0, np.float32), (4000.0, np.float32), (5.0, np.float16)])
def test_spectrum_and_leading_subspace_equal_the_svd(offset, dtype):
    features = rows(offset=offset).astype(dtype)
    system = fit_coordinates(features, components=3)
    eigenvalues, axes = svd(features)
    np.testing.assert_allclose(system.spectrum_D, eigenvalues, atol=1e-4 * eigenvalues[0])
    cosines = np.linalg.svd(axes[:, :3].T @ system.basis_DK)[1]  # of the angles between the two subspaces
    assert cosines.min() > 1 - 1e-6
    np.testing.assert_allclose(system.origin_D, features.astype(np.float64).mean(0), rtol=1e-6)


def test_fewer_rows_than_features():
    features = rows(count=6)
    system = fit_coordinates(features, components=5)
    eigenvalues, _ = svd(features)
    np.testing.assert_allclose(system.spectrum_D[:6], eigenvalues, atol=1e-4 * eigenvalues[0])
    assert np.abs(system.spectrum_D[5:]).max() < 1e-5 * eigenvalues[0]
    assert np.isfinite(fit_coordinates(features, components=10, power=1.0).transform(features)).all()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("power", [0.0, 0.5, 1.0])
def test_coordinates_are_the_formula_and_have_mean_variance_one(method, power):
    features = rows()
    system = fit_coordinates(features, method=method, components=4, power=power, seed=3)
    z = system.transform(features)
    by_hand = ((features.astype(np.float64) - system.origin_D) @ system.basis_DK) * system.scales_K
    assert z.dtype == np.float32
    np.testing.assert_allclose(z, by_hand, atol=1e-4)
    assert z.var(axis=0, ddof=1).mean() == pytest.approx(1, rel=1e-4)


def test_full_whitening_evens_out_strong_axes():
    z = fit_coordinates(rows(), components=3, power=1.0).transform(rows())
    np.testing.assert_allclose(np.cov(z.T), np.eye(3), atol=5e-3)


@pytest.mark.parametrize("method", METHODS)
def test_fitting_twice_is_fitting_once(method):
    first, second = (fit_coordinates(rows(), method=method, components=4, seed=1) for _ in range(2))
    assert first.identity == second.identity
    np.testing.assert_array_equal(first.transform(rows()), second.transform(rows()))


@pytest.mark.parametrize("method", METHODS)
def test_fewer_components_are_the_first_ones(method):
    whole = fit_coordinates(rows(), method=method, components=8, power=0.5, seed=2)
    direct = fit_coordinates(rows(), method=method, components=3, power=0.5, seed=2)
    cut = whole.with_components(3)
    np.testing.assert_allclose(cut.scales_K, direct.scales_K, rtol=1e-6)
    assert cut.identity == dataclasses.replace(direct, scales_K=cut.scales_K).identity


def test_components_default_to_256_or_all():
    assert fit_coordinates(rows()).components == 10
    assert fit_coordinates(np.random.default_rng(0).normal(size=(40, 300)).astype(np.float32)).components == 256


def test_constant_features_do_no_harm_and_constant_rows_are_refused():
    features = rows()
    features[:, 4] = 9.0
    system = fit_coordinates(features, method="identity", power=1.0)
    assert np.isfinite(system.transform(features)).all()
    with pytest.raises(DataError, match="the features do not vary"):
        fit_coordinates(np.full((20, 3), 0.3, np.float32))


@pytest.mark.parametrize("components", [0, 11])
def test_more_components_than_features_are_refused(components):
    with pytest.raises(ConfigError, match=f"--components is {components}, and there are 10 axes; use 1 to 10"):
        fit_coordinates(rows(), components=components)


def test_features_of_another_width_are_refused():
    with pytest.raises(DataError, match=r"features of shape \(5, 7\) do not fit a coordinate system of 10 dims"):
        fit_coordinates(rows()).transform(np.zeros((5, 7), np.float32))


def selection():
    history = ({"size": 4, "mean": 51.5, "stderr": 1.0, "dropped": []},)
    return Selection(active_k=np.array([0, 2]), method="ridge", split_digest="ab", history=history, note="n")


def test_a_file_gives_everything_back(tmp_path):
    system = fit_coordinates(rows(), components=4, power=0.5, seed=7, store_identity="s", readout="avg")
    ceiling = {"rows": [{"shots": None, "accuracy": 50.0}], "note": None}
    system = dataclasses.replace(system, ceiling=ceiling, selection=selection(), config={"power": 0.5})
    save_coordinates(tmp_path / "c.safetensors", system, {"python": "3"})
    found = load_coordinates(tmp_path / "c.safetensors")
    for name, array in system.arrays().items():
        np.testing.assert_array_equal(found.arrays()[name], array)
    assert found.to_json() == system.to_json()
    assert found.selection is not None
    assert found.selection.active_k.tolist() == [0, 2]
    assert [path.name for path in tmp_path.iterdir()] == ["c.safetensors"]


def test_ceiling_and_selection_are_no_part_of_the_identity():
    system = fit_coordinates(rows())
    assert dataclasses.replace(system, selection=selection(), ceiling={"rows": []}).identity == system.identity
    assert dataclasses.replace(system, readout="cls").identity != system.identity
    assert dataclasses.replace(system, power=0.1).identity != system.identity


def write(path, *, tensors=None, change_facts=None, **metadata):
    """A coordinates file with some parts replaced, written without the code under test."""
    system = fit_coordinates(rows(), components=4)
    facts = json.dumps(system.to_json() | (change_facts or {}))
    header = {"format": "tcs-coordinates", "format_version": "1", "facts": facts}
    path.write_bytes(safetensors.numpy.save(system.arrays() | (tensors or {}), header | metadata))
    return path


def test_the_written_helper_file_is_sound(tmp_path):
    assert load_coordinates(write(tmp_path / "c.safetensors")).components == 4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "other"}, r"is no coordinate system \(format 'other'\)"),
        ({"format_version": "2"}, "has format version 2, this release reads 1"),
        ({"facts": "{"}, "has a damaged header"),
        ({"facts": "[]"}, r"has a damaged header \(no JSON object\)"),
        ({"change_facts": {"new": 1}}, "has a damaged header .*new"),
        ({"change_facts": {"power": 0.7}}, "is damaged: its content has identity"),
        ({"tensors": {"scales_K": np.ones(4, np.float32)}}, "is damaged: its content has identity"),
        ({"tensors": {"scales_K": np.ones(4)}}, r"scales_K is float64 \(4,\), and must be float32 \(4,\)"),
        ({"tensors": {"origin_D": np.ones(9, np.float32)}}, r"origin_D is float32 \(9,\), and must be float32 \(10,\)"),
        ({"tensors": {"basis_DK": np.ones(9, np.float32)}}, r"basis_DK is float32 \(9,\)"),
    ],
)
def test_other_content_is_refused_by_name(tmp_path, change, message):
    path = write(tmp_path / "c.safetensors", **change)
    with pytest.raises(ArtefactError, match=message):
        load_coordinates(path)


def test_a_missing_array_is_named(tmp_path):
    metadata = {"format": "tcs-coordinates", "format_version": "1", "facts": "{}"}
    (tmp_path / "c").write_bytes(safetensors.numpy.save({"origin_D": np.ones(3, np.float32)}, metadata))
    with pytest.raises(ArtefactError, match="lacks the array basis_DK"):
        load_coordinates(tmp_path / "c")


def test_files_that_are_none_of_ours_are_refused(tmp_path):
    with pytest.raises(ArtefactError, match=r"there is no coordinate system at .*none"):
        load_coordinates(tmp_path / "none")
    (tmp_path / "text").write_text("some notes")
    with pytest.raises(ArtefactError, match="is no coordinate system"):
        load_coordinates(tmp_path / "text")
    with pytest.raises(ArtefactError, match="exists and is no coordinate system; name another --out"):
        require_coordinates_file(tmp_path / "text")
    with pytest.raises(ArtefactError, match="exists and is no coordinate system"):
        require_coordinates_file(write(tmp_path / "c", format="other"))
    require_coordinates_file(write(tmp_path / "c", format_version="0"))  # ours, of another release: may be replaced


def test_stores_of_the_same_teacher_fit_and_others_are_refused(tmp_path):
    store, test = make_store(tmp_path / "a.store"), make_store(tmp_path / "b.store", seed=1)
    system = fit_coordinates(
        store.features(), store_identity=store.identity, teacher_identity=teacher_identity_of(store), readout="avg"
    )
    check_same_store(system, store)
    check_same_store(system, test)
    other = make_store(tmp_path / "c.store", teacher="another")
    with pytest.raises(ArtefactError, match=f"fitted to store {store.identity} .* is store {other.identity}"):
        check_same_store(system, other)
    with pytest.raises(ArtefactError, match=r"reads 'cls' \(24 dims\), and .* holds avg \(24 dims\)"):
        check_same_store(dataclasses.replace(system, readout="cls"), store)
