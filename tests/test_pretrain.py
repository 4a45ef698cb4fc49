"""Pretraining of a teacher: it learns, resumes exactly from any kill, never reads a label, and says in one line what is wrong."""

import importlib.util
import json
import pathlib
import runpy
import signal
import sys

import numpy as np
import pytest
import timm
import torch
from click.testing import CliRunner
from forks import in_process
from PIL import Image
from safetensors.torch import load_file
from together import killed_at

from cache import digest_of_bytes
from tcs.errors import ArtefactError, DataError, DivergedError
from tcs.images.folder import list_images
from tcs.pretraining.loop import Pretraining, identity_of, learning_rate, pretrain, save_encoder
from tcs.pretraining.simclr import PretrainConfig

ROOT = pathlib.Path(__file__).parent.parent
SCRIPT = ROOT / "scripts" / "pretrain_teacher.py"
KWARGS = {"layers": (1, 1, 1, 1), "channels": (4, 4, 8, 8)}
CONFIG = PretrainConfig(model_kwargs=KWARGS, img_size=16, epochs=3, batch_size=4, projection_dims=4)
OPTIONS = ("--img-size", "16", "--batch-size", "4", "--projection-dims", "4", "--checkpoint-every", "1", "-j", "0")
TINY = ("--model-kwargs", "layers=(1,1,1,1)", "--model-kwargs", "channels=(4,4,8,8)", *OPTIONS)
CPU = torch.device("cpu")


def write_images(folder, names):
    generator = np.random.default_rng(0)
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(path)
    return folder


