"""What a person types first from Python and is not so: one line each, with the value, the rule and the remedy."""

import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from artefacts import make_store

import cache
import tcs
from cache.errors import CacheError

TRAIN: dict[str, Any] = {"out": "run", "models": ("resnet18",)}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> cache.Store:
    """To be read only."""
    return make_store(tmp_path_factory.mktemp("mistakes") / "a.store")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: tcs.extract("photos", "a.store", teacher="t"), r"tcs\.extract takes data by place .*: write out='a\.store'\."),
        (lambda: tcs.fit("a.store", "b.store", out="c"), r"tcs\.fit takes store by place .*; 2 are given: write also=\['b\.store'\]\."),
        (lambda: tcs.probe("a.store", "b.store"), r"tcs\.probe takes store by place .*; 2 are given: write test='b\.store'\."),
        (lambda: tcs.label_store("a.store", {"a": "x"}), r"tcs\.label_store takes store by place .*: write NAME=\{'a': 'x'\}\."),
        (lambda: tcs.train("a.store", out="run", model="resnet18"), r"tcs\.train has no option 'model'\. Did you mean models"),
        (lambda: tcs.extract("photos", out="a.store"), r"teacher is missing; name one, or give the teacher_card of one\."),
        (lambda: tcs.train("a.store", out="run", models="resnet18"), r"models is 'resnet18', a single one; it must be a tuple or list, as"),
        (lambda: tcs.train("a.store", **TRAIN, targets=np.ones(2)), r"targets is array\(\[1\., 1\.\]\); it must be a path or None\."),
        (lambda: tcs.train(3, **TRAIN), r"store is 3; it must be a path\."),
        (lambda: tcs.fit_targets("a.store", out="t.h5"), r"there are no coordinates; name the file that tcs fit made, or"),
        (lambda: tcs.distill("photos", out=3, models=("m",), teacher="t"), r"out is 3; it must be a path\."),
        (lambda: tcs.DistillConfig.from_options({"data": "a", "out": b"w", "models": ("m",)}), r"out is b'w'; it must be a path\."),
        (lambda: tcs.TrainConfig.from_options({"store": "a", "leaning_rate": 3}), r"tcs\.TrainConfig has no option 'leaning_rate'\."),
        (lambda: tcs.train("a.store", out="run", learning_rate=0.1), r"tcs\.train has no option 'learning_rate'\. Did you mean lr\?"),
        (lambda: tcs.load_student(3), r"path is 3; it must be a path\."),
        (lambda: tcs.load_student(["run"]), r"path is \('run',\); it must be a path\."),
        (lambda: tcs.load_student("run", name=3), r"name is 3; it must be a text or None\."),
        (lambda: tcs.load_coordinates(None), r"path is None; it must be a path\."),
        (lambda: tcs.open_targets(3), r"path is 3; it must be a path\."),
        (lambda: tcs.verify(3), r"path is 3; it must be a path\."),
        (lambda: tcs.store_facts(3), r"path is 3; it must be a path\."),
        (lambda: tcs.write_report(3), r"folder is 3; it must be a path\."),
        (lambda: tcs.write_report("grid", out=3), r"out is 3; it must be a path\."),
        (lambda: tcs.diagnose(3), r"folder is 3; it must be a path\."),
        (lambda: tcs.demo(3), r"folder is 3; it must be a path\."),
        (lambda: tcs.demo("new", steps="3"), r"steps is '3'; it must be a whole number\."),
        (lambda: tcs.export_features("a.store", 3), r"out is 3; it must be a path\."),
        (lambda: tcs.measure_drift(3, "photos"), r"store is 3; it must be a path\."),
        (lambda: tcs.measure_drift("a.store", "photos"), r"a\.store is no feature store: manifest\.json cannot be read"),
        (lambda: cache.open(3), r"path is 3; it must be a path, as a text or any os\.PathLike\."),
        (lambda: tcs.compare_teachers(["a.store"], tests=["b.store"]), r"stores are a\.store; teachers are compared from two stores on\."),
        (lambda: tcs.distill("photos", out="w", teacher="t", models=["m"], exports=["onx"]), r"exports is 'onx'; .* Did you mean onnx\?"),
        (lambda: tcs.distill("photos", out="w", teacher="t", models=["m"], int8="a.store"), r"int8 has no effect without exports onnx\."),
        (lambda: tcs.load_student("run", device="cuda:99"), r"device is 'cuda:99', which this machine cannot use .*; use device cpu\."),
        (lambda: tcs.predict("run", "new"), r"paths is 'new', a single one; it must be a tuple or list, as \['new'\]\."),
        (lambda: cache.merge("a.store", "c.store"), r"paths are a\.store, a single one; give two or more, as \[a\.store, \.\.\.\]\."),
        (lambda: cache.subset("a.store", "c.store", classes="x"), r"classes is 'x', a single one; it must be a list, as \['x'\]\."),
        (lambda: cache.join("a.store", ["b.store"]), r"'a\.store' is no open store; give cache\.open\(PATH\)\."),
        (lambda: cache.create("n.store", {"avg": np.ones((1, 2))}, keys=["a"], labels=3), r"labels are 3; give a list of one a key\."),
    ],
)  # fmt: skip
def test_a_first_mistake_is_told_in_one_line(
    call: Callable[[], object], message: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises((TypeError, tcs.TcsError, CacheError), match=f"^{message}") as caught:
        call()
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_an_open_store_for_a_path_is_told_what_to_give(store: cache.Store) -> None:
    with pytest.raises(tcs.ConfigError, match=r"^store is <Store .*>; it must be a path: its \.path\.$"):
        tcs.fit(store, out="c.safetensors")  # type: ignore[call-overload]
    with pytest.raises(TypeError, match=r"^path is <Store .*>; it must be a path: its \.path\.$"):
        cache.open(store)  # type: ignore[arg-type]


@pytest.mark.parametrize("row", [3.5, "a", None])
def test_what_is_no_number_of_a_row_is_told(store: cache.Store, row: Any) -> None:
    for read in (store.__getitem__, store.image_bytes):
        with pytest.raises(
            TypeError, match=rf"^row {row!r} is no whole number; store\.keys\.index\(KEY\) gives the number of a"
        ):
            read(row)
    assert store[np.int64(3)].key == store.keys[3]


def test_coordinates_are_of_arrays(store: cache.Store, tmp_path: pathlib.Path) -> None:
    system = tcs.fit(store.path, out=tmp_path / "c.safetensors", components=np.int64(2))  # type: ignore[call-overload]
    assert system.config["components"] == system.components == 2
    with pytest.raises(
        tcs.DataError, match=r"^features of shape list do not fit a coordinate system of 24 dims; give \(N, 24\)\.$"
    ):
        system.transform([[1.0]])
    with pytest.raises(tcs.ConfigError, match=r"^components is '3'; it must be a whole number\.$"):
        system.with_components("3")


@pytest.mark.parametrize(("command", "function"), tcs.OF_COMMAND.items())
def test_a_command_that_is_a_function_of_another_name_is_told_it(command: str, function: str) -> None:
    assert function in tcs.__all__
    if command not in vars(tcs):  # rooms of the package have some of these names, once they are imported
        with pytest.raises(
            AttributeError, match=rf"^module 'tcs' has no attribute '{command}'; tcs\.{function} is what the"
        ):
            getattr(tcs, command)


def test_python_says_which_name_is_meant() -> None:
    with pytest.raises(AttributeError) as caught:
        tcs.evalute  # type: ignore[attr-defined]  # noqa: B018
    assert (caught.value.name, caught.value.obj) == ("evalute", tcs)


def test_a_manifest_is_read_from_the_text_of_its_folder(store: cache.Store) -> None:
    assert cache.read_manifest(str(store.path)) == cache.read_manifest(store.path) == store.manifest
