"""Targets of a store with several views: coordinates and bits of each view, in a file of their own version.

Letters: N rows, V views, K coordinates, M vectors.
"""

import json
import pathlib

import faiss
import h5py
import numpy as np
import pytest
from artefacts import make_store, make_targets
from view_store import ROWS, VIEWS, write_view_store

from tcs.cli import main
from tcs.config.coordinates import FitConfig
from tcs.coordinates.fit import fit
from tcs.coordinates.targets import open_targets
from tcs.errors import ArtefactError


def facts(path: pathlib.Path) -> dict:
    with h5py.File(path) as file:
        return json.loads(file["facts"][...].tobytes())


def rewrite(path: pathlib.Path, version: int) -> None:
    with h5py.File(path, "a") as file:
        changed = json.loads(file["facts"][...].tobytes()) | {"format_version": version}
        del file["facts"]
        file["facts"] = np.frombuffer(json.dumps(changed, sort_keys=True).encode(), np.uint8)


def test_every_view_has_coordinates_and_bits(tmp_path: pathlib.Path) -> None:
    store = write_view_store(tmp_path / "train.store")
    path = make_targets(tmp_path, components=6)
    targets, stored_NVD = open_targets(path, store.identity), store.features()[:].astype(np.float64)
    system = targets.coordinates
    assert (targets.z_NK.shape, targets.bits_NP.shape) == ((ROWS, VIEWS, 6), (ROWS, VIEWS, 4))
    for view in range(VIEWS):
        wanted_NK = (stored_NVD[:, view] - system.origin_D) @ system.basis_DK * system.scales_K
        assert np.abs(targets.z_NK[:, view] - wanted_NK).max() < 1e-5
    index = faiss.IndexLSH(6, 32, True, True)
    index.rrot.init(targets.config["seed"])
    z_MK = targets.z_NK.reshape(-1, 6)
    index.train(z_MK)
    assert np.array_equal(index.sa_encode(z_MK).reshape(ROWS, VIEWS, 4), targets.bits_NP)
    rows_n = np.array([5, 2])
    assert np.array_equal(targets.coordinates_rows(rows_n), targets.z_NK[[5, 2]])
    assert np.array_equal(targets.first_coordinates(rows_n), targets.z_NK[[5, 2], 0])
    assert np.array_equal(targets.bits_rows(rows_n), targets.bits_NP[[5, 2]])


def test_the_fit_is_of_all_views(tmp_path: pathlib.Path) -> None:
    store = write_view_store(tmp_path / "train.store")
    system = fit(
        FitConfig(
            store=str(tmp_path / "train.store"), out=str(tmp_path / "c.safetensors"), components=6, ceiling_shots=()
        )
    )
    rows_MD = store.features()[:].reshape(-1, 12).astype(np.float64)
    assert system.rows_fitted == ROWS * VIEWS
    assert np.allclose(system.origin_D, rows_MD.mean(0), atol=1e-5)
    spectrum_D = np.linalg.eigvalsh(np.cov(rows_MD.T))[::-1]
    assert np.allclose(system.spectrum_D, spectrum_D, atol=1e-4 * spectrum_D[0])


def test_only_a_file_with_views_has_the_new_version(tmp_path: pathlib.Path) -> None:
    make_store(tmp_path / "train.store")
    plain = make_targets(tmp_path)
    assert facts(plain)["format_version"] == 1
    (tmp_path / "v").mkdir()
    write_view_store(tmp_path / "v" / "train.store")
    viewed = make_targets(tmp_path / "v", components=6)
    assert facts(viewed)["format_version"] == 2
    rewrite(viewed, 1)
    with pytest.raises(ArtefactError, match=r"coordinates is float32 \(24, 3, 6\), and must be float32 \(NK\)"):
        open_targets(viewed)
    rewrite(plain, 2)
    with pytest.raises(ArtefactError, match=r"coordinates is float32 \(60, 8\), and must be float32 \(NVK\)"):
        open_targets(plain)


def test_the_command_tells_how_many_views(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_view_store(tmp_path / "train.store")
    make_targets(tmp_path, components=6)
    parents = [str(tmp_path / "train.store"), str(tmp_path / "pca.safetensors")]
    with pytest.raises(SystemExit, match=r"^0$"):
        main(["targets", *parents, "--out", str(tmp_path / "t.h5"), "--bits", "32", "--json"])
    found = json.loads(capsys.readouterr().out)
    assert (found["rows"], found["views"], found["components"], found["bits"]) == (ROWS, VIEWS, 6, 32)
