"""Extraction of augmented views: what the teacher saw can be shown again, and nothing but the policy decides it."""

import dataclasses
import io
import pathlib
from typing import Any

import numpy as np
import pytest
import timm.models
import torch
from extraction import SIDE
from PIL import Image
from store_folders import shard_files
from timm.data import create_transform

import cache
from cache.errors import IdentityError
from tcs.artefact import teacher_identity_of
from tcs.augmentation.views import PARAMETERS, replay
from tcs.config.coordinates import FitConfig
from tcs.config.extract import ExtractConfig, RecomputeConfig
from tcs.config.pixels import PixelRules
from tcs.config.train import TrainConfig
from tcs.coordinates.fit import fit
from tcs.errors import ConfigError, DataError
from tcs.extraction.decoding import CleanInputs, ViewInputs, view_policy
from tcs.extraction.extract import extract
from tcs.extraction.plan import prepare
from tcs.extraction.workers import _without_lost_parents
from tcs.images.decode import decode_image
from tcs.maintenance.recompute import recompute
from tcs.teacher.model import load_teacher
from tcs.training.train import train

torch.set_num_threads(1)
COUNT, VIEWS = 22, 3


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("data")
    for i in range(COUNT):
        (folder / f"c{i % 2}").mkdir(exist_ok=True)
        pixels = np.random.default_rng(i).integers(0, 256, (40 + i % 5, 60 - i % 7, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"c{i % 2}/{i}.{'png' if i % 3 else 'jpg'}")
    return folder


def config(data: pathlib.Path, out: pathlib.Path, teacher: pathlib.Path, **options: Any) -> ExtractConfig:
    plain = {"img_size": SIDE, "rows_per_shard": 7, "batch_size": 3, "workers": 0, "teacher": "test_vit"}
    if options.setdefault("views", VIEWS) is not None:
        plain |= {"color_jitter": 0.4, "grayscale_prob": 0.2}
    return ExtractConfig(data=str(data), out=str(out), teacher_checkpoint=str(teacher), **(plain | options))


@pytest.fixture(scope="module")
def viewed(data: pathlib.Path, teacher: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> cache.Store:
    settings = config(data, tmp_path_factory.mktemp("viewed") / "s", teacher, readouts=("avg", "map"), dtype="float32")
    return cache.open(extract(settings))


def by_hand(image: Image.Image) -> torch.Tensor:
    """Normalised pixels, by timm's own transform of an image that has the teacher's size already."""
    mean = std = (0.5, 0.5, 0.5)
    return create_transform((3, SIDE, SIDE), mean=mean, std=std, crop_pct=1.0, interpolation="bicubic")(image)


def test_replaying_the_stored_image_gives_the_pixels_the_teacher_saw(
    data: pathlib.Path, teacher: pathlib.Path, viewed: cache.Store
) -> None:
    settings = config(data, pathlib.Path("unused"), teacher)
    policy = view_policy(settings)
    assert policy is not None
    make_inputs = ViewInputs(policy=policy, preprocessing=load_teacher(settings).preprocessing)
    parameters_NVP = viewed.view_parameters()[:]
    for row in (0, 7, COUNT - 1):
        image = decode_image(viewed.image_bytes(row), PixelRules())
        inputs = make_inputs(viewed.keys[row], image)
        assert inputs.views_VP is not None
        assert np.array_equal(inputs.views_VP, parameters_NVP[row])
        for view in range(VIEWS):
            shown = replay(image, parameters_NVP[row, view], (SIDE, SIDE), "bicubic")
            assert torch.equal(inputs.pixels_V3HW[view], by_hand(shown))


@torch.inference_mode()
def test_stored_features_are_those_of_the_replayed_views(teacher: pathlib.Path, viewed: cache.Store) -> None:
    model = timm.create_model("test_vit", num_classes=0, img_size=SIDE).eval()
    timm.models.load_checkpoint(model, str(teacher))
    assert viewed.features("avg").shape == (COUNT, VIEWS, 64)
    assert viewed.features("map").shape == (COUNT, VIEWS, 2, 2, 64)
    parameters_NVP = viewed.view_parameters()[:]
    for row in (0, 8, COUNT - 1):
        image = decode_image(viewed.image_bytes(row), PixelRules())
        shown = [replay(image, parameters, (SIDE, SIDE), "bicubic") for parameters in parameters_NVP[row]]
        tokens_VLD = model.forward_features(torch.stack([by_hand(view) for view in shown]))[:, 1:]
        found_VD = viewed.features("avg")[row]
        np.testing.assert_allclose(found_VD, tokens_VLD.mean(1).numpy(), rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(
            viewed.features("map")[row].reshape(VIEWS, 4, 64), tokens_VLD.numpy(), rtol=1e-3, atol=1e-4
        )
        assert np.array_equal(viewed.features("avg", view=1)[row], found_VD[1])
    assert viewed.manifest.gate is not None
    assert set(viewed.manifest.gate) == {"avg", "map"}


def test_the_documented_way_to_show_a_view_runs_as_written(
    viewed: cache.Store, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (pathlib.Path(__file__).parent.parent / "docs/how-to/features.md").read_text(encoding="utf-8")
    (code,) = [block.partition("```")[0] for block in page.split("```python\n")[1:]]
    (tmp_path / "v.store").symlink_to(viewed.path)
    monkeypatch.chdir(tmp_path)
    found: dict[str, Any] = {"row": 3, "view": 1}
    assert code.count('"cls"') == 1
    exec(code.replace('"cls"', '"avg"'), found)
    assert np.array_equal(found["target"], viewed.features("avg", view=1)[3])
    shown = replay(decode_image(viewed.image_bytes(3), PixelRules()), viewed.view_parameters()[3][1], (32, 32))
    assert np.array_equal(np.asarray(found["student_image"]), np.asarray(shown))


def test_clean_inputs_are_the_teachers_own_transform() -> None:
    inputs = CleanInputs(transform=by_hand)("any key", image := Image.new("RGB", (SIDE, SIDE), "#335577"))
    assert torch.equal(inputs.pixels_V3HW, by_hand(image)[None])
    assert inputs.views_VP is None


def test_workers_shards_and_batches_change_no_view(
    data: pathlib.Path, teacher: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    plain = extract(config(data, tmp_path / "plain", teacher))
    assert shard_files(extract(config(data, tmp_path / "workers", teacher, workers=2))) == shard_files(plain)
    other = cache.open(extract(config(data, tmp_path / "other", teacher, rows_per_shard=100, batch_size=16)))
    assert np.array_equal(other.view_parameters()[:], cache.open(plain).view_parameters()[:])
    assert np.array_equal(other.features()[:], cache.open(plain).features()[:])
    few = tmp_path / "few"
    (few / "c1").mkdir(parents=True)
    (few / "c1/7.png").write_bytes((data / "c1/7.png").read_bytes())
    alone = cache.open(extract(config(few, tmp_path / "alone", teacher)))
    row = other.keys.index("c1/7.png")
    assert np.array_equal(alone.view_parameters()[0], other.view_parameters()[row])


def test_views_are_identity_and_the_teacher_stays_the_same(
    data: pathlib.Path, teacher: pathlib.Path, tmp_path: pathlib.Path, viewed: cache.Store
) -> None:
    assert viewed.manifest.plan.views == cache.Views(count=VIEWS, parameters=PARAMETERS)
    assert viewed.manifest.plan.identity["views"]["scale"] == [0.2, 1.0]
    clean = config(data, tmp_path / "s", teacher, views=None, readouts=("avg", "map"), dtype="float32")
    store = cache.open(extract(clean))
    assert store.manifest.plan.identity["views"] == 1
    assert teacher_identity_of(store) == teacher_identity_of(viewed)
    with pytest.raises(IdentityError, match=r"views is None in the store and '2 \(top, left"):
        extract(dataclasses.replace(clean, views=2))
    first = config(data, tmp_path / "v", teacher)
    extract(first)
    with pytest.raises(IdentityError, match=r"views.seed is 42 in the store and 1 in this command"):
        extract(dataclasses.replace(first, seed=1))
    with pytest.raises(IdentityError, match=r"views.hflip is 0.5 in the store and 0.0 in this command"):
        extract(dataclasses.replace(first, hflip=0.0))


def test_views_are_recomputed_as_they_were(data: pathlib.Path, teacher: pathlib.Path, viewed: cache.Store) -> None:
    errors = recompute(RecomputeConfig(store=str(viewed.path), sample=9))
    assert set(errors) == {"avg", "map"}
    assert all((error.rows, error.differing) == (9, 0.0) for error in errors.values())


def test_bad_images_have_no_views(data: pathlib.Path, teacher: pathlib.Path, tmp_path: pathlib.Path) -> None:
    folder = tmp_path / "data"
    for path in sorted(data.rglob("*.*")):
        (folder / path.parent.name).mkdir(parents=True, exist_ok=True)
        (folder / path.parent.name / path.name).write_bytes(path.read_bytes())
    whole = cache.open(extract(config(folder, tmp_path / "whole", teacher)))
    (folder / "c1/7.png").write_text("broken")
    store = cache.open(extract(config(folder, tmp_path / "s", teacher, max_bad=1)))
    assert len(store) == COUNT - 1
    rows = [whole.keys.index(key) for key in store.keys]
    assert np.array_equal(store.view_parameters()[:], whole.view_parameters()[:][rows])
    assert np.array_equal(store.features()[:], whole.features()[:][rows])
    for path in folder.rglob("*.*"):
        if path.name != "0.jpg":
            path.write_text("broken")
    one_good = config(folder, tmp_path / "t", teacher, max_bad=COUNT - 1)
    assert cache.open(extract(one_good)).view_parameters().shape == (1, VIEWS, len(PARAMETERS))  # shards without rows


def test_views_are_projected_fitted_and_counted(
    data: pathlib.Path, teacher: pathlib.Path, tmp_path: pathlib.Path, viewed: cache.Store
) -> None:
    settings = config(
        data, tmp_path / "s", teacher, readouts=("avg", "map"), project={"map": 5}, projection="pca", dtype="float32"
    )
    store = cache.open(extract(settings))
    assert store.features("map").shape == (COUNT, VIEWS, 2, 2, 5)
    assert np.array_equal(store.features("avg")[:], viewed.features("avg")[:])
    cost = prepare(dataclasses.replace(settings, dry_run=True)).cost()
    assert cost.readout_bytes == {"avg": COUNT * VIEWS * 64 * 4, "map": COUNT * VIEWS * 4 * 5 * 4}
    fitted = fit(
        FitConfig(store=str(store.path), out=str(tmp_path / "c"), readout="map", components=4, ceiling_shots=())
    )
    assert (fitted.dims, fitted.rows_fitted) == (5, COUNT * VIEWS * 4)


def test_impossible_views_are_refused(data: pathlib.Path, teacher: pathlib.Path, tmp_path: pathlib.Path) -> None:
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"views": 0}, "--views is 0; it must be 1 or more"),
        ({"views": 10**12}, r"--views is 1000000000000; it must be 1,000 or less: each is a pass of the teacher"),
        ({"view_scale": (0.5, 0.2)}, "--view-scale is 0.5 0.2; it must be two shares of the area"),
        ({"view_scale": (0.0, 1.0)}, "--view-scale is 0.0 1.0; it must be two shares of the area"),
        ({"view_scale": (0.5, 1.5)}, "--view-scale is 0.5 1.5; it must be two shares of the area"),
        ({"view_ratio": (2.0, 1.0)}, "--view-ratio is 2.0 1.0; it must be two ratios width / height"),
        ({"hflip": 1.5}, "--hflip is 1.5; it must lie between 0 and 1"),
        ({"color_jitter": -0.1}, "--color-jitter is -0.1; it must lie between 0 and 1"),
        ({"grayscale_prob": float("nan")}, "--grayscale-prob is nan; it must lie between 0 and 1"),
        ({"views": None, "hflip": 0.0}, "--hflip has no effect without augmented views; add --views V"),
        (
            {"views": None, "view_scale": (0.5, 1.0)},
            "--view-scale has no effect without augmented views; add --views V",
        ),
    ]
    for options, message in wrong:
        with pytest.raises(ConfigError, match=message):
            config(data, tmp_path / "s", teacher, **options)


@pytest.mark.parametrize("views", [None, 2])
def test_students_train_from_smaller_copies_and_are_told_where_there_are_none(
    data: pathlib.Path, teacher: pathlib.Path, tmp_path: pathlib.Path, views: int | None
) -> None:
    small = extract(config(data, tmp_path / "small", teacher, images="resized:24", views=views))
    assert min(Image.open(io.BytesIO(cache.open(small).image_bytes(0))).size) == 24
    settings = TrainConfig(
        store=str(small), out=str(tmp_path / "run"), models=("test_resnet",), steps=2, batch_size=4, img_size=24
    )
    train(settings)
    assert (tmp_path / "run/test_resnet/last.safetensors").is_file()
    none = extract(config(data, tmp_path / "none", teacher, images="none", views=views))
    with pytest.raises(
        DataError,
        match=r"holds no images \(--images none\); give them with --data, or extract again with --images original",
    ):
        train(dataclasses.replace(settings, store=str(none), out=str(tmp_path / "other")))


def test_a_worker_is_silent_of_a_parent_that_hung_up_and_of_nothing_else() -> None:
    told: list[type[BaseException]] = []
    hook = _without_lost_parents(lambda kind, error, trace: told.append(kind))
    for error in (EOFError(), ConnectionResetError(), BrokenPipeError(), OSError(), RuntimeError("ours")):
        hook(type(error), error, None)
    assert told == [OSError, RuntimeError]
