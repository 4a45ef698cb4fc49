"""A store that has grown: targets are extended to its new rows without another fit, and what was made before says what it lacks."""

import pathlib
import shutil
from typing import Any

import numpy as np
import pytest
from artefacts import make_store, make_targets
from click.testing import CliRunner

import cache
from tcs.cli.targets import command
from tcs.config.coordinates import FitConfig, TargetsConfig
from tcs.config.train import TrainConfig
from tcs.coordinates.extension import rows_before
from tcs.coordinates.fit import fit
from tcs.coordinates.hash_bits import encode_coordinates, hash_coordinates
from tcs.coordinates.lineage import earlier_rows, grown_since
from tcs.coordinates.targets import Targets, fit_targets, open_targets, targets_of
from tcs.errors import ArtefactError, ConfigError
from tcs.training.train import train

STUDENT = "resnet18,layers=(1,1,1,1),channels=(4,4,8,8)"


def run_config(place: pathlib.Path, store: str = "train.store", **options: Any) -> TrainConfig:
    """A run of a few steps of a tiny student."""
    if "targets" in options:
        options["targets"] = str(place / options["targets"])
    given = {"steps": 1, "batch_size": 8, "img_size": 16, "held_out": 0, "shots": 2} | options
    return TrainConfig(store=str(place / store), out=str(place / "run"), models=(STUDENT,), **given)


def grown(path: pathlib.Path, before: cache.Store, after: cache.Store, parent: object = None) -> cache.Store:
    """The rows of `after` at `path`, recorded as an update of `before`."""
    default = {"identity": before.identity, "rows": len(before)}
    of, source = after.manifest.plan, cache.DerivedFrom(after)
    with cache.StoreWriter(path, of, provenance={"parent": default if parent is None else parent}) as writer:
        for index in writer.pending():
            at = np.array(of.positions(index))
            writer.write_shard(index, cache.joined_rows([cache.carried_rows(source, of, at, at)]))
        writer.close()
    return cache.open(path)


@pytest.fixture
def place(tmp_path: pathlib.Path) -> pathlib.Path:
    """new.store has rows 10 to 99 of 100, old.store is what it was: rows 0 to 59. Targets of the old one are t.h5."""
    make_store(tmp_path / "all.store", rows=100)
    keys = cache.open(tmp_path / "all.store").keys
    for name, kept in (("old", keys[:60]), ("later", keys[10:])):
        cache.subset(tmp_path / "all.store", tmp_path / f"{name}.store", keys=kept)
    old = cache.open(tmp_path / "old.store")
    grown(tmp_path / "new.store", old, cache.open(tmp_path / "later.store"))
    fit(FitConfig(store=str(old.path), out=str(tmp_path / "c.safetensors"), components=12, ceiling_shots=()))
    fit_targets(
        TargetsConfig(
            store=str(old.path), coordinates=str(tmp_path / "c.safetensors"), out=str(tmp_path / "t.h5"), bits=64
        )
    )
    return tmp_path


def extend(place: pathlib.Path, out: str = "x.h5", **options: object) -> Targets:
    given = {"store": str(place / "new.store"), "from_targets": str(place / "t.h5"), "out": str(place / out)}
    return open_targets(fit_targets(TargetsConfig(**(given | options))))  # type: ignore[arg-type]


