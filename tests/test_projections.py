"""Extraction of maps: projected against the unprojected store, resumed with the stored arrays, shared between stores."""

import dataclasses
import pathlib
from typing import Any

import numpy as np
import pytest
import torch
from extraction import SIDE, full_at
from PIL import Image
from store_folders import shard_files

import cache
from cache.errors import IdentityError
from tcs.artefact import teacher_identity_of
from tcs.config.extract import ExtractConfig
from tcs.errors import ConfigError, DataError
from tcs.extraction.extract import extract
from tcs.extraction.plan import prepare
from tcs.teacher.projection import stored_projection

torch.set_num_threads(1)
COUNT = 20


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("data")
    for i in range(COUNT):
        (folder / f"c{i % 2}").mkdir(exist_ok=True)
        pixels = np.random.default_rng(i).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"c{i % 2}/{i}.png")
    return folder


def config(data: pathlib.Path, out: pathlib.Path, teacher: pathlib.Path, **options: Any) -> ExtractConfig:
    plain = {"img_size": SIDE, "rows_per_shard": 7, "batch_size": 4, "workers": 0, "readouts": ("avg", "map")}
    return ExtractConfig(
        data=str(data),
        out=str(out),
        teacher="test_vit",
        teacher_checkpoint=str(teacher),
        dtype="float32",
        **(plain | options),
    )


