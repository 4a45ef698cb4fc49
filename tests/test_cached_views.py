"""Training from a store with several cached views: what a row learns belongs to the view that it is shown.

Features of the store are mean colours of the view, so that shown images say which view they are, without the code under test.
Letters: B rows of a batch, V views, K coordinates.
"""

import pathlib
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from artefacts import make_store, make_targets
from view_store import ROWS, VIEWS, quarters, write_view_store

from tcs.augmentation.views import replay
from tcs.config.pixels import PixelRules
from tcs.config.train import TrainConfig
from tcs.criteria.base import StepRows
from tcs.distributed.collectives import ALONE
from tcs.errors import ArtefactError, ConfigError
from tcs.functional.coordinates import unpack_bits
from tcs.images.decode import decode_image
from tcs.training import trainer as trainer_module
from tcs.training.data import RunData, open_data
from tcs.training.feed import Batch, Feed
from tcs.training.jobs import plan_jobs
from tcs.training.loading import load_rows
from tcs.training.monitor import look_at
from tcs.training.stream import Stream, open_streams
from tcs.training.train import train
from tcs.training.trainer import Trainer

STUDENT = "resnet18,layers=(1,1,1,1),channels=(4,4,8,8)"
VIT = "vit_tiny_patch16_224,img_size=16,patch_size=8,embed_dim=16,depth=1,num_heads=2"
NEAR = 0.03  # of the colours' range: what the squash changes of a quarter's mean


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    found = tmp_path_factory.mktemp("views")
    write_view_store(found / "train.store", maps=True)
    write_view_store(found / "vectors.store")
    make_targets(found, "vectors.store", components=6)
    return found


def config(folder: pathlib.Path, out: pathlib.Path, *, with_maps: bool = False, **options: Any) -> TrainConfig:
    own = {"store": str(folder / "train.store")} if with_maps else {"store": str(folder / "vectors.store")}
    own |= {} if with_maps else {"targets": str(folder / "pca.h5")}
    defaults = {
        "out": str(out),
        "models": (STUDENT,),
        "shots": 4,
        "steps": 6,
        "batch_size": 12,
        "img_size": 16,
        "seed": 3,
    }
    return TrainConfig.from_options(own | defaults | {"held_out": 0} | options)


def opened(chosen: TrainConfig) -> tuple[RunData, Stream]:
    data = open_data(chosen.store, chosen.targets)
    (stream,) = open_streams(plan_jobs(chosen, data), data, torch.device("cpu"), ALONE)
    return data, stream


def colours(images_B3HW: torch.Tensor) -> np.ndarray:
    return np.stack([quarters(image.permute(1, 2, 0).numpy()).reshape(-1) for image in images_B3HW])


def weights(path: pathlib.Path) -> dict[str, torch.Tensor]:
    return safetensors.torch.load_file(path / "last.safetensors")


def equal(first: pathlib.Path, second: pathlib.Path) -> bool:
    ours, theirs = weights(first), weights(second)
    return all(torch.equal(ours[name], theirs[name]) for name in ours)


def recorded(monkeypatch: pytest.MonkeyPatch) -> list[StepRows]:
    """What the losses are given, as training goes."""
    seen: list[StepRows] = []
    original = trainer_module.step_rows

    def record(*arguments: Any) -> StepRows:
        seen.append(original(*arguments))
        return seen[-1]

    monkeypatch.setattr(trainer_module, "step_rows", record)
    return seen


