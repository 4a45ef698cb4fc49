"""Students trained with --scaled-decoding: their pixels in training, scoring and use, and what is recorded of them."""

import json
import pathlib
from typing import Any

import numpy as np
import pytest
import torch
from artefacts import make_targets, store_files
from finished import RECORDED
from grids import write_recipe
from photographs import encoded, photograph
from PIL import Image
from safetensors.torch import load_file

import cache
from tcs.config.evaluate import EvalConfig, FewshotConfig
from tcs.config.inference import PredictConfig
from tcs.config.pixels import EARLIER, PixelRules
from tcs.config.train import TrainConfig, without_later
from tcs.errors import ArtefactError, ConfigError
from tcs.evaluation.students import evaluate, predict_rows
from tcs.export.folders import load_script
from tcs.export.metadata import describe
from tcs.export.sources import open_pictures
from tcs.grid.recipe_file import load_grid
from tcs.grid.run import fewshot
from tcs.images.decode import decode_image, decode_square
from tcs.images.stored import decode_rows
from tcs.inference.card import read_card
from tcs.inference.opening import open_model
from tcs.inference.prediction import predict
from tcs.inference.runs import load_student
from tcs.training.data import open_data
from tcs.training.train import train
from tcs.training.trainer import Trainer

STUDENT = "resnet18,layers=(1,1,1,1),channels=(4,4,8,8)"
SIZE, FRACTION = 16, EARLIER.scaled_if(True)


