"""Pretraining of a teacher: it learns, resumes exactly from any kill, never reads a label, and says in one line what is wrong."""

import dataclasses
import json
import pathlib
import signal

import numpy as np
import pytest
import timm
import torch
from command_line import tcs
from forks import in_process
from PIL import Image
from safetensors.torch import load_file
from together import killed_at

import cache
from cache import digest_of_bytes
from tcs.cli import main
from tcs.config.pretrain import SimclrConfig
from tcs.errors import ArtefactError, DataError, DivergedError
from tcs.images.folder import list_images
from tcs.pretraining.cost import Cost
from tcs.pretraining.loop import Pretraining, identity_of, learning_rate, save_encoder, train_encoder

ROOT = pathlib.Path(__file__).parent.parent
KWARGS = {"layers": (1, 1, 1, 1), "channels": (4, 4, 8, 8)}
CONFIG = SimclrConfig(model_kwargs=KWARGS, img_size=16, epochs=3, batch_size=4, projection_dims=4)
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


def run_until_killed(arguments):
    """The command as it is run alone; it is killed after its second checkpoint."""
    Pretraining.save = killed_at(2, Pretraining.save, before=False)
    main(["pretrain", *arguments])


def pretrained(capsys, *arguments):
    return tcs(capsys, "pretrain", *map(str, arguments))