def test_old_rows_are_equal_bit_for_bit_and_new_ones_are_hashed_by_the_same_thresholds(
    place: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old, new = open_targets(place / "t.h5"), extend(place)
    assert "50 rows keep their coordinates and bits, 40 are hashed by the same thresholds." in capsys.readouterr().err
    assert np.array_equal(new.z_NK[:50], old.z_NK[10:])
    assert np.array_equal(new.bits_NP[:50], old.bits_NP[10:])
    for name in ("rotation_HK", "thresholds_H", "rms_H"):
        assert np.array_equal(getattr(new, name), getattr(old, name))
    store = cache.open(place / "new.store")
    z_NK = old.coordinates.transform(store.features()[:])
    assert np.allclose(new.z_NK, z_NK, rtol=0, atol=1e-5)
    margin_NH = np.abs(z_NK @ old.rotation_HK.T - old.thresholds_H)
    bits_NH = np.unpackbits(new.bits_NP, axis=1, bitorder="little").astype(bool)
    expected_NH = z_NK @ old.rotation_HK.T >= old.thresholds_H
    assert ((bits_NH == expected_NH) | (margin_NH < 1e-4)).all()
    assert new.coordinates.identity == old.coordinates.identity
    assert (new.store_identity, new.config["bits"]) == (store.identity, 64)
    assert new.config["extends"] == {"targets": old.identity, "store": old.store_identity}
    assert len(targets_of(place / "x.h5", store).z_NK) == 90
    before = (place / "x.h5").stat().st_mtime_ns
    extend(place)
    assert "nothing to do" in capsys.readouterr().err
    assert (place / "x.h5").stat().st_mtime_ns == before


def test_bits_by_thresholds_that_are_there_are_those_of_the_fit() -> None:
    z_MK = np.random.default_rng(0).standard_normal((500, 24)).astype(np.float32)
    made = hash_coordinates(z_MK, 64, 400, 3)
    assert np.array_equal(encode_coordinates(z_MK, made.rotation_HK, made.thresholds_H), made.bits_MP)
    assert encode_coordinates(z_MK[:0], made.rotation_HK, made.thresholds_H).shape == (0, 8)


def test_targets_of_views_are_extended(tmp_path: pathlib.Path) -> None:
    whole = make_store(tmp_path / "all.store", rows=40, views=2)
    cache.subset(whole.path, tmp_path / "old.store", keys=whole.keys[:30])
    old = cache.open(tmp_path / "old.store")
    grown(tmp_path / "new.store", old, whole)
    make_targets(tmp_path, store="old.store").rename(tmp_path / "t.h5")
    before, after = open_targets(tmp_path / "t.h5"), extend(tmp_path)
    assert after.z_NK.shape == (40, 2, before.z_NK.shape[-1])
    assert np.array_equal(after.z_NK[:30], before.z_NK)
    assert np.array_equal(after.bits_NP[:30], before.bits_NP)


def test_copies_are_told_apart_by_their_features_and_other_views_are_new() -> None:
    hash_of = {name: np.frombuffer(cache.content_hash(name.encode()), np.uint8) for name in "abc"}
    z_old = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], np.float32)
    hashes_O16 = np.stack([hash_of["a"], hash_of["a"], hash_of["b"]])
    z_new = np.array([[3.0, 4.0], [9.0, 9.0], [1.0, 2.0], [5.0, 6.0], [5.0, 6.0]], np.float32)
    hashes_N16 = np.stack([hash_of["a"], hash_of["b"], hash_of["a"], hash_of["c"], hash_of["b"]])
    assert rows_before(z_new, hashes_N16, z_old, hashes_O16).tolist() == [1, -1, 0, -1, 2]


def test_what_is_no_earlier_state_is_not_extended(place: pathlib.Path) -> None:
    with pytest.raises(
        ArtefactError, match=r"--from .*t\.h5 holds targets of store .*, and .*all\.store .* is no update of that"
    ):
        extend(place, store=str(place / "all.store"))
    with pytest.raises(ConfigError, match=r"coordinates that tcs fit made and --from, .* exclude each other; give one"):
        TargetsConfig(store="x", out="y", coordinates="c", from_targets="t")
    with pytest.raises(
        ConfigError, match=r"there are no coordinates; name the file that tcs fit made, or targets .* with --from\."
    ):
        TargetsConfig(store="x", out="y")
    with pytest.raises(
        ConfigError, match=r"--bits has no effect without coordinates: targets that are extended keep theirs"
    ):
        TargetsConfig(store="x", out="y", from_targets="t", bits=64)


def test_the_command_extends(place: pathlib.Path) -> None:
    arguments = [str(place / "new.store"), "--from", str(place / "t.h5"), "--out", str(place / "y.h5"), "--json"]
    result = CliRunner().invoke(command, arguments, catch_exceptions=False)
    assert '"rows": 90' in result.stdout


