"""Every loss through `tcs train` on a small store with a vector and three maps: trains, resumes, and is refused by name."""

import pathlib
from typing import Any

import click
import numpy as np
import pytest
import safetensors.torch
import torch
from artefacts import CLASSES, make_targets, png

import cache
from tcs.cli import group, main
from tcs.config.train import TrainConfig, option_defaults
from tcs.criteria.losses import LOSSES
from tcs.distributed.collectives import ALONE
from tcs.errors import ArtefactError, ConfigError, ModelError
from tcs.training.data import map_readouts, open_data
from tcs.training.feed import Batch, Feed
from tcs.training.jobs import plan_jobs
from tcs.training.stream import open_streams
from tcs.training.train import train
from tcs.training.trainer import Trainer

STUDENT = "resnet18,layers=(1,1,1,1),channels=(4,4,8,8)"
VIT = "vit_tiny_patch16_224,img_size=64,patch_size=32,embed_dim=16,depth=1,num_heads=2"
ROWS, DIMS = 24, 12
GRIDS = {"stage1.map": (4, 4, 5), "stage2.map": (2, 2, 6), "stage3.map": (2, 2, 7)}


def write_store(
    path: pathlib.Path,
    *,
    vectors: tuple[str, ...] = ("avg",),
    maps: bool = True,
    views: int = 0,
    grids: dict[str, tuple[int, int, int]] = GRIDS,
) -> str:
    """24 images of three classes: features around a class centre, maps of noise."""
    rng = np.random.default_rng(0)
    labels_N = np.arange(ROWS) % len(CLASSES)
    centres_CD = 3 * rng.standard_normal((len(CLASSES), DIMS))
    blobs = [png(rng.integers(0, 255, (16, 16, 3), dtype=np.uint8)) for _ in range(ROWS)]
    readouts = [cache.Readout(name=name, dims=DIMS, dtype="float16") for name in vectors]
    if maps:
        readouts += [
            cache.Readout(name=name, dims=dims, dtype="float16", grid=(height, width))
            for name, (height, width, dims) in grids.items()
        ]
    plan = cache.Plan(
        identity={"teacher": "made-up"},
        readouts=tuple(readouts),
        keys=tuple(f"{CLASSES[label]}/{row}.png" for row, label in enumerate(labels_N)),
        labels=tuple(labels_N.tolist()),
        classes=CLASSES,
        images="original",
        rows_per_shard=ROWS,
        batch_size=8,
        views=cache.Views(count=views, parameters=("flip",)) if views else None,
    )
    features = {item.name: rng.standard_normal((ROWS, *plan.row_shape(item))) for item in readouts}
    if not views:
        for name in vectors:
            features[name] += centres_CD[labels_N]
    hashes = b"".join(cache.content_hash(blob) for blob in blobs)
    with cache.StoreWriter(path, plan, provenance={}) as writer:
        rows = cache.ShardRows(
            positions_N=np.arange(ROWS),
            hashes_N16=np.frombuffer(hashes, np.uint8).reshape(-1, 16),
            features=features,
            images=blobs,
            views_NVP=np.zeros((ROWS, views, 1)) if views else None,
        )
        writer.write_shard(0, rows)
        writer.close()
    return str(path)


def config(folder: pathlib.Path, loss: str | None, **options: Any) -> TrainConfig:
    defaults = {
        "store": str(folder / "train.store"),
        "out": str(folder / "run"),
        "models": (STUDENT,),
        "loss": loss,
        "shots": 4,
        "steps": 4,
        "batch_size": 8,
        "img_size": 64,
        "seed": 3,
    }
    return TrainConfig.from_options(defaults | options)


def losses_with(*, targets: bool) -> list[str]:
    return [name for name, loss in LOSSES.items() if bool(loss.reads & {"coordinates", "bits"}) == targets]


@pytest.mark.parametrize("name", [name for name in losses_with(targets=False) if name != "ce"])
def test_every_loss_trains_beside_cross_entropy(tmp_path: pathlib.Path, name: str) -> None:
    write_store(tmp_path / "train.store")
    (folder,) = train(config(tmp_path, f"ce + 0.1*{name}"))
    header, *lines = (folder / "summary.csv").read_text().splitlines()
    assert f"loss_{name}" in header
    assert len(lines) == 4


def folded(folder: pathlib.Path) -> dict[str, torch.Tensor]:
    return safetensors.torch.load_file(folder / "folded.safetensors")


