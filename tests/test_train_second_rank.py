"""What a rank beside the leading one refuses: other files, another command, too few rows; and options for ranks only."""

import pathlib
from typing import Any

import pytest
import torch
from artefacts import make_store, make_targets

from tcs.checkpoint import save_resume
from tcs.config.train import TrainConfig
from tcs.distributed.collectives import ALONE, Collectives
from tcs.distributed.ranks import Ranks
from tcs.errors import ArtefactError, ConfigError, DivergedError
from tcs.runtime import Place
from tcs.training.data import open_data
from tcs.training.jobs import plan_jobs
from tcs.training.loop import Runner
from tcs.training.monitor import look_at
from tcs.training.stream import open_streams
from tcs.training.train import forecast, train
from tcs.training.trainer import Trainer

RESNET = "resnet18,layers=(1,1,1,1),channels=(4,4,8,8)"
VIT = "vit_tiny_patch16_224,img_size=16,patch_size=8,embed_dim=16,depth=1,num_heads=2"


class Second(Collectives):
    """Rank 1 of 2, to which rank 0 says what it is told to say, and whose weights are already those of rank 0."""

    def __init__(self, *said: Any) -> None:
        super().__init__(Ranks(Place(1, 1, 2)), torch.device("cpu"))
        self.said = list(said)

    def broadcast_state(self, module: torch.nn.Module) -> None:
        pass

    def broadcast_json(self, value: Any) -> Any:
        """The next of the words of rank 0, of which ... means: the same."""
        word = self.said.pop(0)
        return value if word is ... else word


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> pathlib.Path:
    make_store(tmp_path / "train.store")
    make_targets(tmp_path)
    return tmp_path


def config(folder: pathlib.Path, **options: Any) -> TrainConfig:
    defaults = {"store": str(folder / "train.store"), "targets": str(folder / "pca.h5"), "out": str(folder / "run")}
    defaults |= {"models": (RESNET,), "method": "labels", "shots": 4, "steps": 4, "batch_size": 8, "img_size": 16}
    return TrainConfig.from_options(defaults | options)


def opened(config: TrainConfig, together: Any) -> tuple[Trainer, str]:
    """The trainer of the only student, and the fingerprint of its run."""
    data = open_data(config.store, config.targets)
    (job,) = plan_jobs(config, data)
    (stream,) = open_streams([job], data, torch.device("cpu"), together)
    return stream.trainers[0], job.fingerprint


def test_a_rank_with_another_command_is_refused(folder: pathlib.Path) -> None:
    _, digest = opened(config(folder), ALONE)
    opened(config(folder), Second([[digest, 200, None, None]], [False]))
    for options in ({"seed": 5}, {"checkpoint_every": 7}):
        with pytest.raises(ConfigError, match=r"^rank 1 is to train other students than rank 0.* give all ranks one"):
            opened(config(folder, **options), Second([[digest, 200, None, None]], [False]))


def test_folders_are_judged_by_rank_0(folder: pathlib.Path) -> None:
    (path,) = train(config(folder))
    before = {entry.name: entry.stat().st_mtime_ns for entry in path.iterdir()}
    again = config(folder, overwrite=True)
    opened(again, Second(..., [False]))
    assert forecast(again)[0]["steps"] == 4
    assert {entry.name: entry.stat().st_mtime_ns for entry in path.iterdir()} == before


def test_a_rank_that_reads_another_resume_file_is_refused(folder: pathlib.Path) -> None:
    trainer, digest = opened(config(folder), Second(..., [False], True, True, 3))
    runner = Runner(trainer=trainer, folder=folder)
    with pytest.raises(
        ArtefactError, match=r"^rank 1 cannot see .*resume.pt, which rank 0 .*; --out must lie on a file"
    ):
        runner.resume()
    save_resume(folder / "resume.pt", trainer.state() | {"fingerprint": digest})
    with pytest.raises(ArtefactError, match=r"^rank 1 reads step 0 in .*resume.pt, rank 0 step 3; --out must lie on"):
        runner.resume()


@pytest.mark.parametrize(
    ("options", "ranks", "needed"),
    [
        ({"batch_size": 3}, 2, 2),
        ({"batch_size": 7, "grad_accum_steps": 2}, 2, 2),
        ({"models": (VIT,), "batch_size": 2}, 3, 1),
    ],
)
def test_a_batch_too_small_for_its_shares_is_refused(
    folder: pathlib.Path, options: dict[str, Any], ranks: int, needed: int
) -> None:
    together = Second(..., [False])
    together.world_size = ranks
    with pytest.raises(
        ConfigError, match=rf"for {ranks} process\(es\) in .* needs {needed} or more .* larger --batch-size"
    ):
        opened(config(folder, **options), together)


def test_shared_batch_statistics_need_several_processes(folder: pathlib.Path) -> None:
    with pytest.raises(ConfigError, match=r"^--sync-bn is set for one process, .*; leave it out"):
        train(config(folder, sync_bn=True))


def test_rank_0_alone_looks_at_held_out_rows(folder: pathlib.Path) -> None:
    settings = config(folder, held_out=30)
    trainer, _ = opened(settings, ALONE)
    data = open_data(settings.store, settings.targets)
    looks = [look_at(trainer.job, data, torch.device("cpu"), leads=leads) for leads in (True, False)]
    assert "held_out_r2" in looks[0](trainer)
    assert looks[1](trainer) == {}


def test_features_that_rank_0_finds_not_finite_end_the_student_on_all(folder: pathlib.Path) -> None:
    settings = config(folder)
    trainer, _ = opened(settings, Second(..., [False], ["features", float("nan"), 3]))
    runner = Runner(trainer=trainer, folder=None, look=lambda _trainer: {})
    with pytest.raises(DivergedError, match=r"a feature of an image is nan at step 3; lower --lr"):
        runner.seen()
