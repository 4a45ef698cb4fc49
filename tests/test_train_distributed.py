"""`tcs train` on several processes over gloo, against what one process trains.

The students that are compared with one process have neither BatchNorm nor dropout, so the paths differ by rounding only.
"""

import json
import os
import pathlib
import shutil
import signal
import time
from collections.abc import Callable
from typing import Any

import launched
import pytest
import safetensors.torch
import torch
from artefacts import make_store, make_targets
from processes import LAUNCHER_SECONDS, run_processes, told, torchrun
from teachers_beside import write_beside
from torch import Tensor

from tcs.config.train import TrainConfig
from tcs.errors import DivergedError
from tcs.training.metrics import load_metrics
from tcs.training.train import forecast, train
from tcs.training.trainer import Trainer

torch.set_num_threads(1)
VIT = "vit_tiny_patch16_224,img_size=16,patch_size=8,embed_dim=16,depth=1,num_heads=2"
RESNET = "resnet18,layers=(1,1,1,1),channels=(4,4,8,8),drop_path_rate=0.3"
STEPS = 10
# Of a tensor's norm, after 10 steps in float32 of an optimiser that divides by the gradient's own size.
TOLERANCE = 1e-4
# The features of a student that has made ten steps are nearly collinear: their ridge regression multiplies rounding by some 1e3.
REFIT_TOLERANCE = 1e-3
FILES = {"config.json", "folded.safetensors", "last.safetensors", "metrics.jsonl", "seen.npy", "summary.csv"}

RUNS: dict[str, dict[str, Any]] = {
    "few labels": {"method": "labels", "shots": 2, "batch_size": 5},
    "two phases": {"method": "tcs+elsh", "batch_size": 15},
    "relations": {"loss": "ce + rkd + 0.1*projector", "head": "linear", "batch_size": 13},
    "memories": {"loss": "ce + crd + queue-kl", "head": "linear"},
    "gates": {"method": "tcs", "selection": "gates", "keep": 3},
    "parts": {"loss": "ce + l2", "head": "tcs", "grad_accum_steps": 2, "batch_size": 15},
    "clean and streamed": {"method": "tcs+elsh", "mimic_view": "clean", "resident_share": 0.0, "labelled_share": 0.3},
    "mixed": {"loss": "ce", "head": "linear", "mixup": 0.8, "cutmix": 1.0, "smoothing": 0.1, "shots": 3},
    "spread labels": {"method": "tcs-pool", "targets": None, "shots": 2},
    "two classifiers": {"method": "dho", "shots": 2},
    "a map by labels": {"method": "customkd", "shots": 2},
    "two teachers": {
        "method": "tcs-pool",
        "targets": None,
        "shots": 2,
        "also": ("other.store",),
        "pool_teachers": "each",
    },
    "averaged": {"method": "tcs", "model_ema": True, "model_ema_decay": 0.9, "clip_mode": "agc"},
}
BOTH: dict[str, Any] = {"models": (VIT, RESNET), "method": "tcs+elsh", "model_ema": True, "model_ema_decay": 0.9}
BOTH |= {"steps": 24, "checkpoint_every": 5}
States = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("distributed")
    write_beside(folder / "other.store", make_store(folder / "train.store"))
    make_targets(folder)
    return folder


def config(folder: pathlib.Path, out: str, **options: Any) -> TrainConfig:
    defaults = {"store": str(folder / "train.store"), "targets": str(folder / "pca.h5"), "out": str(folder / out)}
    defaults |= {"models": (VIT,), "shots": 4, "steps": STEPS, "batch_size": 16, "img_size": 16, "seed": 3}
    defaults |= {"also": tuple(str(folder / name) for name in options.pop("also", ()))}
    return TrainConfig.from_options(defaults | options)


def runs(folder: pathlib.Path, out: str) -> list[TrainConfig]:
    return [config(folder, f"{out} {name}", **options) for name, options in RUNS.items()]


def after_steps(act: Callable[[Trainer], None]) -> None:
    """Let `act` happen after each step of this process."""
    step = Trainer.train_step

    def acting(self: Trainer, *arguments: Any) -> None:
        step(self, *arguments)
        act(self)

    Trainer.train_step = acting


def all_trained(configs: list[TrainConfig]) -> list[States]:
    """Trains one run after the other; the state that this process has of each student in the end, by its name."""
    before, found = Trainer.train_step, []
    for each in configs:
        states: States = {}
        after_steps(lambda trainer, states=states: states.update({trainer.job.name: trainer.state()}))
        train(each)
        Trainer.train_step = before
        found.append(states)
    return found


@pytest.fixture(scope="module")
def alone(folder: pathlib.Path) -> list[States]:
    return all_trained(runs(folder, "one"))


