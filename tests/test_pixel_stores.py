"""Pixel rules from the extraction to a student in use: recorded in the store's identity, followed by all that decodes its images."""

import base64
import dataclasses
import io
import json
import pathlib
import shutil
from typing import Any

import numpy as np
import pytest
import torch
from extraction import config
from finished import FOLDER, RESNET, make_student
from PIL import Image

import cache
import tcs
from cache.errors import IdentityError
from tcs.artefact import teacher_identity_of, tell_other_rules
from tcs.cli import main
from tcs.config.distill import option_names
from tcs.config.evaluate import EvalConfig
from tcs.config.extract import ExtractConfig, RecomputeConfig, RepairConfig
from tcs.config.inference import PredictConfig
from tcs.config.labelling import SuggestConfig
from tcs.config.pixels import EARLIER, PixelRules
from tcs.errors import ArtefactError, ConfigError, DataError
from tcs.evaluation.students import evaluate
from tcs.export.metadata import describe
from tcs.export.sources import open_pictures, sample
from tcs.extraction.extract import extract
from tcs.extraction.rows import shard_rows
from tcs.images.stored import decode_rows, given_images, rules_of
from tcs.images.thumbnails import Pictures
from tcs.images.told import PixelCounts
from tcs.inference.card import read_card
from tcs.inference.exported import TimmPixels
from tcs.inference.opening import open_model
from tcs.inference.prediction import predict
from tcs.inference.runs import load_student
from tcs.labelling.pictures import _decoded
from tcs.labelling.suggest import suggest
from tcs.labelling.table import Suggestion
from tcs.maintenance.recompute import recompute
from tcs.maintenance.repair import repair
from tcs.pipeline.chain import by_rules_of

torch.set_num_threads(1)
COUNT = 16
OPTIONS = ("pixel_rules", "ignore_orientation", "background")  # that no release before the rules recorded


def encoded(values: np.ndarray, **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, "PNG", **options)
    return buffer.getvalue()


