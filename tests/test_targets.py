"""Hash targets against faiss itself, numpy and torch. Legend: B block rows, K coordinates, H hash bits."""

import json
import pathlib

import faiss
import h5py
import numpy as np
import pytest
import torch
from artefacts import make_store
from click.testing import CliRunner

import cache
from tcs.cli.targets import command
from tcs.config.coordinates import FitConfig, TargetsConfig
from tcs.coordinates.fit import fit
from tcs.coordinates.hash_bits import ROUNDING_BAND
from tcs.coordinates.targets import Targets, fit_targets, open_targets
from tcs.errors import ArtefactError, ConfigError


@pytest.fixture
def made(tmp_path: pathlib.Path) -> tuple[cache.Store, Targets]:
    store = make_store(tmp_path / "a.store")
    return store, make(tmp_path)


def make(
    folder: pathlib.Path, *, store: str = "a.store", out: str = "t.h5", components: int = 12, **options: int
) -> Targets:
    coordinates = folder / f"{store}-{components}.safetensors"
    fit(FitConfig(store=str(folder / store), out=str(coordinates), components=components, ceiling_shots=()))
    config = TargetsConfig(
        store=str(folder / store), coordinates=str(coordinates), out=str(folder / out), **({"bits": 64} | options)
    )
    return open_targets(fit_targets(config))


def test_stored_bits_are_the_encoding_of_faiss(made: tuple[cache.Store, Targets]) -> None:
    store, targets = made
    z_NK = targets.coordinates.transform(store.features()[:])
    assert np.array_equal(z_NK, targets.z_NK)
    index = faiss.IndexLSH(12, 64, True, True)
    index.rrot.init(42)
    index.train(z_NK)
    assert np.array_equal(index.sa_encode(z_NK), targets.bits_NP)
    by_hand = np.packbits(index.rrot.apply(z_NK) >= faiss.vector_to_array(index.thresholds), axis=1, bitorder="little")
    assert np.array_equal(by_hand, targets.bits_NP)


def test_other_encoders_differ_only_inside_the_rounding_band(made: tuple[cache.Store, Targets]) -> None:
    _, targets = made
    stored_NH = np.unpackbits(targets.bits_NP, axis=1, bitorder="little").astype(bool)
    distance_NH = np.abs(
        targets.z_NK.astype(np.float64) @ targets.rotation_HK.T.astype(np.float64) - targets.thresholds_H
    )
    clear_NH = distance_NH >= ROUNDING_BAND * targets.rms_H
    by_numpy = targets.z_NK @ targets.rotation_HK.T >= targets.thresholds_H
    by_torch = (torch.from_numpy(targets.z_NK) @ torch.as_tensor(targets.rotation_HK).T).numpy() >= targets.thresholds_H
    for encoded_NH in (by_numpy, by_torch):
        assert not ((encoded_NH != stored_NH) & clear_NH).any()
    assert clear_NH.mean() > 0.9  # the band is thin (a median may be one of few rows), so the test above says something


def test_thresholds_are_medians_and_rms_the_spread_about_them(made: tuple[cache.Store, Targets]) -> None:
    _, targets = made
    projections_NH = targets.z_NK @ targets.rotation_HK.T
    assert np.allclose(targets.rms_H, np.sqrt(np.mean((projections_NH - targets.thresholds_H) ** 2, axis=0)), rtol=1e-5)
    share_H = (projections_NH > targets.thresholds_H).mean(axis=0)
    assert share_H.min() > 0.4
    assert share_H.max() < 0.6


def test_the_rotation_is_orthogonal_and_follows_the_seed(tmp_path: pathlib.Path) -> None:
    make_store(tmp_path / "a.store")
    one, again, other = make(tmp_path, bits=8), make(tmp_path, bits=8), make(tmp_path, bits=8, out="o.h5", seed=1)
    assert np.allclose(one.rotation_HK @ one.rotation_HK.T, np.eye(8), atol=1e-5)
    assert one.identity == again.identity != other.identity
    assert not np.allclose(one.rotation_HK, other.rotation_HK)


def test_targets_ignore_labels_and_selection(tmp_path: pathlib.Path) -> None:
    make_store(tmp_path / "a.store")
    plain = make(tmp_path)
    selected = tmp_path / "s.safetensors"
    given = {"store": str(tmp_path / "a.store"), "out": str(selected), "components": 12}
    system = fit(FitConfig(**given, shots=4, ceiling_shots=()))
    assert system.selection is not None
    config = TargetsConfig(
        store=str(tmp_path / "a.store"), coordinates=str(selected), out=str(tmp_path / "s.h5"), bits=64
    )
    assert np.array_equal(open_targets(fit_targets(config)).bits_NP, plain.bits_NP)