def test_targets_of_an_earlier_state_say_what_they_lack(place: pathlib.Path, tmp_path: pathlib.Path) -> None:
    store = cache.open(place / "new.store")
    words = (
        r"t\.h5 holds targets of store .*, this store is .*: they were made from a store of 60 rows; .*new\.store is an update of it and "
        r"has 30 more; extend them with tcs targets .*new\.store --from .*t\.h5 --out NEW\.h5, or run tcs targets on this store\."
    )
    with pytest.raises(ArtefactError, match=words):
        targets_of(place / "t.h5", store)
    with pytest.raises(ArtefactError, match=words):
        train(run_config(place, store="new.store", targets="t.h5"))
    with pytest.raises(
        ArtefactError, match=r"holds targets of store .*, this store is .*; run tcs targets on this store\."
    ):
        targets_of(place / "t.h5", cache.open(place / "all.store"))


def test_a_run_of_an_earlier_state_says_so(place: pathlib.Path) -> None:
    shutil.copytree(place / "old.store", place / "train.store")
    train(run_config(place, steps=1))
    shutil.rmtree(place / "train.store")
    shutil.copytree(place / "new.store", place / "train.store")
    words = r"was made with store_identity .*: the student was made from a store of 60 rows; .* has 30 more, so train it anew; use another"
    with pytest.raises(ArtefactError, match=words):
        train(run_config(place, steps=1))


def test_axes_of_an_earlier_state_are_used_and_it_is_said(
    place: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = {"coordinates": str(place / "c.safetensors"), "out": str(place / "n.h5"), "bits": 8}
    fit_targets(TargetsConfig(store=str(place / "new.store"), **options))  # type: ignore[arg-type]
    said = capsys.readouterr().err
    assert "The axes were made from a store of 60 rows; " in said
    assert "has 30 more; they are not fitted again (tcs fit would)." in said


def test_outputs_that_are_there_of_an_earlier_state_say_so(
    place: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store, axes = str(place / "new.store"), str(place / "c.safetensors")
    with pytest.raises(
        ArtefactError, match=r"c\.safetensors exists and was made otherwise: .*store is .* there and .* here"
    ):
        fit(FitConfig(store=store, out=axes, components=12, ceiling_shots=()))
    with pytest.raises(ArtefactError, match=r"t\.h5 exists and was made otherwise: store is .* there and .* here"):
        fit_targets(TargetsConfig(store=store, coordinates=axes, out=str(place / "t.h5"), bits=64))
    said = capsys.readouterr().err
    assert "c.safetensors was made from a store of 60 rows; " in said
    assert f"has 30 more; tcs targets {store} --from {place / 't.h5'} --out NEW.h5 extends it.\n" in said


@pytest.mark.parametrize(
    ("parent", "expected"),
    [
        ({"identity": "b", "rows": 5, "earlier": [{"identity": "a", "rows": 3}]}, {"b": 5, "a": 3}),
        ({"identity": "b", "rows": "five", "earlier": [{"identity": "a", "rows": 3}, 7]}, {"a": 3}),
        ({"identity": "b", "rows": 5, "earlier": "none"}, {"b": 5}),
        ("b", {}),
    ],
)
def test_provenance_that_others_wrote_is_read_as_far_as_it_can(
    tmp_path: pathlib.Path, parent: object, expected: dict[str, int]
) -> None:
    whole = make_store(tmp_path / "a.store")
    store = grown(tmp_path / "b.store", whole, whole, parent)
    assert earlier_rows(store) == expected


def test_stores_side_by_side_are_told_by_all_their_parts(tmp_path: pathlib.Path) -> None:
    olds, news = [], []
    for name in "ab":
        whole = make_store(tmp_path / f"{name}.store", rows=40, teacher=name)
        cache.subset(whole.path, tmp_path / f"old-{name}.store", keys=whole.keys[:30])
        olds.append(cache.open(tmp_path / f"old-{name}.store"))
        news.append(grown(tmp_path / f"new-{name}.store", olds[-1], whole))
    before, after = (cache.join(stores[0], stores[1:]) for stores in (olds, news))
    assert earlier_rows(after) == {before.identity: 30}
    assert str(grown_since(after, before.identity)).endswith("has 10 more")
    assert grown_since(after, olds[0].identity) is None
