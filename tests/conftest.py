"""Shared by all tests: one thread, so that two cores are not fought over, no network, and no waiting for the disk; a tiny teacher,
made once a process; which warnings are errors."""

# ruff: noqa: E402 -- what the imports are to find is set before them

import gc
import os

gc.disable()  # until all is imported and collected, of which nothing is garbage: looking for it took a third of that time
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import pathlib

import disk
import pytest
import strictness
import torch
from artefacts import save_vit
from extraction import SIDE

torch.set_num_threads(1)
disk.wait_for_nothing()


def pytest_configure(config: pytest.Config) -> None:
    """Warnings of ours are errors, in the tests as in the processes that they start."""
    for line in strictness.pytest_lines():
        config.addinivalue_line("filterwarnings", line)


# Files that kill, launch, compile or read every source file, most of them by starting processes: `make test-slow`. `make test` is the
# others. Longest first.
SLOW = (
    "store_faults docs_run doors wheel notebook first_lines train_distributed torchrun export students_trained "
    "export_int8 whole_use trainer_benchmarks speed_benchmarks online_teacher memory_layout on_gpu_benchmark "
    "labels_only_benchmark scaled_accuracy_benchmark "
    "pool_selection_benchmark predict_benchmark loss_benchmark grid_jobs grid_ray benchmark_recipes distill_exports "
    "extract_cut_short many_students_killed honesty submodules pretrain loading streamed_run training_options grid_cells "
    "compression cospress readme store_packing_kills many_students pretrain_state docs_browser look_browser "
    "report_browser ranks collectives grid_claims look_page teachers_compared pool_safety imagenet_size_benchmark early_ctrl_c"
)

# Files of seconds, longest first, and those that start processes through tests/forks.py. At the head of the list they are all one
# worker's: it alone starts a fork server, what the tests of such a file share is made once, and what is left for the end, when one
# worker may find nothing more to take from another, is short.
LONG = (
    "update update_labels distill train train_refusals "
    "training_log scaled_students pixel_stores store_exporting strictness trainer grid_datasets cell_scores "
    "excluded_rows docs_made"
)


@pytest.hookimpl(tryfirst=True)  # before `-m` chooses
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The long files first, the others in their order; those of `make test-slow` are marked."""
    slow = {f"test_{name}.py" for name in SLOW.split()}
    places = {f"test_{name}.py": place for place, name in enumerate(f"{SLOW} {LONG}".split())}
    items.sort(key=lambda item: places.get(item.path.name, len(places)))
    for item in items:
        if item.path.name in slow:
            item.add_marker(pytest.mark.slow)


def pytest_collection_finish() -> None:
    """From here on what the tests leave is looked through, and what came before them never is."""
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Weights of a tiny ViT for images of `SIDE` pixels; to be read only."""
    path = save_vit(tmp_path_factory.mktemp("weights") / "vit.safetensors", SIDE)
    path.chmod(0o444)
    return path


@pytest.fixture
def results(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """The folder that benchmarks write their tables into, for this test alone."""
    monkeypatch.setattr("benchmarks.turns.RESULTS", tmp_path / "results")
    return tmp_path / "results"


@pytest.fixture(params=["simplejpeg", "Pillow alone"])
def decoder(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways to decode a JPEG."""
    if request.param == "Pillow alone":
        monkeypatch.setattr("tcs.images.jpeg.simplejpeg", None)
    else:
        pytest.importorskip("simplejpeg")
    return str(request.param)