def test_a_rerun_does_nothing_and_another_recipe_is_refused(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_store(tmp_path / "a.store")
    make(tmp_path)
    before = (tmp_path / "t.h5").stat().st_mtime_ns
    make(tmp_path)
    assert "nothing to do" in capsys.readouterr().err
    assert (tmp_path / "t.h5").stat().st_mtime_ns == before
    with pytest.raises(ArtefactError, match=r"bits is 64 there and 128 here.*--overwrite"):
        make(tmp_path, bits=128)


def test_targets_of_another_store_or_teacher_are_refused_by_name(tmp_path: pathlib.Path) -> None:
    first, second = make_store(tmp_path / "a.store"), make_store(tmp_path / "b.store", seed=1)
    make(tmp_path)
    with pytest.raises(ArtefactError, match=f"targets of store {first.identity}, this store is {second.identity}"):
        open_targets(tmp_path / "t.h5", second.identity)
    stranger = make_store(tmp_path / "c.store", teacher="another")
    config = TargetsConfig(
        store=str(tmp_path / "c.store"),
        coordinates=str(tmp_path / "a.store-12.safetensors"),
        out=str(tmp_path / "c.h5"),
    )
    with pytest.raises(ArtefactError, match=f"fitted to store {first.identity} .* is store {stranger.identity}"):
        fit_targets(config)


def test_files_that_are_no_targets_are_refused(tmp_path: pathlib.Path) -> None:
    with pytest.raises(ArtefactError, match="there are no targets at"):
        open_targets(tmp_path / "none.h5")
    (tmp_path / "text.h5").write_text("hello")
    with pytest.raises(ArtefactError, match="is no targets file"):
        open_targets(tmp_path / "text.h5")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = [1]
    with pytest.raises(ArtefactError, match="is no targets file"):
        open_targets(tmp_path / "other.h5")


def test_damage_and_links_are_found(made: tuple[cache.Store, Targets], tmp_path: pathlib.Path) -> None:
    with h5py.File(tmp_path / "t.h5", "r+") as file:
        file["thresholds"][0] += 1
    with pytest.raises(ArtefactError, match="is damaged"):
        open_targets(tmp_path / "t.h5")
    with h5py.File(tmp_path / "t.h5", "r+") as file:
        del file["bits"]
        file["bits"] = h5py.ExternalLink("elsewhere.h5", "bits")
    with pytest.raises(ArtefactError, match="'bits' is no plain data set"):
        open_targets(tmp_path / "t.h5")


@pytest.mark.parametrize("bits", [0, 12, 8200])
def test_bits_that_faiss_cannot_pack_are_refused(bits: int) -> None:
    with pytest.raises(ConfigError, match=f"--bits is {bits}; it must be a multiple of 8"):
        TargetsConfig(store="s", coordinates="c", out="o", bits=bits)


@pytest.mark.parametrize("bits", [16, 64])
def test_more_bits_than_coordinates_and_fewer(tmp_path: pathlib.Path, bits: int) -> None:
    make_store(tmp_path / "a.store")
    targets = make(tmp_path, components=24, bits=bits)
    norms_H = np.linalg.norm(targets.rotation_HK, axis=1)
    if bits < 24:
        np.testing.assert_allclose(norms_H, 1, atol=1e-5)
    else:  # columns are orthonormal instead, so rows are sqrt(K / H) long on average, unevenly
        np.testing.assert_allclose(targets.rotation_HK.T @ targets.rotation_HK, np.eye(24), atol=1e-5)
        assert np.mean(norms_H**2) == pytest.approx(24 / bits, rel=1e-5)


def test_rows_on_the_threshold_count_as_above_it(tmp_path: pathlib.Path) -> None:
    # Three rows: the median of every bit is one of them.
    make_store(tmp_path / "a.store")
    make_store(tmp_path / "b.store", rows=3)
    make(tmp_path)
    config = TargetsConfig(
        store=str(tmp_path / "b.store"),
        coordinates=str(tmp_path / "a.store-12.safetensors"),
        out=str(tmp_path / "b.h5"),
    )
    targets = open_targets(fit_targets(config))
    bits_NH = np.unpackbits(targets.bits_NP, axis=1, bitorder="little")
    assert np.bincount(bits_NH.sum(axis=0, dtype=np.int64), minlength=4)[2] > 0.9 * bits_NH.shape[1]


def test_a_store_whose_rows_do_not_vary_is_refused(tmp_path: pathlib.Path) -> None:
    make_store(tmp_path / "a.store")
    make_store(tmp_path / "b.store", rows=1)
    make(tmp_path)
    coordinates = str(tmp_path / "a.store-12.safetensors")
    config = TargetsConfig(store=str(tmp_path / "b.store"), coordinates=coordinates, out=str(tmp_path / "b.h5"), bits=8)
    with pytest.raises(ArtefactError, match="8 of 8 hash bits do not vary over the store"):
        fit_targets(config)
    assert not (tmp_path / "b.h5").exists()


def test_thresholds_come_from_a_seeded_sample(tmp_path: pathlib.Path) -> None:
    make_store(tmp_path / "a.store")
    whole, some = make(tmp_path), make(tmp_path, out="s.h5", sample_rows=21)
    again = make(tmp_path, out="r.h5", sample_rows=21)
    assert np.array_equal(some.thresholds_H, again.thresholds_H)
    assert np.array_equal(some.rotation_HK, whole.rotation_HK)
    assert not np.allclose(some.thresholds_H, whole.thresholds_H)


def test_a_seed_of_any_size_is_taken(tmp_path: pathlib.Path) -> None:
    make_store(tmp_path / "a.store")
    assert make(tmp_path, seed=2**40 + 7).bits_NP.shape == (60, 8)


def rewrite_facts(path: pathlib.Path, **change: object) -> None:
    with h5py.File(path, "r+") as file:
        facts = json.loads(file["facts"][...].tobytes()) | change
        del file["facts"]
        file["facts"] = np.frombuffer(json.dumps(facts).encode(), np.uint8)


def test_another_version_is_refused_by_name_and_may_be_overwritten(tmp_path: pathlib.Path) -> None:
    make_store(tmp_path / "a.store")
    make(tmp_path)
    rewrite_facts(tmp_path / "t.h5", format_version=0)
    with pytest.raises(ArtefactError, match="has format version 0, this release reads 1 and 2"):
        open_targets(tmp_path / "t.h5")
    assert make(tmp_path, overwrite=True).z_NK.shape == (60, 12)


def test_a_damaged_header_is_named(made: tuple[cache.Store, Targets], tmp_path: pathlib.Path) -> None:
    rewrite_facts(tmp_path / "t.h5", system=None)
    with pytest.raises(ArtefactError, match=r"has a damaged header \(no system\)"):
        open_targets(tmp_path / "t.h5")
    with h5py.File(tmp_path / "t.h5", "r+") as file:
        file["facts"][0] = ord("?")
    with pytest.raises(ArtefactError, match="is no targets file"):
        open_targets(tmp_path / "t.h5")


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("rms", np.ones(64), r"rms is float64 \(64,\), and must be float32 \(H\)"),
        ("thresholds", np.ones(63, np.float32), r"thresholds is float32 \(63,\)"),
        ("hashes", np.ones((60, 15), np.uint8), r"hashes is uint8 \(60, 15\)"),
        ("bits", np.ones((60, 9), np.uint8), "64 thresholds do not fit 9 bytes of bits a row"),
    ],
)
def test_arrays_of_another_shape_or_type_are_named(
    made: tuple[cache.Store, Targets], tmp_path: pathlib.Path, name: str, array: np.ndarray, message: str
) -> None:
    with h5py.File(tmp_path / "t.h5", "r+") as file:
        del file[name]
        file[name] = array
    with pytest.raises(ArtefactError, match=message):
        open_targets(tmp_path / "t.h5")