def test_what_a_row_learns_is_of_the_view_that_it_is_shown(
    folder: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loss = "ce + l2 + elsh + projector + kd"
    data, stream = opened(config(folder, tmp_path / "run", head="tcs", loss=loss))
    seen, shown_views = recorded(monkeypatch), []
    assert data.targets is not None
    features_NVD = data.store.features("avg")[:]
    with stream.feed() as feed:
        for step in range(6):
            batch = feed.batch(step)
            stream.trainers[0].train_step(feed, batch)
            rows_B, view_B = stream.job.rows.rows_n[batch.positions_B.numpy()], batch.view_B.numpy()
            mimic = next(rows for rows in reversed(seen) if len(rows.place_B) == len(rows_B))
            assert np.array_equal(mimic.teacher_BD.numpy(), features_NVD[rows_B, view_B])
            assert np.array_equal(mimic.coordinates_BK.numpy(), data.targets.z_NK[rows_B, view_B])
            bits_BH = unpack_bits(torch.from_numpy(data.targets.bits_NP[rows_B, view_B]))
            assert torch.equal(mimic.bits_BH, bits_BH)
            assert np.abs(colours(batch.shown_b3HW) - mimic.teacher_BD.numpy()).max() < NEAR
            shown_views += view_B.tolist()
    assert set(shown_views) == set(range(VIEWS))


def test_shown_pixels_are_those_of_the_view_image_by_image(folder: pathlib.Path, tmp_path: pathlib.Path) -> None:
    data, stream = opened(config(folder, tmp_path / "run", method="labels", shots=None, targets=None, decode_size=48))
    with stream.feed() as feed:
        batch = feed.batch(1)
    for image_3HW, row, view in zip(batch.shown_b3HW, batch.positions_B.tolist(), batch.view_B.tolist(), strict=True):
        picture = decode_image(data.store.image_bytes(row), PixelRules())
        gaps = [
            np.abs(image_3HW.permute(1, 2, 0).numpy() - np.asarray(replay(picture, row_P, (16, 16)), np.float64)).mean()
            for row_P in data.store.view_parameters()[row]
        ]
        assert gaps[view] < 3
        assert int(np.argmin(gaps)) == view


def test_views_are_a_function_of_the_step_alone(folder: pathlib.Path, tmp_path: pathlib.Path) -> None:
    chosen = config(folder, tmp_path / "run", method="tcs")
    with opened(chosen)[1].feed() as feed:
        forth = [feed.batch(step).view_B for step in range(6)]
    with opened(chosen)[1].feed() as feed:
        assert torch.equal(feed.batch(4).view_B, forth[4])
    assert not all(torch.equal(forth[0], view_B) for view_B in forth)


class Rank:
    """Every second row of a batch, as one of two processes takes them."""

    def __init__(self, number: int) -> None:
        self.number = number

    def part(self, rows_B: torch.Tensor) -> torch.Tensor:
        return rows_B[self.number :: 2]


def test_ranks_show_their_part_of_one_draw(folder: pathlib.Path, tmp_path: pathlib.Path) -> None:
    _, stream = opened(config(folder, tmp_path / "run", method="tcs"))
    with stream.feed() as feed:
        whole = feed.batch(2)
        for number in range(2):
            own = [feed.images, feed._labelled_m, feed._stages, feed.showing, Rank(number), feed.views]
            part = Feed(*own).batch(2)  # type: ignore[arg-type]
            assert torch.equal(part.view_B, whole.view_B)
            assert torch.equal(part.shown_b3HW, whole.shown_b3HW[number::2])


def test_maps_are_those_of_the_view(
    folder: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, stream = opened(config(folder, tmp_path / "run", with_maps=True, loss="ce + at", img_size=64))
    seen, maps_NVHWC = recorded(monkeypatch), data.store.features("map")[:]
    with stream.feed() as feed:
        batch = feed.batch(0)
        stream.trainers[0].train_step(feed, batch)
    rows = next(rows for rows in seen if rows.teacher_maps)
    wanted_BHWC = maps_NVHWC[batch.positions_B.numpy(), batch.view_B.numpy()][: len(rows.place_B)]
    assert np.array_equal(rows.teacher_maps[0].permute(0, 2, 3, 1).numpy(), wanted_BHWC)


@pytest.mark.parametrize("loss", ["crd", "queue-kl", "lshl2", "vkd-whitened", "kd"])
def test_losses_that_remember_or_measure_rows_train_and_resume(
    folder: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, loss: str
) -> None:
    options: dict[str, Any] = {"loss": f"ce + 0.1*{loss}", "targets": None}
    (whole,) = train(config(folder, tmp_path / "whole", **options))
    step = Trainer.train_step

    def cut(self: Trainer, feed: Feed, batch: Batch) -> None:
        if self.step == 3:
            raise KeyboardInterrupt
        step(self, feed, batch)

    with monkeypatch.context() as patch:
        patch.setattr("tcs.training.trainer.Trainer.train_step", cut)
        with pytest.raises(KeyboardInterrupt):
            train(config(folder, tmp_path / "cut", checkpoint_every=2, **options))
    (resumed,) = train(config(folder, tmp_path / "cut", checkpoint_every=2, **options))
    assert equal(whole, resumed)


def test_streamed_beside_others_and_in_parts_are_the_same(folder: pathlib.Path, tmp_path: pathlib.Path) -> None:
    (alone,) = train(config(folder, tmp_path / "alone", method="tcs+elsh"))
    (streamed,) = train(config(folder, tmp_path / "streamed", method="tcs+elsh", resident_share=0.0, workers=2))
    beside, _ = train(config(folder, tmp_path / "both", method="tcs+elsh", models=(STUDENT, VIT)))
    assert equal(alone, streamed)
    assert equal(alone, beside)


def test_the_refitted_projection_reads_the_first_view(
    folder: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, stream = opened(config(folder, tmp_path / "run", method="tcs-probe"))
    found: dict[str, np.ndarray] = {}
    fit = trainer_module.fit_ridge_targets

    def record(features_nS: np.ndarray, targets_nK: np.ndarray, penalty: float) -> Any:
        found["targets"] = targets_nK
        return fit(features_nS, targets_nK, penalty)

    monkeypatch.setattr(trainer_module, "fit_ridge_targets", record)
    with stream.feed() as feed:
        stream.trainers[0].refit_projection(feed)
        first_N3HW = feed.clean(torch.arange(ROWS))
    assert data.targets is not None
    assert np.array_equal(found["targets"], data.targets.z_NK[:, 0])
    assert np.abs(colours(first_N3HW) - data.store.features("avg", view=0)[:]).max() < NEAR


def test_held_out_rows_show_their_first_view(
    folder: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: dict[str, Any] = {}
    monkeypatch.setattr("tcs.training.monitor.Monitor", lambda **values: made.update(values))
    chosen = config(folder, tmp_path / "run", loss="ce + rkd", targets=None, unlabelled="none", shots=1, held_out=20)
    data = open_data(chosen.store, None)
    (job,) = plan_jobs(chosen, data)
    look_at(job, data, torch.device("cpu"))
    assert np.array_equal(made["teacher_ND"], data.store.features("avg", view=0)[job.rows.held_out.rows_N])
    assert np.abs(colours(made["images_N3HW"]) - made["teacher_ND"]).max() < NEAR


def test_teacher_logits_are_of_each_view_by_a_probe_of_all_views(folder: pathlib.Path, tmp_path: pathlib.Path) -> None:
    chosen = config(folder, tmp_path / "run", loss="ce + kd", targets=None)
    data = open_data(chosen.store, None)
    (job,) = plan_jobs(chosen, data)
    rows = load_rows(job, data, torch.device("cpu"))
    assert rows.teacher_logits_nC is not None
    assert rows.teacher_logits_nC.shape == (ROWS, VIEWS, 3)
    labelled_NV = rows.teacher_logits_nC[rows.labelled_m].argmax(-1)
    labels_N = rows.labels_n[rows.labelled_m]
    assert (labelled_NV == labels_N[:, None]).float().mean() > 0.5  # fitted on them
    assert rows.teacher_logits_nC.std(1).min() > 0


def test_one_view_is_replayed_as_well(tmp_path: pathlib.Path) -> None:
    write_view_store(tmp_path / "vectors.store", views=1)
    make_targets(tmp_path, "vectors.store", components=6)
    (made,) = train(config(tmp_path, tmp_path / "run", method="tcs"))
    assert (made / "folded.safetensors").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scale": (0.2, 1.0)}, r"--scale is \(0.2, 1.0\), and .* holds 3 views of each image, which are replayed"),
        ({"hflip": 0.3}, "--hflip is 0.3, and .*leave the option out, or extract with other --views"),
        ({"crop_padding": 0.2}, "--crop-padding is 0.2, and"),
        ({"reprob": 0.25}, "--reprob is 0.25, and"),
        ({"color_jitter": 0.4}, "--color-jitter is 0.4, and"),
        ({"mimic_view": "clean"}, "--mimic-view is clean, and .* the student always sees what the teacher saw"),
    ],
)
def test_what_would_change_a_replayed_view_is_refused(
    folder: pathlib.Path, tmp_path: pathlib.Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        train(config(folder, tmp_path / "run", method="tcs", **options))
    assert not (tmp_path / "run").exists()


def test_off_may_be_said(folder: pathlib.Path, tmp_path: pathlib.Path) -> None:
    chosen = config(folder, tmp_path / "run", method="tcs", hflip=0.0, crop_padding=0.0, smoothing=0.1)
    assert len(plan_jobs(chosen, open_data(chosen.store, chosen.targets))) == 1


def test_views_of_other_parameters_and_idle_frames_are_refused(tmp_path: pathlib.Path) -> None:
    make_store(tmp_path / "other.store", views=2)
    options: dict[str, Any] = {"method": "labels", "targets": None}
    with pytest.raises(ArtefactError, match=r"has views by flip \(semantics 1\), this release replays top, left"):
        train(config(tmp_path, tmp_path / "run", store=str(tmp_path / "other.store"), **options))
    make_store(tmp_path / "clean.store")
    with pytest.raises(
        ConfigError, match="--decode-size is 32; it goes with --scale, or with a store of several views"
    ):
        train(config(tmp_path, tmp_path / "run", store=str(tmp_path / "clean.store"), decode_size=32, **options))
