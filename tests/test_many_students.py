"""Many students on one stream: each as if alone, with its own normalisation, its own failure and its own folder.

Legend: B batch rows, H and W pixels.
"""

import pathlib
from typing import Any

import pytest
import safetensors
import torch
from artefacts import make_store, make_targets
from safetensors.torch import load_file
from together import CIFAR, CNN, THREE, VIT, config, diverging, record, result

import cache
from tcs.errors import ArtefactError, DivergedError, ModelError
from tcs.students.student import Student, StudentOutput
from tcs.training.feed import Batch, Feed
from tcs.training.train import forecast, train
from tcs.training.trainer import Trainer

RUNS: dict[str, dict[str, Any]] = {
    "labels": {"method": "labels", "mixup": 0.2, "smoothing": 0.1},
    "tcs+elsh": {"method": "tcs+elsh", "model_ema": True, "model_ema_decay": 0.9, "held_out": 20},
    "crd": {"method": None, "loss": "ce + 0.5*crd", "grad_accum_steps": 1},
    "gates": {"method": "tcs", "selection": "gates", "keep": 3, "steps": 24},
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("many")
    make_store(folder / "train.store")
    make_targets(folder)
    return folder


@pytest.mark.parametrize("name", RUNS)
def test_each_student_of_a_run_is_what_it_is_alone(data: pathlib.Path, tmp_path: pathlib.Path, name: str) -> None:
    together = train(config(data, out=str(tmp_path / "run"), **RUNS[name]))
    for model, folder in zip(THREE, together, strict=True):
        (alone,) = train(config(data, out=str(tmp_path / "alone"), models=(model,), **RUNS[name]))
        assert result(folder) == result(alone), model


def test_students_of_another_size_form_a_stream_of_their_own(
    data: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, int]] = []
    batch_of = Feed.batch

    def batch(self: Feed, step: int) -> Batch:
        seen.append((self.showing.size, step))
        return batch_of(self, step)

    larger = VIT.replace("img_size=16", "img_size=32")
    models = (VIT, CIFAR, larger)
    monkeypatch.setattr("tcs.training.feed.Feed.batch", batch)
    together = train(config(data, out=str(tmp_path / "run"), models=models, img_size=None, steps=6))
    assert seen == [(size, step) for size in (16, 32) for step in range(6)]  # one batch for both students of 32 px
    for model, folder, side in zip(models, together, (16, 32, 32), strict=True):
        assert record(folder)["student"]["image_size"] == side
        (alone,) = train(config(data, out=str(tmp_path / "alone"), models=(model,), img_size=None, steps=6))
        assert result(folder) == result(alone), model


