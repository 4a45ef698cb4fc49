"""Two commands that write one file at the same time: the second is refused at once, and the first is unharmed. 8 s."""

import contextlib
import multiprocessing
import pathlib
from typing import Any

import pytest
from artefacts import make_store

import cache
import tcs
from tcs.coordinates import fit as fitting
from tcs.coordinates import targets as hashing


@pytest.fixture
def folder(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    make_store(tmp_path / "a.store")
    monkeypatch.chdir(tmp_path)
    return tmp_path


FIT = tcs.FitConfig(store="a.store", out="c.safetensors", components=4, ceiling_shots=(1,))
TARGETS = tcs.TargetsConfig(store="a.store", coordinates="c.safetensors", out="t.h5", bits=32)


@pytest.mark.parametrize("name", ["fit", "targets"])
def test_the_second_of_two_is_refused_before_it_computes(
    folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    if name == "targets":
        tcs.fit(FIT)
    run: Any = (lambda: tcs.fit(FIT)) if name == "fit" else (lambda: tcs.fit_targets(TARGETS))
    out = folder / ("c.safetensors" if name == "fit" else "t.h5")
    module, step = (fitting, "streaming_moments") if name == "fit" else (hashing, "_all_coordinates")
    whole, refused = getattr(module, step), []

    def slow(*arguments: Any) -> Any:  # while the first computes, the second comes
        monkeypatch.setattr(module, step, pytest.fail)
        with pytest.raises(cache.errors.LockedStoreError, match=rf"{out.name} is being written by another process"):
            run()
        refused.append(True)
        return whole(*arguments)

    monkeypatch.setattr(module, step, slow)
    run()
    assert refused == [True]
    monkeypatch.setattr(module, step, pytest.fail)
    run()  # what is there is found
    assert sorted(path.name for path in folder.iterdir() if path.name != "a.store") == sorted(
        {"c.safetensors", out.name}
    )


def test_what_another_wrote_while_the_lock_was_waited_for_is_kept(
    folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the first look and the lock another command makes the same file: it is not made again."""
    locked = cache.locked_file
    sound = folder / "sound.safetensors"
    tcs.fit(tcs.FitConfig(store="a.store", out=str(sound), components=4, ceiling_shots=(1,)))

    @contextlib.contextmanager
    def late(target: pathlib.Path) -> Any:
        with locked(target):
            target.write_bytes(sound.read_bytes())
            yield

    monkeypatch.setattr("tcs.artefact.locked_file", late)
    monkeypatch.setattr(fitting, "streaming_moments", pytest.fail)
    assert tcs.fit(FIT).components == 4


def hold(path: pathlib.Path, ready: Any) -> None:
    """A process that dies with the lock in its hands."""
    with cache.locked_file(path):
        ready.set()
        multiprocessing.Event().wait(60)


def test_the_lock_of_a_process_that_was_killed_is_taken_over(folder: pathlib.Path) -> None:
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    process = context.Process(target=hold, args=(folder / "c.safetensors", ready))
    process.start()
    assert ready.wait(60)
    with pytest.raises(cache.errors.LockedStoreError, match=r"c\.safetensors is being written by another process"):
        tcs.fit(FIT)
    process.kill()
    process.join()
    assert tcs.fit(FIT).components == 4
    assert not list(folder.glob(".*lock"))