@pytest.mark.parametrize("name", ["crd", "queue-kl", "vid", "vkd", "lshl2"])
def test_a_run_cut_short_resumes_to_the_same_weights(
    tmp_path: pathlib.Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_store(tmp_path / "train.store")
    (whole,) = train(config(tmp_path, f"ce + {name}", out=str(tmp_path / "whole")))

    step = Trainer.train_step

    def cut(self: Trainer, feed: Feed, batch: Batch) -> None:
        if self.step == 3:
            raise KeyboardInterrupt
        step(self, feed, batch)

    with monkeypatch.context() as patch:
        patch.setattr("tcs.training.trainer.Trainer.train_step", cut)
        with pytest.raises(KeyboardInterrupt):
            train(config(tmp_path, f"ce + {name}", checkpoint_every=2))
    (resumed,) = train(config(tmp_path, f"ce + {name}", checkpoint_every=2))
    first, second = folded(whole), folded(resumed)
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_gates_close_to_the_number_asked_for_and_fold(tmp_path: pathlib.Path) -> None:
    write_store(tmp_path / "train.store", maps=False)
    targets = make_targets(tmp_path, components=8)
    options = {"method": "tcs", "targets": str(targets), "selection": "gates", "keep": 3, "steps": 40}
    (folder,) = train(config(tmp_path, None, **options))
    state = safetensors.torch.load_file(folder / "last.safetensors")
    assert int(state["gates.open_K"].sum()) == 3
    assert not torch.equal(state["gates.gate_K"], torch.ones(8))


@pytest.mark.parametrize(
    ("loss", "options", "error", "message"),
    [
        ("ce + rkd", {"vectors": ()}, ArtefactError, r"has maps only \(stage1.map, .*extract vectors too: tcs extract"),
        (
            "ce + at",
            {"maps": False},
            ArtefactError,
            "reads cached maps .*, and .* has the readouts avg; extract it again with maps, deep ones last: tcs",
        ),
        ("ce + rkd", {"vectors": ("avg", "cls")}, ArtefactError, "--readout is missing; .* has the vectors avg, cls"),
        (
            "ce + rkd",
            {"views": 2, "maps": False},
            ArtefactError,
            r"has views by flip \(semantics 1\), this release rep",
        ),
    ],
)
def test_what_the_store_lacks_is_refused_before_training(
    tmp_path: pathlib.Path, loss: str, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    write_store(tmp_path / "train.store", **options)
    with pytest.raises(error, match=message):
        train(config(tmp_path, loss))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("loss", "options", "error", "message"),
    [
        ("rkd", {}, ConfigError, "--loss 'rkd' trains no classifier; add ce, as in --loss 'ce \\+ rkd'"),
        ("rkd", {"head": "tcs"}, ConfigError, "--loss 'rkd' trains no classifier; add ce"),
        ("", {}, ConfigError, "--loss is ''; '' is not NAME or WEIGHT\\*NAME"),
        ("tcs", {}, ConfigError, "--loss is 'tcs', which is a method; use --method tcs"),
        ("ce", {"readout": "cls"}, ArtefactError, "--readout is 'cls'; .* has the vectors avg"),
        ("ce + rkd", {"readout": "cls"}, ArtefactError, "--readout is 'cls'; .* has the vectors avg"),
        ("ce + at", {"models": (VIT,)}, ModelError, "cannot give the maps of its last 3 stages"),
        (
            "ce + vkd",
            {"models": (STUDENT.replace("8,8", "8,16"),)},
            ConfigError,
            "student of 16 dims and a teacher of 12",
        ),
        (
            "ce + at",
            {"img_size": 16},
            ConfigError,
            "at has student maps of 2x2, 1x1, 1x1 positions, .*larger --img-size",
        ),
        (
            "ce + rkd",
            {"mimic_view": "clean", "labelled_share": 1.0},
            ConfigError,
            r"a batch has 0 row\(s\) in its clean view; losses that compare rows need 2 or more",
        ),
        ("ce + elsh", {}, ConfigError, "reads cached bits; run tcs fit .*, then tcs targets"),
        ("ce + rkd", {"selection": "gates"}, ConfigError, "--selection gates needs a classifier that is trained"),
        ("ce", {"keep": 3}, ConfigError, "--keep is 3; it must be 1 or more, and goes with --selection gates"),
    ],
)
def test_what_cannot_be_trained_is_refused_by_name(
    tmp_path: pathlib.Path, loss: str, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    write_store(tmp_path / "train.store")
    with pytest.raises(error, match=message):
        train(config(tmp_path, loss, **options))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("loss", "rows"), [("ce + dkd", 12), ("ce + lshl2_s", 12), ("ce + kd", ROWS)])
def test_losses_of_labelled_rows_alone_draw_no_others(tmp_path: pathlib.Path, loss: str, rows: int) -> None:
    write_store(tmp_path / "train.store")
    data = open_data(str(tmp_path / "train.store"), None)
    (stream,) = open_streams(plan_jobs(config(tmp_path, loss), data), data, torch.device("cpu"), ALONE)
    assert len(stream.trainers[0].rows.labels_n) == len(stream.job.rows.rows_n) == rows
    with stream.feed() as feed:
        assert (feed.plan(0).pool == 0) == (rows == 12)


def test_teacher_logits_come_from_the_labels_of_the_split_alone(tmp_path: pathlib.Path) -> None:
    write_store(tmp_path / "train.store")
    data = open_data(str(tmp_path / "train.store"), None)
    (stream,) = open_streams(plan_jobs(config(tmp_path, "ce + kd"), data), data, torch.device("cpu"), ALONE)
    logits_nC = stream.trainers[0].rows.teacher_logits_nC
    assert logits_nC is not None
    labels_n = torch.from_numpy(data.store.labels_N[stream.job.rows.rows_n])
    assert float((logits_nC.argmax(1) == labels_n).float().mean()) > 0.9


def test_a_loss_is_no_method(tmp_path: pathlib.Path) -> None:
    write_store(tmp_path / "train.store", maps=False)
    with pytest.raises(ConfigError, match="--method is 'rkd', which is a loss; use --loss, as in --loss 'ce \\+ rkd'"):
        train(config(tmp_path, None, method="rkd"))


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"weight_decay": float("nan")}, "--weight-decay is nan; it must be 0 or more"),
        ({"weight_decay": -0.1}, "--weight-decay is -0.1; it must be 0 or more"),
        ({"warmup_phase_share": 1.0}, "--warmup-phase-share is 1.0; it must lie above 0 and below 1"),
    ],
)
def test_numbers_out_of_range_are_refused(tmp_path: pathlib.Path, option: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        config(tmp_path, "ce", **option)


def test_maps_are_paired_by_depth_whatever_the_order_they_were_asked_for(tmp_path: pathlib.Path) -> None:
    store = cache.open(write_store(tmp_path / "train.store", grids=dict(reversed(GRIDS.items()))))
    assert map_readouts(store) == ["stage1.map", "stage2.map", "stage3.map"]


def command_line(capsys: pytest.CaptureFixture[str], folder: pathlib.Path, *options: str) -> tuple[int, str, str]:
    """`tcs train` of three steps on the store of `folder`: exit code, stdout, stderr."""
    fixed = ["--model", STUDENT, "--shots", "2", "--steps", "3", "-b", "8", "--out", str(folder / "run")]
    with pytest.raises(SystemExit) as ended:
        main(["train", str(folder / "train.store"), *fixed, *options])
    output = capsys.readouterr()
    assert isinstance(ended.value.code, int)
    return ended.value.code, output.out, output.err


def test_a_sum_of_losses_needs_no_targets(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_store(tmp_path / "train.store", vectors=("cls", "avg"), maps=False)
    options = ("--loss", "ce + 0.5*rkd", "--readout", "avg", "--img-size", "32")
    code, out, _ = command_line(capsys, tmp_path, *options)
    assert code == 0
    assert pathlib.Path(out.strip()).name == "folded.safetensors"
    assert "loss_rkd" in (pathlib.Path(out.strip()).parent / "summary.csv").read_text()


def test_gates_from_the_command_line(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_store(tmp_path / "train.store", maps=False)
    targets = str(make_targets(tmp_path, components=8))
    options = ("--method", "tcs", "--targets", targets, "--selection", "gates", "--img-size", "32")
    assert command_line(capsys, tmp_path, *options, "--keep", "3")[0] == 0
    code, out, err = command_line(capsys, tmp_path, *options, "--keep", "9", "--overwrite")
    assert (code, out) == (1, "")
    assert err.splitlines()[-1] == "Error: --keep is 9, and there are 8 coordinates; keep that many or fewer."


def test_a_loss_that_the_maps_rule_out_is_one_line(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_store(tmp_path / "train.store")
    code, out, err = command_line(capsys, tmp_path, "--loss", "ce + at", "--img-size", "16")
    assert (code, out) == (1, "")
    assert err.splitlines()[-1].startswith("Error: at has student maps of 2x2, 1x1, 1x1 positions")
    assert "Traceback" not in err
    assert not (tmp_path / "run").exists()


def test_every_option_of_the_configuration_is_one_of_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    parameters = {parameter.name for parameter in group.get_command(click.Context(group), "train").params}
    assert set(option_defaults()) == parameters - {"as_json", "config", "help"}
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    shown = capsys.readouterr().out
    assert all(text in shown for text in ("--readout", "--keep", "pool (by all rows)", "tcs methods"))