def equal_weights(first, second):
    pairs = zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def test_loss_falls_on_pairs_that_can_be_told_apart(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for number, colour in enumerate(np.random.default_rng(1).integers(0, 256, (8, 3), dtype=np.uint8)):
        Image.fromarray(np.tile(colour, (16, 16, 1))).save(folder / f"{number}.png")
    config = SimclrConfig(model_kwargs=KWARGS, img_size=16, epochs=40, batch_size=8, lr=0.01, views="glyphs")
    run = train_encoder(list_images(folder), config, tmp_path / "resume.pt", device=CPU)
    assert run.step == 40
    assert len(run.epochs) == 40
    assert run.epochs[-1][0] < 0.8 * run.epochs[0][0]
    assert run.epochs[-1][0] < 0.85 * np.log(15)  # the loss of guessing among 15 candidates
    assert not run.encoder.training


@pytest.mark.parametrize("kill_at", [1, 4, 8])
def test_resume_equals_an_uninterrupted_run(folder, tmp_path, monkeypatch, kill_at):
    images = list_images(folder)
    whole = train_encoder(images, CONFIG, tmp_path / "whole.pt", device=CPU)
    step = Pretraining.train_step

    def dying_step(self, views, steps_per_epoch):
        if self.step == kill_at:
            raise KeyboardInterrupt
        return step(self, views, steps_per_epoch)

    monkeypatch.setattr(Pretraining, "train_step", dying_step)
    with pytest.raises(KeyboardInterrupt):
        train_encoder(images, CONFIG, tmp_path / "killed.pt", device=CPU, checkpoint_every=3)
    monkeypatch.undo()
    resumed = train_encoder(images, CONFIG, tmp_path / "killed.pt", device=CPU, checkpoint_every=3)
    assert equal_weights(resumed.network, whole.network)
    assert (resumed.step, resumed.epochs) == (9, whole.epochs)


def test_workers_do_not_change_the_result(folder, tmp_path):
    images = list_images(folder)
    runs = [train_encoder(images, CONFIG, tmp_path / f"{n}.pt", device=CPU, workers=n) for n in (0, 1)]
    assert equal_weights(runs[0].network, runs[1].network)


def test_labels_do_not_reach_the_training(tmp_path):
    """The same pixels in the same order, labelled by folders or not at all: equal to the bit."""
    labelled = write_images(tmp_path / "labelled", [f"{'ab'[i // 4]}/{i}.png" for i in range(8)])
    bare = write_images(tmp_path / "bare", [f"{i}.png" for i in range(8)])
    first = train_encoder(list_images(labelled), CONFIG, tmp_path / "1.pt", device=CPU)
    second = train_encoder(list_images(bare, labels="none"), CONFIG, tmp_path / "2.pt", device=CPU)
    assert equal_weights(first.network, second.network)


def test_global_generator_is_left_alone(folder, tmp_path):
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    train_encoder(list_images(folder), CONFIG, tmp_path / "resume.pt", device=CPU)
    assert torch.equal(torch.rand(4), expected)


def test_learning_rate_warms_up_and_ends_near_zero():
    config = SimclrConfig(lr=1.0, warmup_share=0.1)
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
        train_encoder(list_images(tmp_path / "one"), CONFIG, tmp_path / "resume.pt", device=CPU)
    (folder / "b" / "1.png").write_bytes(b"\x89PNG broken")
    with pytest.raises(DataError, match=r"image b/1\.png: not an image file; remove it from"):
        train_encoder(list_images(folder), CONFIG, tmp_path / "resume.pt", device=CPU)


def test_other_settings_or_images_are_refused(folder, tmp_path):
    images, resume = list_images(folder), tmp_path / "resume.pt"
    train_encoder(images, CONFIG, resume, device=CPU)
    other = SimclrConfig(model_kwargs=KWARGS, img_size=16, epochs=3, batch_size=4, projection_dims=4, lr=0.5)
    with pytest.raises(ArtefactError, match=r"resume.pt was made with lr 0.001 \(now 0.5\); give the same settings"):
        train_encoder(images, other, resume, device=CPU)
    (folder / "a" / "0.png").unlink()
    with pytest.raises(ArtefactError, match=r"images 12 \(now 11\), image_digest "):
        train_encoder(list_images(folder), CONFIG, resume, device=CPU)


def test_identity_reads_back_equal_from_json(folder):
    identity = identity_of(list_images(folder), CONFIG)
    assert json.loads(json.dumps(identity)) == identity


def test_weights_beyond_float16_are_refused(tmp_path):
    encoder = torch.nn.Linear(2, 2)
    torch.nn.init.constant_(encoder.weight, 1e5)
    with pytest.raises(ArtefactError, match="weight 'weight' has values that float16 cannot hold"):
        save_encoder(tmp_path / "x.safetensors", encoder)
    assert list(tmp_path.iterdir()) == []


def test_command_writes_weights_that_plain_timm_loads_and_a_card(folder, tmp_path, capsys):
    out = tmp_path / "new" / "teacher.safetensors"
    code, shown, told = pretrained(capsys, folder, "--test", folder, "--out", out, "--epochs", 2, "--json", *TINY)
    assert code == 0, told
    card = json.loads(out.with_suffix(".json").read_text())
    assert json.loads(shown) == card
    encoder = timm.create_model(card["teacher"], num_classes=0, **card["teacher_kwargs"])
    state = load_file(out)
    encoder.load_state_dict(state)
    assert {value.dtype for value in state.values()} == {torch.float16, torch.int64}
    assert (card["steps"], card["readout"], card["img_size"], card["weights"]) == (6, "pool", 16, out.name)
    assert card["weights_digest"] == digest_of_bytes(out.read_bytes())
    assert {"knn_top1", "probe_1_shots", "pixels_4_shots"} <= set(card["scores"])
    assert "probe_16_shots" not in card["scores"]  # the folder has 6 images a class
    assert sorted(path.name for path in out.parent.iterdir()) == ["teacher.json", "teacher.safetensors"]
    assert "pretrain: 12 images, 2 epochs, 6 steps; a step takes " in told
    before = out.read_bytes()
    code, _, told = pretrained(capsys, folder, "--out", out, "--epochs", 2, *TINY)
    assert code == 0
    assert "is finished; nothing to do" in told
    code, _, told = pretrained(capsys, folder, "--out", out, "--epochs", 3, *TINY)
    assert code == 1
    assert "was made with epochs 2 (now 3)" in told
    assert out.read_bytes() == before
    code, _, told = pretrained(capsys, folder, "--out", out, "--epochs", 3, "--overwrite", *TINY)
    assert code == 0
    assert "scores none" in told


def test_the_card_is_what_an_extraction_needs(folder, tmp_path, capsys):
    out, store = tmp_path / "teacher.safetensors", tmp_path / "x.store"
    assert pretrained(capsys, folder, "--out", out, "--epochs", 1, *TINY)[0] == 0
    card = str(out.with_suffix(".json"))
    code, _, told = tcs(capsys, "extract", str(folder), "--teacher-card", card, "--out", str(store), "-j", "0")
    assert code == 0, told
    found = cache.open(store)
    assert {name: each.dims for name, each in found.readouts.items()} == {"pool": 8}
    encoder = timm.create_model("resnet18", num_classes=0, **KWARGS)
    encoder.load_state_dict(load_file(out))
    image = np.asarray(Image.open(folder / found.keys[0]).convert("RGB"), np.float32) / 255
    normal = (image - SimclrConfig.mean) / SimclrConfig.std
    with torch.no_grad():
        expected = encoder.eval()(torch.from_numpy(normal).float().permute(2, 0, 1)[None])[0].numpy()
    assert found.features("pool")[0] == pytest.approx(expected, rel=2e-3, abs=1e-4)


def test_cost_is_told_and_a_dry_run_writes_nothing(folder, tmp_path, capsys):
    out = tmp_path / "new" / "teacher.safetensors"
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    code, shown, told = pretrained(capsys, folder, "--out", out, "--epochs", 50, "--dry-run", "--json", *TINY)
    assert torch.equal(torch.rand(4), expected)
    assert (code, shown) == (0, "")
    assert "12 images, 50 epochs, 150 steps" in told
    assert told.endswith("Nothing was written.\n")
    assert not out.parent.exists()


def test_cost_counts_decoding_beside_the_steps_where_there_are_processes_for_it():
    cost = Cost(images=9, epochs=1, steps=10, step_seconds=2.0, decode_seconds=6.0, workers=0, device="cpu")
    assert [dataclasses.replace(cost, workers=n).seconds for n in (0, 1, 2, 6)] == [80, 60, 30, 20]


def test_the_first_steps_are_those_without_a_cost(folder, tmp_path, capsys):
    bare = train_encoder(list_images(folder), CONFIG, tmp_path / "resume.pt", device=CPU)
    out = tmp_path / "teacher.safetensors"
    assert pretrained(capsys, folder, "--out", out, "--epochs", 3, *TINY)[0] == 0
    save_encoder(tmp_path / "bare.safetensors", bare.encoder)
    assert out.read_bytes() == (tmp_path / "bare.safetensors").read_bytes()


def test_command_killed_and_rerun_gives_the_same_weights(folder, tmp_path, capsys):
    arguments = [folder, "--epochs", "4", *TINY]
    whole = tmp_path / "whole.safetensors"
    assert pretrained(capsys, *arguments, "--out", whole)[0] == 0
    killed, resume = tmp_path / "killed.safetensors", tmp_path / "killed.resume.pt"
    command = [str(part) for part in (*arguments, "--out", killed)]
    assert in_process(run_until_killed, command)[0] == -signal.SIGKILL
    assert resume.exists()
    assert not killed.exists()
    assert pretrained(capsys, *arguments, "--out", killed)[0] == 0
    assert killed.read_bytes() == whole.read_bytes()
    assert not resume.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("EMPTY",), "holds no images (0 other files)"),
        (("missing",), "'missing' does not exist; DATA must be a folder, a .tar"),
        (("FOLDER", "--batch-size", "1"), "--batch-size is 1; an image needs others to differ from"),
        (("FOLDER", "--model", "resnet81"), "Did you mean"),
        (("FOLDER", "--device", "abacus"), "--device is 'abacus'"),
        (("FOLDER", "-j", "-1"), "--workers is -1; it must be 0 or more"),
        (("FOLDER", "--checkpoint-every", "0"), "--checkpoint-every is 0; it must be 1 or more"),
        (("FOLDER", "--out", "x.pth"), "--out is 'x.pth'; its name must end in .safetensors, as my_"),
        (("FOLDER", "--test", "OTHERS", *TINY), "has the class 'c', which "),
        (("FOLDER", "--test", "FLAT", *TINY), "has images without a class, so nothing can be scored"),
    ],
)
def test_errors_are_one_line(folder, tmp_path, capsys, arguments, message):
    (tmp_path / "empty").mkdir()
    others, flat = write_images(tmp_path / "others", ["a/0.png", "c/1.png"]), write_images(tmp_path / "flat", ["0.png"])
    places = {"EMPTY": tmp_path / "empty", "FOLDER": folder, "OTHERS": others, "FLAT": flat}
    options = ("--out", tmp_path / "x.safetensors", "--epochs", "1")
    code, _, told = pretrained(capsys, *options, *(places.get(a, a) for a in arguments))
    assert code == 1
    assert message in told
    assert len([line for line in told.splitlines() if not line.startswith("pretrain: ")]) == 1
    assert not list(tmp_path.glob("x.*"))


def test_embedded_teacher_is_small_and_beats_pixels():
    """The card's scores stand for the file beside it: digest, size, and what the demo promises of it."""
    weights = ROOT / "tcs" / "embedded" / "digits_teacher.safetensors"
    card = json.loads(weights.with_suffix(".json").read_text())
    assert weights.stat().st_size <= 1_500_000
    assert card["weights_digest"] == digest_of_bytes(weights.read_bytes())
    assert card["pretraining"]["images"] == 1297
    for shots in (1, 4, 16):
        assert card["scores"][f"probe_{shots}_shots"]["mean"] > card["scores"][f"pixels_{shots}_shots"]["mean"]
