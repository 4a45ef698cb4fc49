"""`tcs train` on several processes over gloo, against what one process trains.

The students that are compared with one process have neither BatchNorm nor dropout, so the paths differ by rounding only.
"""

import os
import pathlib
import shutil
import signal
import time
from collections.abc import Callable
from typing import Any

import pytest
import safetensors.torch
import torch
from artefacts import make_store, make_targets
from processes import run_processes
from torch import Tensor

from tcs.config.train import TrainConfig
from tcs.errors import DivergedError, RankError
from tcs.training.metrics import load_metrics
from tcs.training.train import forecast, train
from tcs.training.trainer import Trainer

torch.set_num_threads(1)
ROOT = pathlib.Path(__file__).parents[1]
VIT = "vit_tiny_patch16_224,img_size=16,patch_size=8,embed_dim=16,depth=1,num_heads=2"
RESNET = "resnet18,layers=(1,1,1,1),channels=(4,4,8,8),drop_path_rate=0.3"
STEPS = 10
TOLERANCE = (
    1e-4  # of a tensor's norm, after 10 steps in float32 of an optimiser that divides by the gradient's own size
)
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
    "averaged": {"method": "tcs", "model_ema": True, "model_ema_decay": 0.9, "clip_mode": "agc"},
}
BOTH: dict[str, Any] = {"models": (VIT, RESNET), "method": "tcs+elsh", "model_ema": True, "model_ema_decay": 0.9}
BOTH |= {"steps": 24, "checkpoint_every": 5}
States = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("distributed")
    make_store(folder / "train.store")
    make_targets(folder)
    return folder


def config(folder: pathlib.Path, out: str, **options: Any) -> TrainConfig:
    defaults = {"store": str(folder / "train.store"), "targets": str(folder / "pca.h5"), "out": str(folder / out)}
    defaults |= {"models": (VIT,), "shots": 4, "steps": STEPS, "batch_size": 16, "img_size": 16, "seed": 3}
    return TrainConfig(**(defaults | options))


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
        after_steps(lambda trainer, states=states: states.update({trainer.name: trainer.state()}))
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
        calls.append(self.name)
        spoils = os.environ["RANK"] == "1" and self.name == RESNET and calls.count(RESNET) == 4
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


def require_close(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> None:
    """Equal within TOLERANCE of each tensor's norm, or of 1 for tensors that began at 0."""
    assert found.keys() == wanted.keys()
    for name, values in wanted.items():
        apart = float((found[name].float() - values.float()).norm())
        assert apart <= TOLERANCE * max(1.0, float(values.float().norm())), f"{name} is {apart} away"


@pytest.mark.parametrize("at", range(len(RUNS)), ids=list(RUNS))
@pytest.mark.parametrize("ranks", ["two", "three"])
def test_a_student_is_that_of_one_process(
    ranks: str, at: int, folder: pathlib.Path, alone: list[States], request: pytest.FixtureRequest
) -> None:
    states, wanted = [found[0][at][VIT] for found in request.getfixturevalue(ranks)], alone[at][VIT]
    for part in ("student", "criteria", "averaged"):
        if wanted[part]:
            require_close(states[0][part], wanted[part])
            for other in states[1:]:
                require_same(other[part], states[0][part])
    run, name = folder / f"{ranks} {list(RUNS)[at]}", list(RUNS)[at]
    assert {path.name for path in run.iterdir()} == {"args.yaml", path_of(run).name}
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


def ended(config: TrainConfig, number: int, rank: int, model: str) -> float:
    """Sends `rank` a signal after its 12th step of a student; seconds from then to the end of this process's training."""
    at = [0.0]

    def act(trainer: Trainer) -> None:
        if (trainer.name, trainer.step) == (model, 12):
            at[0] = time.monotonic()
            if os.environ["RANK"] == str(rank):
                os.kill(os.getpid(), number)

    after_steps(act)
    try:
        train(config)
    except (SystemExit, RankError) as end:
        end.seconds = time.monotonic() - at[0]  # type: ignore[union-attr]
        raise
    raise AssertionError("was not stopped")


def again(configs: list[TrainConfig], finished: TrainConfig) -> None:
    train(finished)
    for each in configs:
        train(each)


def test_ranks_that_were_stopped_or_killed_go_on_to_the_same_students(folder: pathlib.Path, two: list[Any]) -> None:
    stopped, killed = config(folder, "stopped", **BOTH), config(folder, "killed", **BOTH)
    ends = run_processes(2, ended, stopped, signal.SIGTERM, 1, VIT)
    assert [end.code for end in ends] == [143, 143]
    assert torch.load(path_of(folder / "stopped") / "resume.pt", weights_only=True)["step"] == 21

    first, second = run_processes(2, ended, killed, signal.SIGKILL, 1, VIT)
    assert second is None
    assert isinstance(first, RankError)
    assert "\n" not in str(first)
    assert first.seconds < 10
    for model in ("vit", "resnet"):
        assert torch.load(path_of(folder / "killed", model) / "resume.pt", weights_only=True)["step"] == 10

    shutil.copytree(folder / "killed", folder / "killed alone")
    done = folder / "two few labels"
    before = (path_of(done) / "last.safetensors").stat().st_mtime_ns
    finished = config(folder, done.name, **RUNS["few labels"])
    assert run_processes(2, again, [stopped, killed], finished) == [None, None]
    assert (path_of(done) / "last.safetensors").stat().st_mtime_ns == before
    for model in ("vit", "resnet"):
        for name in ("stopped", "killed"):
            require_same(last(folder / name, model), last(folder / "two both", model))

    train(config(folder, "killed alone", **BOTH))
    require_close(last(folder / "killed alone"), last(folder / "two both"))