def test_the_same_pixels_reach_every_student_in_its_own_normalisation(
    data: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    published = {  # mean and deviation: ImageNet, timm's ViT of 2021, CIFAR-100
        "ResNet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        "VisionTransformer": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
        "SmallImageNet": ((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)),
    }
    fed: dict[str, list[torch.Tensor]] = {name: [] for name in published}
    forward = Student.forward

    def watched(self: Student, images_B3HW: torch.Tensor, maps: int = 0) -> StudentOutput:
        if self.training:
            fed[type(self.backbone).__name__].append(images_B3HW.clone())
        return forward(self, images_B3HW, maps)

    monkeypatch.setattr("tcs.students.student.Student.forward", watched)
    train(config(data, out=str(tmp_path / "run"), method="labels", steps=3))
    pixels = {}
    for name, (mean, std) in published.items():
        inputs = torch.stack(fed[name])
        pixels[name] = 255 * (inputs * torch.tensor(std).view(3, 1, 1) + torch.tensor(mean).view(3, 1, 1))
        assert len(inputs) == 3
        assert torch.allclose(pixels[name], pixels[name].round(), atol=1e-3)
    assert torch.equal(pixels["ResNet"].round(), pixels["VisionTransformer"].round())
    assert torch.equal(pixels["ResNet"].round(), pixels["SmallImageNet"].round())


def test_a_student_that_diverges_stops_alone_and_is_tried_again_alone(
    data: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train(config(data, out=str(tmp_path / "whole")))
    shown: dict[int, torch.Tensor] = {}
    broken_step = diverging(VIT, 6)

    def train_step(self: Trainer, feed: Feed, batch: Batch) -> None:
        shown[batch.step] = batch.shown_b3HW.clone()
        broken_step(self, feed, batch)

    ours = config(data, out=str(tmp_path / "run"))
    with monkeypatch.context() as patch:
        patch.setattr("tcs.training.trainer.Trainer.train_step", train_step)
        with pytest.raises(DivergedError) as error:
            train(ours)
    cnn, vit, cifar = (tmp_path / "run" / path.name for path in whole)
    assert str(error.value) == (
        f"student {VIT}: loss 'ce' is nan at step 6; lower --lr and train again. Its batch is in {vit / 'diverged.safetensors'}."
    )
    assert [record(path)["state"] for path in (cnn, vit, cifar)] == ["finished", "failed", "finished"]
    assert result(cnn) == result(whole[0])
    assert result(cifar) == result(whole[2])
    check_batch(vit / "diverged.safetensors", cache.open(data / "train.store"), shown[6])

    trained: list[str] = []

    def counted(self: Trainer, feed: Feed, batch: Batch) -> None:
        trained.append(self.job.name)
        plain(self, feed, batch)

    plain = Trainer.train_step
    monkeypatch.setattr("tcs.training.trainer.Trainer.train_step", counted)
    train(ours)
    assert trained == [VIT] * 8  # from its checkpoint after step 4
    assert result(vit) == result(whole[1])


def check_batch(path: pathlib.Path, store: cache.Store, shown_B3HW: torch.Tensor) -> None:
    """The file of a failure: the images as the students were shown them, and which rows of the store they are."""
    tensors = load_file(path)
    with safetensors.safe_open(path, framework="pt") as file:
        facts = file.metadata()
    assert set(tensors) == {"shown", "position", "row", "label"}
    assert torch.equal(tensors["shown"], shown_B3HW)
    assert tensors["shown"].dtype == torch.uint8
    rows = tensors["row"].tolist()
    assert (facts["step"], facts["term"]) == ("6", "loss_ce")
    assert facts["keys"].split("\n") == [store.keys[row] for row in rows]
    labels = tensors["label"].tolist()
    assert labels[:4] == [int(store.labels_N[row]) for row in rows[:4]]  # a quarter of the batch is labelled
    assert all(label in (-1, int(store.labels_N[row])) for row, label in zip(rows, labels, strict=True))
    assert -1 in labels


@pytest.mark.parametrize(
    ("options", "step"),
    [
        ({"method": "tcs", "warmup_phase_share": 0.1}, 0),  # the ridge start reads features that the warm-up blew up
        ({"method": "labels", "held_out": 20, "held_out_every": 1}, 0),  # so does the look at held-out rows
    ],
)
def test_features_that_are_not_finite_are_a_failure_of_one_student(
    data: pathlib.Path, tmp_path: pathlib.Path, options: dict[str, Any], step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = Trainer.train_step

    def train_step(self: Trainer, feed: Feed, batch: Batch) -> None:
        plain(self, feed, batch)
        if self.job.name == CNN and self.step == 1:
            with torch.no_grad():
                self.student.backbone.conv1.weight.fill_(float("inf"))

    monkeypatch.setattr("tcs.training.trainer.Trainer.train_step", train_step)
    with pytest.raises(
        DivergedError, match=rf"student resnet18.*a feature of an image is nan at step {step}; lower --lr"
    ):
        train(config(data, out=str(tmp_path / "run"), models=(CNN, VIT), **options))
    states = {path.parent.name: record(path.parent)["state"] for path in tmp_path.glob("run/*/config.json")}
    assert {name[:3]: state for name, state in states.items()} == {"res": "failed", "vit": "finished"}
    assert load_file(next(tmp_path.glob("run/*/diverged.safetensors")))["shown"].shape[1:] == (3, 16, 16)


@pytest.mark.parametrize("averaged", [False, True])
def test_weights_that_the_last_update_blew_up_are_a_failure(
    data: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, averaged: bool
) -> None:
    plain = Trainer.train_step

    def train_step(self: Trainer, feed: Feed, batch: Batch) -> None:
        plain(self, feed, batch)
        if self.job.name == CNN and self.step == self.job.steps:  # no loss will see it
            with torch.no_grad():
                self.student.backbone.bn1.running_var[0] = float("nan")

    monkeypatch.setattr("tcs.training.trainer.Trainer.train_step", train_step)
    chosen = config(data, out=str(tmp_path / "run"), models=(CNN, VIT), method="labels", model_ema=averaged)
    with pytest.raises(
        DivergedError, match=rf"student resnet18.*a weight or statistic is nan at step {chosen.steps - 1}; lower --lr"
    ):
        train(chosen)
    states = {path.parent.name[:3]: record(path.parent)["state"] for path in tmp_path.glob("run/*/config.json")}
    assert states == {"res": "failed", "vit": "finished"}
    assert not list(tmp_path.glob("run/res*/folded.safetensors"))


def test_all_students_may_diverge_by_themselves(data: pathlib.Path, tmp_path: pathlib.Path) -> None:
    hot = {"method": "labels", "opt": "sgd", "lr": 1e6, "warmup_share": 0.0}
    with pytest.raises(DivergedError) as error:
        train(config(data, out=str(tmp_path / "run"), models=(CNN, VIT), **hot))
    assert str(error.value).count("Its batch is in") == 2
    assert "\n" not in str(error.value)


def test_a_student_added_later_is_the_only_one_trained(
    data: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = train(config(data, out=str(tmp_path / "whole")))
    train(config(data, out=str(tmp_path / "run"), models=THREE[:2]))
    capsys.readouterr()
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("run/*/*")}
    folders = train(config(data, out=str(tmp_path / "run")))
    assert capsys.readouterr().err.count("is finished; nothing to do.") == 2
    assert all(path.stat().st_mtime_ns == at for path, at in before.items())
    assert [result(path) for path in folders] == [result(path) for path in whole]


def test_overwrite_deletes_nothing_before_every_student_has_passed(data: pathlib.Path, tmp_path: pathlib.Path) -> None:
    ours = {"out": str(tmp_path / "run"), "models": (CNN,), "method": "labels", "steps": 4}
    (folder,) = train(config(data, **ours))
    before = result(folder)
    second = VIT.replace("img_size=16", "img_size=32")
    with pytest.raises(ModelError, match=r"cannot take 16-px images"):
        train(config(data, **ours | {"models": (CNN, second), "overwrite": True}))
    assert [path.name for path in (tmp_path / "run").iterdir() if path.is_dir()] == [folder.name]
    forecast(config(data, **ours | {"overwrite": True, "dry_run": True}))
    assert (record(folder)["state"], result(folder)) == ("finished", before)
    train(config(data, **ours | {"steps": 6, "overwrite": True}))
    assert len(result(folder)["metrics"]) == 6


def test_a_second_student_that_cannot_be_is_refused_before_anything_is_written(
    data: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    with pytest.raises(ModelError, match=r"cannot take 16-px images .*img_size=16"):
        train(config(data, out=str(tmp_path / "run"), models=(CNN, VIT.replace("img_size=16", "img_size=32"))))
    assert not (tmp_path / "run").exists()
    train(config(data, out=str(tmp_path / "run"), models=(VIT,), method="labels", steps=2))
    with pytest.raises(ArtefactError, match=r"was made with steps 2, this command has 3"):
        train(config(data, out=str(tmp_path / "run"), models=(CNN, VIT), method="labels", steps=3))
    assert len([path for path in (tmp_path / "run").iterdir() if path.is_dir()]) == 1
