"""Bad input of `tcs train` as the command line tells it: exit code 1, one line, nothing written. Memory that runs out."""

import contextlib
import io
import pathlib
import resource
import shutil
from typing import Any

import pytest
import torch
from artefacts import make_store, make_targets
from forks import in_process
from together import CIFAR, CNN, VIT, config

from tcs.cli import main
from tcs.errors import ResourceError
from tcs.images.formats import formats
from tcs.training.memory import naming_memory
from tcs.training.train import train

VIT_32 = VIT.replace("img_size=16", "img_size=32")
FEW = ["--shots", "4", "--img-size", "16"]
LABELS = ["--method", "labels", *FEW]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("refusals")
    make_store(folder / "train.store")
    make_targets(folder)
    make_store(folder / "nolabels.store", labelled=False)
    make_targets(folder, "nolabels.store", method="random")
    (folder / "wasp.txt").write_text("ant ant/0-0000.png\nwasp bee/0-0001.png\n")
    (folder / "ants.txt").write_text("ant ant/0-0000.png\nant ant/0-0003.png\n")
    return folder


def tcs(*arguments: str) -> tuple[int, str, str]:
    """Run `tcs` in this process: exit code, stdout, stderr. Whatever is no exit gets through, as a traceback would."""
    out, err = io.StringIO(), io.StringIO()
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            main(list(arguments))
    except SystemExit as end:
        return int(end.code or 0), out.getvalue(), err.getvalue()
    raise AssertionError("main exits")


def models(*names: str) -> list[str]:
    return [part for name in names for part in ("--model", name)]