@pytest.fixture
def folder(tmp_path):
    return write_images(tmp_path / "images", [f"{'ab'[i % 2]}/{i}.png" for i in range(12)])


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("pretrain_teacher", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run_script_until_killed(arguments):
    """The script as it is run alone; it is killed after its second checkpoint."""
    Pretraining.save = killed_at(2, Pretraining.save, before=False)
    sys.argv = [str(SCRIPT), *arguments]
    runpy.run_path(str(SCRIPT), run_name="__main__")


def run_script(script, *arguments):
    return CliRunner().invoke(script.main, [str(argument) for argument in arguments])


def equal_weights(first, second):
    pairs = zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def test_loss_falls_on_pairs_that_can_be_told_apart(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for number, colour in enumerate(np.random.default_rng(1).integers(0, 256, (8, 3), dtype=np.uint8)):
        Image.fromarray(np.tile(colour, (16, 16, 1))).save(folder / f"{number}.png")
    config = PretrainConfig(model_kwargs=KWARGS, img_size=16, epochs=40, batch_size=8, lr=0.01, views="glyphs")
    run = pretrain(list_images(folder), config, tmp_path / "resume.pt", device=CPU)
    assert run.step == 40
    assert len(run.epochs) == 40
    assert run.epochs[-1][0] < 0.8 * run.epochs[0][0]
    assert run.epochs[-1][0] < 0.85 * np.log(15)  # the loss of guessing among 15 candidates
    assert not run.encoder.training


@pytest.mark.parametrize("kill_at", [1, 4, 8])
def test_resume_equals_an_uninterrupted_run(folder, tmp_path, monkeypatch, kill_at):
    images = list_images(folder)
    whole = pretrain(images, CONFIG, tmp_path / "whole.pt", device=CPU)
    step = Pretraining.train_step

    def dying_step(self, views, steps_per_epoch):
        if self.step == kill_at:
            raise KeyboardInterrupt
        return step(self, views, steps_per_epoch)

    monkeypatch.setattr(Pretraining, "train_step", dying_step)
    with pytest.raises(KeyboardInterrupt):
        pretrain(images, CONFIG, tmp_path / "killed.pt", device=CPU, checkpoint_every=3)
    monkeypatch.undo()
    resumed = pretrain(images, CONFIG, tmp_path / "killed.pt", device=CPU, checkpoint_every=3)
    assert equal_weights(resumed.network, whole.network)
    assert (resumed.step, resumed.epochs) == (9, whole.epochs)


def test_workers_do_not_change_the_result(folder, tmp_path):
    images = list_images(folder)
    runs = [pretrain(images, CONFIG, tmp_path / f"{n}.pt", device=CPU, workers=n) for n in (0, 1)]
    assert equal_weights(runs[0].network, runs[1].network)


def test_labels_do_not_reach_the_training(tmp_path):
    """The same pixels in the same order, labelled by folders or not at all: equal to the bit."""
    labelled = write_images(tmp_path / "labelled", [f"{'ab'[i // 4]}/{i}.png" for i in range(8)])
    bare = write_images(tmp_path / "bare", [f"{i}.png" for i in range(8)])
    first = pretrain(list_images(labelled), CONFIG, tmp_path / "1.pt", device=CPU)
    second = pretrain(list_images(bare, labels="none"), CONFIG, tmp_path / "2.pt", device=CPU)
    assert equal_weights(first.network, second.network)


def test_global_generator_is_left_alone(folder, tmp_path):
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    pretrain(list_images(folder), CONFIG, tmp_path / "resume.pt", device=CPU)
    assert torch.equal(torch.rand(4), expected)


def test_learning_rate_warms_up_and_ends_near_zero():
    config = PretrainConfig(lr=1.0, warmup_share=0.1)
    rates = [learning_rate(config, step, 100) for step in range(100)]
    assert rates[:10] == pytest.approx([(step + 1) / 10 for step in range(10)])
    assert rates[10] == 1
    assert rates[55] == pytest.approx(0.5)
    assert rates[99] < 0.001


def test_infinite_loss_stops_before_the_update(folder):
    run = Pretraining(CONFIG, {}, CPU)
    with torch.no_grad():
        next(run.projector.parameters()).fill_(torch.nan)
    before = next(run.encoder.parameters()).clone()
    with pytest.raises(DivergedError, match=r"resnet18: loss 'nt-xent' is nan at step 0; lower --lr and train again"):
        run.train_step(torch.zeros(4, 2, 3, 16, 16, dtype=torch.uint8), 3)
    assert torch.equal(next(run.encoder.parameters()), before)
    assert run.step == 0


def test_single_image_and_bad_image_are_refused(folder, tmp_path):
    (tmp_path / "one").mkdir()
    (folder / "a" / "0.png").rename(tmp_path / "one" / "0.png")
    with pytest.raises(DataError, match="holds 1 image; pretraining compares images: give 2 or more"):
        pretrain(list_images(tmp_path / "one"), CONFIG, tmp_path / "resume.pt", device=CPU)
    (folder / "b" / "1.png").write_bytes(b"\x89PNG broken")
    with pytest.raises(DataError, match=r"image b/1\.png: not an image file; remove it from"):
        pretrain(list_images(folder), CONFIG, tmp_path / "resume.pt", device=CPU)


def test_other_settings_or_images_are_refused(folder, tmp_path):
    images, resume = list_images(folder), tmp_path / "resume.pt"
    pretrain(images, CONFIG, resume, device=CPU)
    other = PretrainConfig(model_kwargs=KWARGS, img_size=16, epochs=3, batch_size=4, projection_dims=4, lr=0.5)
    with pytest.raises(ArtefactError, match=r"resume.pt was made with lr 0.001 \(now 0.5\); give the same settings"):
        pretrain(images, other, resume, device=CPU)
    (folder / "a" / "0.png").unlink()
    with pytest.raises(ArtefactError, match=r"images 12 \(now 11\), image_digest "):
        pretrain(list_images(folder), CONFIG, resume, device=CPU)


def test_identity_reads_back_equal_from_json(folder):
    identity = identity_of(list_images(folder), CONFIG)
    assert json.loads(json.dumps(identity)) == identity


def test_weights_beyond_float16_are_refused(tmp_path):
    encoder = torch.nn.Linear(2, 2)
    torch.nn.init.constant_(encoder.weight, 1e5)
    with pytest.raises(ArtefactError, match="weight 'weight' has values that float16 cannot hold"):
        save_encoder(tmp_path / "x.safetensors", encoder)
    assert list(tmp_path.iterdir()) == []


def test_script_writes_weights_that_plain_timm_loads_and_a_card(script, folder, tmp_path):
    out = tmp_path / "teacher.safetensors"
    result = run_script(script, folder, "--test", folder, "--out", out, "--epochs", 2, *TINY)
    assert result.exit_code == 0, result.output
    card = json.loads(out.with_suffix(".json").read_text())
    encoder = timm.create_model(card["teacher"], num_classes=0, **card["teacher_kwargs"])
    state = load_file(out)
    encoder.load_state_dict(state)
    assert {value.dtype for value in state.values()} == {torch.float16, torch.int64}
    assert (card["steps"], card["readout"], card["img_size"], card["weights"]) == (6, "pool", 16, out.name)
    assert {"knn_top1", "probe_1_shots", "pixels_4_shots"} <= set(card["scores"])
    assert "probe_16_shots" not in card["scores"]  # the folder has 6 images a class
    assert sorted(path.name for path in tmp_path.iterdir()) == ["images", "teacher.json", "teacher.safetensors"]
    before = out.read_bytes()
    again = run_script(script, folder, "--out", out, "--epochs", 2, *TINY)
    assert again.exit_code == 0, again.output
    assert "is finished; nothing to do" in again.output
    other = run_script(script, folder, "--out", out, "--epochs", 3, *TINY)
    assert other.exit_code == 1
    assert "was made with epochs 2 (now 3)" in other.output
    assert out.read_bytes() == before
    fresh = run_script(script, folder, "--out", out, "--epochs", 3, "--overwrite", *TINY)
    assert fresh.exit_code == 0
    assert "scores none" in fresh.output


def test_script_killed_and_rerun_gives_the_same_weights(script, folder, tmp_path):
    arguments = [folder, "--epochs", "4", *TINY]
    whole = tmp_path / "whole.safetensors"
    assert run_script(script, *arguments, "--out", whole).exit_code == 0
    killed, resume = tmp_path / "killed.safetensors", tmp_path / "killed.resume.pt"
    command = [str(part) for part in (*arguments, "--out", killed)]
    assert in_process(run_script_until_killed, command)[0] == -signal.SIGKILL
    assert resume.exists()
    assert not killed.exists()
    assert run_script(script, *arguments, "--out", killed).exit_code == 0
    assert killed.read_bytes() == whole.read_bytes()
    assert not resume.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("EMPTY",), "holds no images (0 other files)"),
        (("missing",), "'missing' does not exist; DATA must be a folder, a .tar"),
        (("FOLDER", "--batch-size", "1"), "--batch-size is 1; an image needs others to differ from"),
        (("FOLDER", "--model-kwargs", "layers"), "--model-kwargs is 'layers'; write it as k=v"),
        (("FOLDER", "--model", "resnet81"), "Did you mean"),
        (("FOLDER", "--device", "abacus"), "--device is 'abacus'"),
    ],
)
def test_script_errors_are_one_line(script, folder, tmp_path, arguments, message):
    (tmp_path / "empty").mkdir()
    places = {"EMPTY": tmp_path / "empty", "FOLDER": folder}
    result = run_script(script, *(places.get(a, a) for a in arguments), "--out", tmp_path / "x.safetensors")
    assert result.exit_code == 1
    assert message in result.output
    assert result.output.count("\n") == 1
    assert not (tmp_path / "x.safetensors").exists()


def test_embedded_teacher_is_small_and_beats_pixels():
    """The card's scores stand for the file beside it: digest, size, and what the demo promises of it."""
    weights = ROOT / "tcs" / "embedded" / "digits_teacher.safetensors"
    card = json.loads(weights.with_suffix(".json").read_text())
    assert weights.stat().st_size <= 1_500_000
    assert card["weights_digest"] == digest_of_bytes(weights.read_bytes())
    assert card["pretraining"]["images"] == 1297
    for shots in (1, 4, 16):
        assert card["scores"][f"probe_{shots}_shots"]["mean"] > card["scores"][f"pixels_{shots}_shots"]["mean"]