def large(pixels_HW3: np.ndarray) -> bytes:
    """A JPEG of 93 x 101 pixels, for frames of 16 large enough to be decoded at a half, with the class in its brightness."""
    texture_HW3 = np.asarray(photograph(93, 101, seed=int(pixels_HW3[0, 0, 0]))).astype(int)
    return encoded(Image.fromarray((texture_HW3 // 2 + int(pixels_HW3[:, ::5].mean())).clip(0, 255).astype(np.uint8)))


def make_store(path: pathlib.Path, **options: Any) -> cache.Store:
    path.mkdir(parents=True)
    for name, data in store_files(large, **options).items():
        (path / name).write_bytes(data)
    return cache.open(path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Stores, targets, and the runs `scaled` and `plain`."""
    folder = tmp_path_factory.mktemp("scaled")
    make_store(folder / "train.store")
    make_store(folder / "test.store", seed=9, rows=12)
    make_targets(folder)
    for name in ("scaled", "plain"):
        train(config(folder, name, scaled_decoding=name == "scaled"))
    return folder


def config(folder: pathlib.Path, out: str | pathlib.Path, **options: Any) -> TrainConfig:
    common = {"method": "labels", "shots": 8, "steps": 6, "batch_size": 16, "img_size": SIZE, "held_out": 0}
    common |= {"scaled_decoding": True, "models": (STUDENT,)}
    return TrainConfig.from_options(common | {"store": str(folder / "train.store"), "out": str(folder / out)} | options)


def weights(path: pathlib.Path) -> dict[str, torch.Tensor]:
    return load_file(path / "folded.safetensors")


def equal(first: pathlib.Path, second: pathlib.Path) -> bool:
    mine, theirs = weights(first), weights(second)
    return all(torch.equal(mine[key], theirs[key]) for key in mine)


def of(folder: pathlib.Path, run: str) -> pathlib.Path:
    (path,) = (path.parent for path in (folder / run).glob("*/config.json"))
    return path


def record_of(folder: pathlib.Path, run: str) -> dict[str, Any]:
    return dict(json.loads((of(folder, run) / "config.json").read_text()))


def test_a_run_records_what_it_was_trained_on(folder: pathlib.Path) -> None:
    scaled, plain = record_of(folder, "scaled"), record_of(folder, "plain")
    assert (scaled["config"]["scaled_decoding"], plain["config"]["scaled_decoding"]) == (True, False)
    assert scaled["identity"]["scaled_decoding"] is True
    assert "scaled_decoding" not in plain["identity"]
    assert scaled["student"]["pixels"] == {"rules": 1, "scaled": 2}
    assert "pixels" not in plain["student"]
    assert not equal(of(folder, "scaled"), of(folder, "plain"))


def test_records_without_the_option_are_of_whole_images() -> None:
    recorded = json.loads(RECORDED.read_text())
    assert "scaled_decoding" not in recorded["config"]
    assert not TrainConfig.from_options(recorded["config"]).augment.scaled_decoding
    assert without_later({"scaled_decoding": False, "hflip": 0.5}) == {"hflip": 0.5}
    assert without_later({"scaled_decoding": True}) == {"scaled_decoding": True}


@pytest.mark.parametrize("shown", [{}, {"scale": (0.3, 1.0), "decode_size": 20}])
def test_streamed_resident_and_shared_students_are_the_same(
    folder: pathlib.Path, tmp_path: pathlib.Path, shown: dict[str, Any]
) -> None:
    (alone,) = train(config(folder, tmp_path / "alone", resident_share=1.0, **shown))
    for workers in (0, 2):
        (streamed,) = train(config(folder, tmp_path / f"{workers}", resident_share=0.0, workers=workers, **shown))
        assert equal(streamed, alone)
    beside = train(config(folder, tmp_path / "both", models=("cifar_resnet8", STUDENT), **shown))
    assert equal(beside[1], alone)


def test_a_run_that_broke_off_goes_on_to_the_same_weights(
    folder: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step, taken = Trainer.train_step, iter(range(100))

    def stop(trainer: Trainer, *given: Any) -> Any:
        if next(taken) == 4:
            raise RuntimeError("of the step")
        return step(trainer, *given)

    broken = config(folder, tmp_path / "run", checkpoint_every=2, resident_share=0.0, workers=2)
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "train_step", stop)
        with pytest.raises(RuntimeError, match="of the step"):
            train(broken)
    assert next(tmp_path.rglob("resume.pt")).is_file()
    steps = []
    monkeypatch.setattr(Trainer, "train_step", lambda *given: (steps.append(1), step(*given))[1])
    (path,) = train(broken)
    assert len(steps) == 2  # of six: the others are those of the run that broke off
    assert equal(path, of(folder, "scaled"))


@pytest.mark.parametrize(("run", "scaled"), [("plain", True), ("scaled", False)])
def test_a_run_is_not_gone_on_with_by_other_pixels(folder: pathlib.Path, run: str, scaled: bool) -> None:
    there, here = (None, "True") if scaled else ("True", None)
    with pytest.raises(
        ArtefactError, match=rf"was made with scaled_decoding {there}, this command has {here}; use another"
    ):
        train(config(folder, run, scaled_decoding=scaled))


def test_images_decoded_either_way_are_kept_apart(folder: pathlib.Path) -> None:
    data, rows_n = open_data(str(folder / "train.store"), None), np.arange(12)
    whole, fraction = (data.resident(rows_n, SIZE, scaled=scaled) for scaled in (False, True))
    assert not torch.equal(whole, fraction)
    for scaled, rules in ((False, EARLIER), (True, FRACTION)):
        by_hand = [decode_square(data.read(row), SIZE, rules).transpose(2, 0, 1) for row in range(12)]
        assert np.array_equal(data.resident(rows_n, SIZE, scaled=scaled).numpy(), np.stack(by_hand))
        assert torch.equal(decode_rows(data.store, rows_n, SIZE, scaled=scaled), torch.from_numpy(np.stack(by_hand)))
    assert not data.has_decoded(rows_n, SIZE, whole=True, scaled=True)


@pytest.mark.parametrize("run", ["scaled", "plain"])
def test_a_student_is_scored_as_it_was_trained(
    folder: pathlib.Path, tmp_path: pathlib.Path, run: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """From a store, as files, by predict, and by hand: the same logits of the same pixels."""
    rules = FRACTION if run == "scaled" else EARLIER
    store, student = cache.open(folder / "test.store"), load_student(of(folder, run))
    pixels = [decode_square(store.image_bytes(row), SIZE, rules) for row in range(len(store))]
    images = (torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2) / 255).float()
    mean, std = (torch.tensor(student.record["student"][name]).view(3, 1, 1) for name in ("mean", "std"))
    with torch.inference_mode():
        expected_NC = student.model((images - mean) / std).numpy()
    scored = EvalConfig(run=str(folder / run), store=str(folder / "test.store"))
    found_NC, _ = predict_rows(student, store, np.arange(len(store)), scored)
    assert np.allclose(found_NC, expected_NC, atol=1e-5)
    capsys.readouterr()
    by_store = evaluate(scored)[0]
    told = "was trained with --scaled-decoding, and is scored so"
    assert (told in capsys.readouterr().err) == (run == "scaled")
    for row, key in enumerate(store.keys):
        path = tmp_path / "images" / pathlib.Path(key).with_suffix(".jpg")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(store.image_bytes(row))
    by_file = evaluate(EvalConfig(run=str(folder / run), store=str(tmp_path / "images")))[0]
    assert by_file["ece"] == by_store["ece"]
    lines = capsys.readouterr().err
    assert ("12 images decoded at a half, a quarter or an eighth" in lines) == (run == "scaled")
    rows = predict(PredictConfig(model=str(folder / run), paths=(str(tmp_path / "images"),), temperature=1.0)).rows
    likeliest_N = torch.softmax(torch.from_numpy(expected_NC), dim=1).amax(dim=1)
    by_path = {row["path"]: row["probability"] for row in rows}
    for number, key in enumerate(store.keys):
        path = tmp_path / "images" / pathlib.Path(key).with_suffix(".jpg")
        assert by_path[str(path)] == pytest.approx(float(likeliest_N[number]), abs=1e-4)
    assert ("12 images decoded at" in capsys.readouterr().err) == (run == "scaled")


def test_what_is_watched_and_calibrated_on_are_those_pixels(
    folder: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_store(tmp_path / "more.store", rows=220)
    asked: list[tuple[int, bool]] = []

    def record(*given: Any, **more: Any) -> torch.Tensor:
        asked.append((given[2], more["scaled"]))
        return decode_rows(*given, **more)

    for module in ("monitor", "calibration"):
        monkeypatch.setattr(f"tcs.training.{module}.decode_rows", record)
    options = {"store": str(tmp_path / "more.store"), "shots": None, "held_out": 110, "steps": 2, "scale": (0.5, 1.0)}
    (path,) = train(config(folder, tmp_path / "run", **options))
    assert asked == [(round(SIZE / 0.875), True), (SIZE, True)]
    assert json.loads((path / "config.json").read_text())["calibration"]["rows"] == 110


def test_an_export_says_how_its_images_are_decoded(folder: pathlib.Path, tmp_path: pathlib.Path) -> None:
    metadata = describe(load_student(of(folder, "scaled")), {}, preprocess_in_graph=False)
    assert metadata["transform"]["pixels"] == {"rules": 1, "scaled": 2}
    assert read_card(json.dumps(metadata), tmp_path).rules == FRACTION
    assert open_model(str(folder / "scaled"), None, torch.device("cpu")).card.rules == FRACTION
    store = cache.open(folder / "test.store")
    pictures = open_pictures(str(store.path), metadata["classes"], FRACTION)
    expected = decode_square(store.image_bytes(3), SIZE, FRACTION).transpose(2, 0, 1)
    assert np.array_equal(pictures.pixels(np.array([3]), SIZE)[0], expected)


@pytest.mark.parametrize("rules", [PixelRules(scaled=True), PixelRules(scaled=True, orientation=False), FRACTION])
@pytest.mark.parametrize("orientation", [1, 6])
def test_the_lines_of_an_export_give_the_same_frames(
    folder: pathlib.Path, tmp_path: pathlib.Path, rules: PixelRules, orientation: int
) -> None:
    metadata = describe(load_student(of(folder, "scaled")), {}, preprocess_in_graph=False)
    metadata["transform"] |= rules.entry
    script = load_script(metadata)
    names: dict[str, Any] = {}
    exec("from PIL import Image, ImageOps\n" + script[script.index("def open_image") :], names)  # as a reader would
    exif = Image.Exif()
    exif[0x0112] = orientation
    for name, data in (("large.jpg", encoded(photograph(), exif=exif)), ("large.png", encoded(photograph(), "PNG"))):
        (tmp_path / name).write_bytes(data)
        image = names["open_image"](tmp_path / name)
        if name == "large.png":
            assert np.array_equal(np.asarray(image), np.asarray(decode_image(data, rules)))
            continue
        assert min(image.size) == SIZE
        left, top = (image.width - SIZE) // 2, (image.height - SIZE) // 2
        frame = np.asarray(image.crop((left, top, left + SIZE, top + SIZE))).astype(int)
        assert np.abs(frame - decode_square(data, SIZE, rules)).max() <= 1


def test_all_rows_of_a_grid_see_the_same_pixels(folder: pathlib.Path, tmp_path: pathlib.Path) -> None:
    options = {"img_size": SIZE, "steps": 3, "batch_size": 16}
    method = {"label": "quick", "method": "labels", "scaled_decoding": True}
    recipe = write_recipe(folder, methods=["labels", method], options=options)
    message = (
        r"method 'quick': scaled_decoding is True, and False under options; all rows of a table see the same pixels"
    )
    with pytest.raises(ConfigError, match=message):
        load_grid(recipe)
    changes = {"students": [STUDENT], "methods": ["labels"], "references": ["same-pixels"]}
    asked = options | {"scaled_decoding": True}
    fewshot(FewshotConfig(recipe=str(write_recipe(folder, **changes, options=asked)), out=str(tmp_path / "grid")))
    runs = [json.loads(path.read_text()) for path in (tmp_path / "grid").rglob("config.json")]
    assert [run["student"]["pixels"] for run in runs] == [{"rules": 1, "scaled": 2}] * 2
    assert {run["identity"].get("scaled_decoding") for run in runs} == {True}
    plain = write_recipe(folder, **changes, options=options)
    with pytest.raises(ArtefactError, match=r"scaled_decoding"):
        fewshot(FewshotConfig(recipe=str(plain), out=str(tmp_path / "grid")))
