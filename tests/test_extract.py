"""Extraction end to end: values against PIL, timm and the model used directly; bad images."""

import dataclasses
import io
import pathlib

import numpy as np
import pytest
import timm.models
import torch
from extraction import SIDE, break_some, config, encoded, fill
from PIL import Image
from safetensors.torch import save_file
from store_folders import shard_files
from timm.data import create_transform

import cache
from cache.errors import FeatureValueError, IdentityError, IncompleteStoreError
from tcs.errors import ConfigError, DataError
from tcs.extraction.extract import extract
from tcs.extraction.plan import prepare

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    return fill(tmp_path_factory.mktemp("data"), 26)


def opened(path: pathlib.Path) -> Image.Image:
    return Image.open(io.BytesIO(path.read_bytes()))


def stamps(path: pathlib.Path) -> dict[str, int]:
    return {file.name: file.stat().st_mtime_ns for file in sorted(path.glob("shard-*.h5"))}


@torch.inference_mode()
def by_hand(data: pathlib.Path, teacher: pathlib.Path, keys: list[str]) -> np.ndarray:
    """(N, 2, D): class token and mean of patch tokens, one image at a time, without any code of ours."""
    model = timm.create_model("test_vit", num_classes=0, img_size=SIDE).eval()
    timm.models.load_checkpoint(model, str(teacher))
    settings = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5), "crop_pct": 0.95, "interpolation": "bicubic"}
    transform = create_transform((3, SIDE, SIDE), **settings)
    tokens = [model.forward_features(transform(opened(data / key).convert("RGB"))[None])[0] for key in keys]
    return np.stack([np.stack([one[0], one[1:].mean(0)]) for one in tokens])