REFUSED: dict[str, tuple[str, list[str], str]] = {
    "no label": (
        "nolabels.store",
        [*models(CNN), "--method", "labels"],
        "nolabels.store has a label; extract with one folder a class",
    ),
    "no label, coordinates": (
        "nolabels.store",
        [*models(CNN), "--method", "tcs+elsh", "--targets", "{data}/random.h5"],
        "nolabels.store has a label; extract with one folder a class",
    ),
    "batch of 1": ("train.store", [*models(CNN), *LABELS, "--batch-size", "1"], "a batch has 1 row(s); batch norm"),
    "no pair": (
        "train.store",
        [
            *models(CNN),
            *FEW,
            "--loss",
            "ce + rkd",
            "--batch-size",
            "4",
            "--labelled-share",
            "0.7",
            "--mimic-view",
            "clean",
        ],
        "a batch has 1 row(s) in its clean view; losses that compare rows need 2 or more. Use a larger --batch-size",
    ),
    "parts of 1": (
        "train.store",
        [*models(CNN), *LABELS, "--batch-size", "64", "--grad-accum-steps", "7"],
        "--grad-accum-steps is 7, for a batch of 12 rows; batch normalisation needs 2 or more in each part. Use 6 parts",
    ),
    "another class": (
        "train.store",
        [*models(CNN), "--split-file", "{data}/wasp.txt", "--method", "labels"],
        "wasp.txt line 2 gives 'bee/0-0001.png' the class 'wasp', but the store holds 'bee'; correct the file.",
    ),
    "one class": (
        "train.store",
        [*models(CNN), "--split-file", "{data}/ants.txt", "--method", "labels"],
        "ants.txt labels rows of 1 class (ant); a run needs two or more: label more rows.",
    ),
    "absent device": (
        "train.store",
        [*models(CNN), *LABELS, "--device", "cuda:99"],
        "--device is 'cuda:99', which this",
    ),
    "no device": ("train.store", [*models(CNN), *LABELS, "--device", "banana"], "--device is 'banana', which this"),
    "device without numbers": ("train.store", [*models(CNN), *LABELS, "--device", "meta"], "--device is 'meta', which"),
    "another input size": (
        "train.store",
        [*models(CNN, VIT_32), *LABELS],
        "cannot take 16-px images (AssertionError: Input height (16) doesn't match model (32).); give the student that size",
    ),
    "images too small": ("train.store", [*models(CIFAR, "cifar_vgg8"), *LABELS[:-1], "4"], "cannot take 4-px images"),
    "pixels for all memory": (
        "train.store",
        [*models(CNN), *LABELS[:-1], "30000"],
        "--img-size is 30000; it must be 8192 or less.",
    ),
    "no pixels": ("train.store", [*models(CNN), *LABELS[:-1], "0"], "--img-size is 0; it must be 1 or more."),
    "one student twice": ("train.store", [*models(CNN, VIT, CNN), *LABELS], f"names one student twice ('{CNN}')"),
    "two students of one folder": (
        "train.store",
        [*models("resnet18,a=1", "resnet18,a=-1"), *LABELS],
        "--model 'resnet18,a=1' and 'resnet18,a=-1' would share the folder 'resnet18-a-1'; train one of them in another",
    ),
    "no coordinates": (
        "train.store",
        [*models(CNN), "--method", "tcs+elsh", *FEW],
        "--method tcs+elsh reads cached bits; run tcs fit",
    ),
    "targets of another store": (
        "train.store",
        [*models(CNN), "--method", "tcs", *FEW, "--targets", "{data}/random.h5"],
        "holds targets of store",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_bad_input_is_one_line_and_writes_nothing(data: pathlib.Path, tmp_path: pathlib.Path, name: str) -> None:
    store, options, message = REFUSED[name]
    filled = [option.replace("{data}", str(data)) for option in options]
    code, out, err = tcs("train", str(data / store), "--out", str(tmp_path / "run"), "--steps", "4", *filled)
    assert (code, out) == (1, "")
    assert err.startswith("Error: ")
    assert err.count("\n") == 1
    assert message in err
    assert not (tmp_path / "run").exists()


def files(folder: pathlib.Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*")}


def test_a_run_of_another_configuration_is_named_and_left_alone(data: pathlib.Path, tmp_path: pathlib.Path) -> None:
    line = ["train", str(data / "train.store"), "--out", str(tmp_path / "run"), *models(CIFAR, VIT), *LABELS]
    assert tcs(*line, "--steps", "2")[0] == 0
    before = files(tmp_path)
    code, _, err = tcs(*line, "--steps", "2", "--lr", "0.5")
    assert (code, err.count("\n")) == (1, 1)
    assert "was made with lr 0.002, this command has 0.5; use another --out or --overwrite." in err
    assert files(tmp_path) == before
    assert "is finished; nothing to do." in tcs(*line, "--steps", "2")[2]


def test_what_a_kill_leaves_before_the_first_file_is_ours_and_nothing_else(
    data: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    line = ["train", str(data / "train.store"), "--out", str(tmp_path), *models(CIFAR), *LABELS, "--steps", "2"]
    (tmp_path / "args.yaml.01234567.partial").write_bytes(b"half")
    (tmp_path / CIFAR).mkdir()
    (tmp_path / CIFAR / "config.json.01234567.partial").write_bytes(b"half")
    assert tcs(*line)[0] == 0
    shutil.rmtree(tmp_path / CIFAR)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.png").write_bytes(b"mine")
    assert "holds 'photos', which no run made" in tcs(*line)[2]
    assert not (tmp_path / CIFAR).exists()


def test_a_loss_that_is_not_finite_ends_in_one_line(data: pathlib.Path, tmp_path: pathlib.Path) -> None:
    line = ["train", str(data / "train.store"), "--out", str(tmp_path / "run"), *models(CNN), *LABELS, "--steps", "4"]
    code, out, err = tcs(*line, "--opt", "sgd", "--lr", "1e6", "--warmup-share", "0")
    *_, last = err.splitlines()
    assert (code, out) == (1, "")
    assert last.startswith(f"Error: student {CNN}: loss 'ce' is nan at step ")
    assert last.endswith("diverged.safetensors.")


ADVICE = (
    "--device cpu ran out of memory; use a smaller --batch-size (now 16), a larger --grad-accum-steps, --amp, "
    "a smaller --img-size, fewer --model at once (now 3) or --resident-share 0."
)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory: you tried"),
        RuntimeError("std::bad_alloc"),
    ],
)
def test_memory_that_runs_out_names_the_options_to_lower(
    data: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def full(*_: Any) -> None:
        raise error

    monkeypatch.setattr("tcs.training.trainer.Trainer.train_step", full)
    with pytest.raises(ResourceError) as told:
        train(config(data, out=str(tmp_path / "run")))
    assert str(told.value) == ADVICE


@pytest.mark.parametrize(
    "error", [RuntimeError("shapes differ"), NotImplementedError("no kernel"), RecursionError("deep")]
)
def test_other_errors_are_not_taken_for_memory(data: pathlib.Path, error: Exception) -> None:
    with pytest.raises(type(error)) as found, naming_memory(config(data)):
        raise error
    assert found.value is error


def train_large(data: pathlib.Path, out: pathlib.Path) -> tuple[int, str, str]:
    """`tcs train` on large images, under a limit of 256 MiB more than the process has."""
    formats()  # libraries of decoders are there, so that what runs out is the memory of the step
    pages = int(pathlib.Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + 2**28
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    line = ["train", str(data / "train.store"), "--out", str(out), *models("resnet18"), "--method", "labels"]
    return tcs(*line, "--img-size", "512", "--steps", "2", "--resident-share", "0", "-j", "1")


@pytest.mark.skipif(not pathlib.Path("/proc/self/statm").exists(), reason="needs Linux's limit of address space")
def test_memory_that_really_runs_out_is_one_line(data: pathlib.Path, tmp_path: pathlib.Path) -> None:
    exitcode, found = in_process(train_large, data, tmp_path / "run")
    assert exitcode == 0
    code, out, err = found
    assert (code, out) == (1, "")
    assert "Traceback" not in err
    *_, last = err.splitlines()
    assert last == (
        "Error: --device cpu ran out of memory; use a smaller --batch-size (now 128), a larger --grad-accum-steps, --amp "
        "or a smaller --img-size."
    )
