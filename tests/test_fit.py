"""The fit stage: store in, coordinate system out, once. 60 rows of 3 classes, 24 features."""

import json

import numpy as np
import pytest
from artefacts import CLASSES, make_store
from click.testing import CliRunner

from cache.errors import SchemaError
from tcs.cli.fit import command
from tcs.config.coordinates import FitConfig
from tcs.coordinates.described import describe
from tcs.coordinates.fit import fit
from tcs.coordinates.system import load_coordinates
from tcs.errors import ArtefactError, ConfigError, DataError
from tcs.splits.shots import k_shot_split
from tcs.splits.written_split import write_split_file


def config(folder, **options):
    """Without a ceiling at any shots, which takes most of the time, unless `options` ask for one."""
    defaults = {"store": str(folder / "a.store"), "out": str(folder / "c.safetensors"), "components": 6}
    defaults |= {"ceiling_shots": ()}
    return FitConfig(**(defaults | options))


@pytest.fixture
def store(tmp_path):
    return make_store(tmp_path / "a.store")


def test_what_is_returned_is_what_was_written(tmp_path, store):
    system = fit(config(tmp_path, power=0.5))
    found = load_coordinates(tmp_path / "c.safetensors")
    assert found.identity == system.identity
    assert found.to_json() == system.to_json()
    assert (found.store_identity, found.readout, found.rows_fitted) == (store.identity, "avg", 60)
    assert found.config["store"] == store.identity
    z = found.transform(store.features()[:])
    assert z.var(axis=0, ddof=1).mean() == pytest.approx(1, rel=1e-4)


def test_components_default_to_all_where_there_are_few(tmp_path, store):
    assert fit(config(tmp_path, components=None)).components == 24


def test_the_ceiling_is_scored_outside_the_shots_or_on_another_store(tmp_path, store):
    make_store(tmp_path / "b.store", seed=1)
    inside = fit(config(tmp_path, ceiling_shots=(4, 16))).ceiling
    outside = fit(
        config(tmp_path, out=str(tmp_path / "d"), ceiling_shots=(4, 16), ceiling_test=str(tmp_path / "b.store"))
    ).ceiling
    assert {row["scored_rows"] for row in inside["rows"]} == {60 - 12, 60 - 48, 12}
    assert {row["scored_rows"] for row in outside["rows"]} == {60}
    assert inside["note"] is None
    assert {row["shots"] for row in inside["rows"]} == {4, 16, None}


@pytest.mark.parametrize("shape", [{"grid": (2, 3)}, {"views": 2}, {"grid": (2, 1), "views": 3}])
def test_every_position_of_every_view_is_a_row_of_the_fit(tmp_path, shape):
    store = make_store(tmp_path / "a.store", **shape)
    vectors_MD = store.features()[:].reshape(-1, 24).astype(float)
    system = fit(config(tmp_path, ceiling_shots=(4, 16)))
    assert system.rows_fitted == len(vectors_MD) > 60
    np.testing.assert_allclose(system.origin_D, vectors_MD.mean(0), rtol=1e-4, atol=1e-5)
    values_D = np.linalg.eigvalsh(np.cov(vectors_MD.T))[::-1]
    np.testing.assert_allclose(system.spectrum_D, values_D, atol=1e-4 * values_D[0])
    assert {row["shots"] for row in system.ceiling["rows"]} == {4, 16, None}  # of one vector an image
    assert fit(config(tmp_path, shots=4, out=str(tmp_path / "s"))).selection is not None


def test_shots_beyond_the_smallest_class_are_noted(tmp_path, store):
    ceiling = fit(config(tmp_path, ceiling_shots=(4, 20))).ceiling
    assert ceiling["note"] == "no ceiling at 20 shots: the smallest class has 20 labelled rows"
    assert {row["shots"] for row in ceiling["rows"]} == {4, None}


def test_an_unlabelled_store_is_fitted_alike_without_a_ceiling(tmp_path):
    make_store(tmp_path / "a.store")
    make_store(tmp_path / "u.store", labelled=False)
    labelled = fit(config(tmp_path))
    system = fit(config(tmp_path, store=str(tmp_path / "u.store"), out=str(tmp_path / "u")))
    assert system.ceiling == {"rows": [], "note": "no ceiling: fewer than two classes or 20 labelled rows"}
    np.testing.assert_array_equal(system.basis_DK, labelled.basis_DK)
    assert "no ceiling" in describe(system)
    with pytest.raises(DataError, match="none of the 60 rows has a label"):
        fit(config(tmp_path, store=str(tmp_path / "u.store"), out=str(tmp_path / "v"), shots=4))


