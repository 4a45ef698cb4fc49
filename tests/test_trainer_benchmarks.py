"""The benchmarks of the trainer, once and small, so that they cannot rot."""

import io

import numpy as np
import pytest
import torch
from artefacts import make_store, make_targets
from PIL import Image
from tables import read_rows

from benchmarks import one_stream, training_step, turns

TINY = "resnet18,layers=(1,1,1,1),channels=(4,4,8,8)"
TINIER = "resnet18,layers=(1,1,1,1),channels=(4,4,4,4)"


# --- a step -----------------------------------------------------------------------------------------------------------


def small(batch_size=4):
    return training_step.Setting(model=TINY, size=16, batch_size=batch_size)


def test_contestants_see_the_same_whole_batch_with_labels_and_differ_in_the_loss():
    cached = training_step.make_cached(small(), 8, 32, 3, torch.device("cpu"))
    trainers = {name: cached.trainer(small(), method) for name, method in training_step.METHODS_COMPARED.items()}
    terms = {name: [(term.name, term.weight) for term in trainer.phase.terms] for name, trainer in trainers.items()}
    assert terms == {training_step.LABELS: [("ce", 1.0)], training_step.TCS: [("ce", 1.0), ("elsh", 1.0)]}
    assert {(len(trainer.phases), trainer.phase.stop) for trainer in trainers.values()} == {(1, 3)}
    batch = cached.feed.batch(0)
    assert batch.labelled == len(batch.positions_B) == 4
    assert trainers[training_step.LABELS].student.projection is None
    assert trainers[training_step.TCS].student.projection.weight.shape == (8, 8)


def test_whoever_goes_first_in_a_step_goes_last_in_the_next():
    assert [list(training_step.alternating("ab", step)) for step in range(3)] == [["a", "b"], ["b", "a"], ["a", "b"]]


def table(unit, base, ratio):
    values = {training_step.LABELS: base, training_step.TCS: [value * ratio for value in base]}
    return turns.Table(title="t", unit=unit, base=training_step.LABELS, values=values)


@pytest.mark.parametrize(
    ("times", "memory", "bounded", "end"),
    [
        (1.02, 1.01, True, "the bounds 1.03 and 1.02 are kept."),
        (1.04, 1.01, True, "the bounds 1.03 and 1.02 are NOT kept."),
        (1.02, 1.03, True, "the bounds 1.03 and 1.02 are NOT kept."),
        (1.50, 1.03, False, "1.0300 x the memory of labels only."),
    ],
)
def test_the_verdict_holds_both_ratios_against_their_bounds(times, memory, bounded, end):
    setting = training_step.Setting(model="m", size=1, batch_size=2, bounded=bounded)
    said = training_step.verdict(setting, table("MiB", [100.0], memory), table("ms", [1.0, 2.0, 3.0], times))
    assert said.startswith(f"- m, 1 px, batch 2: {times:.3f} x the time (n 3, ")
    assert said.endswith(end)


def test_training_step_compares_time_and_memory(results, capsys, monkeypatch):
    monkeypatch.setattr(training_step, "SMALL", (small(batch_size=6),))
    sizes = ["--model", TINIER, "--img-size", "16", "-b", "4", "--components", "8", "--bits", "32"]
    training_step.main([*sizes, "--rounds", "2", "--steps", "1"])
    printed = capsys.readouterr().out
    assert "the bounds 1.03 and 1.02 are " in printed
    assert "threads, float32." in printed
    rows = read_rows(results / "training-step" / "training-step.csv")
    assert len({row["table"] for row in rows}) == 4
    assert len(rows) == 2 * (2 * 2 + 2)
    assert all(float(row["value"]) > 0 for row in rows)


def test_peak_memory_has_no_images_in_it_and_is_larger_with_the_larger_head():
    cached = training_step.make_cached(small(), 64, 512, 3, torch.device("cpu"))
    found = training_step.memory_table(small(), cached)
    (ratio,) = found.ratios(training_step.TCS)
    planes_mib = 512 * 64 * 4 / 2**20
    assert found.values[training_step.TCS][0] > found.values[training_step.LABELS][0] + planes_mib
    assert ratio > 1


# --- one stream -------------------------------------------------------------------------------------------------------


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(3):
        noise = np.random.default_rng(number).integers(0, 256, (9, 10, 3), dtype=np.uint8)
        Image.fromarray(noise).resize((100, 80)).save(folder / f"{number}.jpg")
    return folder


def test_one_stream_is_compared_with_a_run_each_resident_and_streamed(results, capsys, tmp_path, photos):
    make_store(tmp_path / "train.store")
    make_targets(tmp_path)
    plain = [
        str(tmp_path / "train.store"),
        "--targets",
        str(tmp_path / "pca.h5"),
        "--student",
        TINY,
        "--student",
        TINIER,
    ]
    sizes = ["--img-size", "16", "-b", "8", "--steps", "3", "--rounds", "2"]
    streamed = ["--photos", str(photos), "--photo-student", TINY, "--photo-student", TINIER, "--photo-rows", "8"]
    more = ["--photo-size", "32", "--photo-batch-size", "4", "--streamed-steps", "3", "--megapixels", "0.01"]
    one_stream.main([*plain, *sizes, *streamed, *more])
    out, err = capsys.readouterr()
    assert err.count("they are streamed") == 2 * 3  # a stream of two, and two of one; two rounds
    assert out.count("weights equal bit for bit in every round") == 2
    rows = read_rows(results / "one-stream" / "one-stream.csv")
    assert {row["contestant"] for row in rows} == {one_stream.ONE, one_stream.FOUR}
    assert len(rows) == 2 * 2 * 2
    assert {row["base"] for row in rows} == {one_stream.ONE}


def test_other_weights_stop_the_benchmark(tmp_path):
    folders = [tmp_path / "a" / "student", tmp_path / "b" / "student"]
    for number, folder in enumerate(folders):
        folder.mkdir(parents=True)
        (folder / "last.safetensors").write_bytes(b"same")
        (folder / "folded.safetensors").write_bytes(bytes([number]))
    one_stream.require_equal(folders[:1], folders[:1])
    with pytest.raises(
        SystemExit, match=r"folded\.safetensors of student differs between one stream and a run of its own"
    ):
        one_stream.require_equal(folders[:1], folders[1:])


def test_photographs_are_saved_anew_in_their_proportions(photos):
    photo = (photos / "0.jpg").read_bytes()
    assert one_stream.saved_anew(photo, 0) == photo
    image = Image.open(io.BytesIO(one_stream.saved_anew(photo, 0.032)))
    assert (image.format, image.size) == ("JPEG", (200, 160))


def test_fewer_photographs_than_a_batch_are_refused(capsys):
    with pytest.raises(SystemExit):
        one_stream.parse(["x.store", "--photo-rows", "3"])
    assert "--photo-rows is 3; it must be --photo-batch-size (64) or more." in capsys.readouterr().err
