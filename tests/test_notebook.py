"""The notebook as a script: it runs as it stands, its figures are there, and its numbers are those that its words lead one to expect."""

import pathlib
import runpy
from typing import Any

import matplotlib.pyplot as plt
import pytest

NOTEBOOK = pathlib.Path(__file__).parent.parent / "docs" / "notebooks" / "first-student.py"


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[pathlib.Path, dict[str, Any]]:
    """The folder in which the notebook ran, and its names."""
    folder = tmp_path_factory.mktemp("notebook")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        plt.switch_backend("Agg")
        names = runpy.run_path(str(NOTEBOOK))
    plt.close("all")
    return folder / "first-student", names


def test_the_notebook_runs_and_draws(ran: tuple[pathlib.Path, dict[str, Any]]) -> None:
    folder, _ = ran
    figures = {path.name: path.stat().st_size for path in folder.glob("*.png")}
    assert set(figures) == {"neighbours.png", "map.png", "extremes.png", "mistakes.png"}
    assert min(figures.values()) > 10_000


def test_its_numbers_bear_out_its_words(ran: tuple[pathlib.Path, dict[str, Any]]) -> None:
    _, names = ran
    assert names["share"] > 0.9
    assert names["accuracies"]["tcs-pool"] > names["accuracies"]["labels"] + 10
    assert len(names["mistakes"]) == round(len(names["found"]) * (1 - names["accuracies"]["tcs-pool"] / 100))
    assert [each.label for each in names["again"]] == [each.label for each in names["found"]]


def test_cells_are_marked_as_jupytext_reads_them() -> None:
    lines = NOTEBOOK.read_text().splitlines()
    cells = [line for line in lines if line.startswith("# %%")]
    assert set(cells) == {"# %%", "# %% [markdown]"}
    assert lines[0] == "# ---"
    assert "#       format_name: percent" in lines