def turned(values: np.ndarray) -> bytes:
    """The image as a phone held sideways keeps it: a quarter turn to the left, and EXIF that tells so."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(np.rot90(values), exif=exif)


def hidden(values: np.ndarray) -> bytes:
    """The image with colours of its own below what is transparent, which is where the image is white."""
    rgba = np.concatenate([values, np.full_like(values[:, :, :1], 255)], axis=2)
    rgba[:5] = [9, 9, 9, 0]
    return encoded(rgba)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """`straight` and `odd`, the same pixels in either: what the photographer saw, upright and opaque."""
    folder = tmp_path_factory.mktemp("pixels")
    for number in range(COUNT):
        values = np.random.default_rng(number).integers(0, 256, (30, 24, 3), dtype=np.uint8)
        values[:5] = 255
        odd = (encoded, turned, hidden)[number % 3](values)
        for kind, content in (("straight", encoded(values)), ("odd", odd)):
            path = folder / kind / f"c{number % 2}" / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    return folder


def extracted(folder: pathlib.Path, out: pathlib.Path, teacher: pathlib.Path, **options: Any) -> cache.Store:
    return cache.open(extract(config(folder, out, teacher, **options)))


def decoded(store: cache.Store, size: int = 16, data: pathlib.Path | None = None) -> np.ndarray:
    read = None if data is None else given_images(store, str(data))
    return decode_rows(store, np.arange(len(store)), size, read).numpy()


def as_of_earlier_release(store: cache.Store) -> cache.Store:
    """The store with the provenance that a release before the rules wrote."""
    path = store.path / "manifest.json"
    manifest = json.loads(path.read_text())
    for name in OPTIONS:
        del manifest["provenance"]["config"][name]
    del manifest["provenance"]["pixels"]
    path.write_text(json.dumps(manifest))
    return cache.open(store.path)


def files(store: cache.Store) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in store.path.glob("shard-*.h5")}


def test_the_teacher_sees_what_the_photographer_saw(
    data: pathlib.Path, teacher: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    straight = extracted(data / "straight", tmp_path / "straight", teacher)
    assert "turned upright" not in capsys.readouterr().err
    odd = extracted(data / "odd", tmp_path / "odd", teacher)
    told = capsys.readouterr().err
    assert "5 images turned upright by their EXIF orientation." in told
    assert "5 images with transparency shown on #ffffff." in told
    assert np.array_equal(odd.features()[:], straight.features()[:])
    assert np.array_equal(decoded(odd), decoded(straight))
    assert odd.manifest.plan.identity["pixels"] == {"rules": 2, "orientation": True, "background": "#ffffff"}
    counts = odd.manifest.provenance["pixels"]
    assert counts["images"] == COUNT
    assert counts["counts"] == {"transparent": 5, "turned_upright": 5}
    assert counts["keys"]["turned_upright"] == sorted(f"c{n % 2}/{n}.png" for n in range(1, COUNT, 3))
    assert straight.manifest.provenance["pixels"]["counts"] == {}


def counts_of(store: cache.Store) -> tuple[Any, Any]:
    return tuple(store.manifest.provenance[name] for name in ("pixels", "seen"))


def test_a_store_that_lost_a_shard_keeps_its_counts(
    data: pathlib.Path, teacher: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = extracted(data / "odd", tmp_path / "s", teacher)
    (store.path / "shard-00001.h5").unlink()
    capsys.readouterr()
    again = extracted(data / "odd", tmp_path / "s", teacher)
    assert "5 images turned upright by their EXIF orientation." in capsys.readouterr().err
    assert counts_of(again) == counts_of(store)
    assert (again.identity, files(again)) == (store.identity, files(store))
    assert sorted(path.name for path in store.path.iterdir()) == sorted([*files(store), "manifest.json"])


def test_counts_are_of_all_images_after_a_pass_that_was_cut_short(
    data: pathlib.Path, teacher: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = extracted(data / "odd", tmp_path / "whole", teacher)
    assert counts_of(whole)[1]["images"] == COUNT

    def cut(plan: cache.Plan, parts: Any) -> cache.ShardRows:
        if parts[0][0].items[0].position >= 7:
            raise KeyboardInterrupt
        return shard_rows(plan, parts)

    with monkeypatch.context() as patch:
        patch.setattr("tcs.extraction.extract.shard_rows", cut)
        with pytest.raises(KeyboardInterrupt):
            extracted(data / "odd", tmp_path / "s", teacher)
    assert len(list((tmp_path / "s").glob("shard-*.h5"))) == 1
    again = extracted(data / "odd", tmp_path / "s", teacher)
    assert counts_of(again) == counts_of(whole)
    assert {path.suffix for path in again.path.iterdir()} == {".h5", ".json"}


def test_counts_are_of_all_images_after_a_pass_that_was_refused(
    data: pathlib.Path, teacher: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(data / "odd", tmp_path / "images")
    (tmp_path / "images/c0/broken.png").write_bytes(b"x")
    with pytest.raises(DataError, match="1 of 17 images are bad"):
        extracted(tmp_path / "images", tmp_path / "s", teacher)
    assert "5 images turned upright by their EXIF orientation." in capsys.readouterr().err
    store = extracted(tmp_path / "images", tmp_path / "s", teacher, max_bad=1)  # decodes nothing
    told = capsys.readouterr().err
    assert "5 images turned upright by their EXIF orientation." in told
    assert "images, as an earlier release" not in told
    assert counts_of(store) == counts_of(extracted(data / "odd", tmp_path / "whole", teacher))


def test_a_pass_that_an_earlier_release_began_says_of_how_many_it_counted(
    data: pathlib.Path, teacher: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(data / "odd", tmp_path / "images")
    (tmp_path / "images/c1/zz.png").write_bytes(b"x")
    with pytest.raises(DataError, match="1 of 17 images are bad"):
        extracted(tmp_path / "images", tmp_path / "s", teacher)
    for path in (tmp_path / "s").glob("*.note"):
        path.unlink()  # which no earlier release wrote
    capsys.readouterr()
    (tmp_path / "images/c1/zz.png").write_bytes(encoded(np.full((30, 24, 3), 7, np.uint8)))
    store = extracted(tmp_path / "images", tmp_path / "s", teacher)
    assert "of 3 of the 17 images; the others were not counted:" in capsys.readouterr().err
    assert counts_of(store)[0]["images"] == 3


def test_workers_tell_what_they_did_too(data: pathlib.Path, teacher: pathlib.Path, tmp_path: pathlib.Path) -> None:
    store = extracted(data / "odd", tmp_path / "s", teacher, workers=1)
    assert store.manifest.provenance["pixels"]["counts"] == {"transparent": 5, "turned_upright": 5}


@pytest.mark.parametrize("images", ["resized:20", "none"])
def test_students_see_the_same_from_copies_and_from_files(
    data: pathlib.Path, teacher: pathlib.Path, tmp_path: pathlib.Path, images: str
) -> None:
    odd, straight = (extracted(data / kind, tmp_path / kind, teacher, images=images) for kind in ("odd", "straight"))
    own = images == "none"
    found = decoded(odd, 16, data / "odd" if own else None)
    assert np.array_equal(found, decoded(straight, 16, data / "straight" if own else None))
    if not own:
        assert odd.image_bytes(1) != (data / "odd" / odd.keys[1]).read_bytes()
    small = [
        extracted(data / kind, tmp_path / f"large {kind}", teacher, images="resized:64") for kind in ("odd", "straight")
    ]
    assert small[0].image_bytes(1) == (data / "odd" / odd.keys[1]).read_bytes()  # as it is, EXIF and all
    assert np.array_equal(decoded(small[0]), decoded(small[1]))


def test_the_orientation_is_ignored_and_the_background_is_another_where_asked(
    data: pathlib.Path, teacher: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    options = {"ignore_orientation": True, "background": "navy"}
    store = extracted(data / "odd", tmp_path / "s", teacher, **options)
    assert rules_of(store) == PixelRules(orientation=False, background="#000080")
    assert store.manifest.provenance["pixels"]["counts"] == {"transparent": 5}
    row = store.keys.index("c1/1.png")
    stored = np.asarray(Image.open(data / "odd/c1/1.png").convert("RGB").resize((20, 16), Image.Resampling.BICUBIC))
    assert np.array_equal(decoded(store)[row].transpose(1, 2, 0), stored[:, 2:18])
    row = store.keys.index("c0/2.png")
    assert np.abs(decoded(store, 24)[row][:, 0, 0].astype(int) - [0, 0, 128]).max() <= 1
    again = recompute(RecomputeConfig(store=str(store.path), sample=COUNT))
    assert again["avg"].max_abs == 0
    with pytest.raises(IdentityError, match=r"pixels.orientation is False in the store and True in this command"):
        extract(config(data / "odd", tmp_path / "s", teacher))


def test_a_store_of_an_earlier_release_stays_what_it_is(
    data: pathlib.Path, teacher: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = config(data / "odd", tmp_path / "s", teacher)
    store = as_of_earlier_release(cache.open(extract(dataclasses.replace(wanted, pixel_rules=1))))
    assert (rules_of(store), "pixels" in store.manifest.plan.identity) == (EARLIER, False)
    before, identity = files(store), store.identity
    row = store.keys.index("c1/1.png")
    stored = np.asarray(Image.open(data / "odd/c1/1.png").convert("RGB").resize((20, 16), Image.Resampling.BICUBIC))
    assert np.array_equal(decoded(store)[row].transpose(1, 2, 0), stored[:, 2:18])
    assert (decoded(store, 24)[store.keys.index("c0/2.png")][:, 0, 0] == 9).all()

    capsys.readouterr()
    extract(wanted)  # the same command by this release
    told = capsys.readouterr().err
    assert "was begun by pixel rules 1 of an earlier release, and goes on by them" in told
    assert "is finished already" in told
    (store.path / "shard-00001.h5").unlink()
    extract(wanted)
    assert (files(cache.open(store.path)), cache.open(store.path).identity) == (before, identity)

    (store.path / "shard-00000.h5").write_bytes(b"damaged")
    assert repair(RepairConfig(store=str(store.path))).is_sound
    assert files(cache.open(store.path)) == before
    assert recompute(RecomputeConfig(store=str(store.path), sample=COUNT))["avg"].max_abs == 0
    with pytest.raises(IdentityError, match=r"pixels.* is absent in the store and .* in this command"):
        extract(dataclasses.replace(wanted, background="black"))
    with pytest.raises(IdentityError, match=r"pixels.* is absent in the store"):
        extract(dataclasses.replace(wanted, pixel_rules=2))


def test_a_lost_manifest_is_repaired_by_the_rules_that_it_told(
    data: pathlib.Path, teacher: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    for number, options in enumerate(({"pixel_rules": 1}, {"background": "red"})):
        store = extracted(data / "odd", tmp_path / str(number), teacher, **options)
        store = as_of_earlier_release(store) if "pixel_rules" in options else store
        before, path = files(store), store.path / "manifest.json"
        manifest = json.loads(path.read_text())
        path.write_text(json.dumps(manifest | {"plan": {**manifest["plan"], "images": "lost"}}))
        assert repair(RepairConfig(store=str(store.path))).is_sound
        assert files(cache.open(store.path)) == before


@pytest.mark.parametrize("rules", [1, 2])
def test_pictures_of_pages_and_calibration_follow_the_store(
    data: pathlib.Path, teacher: pathlib.Path, tmp_path: pathlib.Path, rules: int
) -> None:
    """An image of 24 x 30 pixels, stored as 30 x 24: seen so by rules 1 alone."""
    store, key = extracted(data / "odd", tmp_path / "s", teacher, pixel_rules=rules), "c1/1.png"
    row, is_upright = store.keys.index(key), rules == 2
    pictures = Pictures(store.image_bytes, rules_of(store))
    pictures.prepare([row])
    page = Image.open(io.BytesIO(base64.b64decode(pictures.uri(row).partition("base64,")[2])))
    assert (page.height > page.width) == is_upright
    suggest(SuggestConfig(store=str(store.path), out=str(tmp_path / "x.csv"), n=COUNT, sheet=str(tmp_path / "x.png")))
    with Image.open(tmp_path / "x.png") as sheet:
        assert sheet.width > 128
    straight = np.asarray(Image.open(data / "straight" / key).resize((16, 20), Image.Resampling.BICUBIC))[2:18]
    for other in (PixelRules(), EARLIER):  # those of a student do not count for the images of a store
        pictures = open_pictures(str(store.path), ["c0", "c1"], other)
        shown = pictures.pixels(np.array([row]), 16)[0].transpose(1, 2, 0)
        assert np.array_equal(shown, straight) == is_upright
    tests = sample(store, 16, None).numpy()
    assert np.array_equal(tests[row].transpose(1, 2, 0), straight) == is_upright
    drawn = _decoded(Suggestion(row, key, 1, ""), store.image_bytes, rules_of(store))
    assert (drawn.height > drawn.width) == is_upright


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"pixel_rules": 3}, "--pixel-rules is 3; it must be one of 1, 2"),
        ({"background": "wite"}, "--background is 'wite'; it must be a colour as #rrggbb.* Did you mean white"),
        (
            {"pixel_rules": 1, "background": "black"},
            "--background has no effect without rules 2; leave out --pixel-rules 1",
        ),
        ({"pixel_rules": 1, "ignore_orientation": True}, "--ignore-orientation has no effect without rules 2"),
    ],
)
def test_options_without_a_meaning_are_refused(options: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        ExtractConfig(data="d", out="o", teacher="t", **options)


def test_stores_that_differ_by_rules_are_of_one_teacher_and_it_is_told(
    data: pathlib.Path, teacher: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    new, old = (extracted(data / "odd", tmp_path / f"s{rules}", teacher, pixel_rules=rules) for rules in (2, 1))
    assert teacher_identity_of(new) == teacher_identity_of(old)
    capsys.readouterr()
    tell_other_rules(new, new)
    assert capsys.readouterr().err == ""
    tell_other_rules(new, old)
    assert "s2 and " in capsys.readouterr().err
    with pytest.raises(IdentityError, match=r"pixels.* only stores made alike can be merged"):
        cache.merge([new.path, old.path], tmp_path / "m", prefix_keys=True)
    asked = config(data / "odd", tmp_path / "t", teacher)
    assert (by_rules_of(old.path, asked).pixel_rules, by_rules_of(new.path, asked)) == (1, asked)
    part = cache.open(cache.subset(new.path, tmp_path / "part", keys=new.keys[:3]))
    assert rules_of(part) == PixelRules()


def student(folder: pathlib.Path, rules: PixelRules) -> pathlib.Path:
    """A run whose student was trained by these rules."""
    place = make_student(folder, ("c0", "c1"))
    path = place / "config.json"
    record = json.loads(path.read_text())
    record["student"] |= rules.entry
    path.write_text(json.dumps(record))
    return folder


def test_a_student_in_use_sees_as_it_was_trained(
    data: pathlib.Path, teacher: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    new, old = student(tmp_path / "new", PixelRules()), student(tmp_path / "old", EARLIER)
    path = data / "odd/c1/1.png"
    by_old, by_new = (
        open_model(str(run), None, torch.device("cpu")).pixels()(path.read_bytes()).pixels_SS3 for run in (old, new)
    )
    straight = np.asarray(Image.open(data / "straight/c1/1.png").resize((16, 20), Image.Resampling.BICUBIC))[2:18]
    assert np.array_equal(by_new, straight)
    assert not np.array_equal(by_old, straight)
    rows = {
        (run.name, kind): [
            row["probability"] for row in predict(PredictConfig(model=str(run), paths=(str(data / kind),))).rows
        ]
        for run in (new, old)
        for kind in ("odd", "straight")
    }
    assert rows["new", "odd"] == rows["new", "straight"] == rows["old", "straight"]
    assert rows["old", "odd"] != rows["old", "straight"]

    odd, straight_rows = (
        evaluate(EvalConfig(run=str(new), store=str(data / kind)))[0]["ece"] for kind in ("odd", "straight")
    )
    assert odd == straight_rows
    store = extracted(data / "odd", tmp_path / "s", teacher)
    capsys.readouterr()
    by_store = evaluate(EvalConfig(run=str(new), store=str(store.path)))[0]
    assert by_store["ece"] == odd
    assert "by other rules" not in capsys.readouterr().err
    evaluate(EvalConfig(run=str(old), store=str(store.path)))
    assert f"{store.path} and {old / FOLDER} have their pixels by other rules" in capsys.readouterr().err


def test_a_run_records_the_rules_of_its_store(
    data: pathlib.Path, teacher: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    for rules, field in ((2, {"rules": 2, "orientation": True, "background": "#ffffff"}), (1, None)):
        store = extracted(data / "odd", tmp_path / f"s{rules}", teacher, pixel_rules=rules)
        run = tmp_path / f"run{rules}"
        tcs.train(
            tcs.TrainConfig.from_options(
                {"store": str(store.path), "out": str(run), "models": (RESNET,), "method": "labels", "steps": 2}
                | {"img_size": 16, "batch_size": 8, "held_out": 0}
            )
        )
        (folder,) = (path.parent for path in run.glob("*/config.json"))
        assert json.loads((folder / "config.json").read_text())["student"].get("pixels") == field
        assert open_model(str(run), None, torch.device("cpu")).card.rules == rules_of(store)
        metadata = describe(load_student(folder), {}, preprocess_in_graph=False)
        assert read_card(json.dumps(metadata), tmp_path).rules == rules_of(store)


def test_options_of_the_command_line_reach_the_identity(
    data: pathlib.Path, teacher: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = ["extract", data / "odd", "--out", tmp_path / "s", "--teacher", "test_vit", "--teacher-checkpoint", teacher]
    line += ["--img-size", 32, "-j", 0, "--ignore-orientation", "--background", "#0A0B0C", "--json"]
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in line])
    assert not ended.value.code
    facts = json.loads(capsys.readouterr().out)
    assert facts["made_from"]["pixels"] == {"rules": 2, "orientation": False, "background": "#0a0b0c"}
    assert facts["provenance"]["pixels"]["counts"] == {"transparent": 5}
    assert {"ignore_orientation", "background", "pixel_rules"} <= set(option_names()["extract"])


def test_predict_and_eval_name_what_they_leave_out(
    data: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, images = student(tmp_path / "run", PixelRules()), tmp_path / "images"
    shutil.copytree(data / "straight", images)
    (images / "c0" / "scan.psd").write_bytes(b"8BPS")
    assert len(predict(PredictConfig(model=str(run), paths=(str(images),))).rows) == COUNT
    assert "1 file .psd left out (c0/scan.psd): convert to PNG or JPEG first." in capsys.readouterr().err
    evaluate(EvalConfig(run=str(run), store=str(images)))
    assert "1 file .psd left out (c0/scan.psd)" in capsys.readouterr().err


def test_predict_and_eval_tell_of_pixels_what_extract_tells(
    data: pathlib.Path, teacher: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images, run = tmp_path / "images", student(tmp_path / "run", PixelRules())
    shutil.copytree(data / "odd", images)
    (images / "c1/scan.png").write_bytes(encoded(np.arange(600, dtype=np.uint16).reshape(20, 30)))
    frames = [Image.new("RGB", (9, 9), colour) for colour in ("red", "blue")]
    frames[0].save(images / "c0/moving.gif", save_all=True, append_images=frames[1:])
    extracted(images, tmp_path / "s", teacher)
    sentences = told_of_pixels(capsys.readouterr().err)
    assert len(sentences) == 4
    assert "c1/scan.png" in sentences[-1]
    predict(PredictConfig(model=str(run), paths=(str(images),), batch_size=3))
    assert told_of_pixels(capsys.readouterr().err) == [*sentences[:-1], sentences[-1].replace("c1/", f"{images}/c1/")]
    evaluate(EvalConfig(run=str(run), store=str(images), batch_size=3))
    assert told_of_pixels(capsys.readouterr().err) == sentences
    evaluate(EvalConfig(run=str(student(tmp_path / "old", EARLIER)), store=str(images)))  # which never looked
    assert told_of_pixels(capsys.readouterr().err) == []
    model = open_model(str(run), None, torch.device("cpu"))
    pixels = TimmPixels({"input_size": (3, 8, 8), "interpolation": "bicubic", "crop_pct": 1.0, "crop_mode": "center"})
    content = (images / "c1/1.png").read_bytes()
    assert pixels(content, PixelRules()).done == model.pixels()(content).done == {"turned_upright"}


def told_of_pixels(text: str) -> list[str]:
    """The lines on what was done to make pixels."""
    words = ("turned upright by", "with transparency shown", "frames or pages:", "of 16 bits with")
    return [line for line in text.splitlines() if any(word in line for word in words)]


def test_an_exported_student_carries_its_rules(tmp_path: pathlib.Path) -> None:
    transform = {"img_size": 8, "mean": [0, 0, 0], "std": [1, 1, 1]}
    content = {"format": 1, "architecture": "resnet18", "kwargs": {}, "classes": [], "transform": transform}
    assert read_card(json.dumps(content), tmp_path).rules == EARLIER
    for rules in (PixelRules(), PixelRules(orientation=False, background="#123456")):
        told = content | {"transform": transform | rules.entry}
        assert read_card(json.dumps(told), tmp_path).rules == rules
    with pytest.raises(ArtefactError, match=r"this release knows 1 and 2"):
        read_card(json.dumps(content | {"transform": transform | {"pixels": {"rules": 9}}}), tmp_path)


def test_counts_of_several_processes_are_added() -> None:
    one, other = PixelCounts(), PixelCounts()
    for number in range(12):
        one._add("narrow_16_bit", 1, [f"{number:02}.png"])
    other._add("narrow_16_bit", 1, ["a.png"])
    other._add("first_frame", 1200, ["b.gif"])
    other.images = 7
    one.take(other.to_json())
    assert (one.images, one.counts) == (7, {"narrow_16_bit": 13, "first_frame": 1200})
    first, narrow = one.sentences(PixelRules())
    assert first == "1,200 images of several frames or pages: the first one counts."
    assert narrow.startswith(
        "13 images of 16 bits with less than a quarter of that range in use, so nearly black: 00.png, "
    )
    assert "09.png and 3 more. If that is not meant" in narrow