def of_two(folder: str, *configs: list[TrainConfig]) -> Any:
    """The work of two ranks: all runs, what --dry-run tells, and a student that meets a NaN on rank 1."""
    found = all_trained(*configs)
    told = forecast(config(pathlib.Path(folder), "two dry", method="tcs+elsh"))
    normalised, calls = Trainer.normalised, []

    def broken(self: Trainer, images: Tensor) -> Tensor:
        calls.append(self.job.name)
        spoils = os.environ["RANK"] == "1" and self.job.name == RESNET and calls.count(RESNET) == 4
        return normalised(self, images) * (float("nan") if spoils else 1.0)

    Trainer.normalised = broken
    try:
        train(config(pathlib.Path(folder), "two nan", models=(RESNET, VIT), method="labels", mixup=0.2))
    except DivergedError as error:
        return found, told, str(error)


@pytest.fixture(scope="module")
def two(folder: pathlib.Path) -> list[Any]:
    normed = {"models": (RESNET,), "method": "labels", "shots": 20, "batch_size": 31}
    normed |= {"steps": 50, "lr": 0.01}
    configs = [*runs(folder, "two"), config(folder, "two norms", **normed), config(folder, "two both", **BOTH)]
    return run_processes(2, of_two, str(folder), configs)


@pytest.fixture(scope="module")
def three(folder: pathlib.Path) -> list[Any]:
    return [(found,) for found in run_processes(3, all_trained, runs(folder, "three"))]


def path_of(run: pathlib.Path, model: str = "vit") -> pathlib.Path:
    (path,) = [path for path in run.iterdir() if path.name.startswith(model)]
    return path


def last(run: pathlib.Path, model: str = "vit") -> dict[str, Tensor]:
    return safetensors.torch.load_file(path_of(run, model) / "last.safetensors")


def require_same(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> None:
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], values) for name, values in wanted.items())


def require_close(found: dict[str, Tensor], wanted: dict[str, Tensor], refitted: bool) -> None:
    """Equal within TOLERANCE of each tensor's norm, or of 1 for tensors that began at 0; a refitted projection in REFIT_TOLERANCE."""
    assert found.keys() == wanted.keys()
    for name, values in wanted.items():
        apart = float((found[name].float() - values.float()).norm())
        tolerance = REFIT_TOLERANCE if refitted and name.startswith("projection.") else TOLERANCE
        assert apart <= tolerance * max(1.0, float(values.float().norm())), f"{name} is {apart} away"


@pytest.mark.parametrize("at", range(len(RUNS)), ids=list(RUNS))
@pytest.mark.parametrize("ranks", ["two", "three"])
def test_a_student_is_that_of_one_process(
    ranks: str, at: int, folder: pathlib.Path, alone: list[States], request: pytest.FixtureRequest
) -> None:
    states, wanted = [found[0][at][VIT] for found in request.getfixturevalue(ranks)], alone[at][VIT]
    refitted = list(RUNS.values())[at].get("method") == "tcs+elsh"
    for part in ("student", "criteria", "averaged"):
        if wanted[part]:
            require_close(states[0][part], wanted[part], refitted)
            for other in states[1:]:
                require_same(other[part], states[0][part])
    run, name = folder / f"{ranks} {list(RUNS)[at]}", list(RUNS)[at]
    spread = {"pool-labels"} if RUNS[name].get("method") == "tcs-pool" else set()
    assert {path.name for path in run.iterdir()} == {"args.yaml", path_of(run).name} | spread
    averaged = {"averaged.safetensors"} if wanted["averaged"] else set()
    assert {path.name for path in path_of(run).iterdir()} == FILES | averaged
    require_same(last(run), states[0]["student"])
    logs = [
        load_metrics(path_of(folder / f"{kind} {name}") / "metrics.jsonl", measured=False) for kind in (ranks, "one")
    ]
    for row, expected in zip(*logs, strict=True):
        assert row.keys() == expected.keys()
        assert (row["step"], row["images_seen"]) == (expected["step"], expected["images_seen"])
        assert row["loss"] == pytest.approx(expected["loss"], rel=1e-3, abs=1e-4)


def test_a_student_with_batch_normalisation_trains_to_one_model(folder: pathlib.Path, two: list[Any]) -> None:
    first, second = (found[0][-1][RESNET] for found in two)
    for part in ("student", "averaged"):
        require_same(second[part], first[part])
    losses = [row["loss"] for row in load_metrics(path_of(folder / "two norms", "resnet") / "metrics.jsonl")]
    assert sum(losses[-5:]) < 0.7 * sum(losses[:5])