def test_selection_uses_the_named_split(tmp_path, store):
    drawn = fit(config(tmp_path, components=16, shots=4, split_seed=3))
    split = k_shot_split(store.keys, store.labels_N, CLASSES, 4, 3)
    assert drawn.selection.split_digest == split.digest
    write_split_file(tmp_path / "s.txt", split, store.keys, store.labels_N, CLASSES)
    read = fit(config(tmp_path, components=16, split_file=str(tmp_path / "s.txt"), out=str(tmp_path / "f")))
    assert read.selection.to_json() == drawn.selection.to_json()
    assert read.identity == drawn.identity
    by_seed = fit(config(tmp_path, components=16, shots=4, seed=3, out=str(tmp_path / "g")))
    assert by_seed.selection.split_digest == split.digest  # --split-seed is --seed by default
    assert f"selection (ridge): {len(drawn.selection.active_k)} coordinates" in describe(drawn)


def test_a_rerun_does_nothing(tmp_path, store, capsys):
    first = fit(config(tmp_path))
    before = (tmp_path / "c.safetensors").stat().st_mtime_ns
    again = fit(config(tmp_path))
    assert "nothing to do" in capsys.readouterr().err
    assert (tmp_path / "c.safetensors").stat().st_mtime_ns == before
    assert again.to_json() == first.to_json()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"power": 0.5}, "power is 0.0 there and 0.5 here"),
        ({"method": "random", "seed": 1}, "method is pca there and random here; seed is 42 there and 1 here"),
        ({"components": 5}, "components is 6 there and 5 here"),
        ({"shots": 4}, "split is None there and [0-9a-f]{32} here"),
    ],
)
def test_another_recipe_is_refused_and_overwritten_on_request(tmp_path, store, change, message):
    fit(config(tmp_path))
    with pytest.raises(ArtefactError, match=message + ".*--overwrite"):
        fit(config(tmp_path, **change))
    system = fit(config(tmp_path, **change, overwrite=True))
    assert load_coordinates(tmp_path / "c.safetensors").config == system.config


def test_another_store_is_refused(tmp_path, store):
    other = make_store(tmp_path / "b.store", seed=1)
    fit(config(tmp_path))
    with pytest.raises(ArtefactError, match=f"store is {store.identity} there and {other.identity} here"):
        fit(config(tmp_path, store=str(tmp_path / "b.store")))


def test_a_file_of_somebody_else_is_never_replaced(tmp_path, store):
    (tmp_path / "c.safetensors").write_text("my notes")
    with pytest.raises(ArtefactError, match="exists and is no coordinate system; name another --out"):
        fit(config(tmp_path, overwrite=True))
    assert (tmp_path / "c.safetensors").read_text() == "my notes"


def test_bad_options_stop_before_the_features_are_read(tmp_path, store):
    with pytest.raises(ConfigError, match="--components is 25, and there are 24 axes; use 1 to 24"):
        fit(config(tmp_path, components=25))
    with pytest.raises(SchemaError, match="has no readout 'cls'"):
        fit(config(tmp_path, readout="cls"))
    with pytest.raises(DataError, match="fewer than the 21 shots"):
        fit(config(tmp_path, shots=21))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.store"]


def test_the_command_prints_the_ceiling_or_json(tmp_path, store):
    arguments = [str(tmp_path / "a.store"), "--out", str(tmp_path / "c"), "--components", "6", "--ceiling-shots", "4"]
    printed = CliRunner().invoke(command, arguments, catch_exceptions=False)
    lines = printed.stdout.splitlines()
    assert lines[0].startswith("pca: 6 of 24 axes hold ")
    assert lines[2].split() == ["shots", "axes", "power", "K=16", "K=24"]
    assert [line.split()[:3] for line in lines[3:11]] == [
        ["4", "pca", "0.0"],
        ["4", "pca", "0.5"],
        ["4", "pca", "1.0"],
        ["4", "selected", "0.0"],
        ["4", "random", "0.0"],
        ["all", "pca", "0.0"],
        ["all", "selected", "0.0"],
        ["all", "random", "0.0"],
    ]
    assert [line.split()[0] for line in lines[11:]] == ["Transductive", "Recommended:"]
    report = json.loads(CliRunner().invoke(command, [*arguments, "--json"], catch_exceptions=False).stdout)
    assert report["components"] == 6
    assert report["selection"] is None
    assert len(report["ceiling"]["rows"]) == 16
