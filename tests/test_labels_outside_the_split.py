"""No label outside a run's split is read, whatever spreads, selects or averages: with all others scrambled, the bits are the same.

The labels are scrambled in the store as it is opened; those of the second teacher are scrambled alike, as `cache.join` asks.
"""

import json
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from artefacts import CLASSES, make_store
from safetensors.torch import load_file
from teachers_beside import write_beside

import cache
from tcs.config.coordinates import FitConfig
from tcs.config.train import TrainConfig
from tcs.coordinates.fit import fit
from tcs.coordinates.system import load_coordinates
from tcs.splits.shots import k_shot_split
from tcs.training.train import train

STUDENT = "resnet18,layers=(1,1,1,1),channels=(4,4,8,8)"
ROWS = 150  # a selection from the pool puts 20 of those without a label aside

Options = dict[str, Any]

PATHS: dict[str, Options] = {
    "also": {"method": "tcs-pool", "also": True},
    "also, each": {"method": "tcs-pool", "also": True, "pool_teachers": "each"},
    "also, pool-head": {"method": "pool-head", "also": True},
    "kd, logistic": {"loss": "kd", "probe_head": "logistic"},
    "kd, ridge, also": {"loss": "kd", "probe_head": "ridge", "also": True},
    "kd, transductive": {"loss": "kd", "probe_head": "transductive"},
    "dho": {"method": "dho"},
    "dho, transductive": {"method": "dho", "probe_head": "transductive"},
    "customkd": {"method": "customkd"},
    "selection from the pool": {"head": "tcs", "loss": "l2 + ce", "selection": "pool"},
    "selection by ridge": {"head": "tcs", "loss": "l2 + ce", "selection": "ridge"},
    "a class prior": {"method": "tcs-pool", "class_prior": ("ant=0.5", "bee=0.3", "cow=0.2")},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("scrambled")
    store = make_store(folder / "a.store", rows=ROWS)
    write_beside(folder / "b.store", store, noise=0.2)
    rows = k_shot_split(store.keys, store.labels_N, store.classes, 4, 0).rows_n
    lines = [f"{CLASSES[store.labels_N[row]]} {store.keys[row]}" for row in rows]
    (folder / "split.txt").write_text("\n".join(lines) + "\n")
    return folder


def split_rows(folder: pathlib.Path) -> np.ndarray:
    keys = {line.split()[1] for line in (folder / "split.txt").read_text().splitlines()}
    return np.array([row for row, key in enumerate(cache.open(folder / "a.store").keys) if key in keys])


@pytest.fixture
def scramble(folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Opens stores with random labels, of every kind and none, on all rows outside the split from now on."""
    kept, opened = split_rows(folder), cache.open

    def scrambling(*arguments: Any, **named: Any) -> cache.Store:
        store = opened(*arguments, **named)
        labels_N = np.random.default_rng(1).integers(-1, len(CLASSES), len(store))
        labels_N[kept] = store.labels_N[kept]
        assert (labels_N != store.labels_N).sum() > 50
        store.labels_N = labels_N
        return store

    return lambda: monkeypatch.setattr(cache, "open", scrambling)


def run(folder: pathlib.Path, out: pathlib.Path, options: Options) -> pathlib.Path:
    given = {"store": str(folder / "a.store"), "out": str(out), "models": (STUDENT,), "img_size": 16, "seed": 3}
    given |= {"split_file": str(folder / "split.txt"), "steps": 3, "batch_size": 16} | options
    given["also"] = (str(folder / "b.store"),) if options.get("also") else ()
    return train(TrainConfig.from_options(given))[0]


@pytest.mark.parametrize("options", PATHS.values(), ids=PATHS)
def test_the_same_bits_come_of_scrambled_labels(
    folder: pathlib.Path, tmp_path: pathlib.Path, scramble: Callable[[], None], options: Options
) -> None:
    runs = [run(folder, tmp_path / "true", options)]
    scramble()
    runs.append(run(folder, tmp_path / "scrambled", options))
    first, second = (load_file(path / "last.safetensors") for path in runs)
    assert all(np.array_equal(first[key].numpy(), second[key].numpy()) for key in first)
    records = [json.loads((path / "config.json").read_text()) for path in runs]
    assert records[0]["identity"] == records[1]["identity"]
    files = [{path.name: path.read_bytes() for path in (each.parent / "pool-labels").glob("*")} for each in runs]
    assert files[0] == files[1]
    assert bool(files[0]) == (
        options.get("method") in ("tcs-pool", "pool-head") or options.get("probe_head") in ("ridge", "transductive")
    )


@pytest.mark.parametrize("selection", ["pool", "ridge"])
@pytest.mark.parametrize("also", [False, True])
def test_a_selection_of_fit_is_the_same(
    folder: pathlib.Path, tmp_path: pathlib.Path, scramble: Callable[[], None], selection: str, also: bool
) -> None:
    others = (str(folder / "b.store"),) if also else ()
    options = {"store": str(folder / "a.store"), "also": others, "split_file": str(folder / "split.txt")}
    options |= {"selection": selection, "ceiling_shots": ()}
    fit(FitConfig(out=str(tmp_path / "true.safetensors"), **options))
    scramble()
    fit(FitConfig(out=str(tmp_path / "scrambled.safetensors"), **options))
    first, second = (load_coordinates(tmp_path / f"{name}.safetensors").selection for name in ("true", "scrambled"))
    assert first is not None
    assert second is not None
    assert first.method == selection
    assert first.to_json() == second.to_json()