def test_a_nan_on_one_rank_is_seen_by_all_at_one_step_and_the_other_student_goes_on(
    folder: pathlib.Path, two: list[Any]
) -> None:
    first, second = (found[2] for found in two)
    assert first == second
    assert "loss 'ce' is nan at step 3; lower --lr" in first
    batch = safetensors.torch.load_file(path_of(folder / "two nan", "resnet") / "diverged.safetensors")
    assert len(batch["shown"]) == len(batch["row"]) == 12
    assert {path.name for path in path_of(folder / "two nan").iterdir()} == FILES


def test_a_forecast_of_ranks_writes_nothing(folder: pathlib.Path, two: list[Any]) -> None:
    for _, (row,), _ in two:
        assert (row["steps"], row["batch_size"]) == (STEPS, 16)
    assert not (folder / "two dry").exists()


def stopped_at_12(config: TrainConfig, rank: int) -> None:
    """Asks `rank` to end after its 12th step of the first student."""

    def act(trainer: Trainer) -> None:
        if (trainer.job.name, trainer.step) == (VIT, 12) and os.environ["RANK"] == str(rank):
            os.kill(os.getpid(), signal.SIGTERM)

    after_steps(act)
    train(config)
    raise AssertionError("was not stopped")


def again(stopped: TrainConfig, finished: TrainConfig) -> None:
    train(finished)
    train(stopped)


def test_ranks_that_were_stopped_go_on_to_the_same_students(folder: pathlib.Path, two: list[Any]) -> None:
    stopped = config(folder, "stopped", **BOTH)
    ends = run_processes(2, stopped_at_12, stopped, 1)
    assert [end.code for end in ends] == [143, 143]
    assert torch.load(path_of(folder / "stopped") / "resume.pt", weights_only=True)["step"] == 21

    done = folder / "two few labels"
    before = (path_of(done) / "last.safetensors").stat().st_mtime_ns
    assert run_processes(2, again, stopped, config(folder, done.name, **RUNS["few labels"])) == [None, None]
    assert (path_of(done) / "last.safetensors").stat().st_mtime_ns == before
    for model in ("vit", "resnet"):
        require_same(last(folder / "stopped", model), last(folder / "two both", model))


KILLED_AT_12 = """
import os, pathlib, signal, sys, time
from tcs.cli import main
from tcs.training.trainer import Trainer

step = Trainer.train_step

def dying(trainer, *arguments):
    step(trainer, *arguments)
    if trainer.job.name.startswith("vit") and trainer.step == 12 and os.environ["RANK"] == "1":
        pathlib.Path(__file__).with_name("killed_at").write_text(str(time.time()))
        os.kill(os.getpid(), signal.SIGKILL)

Trainer.train_step = dying
main(sys.argv[1:])
"""


def test_a_rank_that_is_killed_under_torchrun_ends_all_and_the_same_command_goes_on_to_the_same_students(
    folder: pathlib.Path, two: list[Any]
) -> None:
    assert not isinstance(two[0], Exception)
    command = [
        "train",
        str(folder / "train.store"),
        "--targets",
        str(folder / "pca.h5"),
        "--out",
        str(folder / "killed"),
    ]
    command += ["--model", VIT, "--model", RESNET, "--method", "tcs+elsh", "--model-ema", "--model-ema-decay", "0.9"]
    command += ["--steps", "24", "--checkpoint-every", "5", "--shots", "4", "-b", "16", "--img-size", "16"]
    command += ["--seed", "3", "--json"]
    (folder / "script.py").write_text(KILLED_AT_12)
    with torchrun(folder / "said", 2, str(folder / "script.py"), *command) as launcher:
        code = launcher.ended(120)
        out, err = launcher.stdout, launcher.stderr
    assert time.time() - float((folder / "killed_at").read_text()) < LAUNCHER_SECONDS
    assert (code, out) == (1, "")
    (line,) = [line for line in told(err) if line.endswith("run the same command again to resume.")]
    assert line == told(err)[-1]
    assert line.startswith(("stopped by SIGTERM;", "Error: rank 0 has lost the other ranks ("))
    for model in ("vit", "resnet"):
        assert torch.load(path_of(folder / "killed", model) / "resume.pt", weights_only=True)["step"] == 10
    shutil.copytree(folder / "killed", folder / "killed alone")

    codes = run_processes(2, launched.run_command, folder, "again", command)
    out, err = (launched.said(folder, "again", end) for end in ("out", "err"))
    assert codes == [0, 0], err
    assert json.loads(out) == {"students": [str(path_of(folder / "killed", model)) for model in ("vit", "resnet")]}
    assert err.count(f"{VIT}: tcs with the eLSH loss") == 1
    for model in ("vit", "resnet"):
        require_same(last(folder / "killed", model), last(folder / "two both", model))

    train(config(folder, "killed alone", **BOTH))
    require_close(last(folder / "killed alone"), last(folder / "two both"), refitted=True)