def test_stored_features_equal_a_plain_loop_over_the_images(
    data: pathlib.Path, teacher: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    path = extract(config(data, tmp_path / "s", teacher, readouts=("cls", "avg")))
    store = cache.open(path)
    assert store.keys == sorted(store.keys, key=lambda key: (key[:2], int(key[3:-4])))
    assert len(store) == 26
    expected = by_hand(data, teacher, store.keys)
    for column, name in enumerate(("cls", "avg")):
        found = store.features(name)[:]
        assert found.dtype == np.float16
        np.testing.assert_allclose(found.astype(np.float32), expected[:, column], rtol=1e-3, atol=1e-4)
    assert store.classes == ("c0", "c1")
    assert [store.classes[label] for label in store.labels_N] == [key[:2] for key in store.keys]
    files = [(data / key).read_bytes() for key in store.keys]
    assert [store.image_bytes(row) for row in range(26)] == files
    assert [bytes(row) for row in store.hashes_N16] == [cache.content_hash(file) for file in files]
    assert store.manifest.gate is not None
    assert set(store.manifest.gate) == {"cls", "avg"}


def test_identity_names_all_that_decides_the_values(
    data: pathlib.Path, teacher: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    store = cache.open(extract(config(data, tmp_path / "s", teacher, dtype="float32")))
    made_from = store.manifest.plan.identity
    assert made_from["teacher"] == "test_vit"
    assert made_from["preprocessing"]["input_size"] == [3, SIDE, SIDE]
    assert (made_from["compute_dtype"], made_from["views"], made_from["semantics"]) == ("float32", 1, 1)
    assert store.features().dtype == np.float32
    np.testing.assert_allclose(store.features()[:], by_hand(data, teacher, store.keys)[:, 1], rtol=1e-4, atol=1e-5)
    assert store.manifest.provenance["config"]["max_bad"] == 0


def test_workers_and_shards_and_batches_change_no_value(
    data: pathlib.Path, teacher: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    plain = extract(config(data, tmp_path / "plain", teacher))
    assert shard_files(extract(config(data, tmp_path / "workers", teacher, workers=2))) == shard_files(plain)
    other = cache.open(extract(config(data, tmp_path / "other", teacher, rows_per_shard=100, batch_size=16)))
    assert np.array_equal(other.features()[:], cache.open(plain).features()[:])


def test_finished_store_is_left_alone_and_overwrite_makes_it_anew(
    data: pathlib.Path, teacher: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = config(data, tmp_path / "s", teacher)
    before = stamps(extract(first))
    capsys.readouterr()
    extract(first)
    assert capsys.readouterr().err.endswith("s is finished already; nothing to do (--overwrite extracts it anew).\n")
    assert stamps(tmp_path / "s") == before
    extract(dataclasses.replace(first, batch_size=5))  # another batch size is no other store
    assert stamps(tmp_path / "s") == before
    with pytest.raises(IdentityError, match="crop_pct"):
        extract(dataclasses.replace(first, crop_pct=1.0))
    extract(dataclasses.replace(first, crop_pct=1.0, overwrite=True))
    assert cache.open(tmp_path / "s").manifest.plan.identity["preprocessing"]["crop_pct"] == 1.0


def test_gate_missing_after_a_kill_is_made_up_for(
    data: pathlib.Path, teacher: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("tcs.extraction.extract.add_gate", lambda path: None)
        extract(config(data, tmp_path / "s", teacher))
    assert cache.open(tmp_path / "s").manifest.gate is None
    extract(config(data, tmp_path / "s", teacher))
    assert cache.open(tmp_path / "s").manifest.gate is not None


def test_dry_run_prints_the_cost_and_writes_nothing(
    data: pathlib.Path, teacher: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    planned = config(data, tmp_path / "s", teacher, readouts=("cls", "avg"), dry_run=True)
    extract(planned)
    assert not (tmp_path / "s").exists()
    line = capsys.readouterr().err
    assert line.startswith("26 images in 4 shards: 6.7 kB of features (cls 3.3 kB, avg 3.3 kB), ")
    cost = prepare(planned).cost()
    assert (cost.images, cost.shards, cost.feature_bytes) == (26, 4, 26 * 2 * 64 * 2)
    assert cost.image_bytes == sum(path.stat().st_size for path in data.rglob("*.*"))
    assert cost.minutes > 0


def test_a_dry_run_says_which_files_are_left_out_and_which_names_clash(
    teacher: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = fill(tmp_path / "data", 12)
    (folder / "c0/notes.txt").write_text("x")
    (folder / "c0/2.PNG").write_bytes(encoded(50))
    extract(config(folder, tmp_path / "s", teacher, dry_run=True))
    planned = capsys.readouterr().err
    extract(config(folder, tmp_path / "s", teacher))
    done = capsys.readouterr().err
    for line in ("1 file left out that by", "the images 'c0/2"):
        assert line in planned
        assert line in done


def test_images_are_kept_as_asked(data: pathlib.Path, teacher: pathlib.Path, tmp_path: pathlib.Path) -> None:
    assert not cache.open(extract(config(data, tmp_path / "none", teacher, images="none"))).has_images
    small = cache.open(extract(config(data, tmp_path / "small", teacher, images="resized:24")))
    assert small.manifest.plan.identity["resized"].startswith("shorter side resized")
    for row, key in enumerate(small.keys):
        original = opened(data / key)
        kept = Image.open(io.BytesIO(small.image_bytes(row)))
        assert (kept.format, min(kept.size)) == (original.format, min(24, *original.size))
    full = cache.open(extract(config(data, tmp_path / "full", teacher)))
    assert np.array_equal(small.features()[:], full.features()[:])
    assert np.array_equal(small.hashes_N16, full.hashes_N16)


def test_originals_above_the_limit_are_asked_about(
    data: pathlib.Path, teacher: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tcs.extraction.plan.MAX_ORIGINAL_BYTES", 1000)
    with pytest.raises(ConfigError, match=r"the images take .* kB, above the 1.0 kB .*; choose --images original, "):
        extract(config(data, tmp_path / "s", teacher))
    assert cache.open(extract(config(data, tmp_path / "s", teacher, images="original"))).has_images


def test_flat_folder_gives_an_unlabelled_store(teacher: pathlib.Path, tmp_path: pathlib.Path) -> None:
    (tmp_path / "data").mkdir()
    for i in range(3):
        (tmp_path / f"data/{i}.png").write_bytes(encoded(i))
    (tmp_path / "data/notes.txt").write_text("no image")
    store = cache.open(extract(config(tmp_path / "data", tmp_path / "s", teacher)))
    assert (store.labels_N.tolist(), store.classes) == ([-1, -1, -1], ())
    assert store.manifest.gate is not None
    assert store.manifest.gate["avg"]["rows"] == 3


def test_bad_images_are_all_listed_and_max_bad_closes_the_store_at_once(
    teacher: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = fill(tmp_path / "data", 26)
    bad = break_some(data)
    first = config(data, tmp_path / "s", teacher, max_bad=3)
    with pytest.raises(
        DataError, match=r"^4 of 26 images are bad, --max-bad is 3: .*; run again when they are fixed, or "
    ):
        extract(first)
    with pytest.raises(IncompleteStoreError):
        cache.open(tmp_path / "s")
    before = stamps(tmp_path / "s")
    assert len(before) == 4
    capsys.readouterr()
    extract(dataclasses.replace(first, max_bad=4, batch_size=8))
    told = capsys.readouterr().err
    assert "batches of 3; --batch-size 8 is not used" in told
    (left_out,) = [line for line in told.splitlines() if line.startswith("left out: ")]
    assert all(key in left_out for key in bad)
    assert stamps(tmp_path / "s") == before
    store = cache.open(tmp_path / "s")
    assert {entry.key for entry in store.manifest.quarantine} == set(bad)
    assert all(entry.reason.startswith(bad[entry.key]) for entry in store.manifest.quarantine)
    assert len(store) == 22
    assert set(store.keys).isdisjoint(bad)
    expected = by_hand(data, teacher, store.keys)[:, 1]
    np.testing.assert_allclose(store.features()[:].astype(np.float32), expected, rtol=1e-3, atol=1e-4)


def test_fixed_images_are_taken_up_by_the_same_command(teacher: pathlib.Path, tmp_path: pathlib.Path) -> None:
    data = fill(tmp_path / "data", 26)
    whole = shard_files(extract(config(data, tmp_path / "whole", teacher)))
    break_some(data)
    with pytest.raises(DataError, match="4 of 26 images are bad"):
        extract(config(data, tmp_path / "s", teacher))
    (data / "c1/25.png").unlink()
    fill(data, 26)
    assert shard_files(extract(config(data, tmp_path / "s", teacher))) == whole


def test_long_lists_of_bad_images_are_cut_and_folders_of_nothing_else_refused(
    teacher: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    data = fill(tmp_path / "data", 14)
    for path in sorted(data.rglob("*.*"))[1:]:
        path.write_text("broken")
    with pytest.raises(DataError, match=r"13 of 14 images are bad, .*, and 3 more; run again") as error:
        extract(config(data, tmp_path / "s", teacher))
    assert str(error.value).count("not an image file") == 10
    assert len(cache.open(extract(config(data, tmp_path / "s", teacher, max_bad=13)))) == 1
    (data / "c0/0.jpg").write_text("broken")
    with pytest.raises(DataError, match=r"none of the 14 images can be read \(first: c0/0.jpg \(not an image file\)\)"):
        extract(config(data, tmp_path / "all", teacher, max_bad=99))


def test_feature_beyond_float16_is_named(data: pathlib.Path, tmp_path: pathlib.Path) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        save_file(timm.create_model("test_resnet", num_classes=0).state_dict(), tmp_path / "w.safetensors")
    wild = config(data, tmp_path / "s", tmp_path / "w.safetensors", std=(1e-9, 1e-9, 1e-9))
    with pytest.raises(FeatureValueError, match="extract with --dtype float32"):
        extract(dataclasses.replace(wild, teacher="test_resnet"))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_gpu_gives_the_same_store_within_float16(
    data: pathlib.Path, teacher: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    cpu = cache.open(extract(config(data, tmp_path / "cpu", teacher, dtype="float32")))
    gpu = cache.open(extract(config(data, tmp_path / "gpu", teacher, dtype="float32", device="cuda", workers=2)))
    assert gpu.identity == cpu.identity
    assert gpu.keys == cpu.keys
    np.testing.assert_allclose(gpu.features()[:], cpu.features()[:], rtol=1e-3, atol=1e-4)