def test_a_file_of_somebody_else_is_never_replaced(tmp_path: pathlib.Path) -> None:
    make_store(tmp_path / "a.store")
    (tmp_path / "t.h5").write_text("my notes")
    with pytest.raises(ArtefactError, match="exists and is no targets file; name another --out"):
        make(tmp_path, overwrite=True)
    assert (tmp_path / "t.h5").read_text() == "my notes"


def test_half_a_file_is_refused(made: tuple[cache.Store, Targets], tmp_path: pathlib.Path) -> None:
    whole = (tmp_path / "t.h5").read_bytes()
    (tmp_path / "half.h5").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ArtefactError, match="is no targets file"):
        open_targets(tmp_path / "half.h5")


def test_the_command_reports_the_shape(made: tuple[cache.Store, Targets], tmp_path: pathlib.Path) -> None:
    coordinates, out = str(tmp_path / "a.store-12.safetensors"), str(tmp_path / "t.h5")
    arguments = [str(tmp_path / "a.store"), coordinates, "--out", out, "--bits", "64"]
    report = json.loads(CliRunner().invoke(command, [*arguments, "--json"], catch_exceptions=False).stdout)
    assert report == {"targets": out, "identity": made[1].identity, "rows": 60, "components": 12, "bits": 64}
    assert CliRunner().invoke(command, arguments, catch_exceptions=False).stdout == out + "\n"


def test_maps_are_refused_with_the_remedy(tmp_path: pathlib.Path) -> None:
    make_store(tmp_path / "a.store", grid=(2, 2))
    message = "readout avg of .* is a map, and targets hold one vector an image; fit to a readout such as avg"
    with pytest.raises(ArtefactError, match=message):
        make(tmp_path)
    assert not (tmp_path / "t.h5").exists()


def test_rows_that_a_file_claims_and_does_not_hold_are_not_allocated(
    made: tuple[cache.Store, Targets], tmp_path: pathlib.Path
) -> None:
    with h5py.File(tmp_path / "t.h5", "r+") as file:
        columns = file["bits"].shape[1]
        del file["bits"]
        file.create_dataset("bits", (2**31, columns), "uint8", chunks=(1024, columns))
    with pytest.raises(ArtefactError, match=r"'bits' claims [\d,]+ bytes and does not hold them; make it again"):
        open_targets(tmp_path / "t.h5")
