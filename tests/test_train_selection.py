"""Which coordinates a run reads: a selection made for its labels, or made by it."""

import json
import pathlib

import pytest
from probe_runs import run_config, write_inputs

from tcs.config.coordinates import FitConfig
from tcs.coordinates.fit import fit
from tcs.coordinates.system import load_coordinates
from tcs.errors import ArtefactError
from tcs.training.train import train


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> pathlib.Path:
    return write_inputs(tmp_path)


def test_a_selection_of_another_split_is_refused(folder: pathlib.Path) -> None:
    fit(
        FitConfig(
            store=str(folder / "train.store"),
            out=str(folder / "s.safetensors"),
            components=8,
            shots=4,
            split_seed=9,
            ceiling_shots=(),
        )
    )
    with pytest.raises(ArtefactError, match="split"):
        train(run_config(folder, selection=str(folder / "s.safetensors")))
    (path,) = train(run_config(folder, selection=str(folder / "s.safetensors"), split_seed=9))
    assert json.loads((path / "config.json").read_text())["identity"]["selected"]
    fit(
        FitConfig(
            store=str(folder / "train.store"),
            out=str(folder / "s6.safetensors"),
            components=6,
            shots=4,
            split_seed=9,
            ceiling_shots=(),
        )
    )
    with pytest.raises(ArtefactError, match=r"selects among coordinates .*, the targets hold"):
        train(run_config(folder, selection=str(folder / "s6.safetensors"), out=str(folder / "six"), split_seed=9))
    with pytest.raises(ArtefactError, match="holds no selection; make it with tcs fit --shots"):
        train(run_config(folder, selection=str(folder / "pca.safetensors"), out=str(folder / "other")))


def test_a_selection_is_computed_from_the_labels_of_the_run_where_asked(folder: pathlib.Path) -> None:
    (path,) = train(run_config(folder, selection="ridge", shots=8))
    selected = json.loads((path / "config.json").read_text())["identity"]["selected"]
    fit(
        FitConfig(
            store=str(folder / "train.store"),
            out=str(folder / "s.safetensors"),
            components=8,
            shots=8,
            split_seed=3,
            seed=3,
            ceiling_shots=(),
        )
    )
    chosen = load_coordinates(folder / "s.safetensors").selection
    assert chosen is not None
    assert selected == chosen.active_k.tolist()
