"""A store takes the place of the one it grew from: whole at every moment, taken up after any kill, nothing foreign replaced."""

import contextlib
import pathlib
import shutil

import pytest
from artefacts import make_store
from store_folders import manifest_of

import cache
from cache import replacement
from cache.errors import ForeignFolderError, IncompleteStoreError, LockedStoreError, StoreNotFoundError


@pytest.fixture(params=[True, False], ids=["at once", "by two renames"])
def place(request: pytest.FixtureRequest, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """A store x.store; folders change places as this system can, or by renames as on one that cannot."""
    if not request.param:
        monkeypatch.setattr(replacement, "exchanged", lambda one, other: False)
    make_store(tmp_path / "x.store", rows=60)
    return tmp_path


def grow(place: pathlib.Path, name: str, rows: int) -> str:
    """Write the next state of x.store at `name`; returns its identity."""
    parent = cache.open(place / "x.store").identity
    plan = make_store(place / "made", rows=rows).manifest.plan
    shutil.rmtree(place / "made")
    full = make_store(place / "made", rows=rows)
    with cache.StoreWriter(place / name, plan, provenance={"parent": {"identity": parent, "rows": 60}}) as writer:
        for index in writer.pending():
            source = cache.DerivedFrom(full)
            positions = plan.positions(index)
            at = full.positions_N[positions.start : positions.stop]
            writer.write_shard(index, cache.joined_rows([cache.carried_rows(source, plan, at, at)]))
        writer.close()
    shutil.rmtree(place / "made")
    return cache.open(place / name).identity


def replace(place: pathlib.Path, rows: int) -> str:
    with cache.Replacement(place / "x.store") as found:
        identity = grow(place, "x.store.update", rows)
        found.commit()
    return identity


def names(place: pathlib.Path) -> list[str]:
    return sorted(path.name for path in place.iterdir())


def test_the_new_state_has_the_name_and_the_former_one_is_kept(place: pathlib.Path) -> None:
    before = cache.open(place / "x.store").identity
    after = replace(place, 70)
    assert cache.open(place / "x.store").identity == after
    assert cache.open(place / "x.store.old").identity == before
    assert names(place) == ["x.store", "x.store.old"]
    assert not list(place.rglob(".lock"))


def test_behind_a_link_the_folder_is_replaced_and_the_link_stays(place: pathlib.Path) -> None:
    (place / "disk").mkdir()
    (place / "x.store").rename(place / "disk/y.store")
    (place / "x.store").symlink_to(place / "disk/y.store")
    with cache.Replacement(place / "x.store") as found:
        after = grow(place, "disk/y.store.update", 70)
        assert found.commit() == (place / "disk/y.store").resolve()
    assert (place / "x.store").is_symlink()
    assert cache.open(place / "x.store").identity == after
    assert names(place / "disk") == ["y.store", "y.store.old"]


def test_only_the_last_state_is_kept(place: pathlib.Path) -> None:
    second = replace(place, 70)
    third = replace(place, 80)
    assert cache.open(place / "x.store").identity == third
    assert cache.open(place / "x.store.old").identity == second
    assert names(place) == ["x.store", "x.store.old"]


def test_nobody_writes_the_store_meanwhile(place: pathlib.Path) -> None:
    with cache.Replacement(place / "x.store"):
        with pytest.raises(LockedStoreError, match=r"x\.store is being written by another process"):
            cache.set_labels(place / "x.store", {}, source={})
        with pytest.raises(LockedStoreError, match=r"x\.store is being written by another process"):
            cache.Replacement(place / "x.store")
    cache.set_labels(place / "x.store", {}, source={})


def test_folders_of_others_are_not_replaced(place: pathlib.Path) -> None:
    make_store(place / "x.store.old", seed=5)
    with pytest.raises(
        ForeignFolderError, match=r"x\.store\.old is there, and is not what .* before its last update; move"
    ):
        cache.Replacement(place / "x.store")
    shutil.rmtree(place / "x.store.old")
    (place / "x.store.update").mkdir()
    (place / "x.store.update/notes.txt").write_text("mine")
    with pytest.raises(
        ForeignFolderError, match=r"x\.store\.update is there, and no update of .* began it; move it away"
    ):
        cache.Replacement(place / "x.store")
    assert (place / "x.store.update/notes.txt").read_text() == "mine"
    assert not (place / "x.store/.lock").exists()


@pytest.mark.parametrize("ending", ["update", "old"])
def test_what_a_kill_leaves_before_the_first_manifest_is_nobodys(place: pathlib.Path, ending: str) -> None:
    """Killed while the manifest was on its way to its name; for the old state: while its last file was removed."""
    left = place / f"x.store.{ending}"
    left.mkdir()
    (left / ".lock").touch()
    (left / "manifest.json.0123abcd.partial").write_bytes(b'{"format"')
    with cache.Replacement(place / "x.store") as found:
        plan = cache.open(place / "x.store").manifest.plan
        with cache.StoreWriter(found.new, plan, provenance={"parent": {"identity": "x"}}):
            pass
    assert not list((place / "x.store.update").glob("*.partial"))


def test_what_is_no_closed_store_in_a_folder_is_refused(place: pathlib.Path) -> None:
    cache.pack(place / "x.store", place / "x.h5")
    with pytest.raises(StoreNotFoundError, match=r"x\.h5 is a file, not the folder of a store"):
        cache.Replacement(place / "x.h5")
    with pytest.raises(StoreNotFoundError, match=r"y\.store is no feature store"):
        cache.Replacement(place / "y.store")
    with cache.Replacement(place / "x.store") as found:
        plan = cache.open(place / "x.store").manifest.plan
        with cache.StoreWriter(found.new, plan, provenance={"parent": {"identity": "x"}}):
            pass
        with pytest.raises(IncompleteStoreError, match=r"x\.store\.update is incomplete"):
            found.commit()
    assert cache.open(place / "x.store").is_labelled


def test_an_exchange_that_was_killed_is_finished(place: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed at each of its renames: the next one finds the new state under the name, and the former one beside it."""
    before, step = cache.open(place / "x.store").identity, replacement._rename
    for killed_at in range(2):
        calls = iter(range(9))

        def rename(one: pathlib.Path, other: pathlib.Path, calls=calls, killed_at=killed_at) -> None:
            if next(calls) == killed_at:
                raise KeyboardInterrupt
            step(one, other)

        after = grow(place, "x.store.update", 70 + killed_at)
        with monkeypatch.context() as patch:
            patch.setattr(replacement, "_rename", rename)
            found = cache.Replacement(place / "x.store")
            with contextlib.suppress(KeyboardInterrupt):
                found.commit()
        with cache.Replacement(place / "x.store") as again:
            if not (place / "x.store.old").exists() or cache.open(place / "x.store").identity == before:
                again.commit()
        assert cache.open(place / "x.store").identity == after
        assert manifest_of(place / "x.store.old")["identity"] == before
        assert names(place) == ["x.store", "x.store.old"]
        before = after