@pytest.fixture(scope="module")
def full(data: pathlib.Path, teacher: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> cache.Store:
    return cache.open(extract(config(data, tmp_path_factory.mktemp("full") / "s", teacher)))


def test_maps_are_stored_in_their_shape_and_change_no_other_readout(
    data: pathlib.Path, teacher: pathlib.Path, tmp_path: pathlib.Path, full: cache.Store
) -> None:
    assert full.readouts["map"].grid == (2, 2)
    assert full.features("map").shape == (COUNT, 2, 2, 64)
    np.testing.assert_allclose(full.features("map")[:].mean((1, 2)), full.features("avg")[:], rtol=1e-4, atol=1e-6)
    alone = cache.open(extract(config(data, tmp_path / "s", teacher, readouts=("avg",))))
    assert np.array_equal(alone.features("avg")[:], full.features("avg")[:])
    assert full.manifest.gate is not None
    assert full.manifest.gate["map"]["probe_top1"] == full.manifest.gate["avg"]["probe_top1"]
    assert "projections" not in full.manifest.plan.identity


@pytest.mark.parametrize("kind", ["orthogonal", "pca", "autoencoder"])
def test_projected_maps_are_the_maps_times_the_stored_arrays(
    data: pathlib.Path, teacher: pathlib.Path, tmp_path: pathlib.Path, full: cache.Store, kind: str
) -> None:
    store = cache.open(extract(config(data, tmp_path / "s", teacher, project={"map": 8}, projection=kind)))
    assert (store.readouts["map"].dims, store.readouts["map"].grid) == (8, (2, 2))
    projection = stored_projection(store.manifest.plan.constants, "map")
    assert projection is not None
    expected = (full.features("map")[:].astype(float) - projection.origin_D) @ projection.matrix_Dd
    np.testing.assert_allclose(store.features("map")[:], expected, rtol=1e-3, atol=1e-4)
    assert np.array_equal(store.features("avg")[:], full.features("avg")[:])
    fact = store.manifest.plan.identity["projections"]["map"]
    assert (fact["method"], fact["dims"], fact["of"], fact["seed"]) == (kind, 8, 64, 42)
    if kind == "orthogonal":
        return
    every_MD = full.features("map")[:].reshape(-1, 64).astype(float)  # all 20 images and 4 positions are the sample
    assert (fact["images"], fact["positions"]) == (COUNT, 4)
    variances_D = np.linalg.eigvalsh(np.cov(every_MD.T))[::-1]
    best = variances_D[:8].sum() / variances_D.sum()
    assert projection.share == pytest.approx(best, rel=1e-3 if kind == "pca" else 0.1)  # Adam, on a flat spectrum
    if kind == "pca":
        np.testing.assert_allclose(store.features("map")[:].reshape(-1, 8).var(0, ddof=1), variances_D[:8], rtol=1e-2)


def test_pooled_readouts_and_sampled_positions_are_projected_too(
    data: pathlib.Path, teacher: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tcs.extraction.projections.SAMPLE_VECTORS", 25)
    options = {"project": {"map": 8, "avg": 5}, "projection": "pca", "projection_images": 12}
    store = cache.open(extract(config(data, tmp_path / "s", teacher, **options)))
    assert store.features("avg").shape == (COUNT, 5)
    facts = store.manifest.plan.identity["projections"]
    assert (facts["map"]["images"], facts["map"]["positions"], facts["avg"]["positions"]) == (12, 2, 1)


def test_map_size_averages_before_it_projects(
    data: pathlib.Path, teacher: pathlib.Path, tmp_path: pathlib.Path, full: cache.Store
) -> None:
    store = cache.open(extract(config(data, tmp_path / "s", teacher, map_size=(1, 2))))
    assert store.readouts["map"].grid == (1, 2)
    np.testing.assert_allclose(
        store.features("map")[:], full.features("map")[:].mean(1, keepdims=True), rtol=1e-4, atol=1e-6
    )
    assert store.manifest.plan.identity["map_size"] == [1, 2]
    small = cache.open(extract(config(data, tmp_path / "t", teacher, map_size=(1, 1), project={"map": 3})))
    assert small.features("map").shape == (COUNT, 1, 1, 3)


def test_a_resumed_store_keeps_its_arrays_and_a_rerun_gives_the_same_bytes(
    data: pathlib.Path, teacher: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = config(data, tmp_path / "s", teacher, project={"map": 8}, projection="pca")
    with full_at(1, monkeypatch):
        extract(settings)
    with monkeypatch.context() as patch:  # a device on which the PCA comes out otherwise: the stored one counts
        patch.setattr("tcs.extraction.projections._made", lambda *arguments: pytest.fail("fitted again"))
        extract(settings)
        extract(settings)
        with pytest.raises(IdentityError, match=r"preprocessing\.crop_pct"):
            extract(dataclasses.replace(settings, crop_pct=1.0))
    whole = extract(dataclasses.replace(settings, out=str(tmp_path / "whole"), batch_size=16))
    assert shard_files(tmp_path / "s") == shard_files(whole)
    with pytest.raises(IdentityError, match=r"projections.map.seed is 42 in the store and 1 in this command"):
        extract(dataclasses.replace(settings, seed=1))
    before = shard_files(whole)
    assert shard_files(extract(dataclasses.replace(settings, out=str(whole), overwrite=True))) == before


def test_a_second_store_projects_as_the_first_does(
    data: pathlib.Path, teacher: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    first = cache.open(extract(config(data, tmp_path / "s", teacher, project={"map": 8}, projection="pca")))
    few = tmp_path / "few"
    for path in sorted((data / "c0").iterdir())[:4]:
        (few / "c0").mkdir(parents=True, exist_ok=True)
        (few / "c0" / path.name).write_bytes(path.read_bytes())
    settings = config(few, tmp_path / "t", teacher, projection_from=str(tmp_path / "s"))
    second = cache.open(extract(settings))
    assert second.manifest.plan.constants == first.manifest.plan.constants
    rows = [first.keys.index(key) for key in second.keys]
    assert np.array_equal(second.features("map")[:], first.features("map")[rows])
    assert teacher_identity_of(second, "map") == teacher_identity_of(first, "map")
    assert extract(settings) == second.path  # a rerun finds it finished
    own = cache.open(extract(config(few, tmp_path / "u", teacher, project={"map": 8}, projection="pca")))
    assert teacher_identity_of(own, "map") != teacher_identity_of(first, "map")
    assert teacher_identity_of(own, "avg") == teacher_identity_of(first, "avg")
    with pytest.raises(ConfigError, match=r"--projection-from .* is of another teacher \(preprocessing differs\)"):
        extract(dataclasses.replace(settings, crop_pct=1.0))
    with pytest.raises(ConfigError, match="projects none of avg; give --project instead"):
        extract(dataclasses.replace(settings, readouts=("avg",)))
    with pytest.raises(ConfigError, match="--project and --projection-from exclude each other"):
        dataclasses.replace(settings, project={"map": 8})


def test_impossible_projections_are_refused(data: pathlib.Path, teacher: pathlib.Path, tmp_path: pathlib.Path) -> None:
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"project": {"mp": 8}}, r"--project names mp, which no --readout names; add --readout mp. Did you mean map\?"),
        ({"project": {"map": 65}}, "--project map=65: map has 64 dims; use 1 to 64"),
        ({"project": {"map": 0}}, "--project map=0: map has 64 dims; use 1 to 64"),
        (
            {"projection": "pcq"},
            r"--projection is 'pcq'; it must be one of orthogonal, pca, autoencoder. Did you mean pca\?",
        ),
        ({"projection_images": 1}, "--projection-images is 1; it must be 2 or more"),
        ({"projection": "pca"}, "--projection has no effect without --project; add --project READOUT=DIMS"),
        (
            {"project": {"map": 8}, "projection_images": 9},
            "--projection-images has no effect without a fitted projection; add --proj",
        ),
        ({"readouts": ("avg",), "map_size": (2, 2)}, "--map-size has no effect without a map; add --readout map"),
        ({"map_size": (0, 2)}, r"--map-size is \(0, 2\); it must be HEIGHTxWIDTH, 1 or more each"),
    ]
    for options, message in wrong:
        with pytest.raises(ConfigError, match=message):
            extract(config(data, tmp_path / "s", teacher, **options))
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad/0.png").write_text("no image")
    (tmp_path / "bad/1.png").write_text("no image")
    with pytest.raises(DataError, match="none of the 2 images drawn for --projection pca can be read"):
        extract(config(tmp_path / "bad", tmp_path / "s", teacher, project={"map": 8}, projection="pca"))


def test_the_cost_counts_maps_and_remarks_on_large_ones(
    data: pathlib.Path, teacher: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tcs.extraction.projections._made", lambda *arguments: pytest.fail("a dry run fits nothing"))
    settings = config(data, tmp_path / "s", teacher, project={"map": 8}, projection="pca", dry_run=True)
    cost = prepare(settings).cost()
    assert cost.readout_bytes == {"avg": COUNT * 64 * 4, "map": COUNT * 4 * 8 * 4}
    assert cost.feature_bytes == sum(cost.readout_bytes.values())
    assert "features (avg 5.1 kB, map 2.6 kB)" in cost.describe()
    assert "That is much" not in cost.describe()
    large = dataclasses.replace(cost, feature_bytes=252_000_000_000)
    assert large.describe().endswith("That is much: --project map=64 and --map-size 7x7 make maps smaller.")
