"""DHO and CustomKD as named methods: what a step trains, what is written, and that a run cut short goes on.

Legend: B rows, n rows of the run, S student width, K coordinates, C classes.
"""

import dataclasses
import json
import pathlib

import numpy as np
import pytest
import timm
import torch
from artefacts import make_store
from safetensors.torch import load_file
from trainers import SIZE, STUDENT, feed_of, make, one_step, run, same

from tcs.augmentation.pixels import normalise
from tcs.config.train import TrainConfig
from tcs.criteria.losses import LOSSES
from tcs.errors import ConfigError
from tcs.functional.two_heads import dho, mixed_logits
from tcs.methods.named import METHODS, resolve_method
from tcs.students.backbone import parse_student
from tcs.students.student import Student, StudentPlan, build_student, normalisation
from tcs.training.train import train

TINY = "resnet18,layers=(1,1,1,1),channels=(4,4,8,8)"


def two_headed(coordinates: bool) -> Student:
    plan = StudentPlan(
        spec=parse_student(TINY),
        n_classes=5,
        components=6,
        reads_coordinates=coordinates,
        image_size=32,
        pretrained=False,
        seed=0,
        second_head=True,
    )
    return build_student(plan).eval()


@pytest.mark.parametrize("gates", [False, True])
@pytest.mark.parametrize("coordinates", [False, True])
def test_the_folded_timm_model_is_the_mix_of_both_classifiers(coordinates: bool, gates: bool) -> None:
    student = two_headed(coordinates)
    if coordinates:
        student.select(torch.tensor([0, 2, 3]))
        if gates:
            student.add_gates()
    assert student.second is not None
    with torch.no_grad():
        student.second.weight.mul_(3)
    plain = timm.create_model("resnet18", num_classes=5, layers=(1, 1, 1, 1), channels=(4, 4, 8, 8))
    plain.load_state_dict(student.folded_state())
    images = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        output, found = student(images), plain.eval()(images)
    assert output.second_BC is not None
    expected = mixed_logits(output.logits_BC, output.second_BC)
    assert torch.allclose(found, expected, atol=1e-5, rtol=1e-4)
    assert not torch.allclose(found, output.logits_BC, atol=1e-2)


@pytest.mark.parametrize("coordinates", [False, True])
def test_tensors_of_an_output_go_out_and_come_back_in_one_order(coordinates: bool) -> None:
    """As between processes: each is doubled on the way, and is still what it was called."""
    student = two_headed(coordinates)
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        output = student(images, maps=2)
    back = output.with_tensors([2 * values for values in output.tensors()])
    for name in ("features_BS", "logits_BC", "z_BK", "second_BC"):
        assert torch.equal(getattr(back, name), 2 * getattr(output, name)), name
    assert [stage.shape for stage in back.maps] == [stage.shape for stage in output.maps]
    assert len(output.tensors()) == 6


def test_a_second_classifier_changes_no_other_start() -> None:
    two = two_headed(coordinates=True).state_dict()
    plan = StudentPlan(
        spec=parse_student(TINY),
        n_classes=5,
        components=6,
        reads_coordinates=True,
        image_size=32,
        pretrained=False,
        seed=0,
    )
    one = build_student(plan).state_dict()
    assert set(two) - set(one) == {"second.weight", "second.bias"}
    assert all(torch.equal(two[key], value) for key, value in one.items())


def test_a_step_of_dho_is_its_functional_form() -> None:
    """The first step's loss, put together from the student's own output and `dho`; labelled rows come first in a batch."""
    trainer = make("dho")
    feed, start = feed_of(trainer), {key: value.clone() for key, value in trainer.student.state_dict().items()}
    batch = feed.batch(0)
    one_step(trainer, feed)
    trainer.watch.settle()
    student = make("dho").student
    student.load_state_dict(start)
    student.train()
    output = student(trainer.normalised(batch.shown_b3HW))
    labels_B = trainer.rows.labels_n[batch.positions_B]
    teacher_BC = trainer.rows.teacher_logits_nC[batch.positions_B]
    first, known = slice(0, batch.labelled), labels_B >= 0
    assert 0 < batch.labelled < len(labels_B)
    assert bool((~known).any())
    with torch.no_grad():
        supervised = dho(
            output.logits_BC[first], labels_B[first], output.second_BC[first], teacher_BC[first], balance=1.0
        )
        # A row with a label that the pool part drew again is one more labelled row of the second classifier.
        distilled = dho(
            *(values[known] for values in (output.logits_BC, labels_B, output.second_BC, teacher_BC)),
            *(values[~known] for values in (output.second_BC, teacher_BC)),
            balance=0.0,
        )
    expected = float(0.5 * supervised + 0.5 * distilled)
    assert trainer.watch.last["loss"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("term", ["ce", "dho-kd"])
def test_each_classifier_learns_from_its_own_loss_alone(term: str) -> None:
    trainer = make("dho", weight_decay=0.0)
    terms = tuple(one for one in trainer.phase.terms if one.name == term)
    trainer.phase = dataclasses.replace(trainer.phase, terms=terms)
    trainer._groups = {LOSSES[term].rows}
    before = {name: value.clone() for name, value in trainer.student.state_dict().items()}
    one_step(trainer)
    moved = {name for name, value in trainer.student.state_dict().items() if not torch.equal(value, before[name])}
    assert ("classifier.weight" in moved, "second.weight" in moved) == (term == "ce", term == "dho-kd")
    assert "backbone.conv1.weight" in moved


@pytest.mark.parametrize("method", ["dho", "customkd"])
def test_a_method_cut_short_resumes_to_the_same_weights(tmp_path: pathlib.Path, method: str) -> None:
    whole = make(method)
    run(whole)
    first = make(method)
    feed = feed_of(first)
    for _ in range(5):
        one_step(first, feed)
    torch.save(first.state(), tmp_path / "state.pt")
    second = make(method)
    second.load_state(torch.load(tmp_path / "state.pt", weights_only=True))
    run(second)
    assert same(whole, second)


def test_the_running_average_holds_both_classifiers() -> None:
    trainer = make("dho", model_ema=True, model_ema_decay=0.5)
    for _ in range(3):
        one_step(trainer)
    assert trainer.final.second is not None
    assert not torch.equal(trainer.final.second.weight, trainer.student.second.weight)
    weight_CS, _bias_C = trainer.final.folded_classifier()
    expected = (trainer.final.classifier.weight + trainer.final.second.weight) / 2
    assert torch.allclose(weight_CS, expected, atol=1e-7)


def test_customkd_reads_the_classifier_as_it_is_and_leaves_it_alone() -> None:
    """With the labels' own loss taken away, nothing moves the classifier, and the map moves by what it says."""
    found = {}
    for scale in (1.0, 5.0):
        trainer = make("customkd", weight_decay=0.0)
        trainer.phase = dataclasses.replace(trainer.phase, terms=(trainer.phase.terms[1],))
        trainer._groups = {"mimic"}
        with torch.no_grad():
            trainer.student.classifier.weight.mul_(scale)
        before = trainer.student.classifier.weight.clone()
        one_step(trainer)
        assert torch.equal(trainer.student.classifier.weight, before)
        found[scale] = trainer.criteria["customkd-l2"].map.weight.grad.clone()
    assert not torch.allclose(found[1.0], found[5.0])


def config(folder: pathlib.Path, **options: object) -> TrainConfig:
    defaults = {"store": str(folder / "train.store"), "out": str(folder / "run"), "models": (STUDENT,), "shots": 2}
    defaults |= {"steps": 4, "batch_size": 16, "img_size": SIZE, "seed": 3}
    return TrainConfig.from_options(defaults | options)


@pytest.mark.parametrize(
    ("method", "options"),
    [("dho", {}), ("dho", {"probe_head": "transductive"}), ("dho", {"smoothing": 0.1}), ("customkd", {})],
)
def test_a_run_writes_a_plain_timm_model(tmp_path: pathlib.Path, method: str, options: dict[str, object]) -> None:
    make_store(tmp_path / "train.store")
    (folder,) = train(config(tmp_path, method=method, **options))
    plain = timm.create_model("resnet18", num_classes=3, layers=(1, 1, 1, 1), channels=(4, 4, 8, 8)).eval()
    plain.load_state_dict(load_file(folder / "folded.safetensors"))
    last = load_file(folder / "last.safetensors")
    weight = last["classifier.weight"]
    if method == "dho":
        weight = (weight + last["second.weight"]) / 2
    assert torch.allclose(plain.fc.weight, weight, atol=1e-6)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in normalisation(plain))
    shown = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 3, SIZE, SIZE), dtype=np.uint8))
    assert torch.isfinite(plain(normalise(shown, mean, std))).all()
    record = json.loads((folder / "config.json").read_text())
    assert record["method"]["loss"] == METHODS[method].loss
    header = (folder / "summary.csv").read_text().splitlines()[0]
    assert "loss_dho-kd" in header or "loss_customkd-l2" in header


@pytest.mark.parametrize("name", ["dho-kd", "customkd-l2"])
def test_a_part_of_a_method_alone_trains_no_classifier(name: str) -> None:
    with pytest.raises(
        ConfigError, match=rf"--loss '{name}' trains no classifier; add ce, as in --loss 'ce \+ {name}'"
    ):
        resolve_method(None, None, name)


@pytest.mark.parametrize("method", ["dho", "customkd"])
def test_batches_in_parts_are_refused(tmp_path: pathlib.Path, method: str) -> None:
    make_store(tmp_path / "train.store")
    with pytest.raises(ConfigError, match=r"--grad-accum-steps is 2, and '.*' compares the rows of a batch"):
        train(config(tmp_path, method=method, grad_accum_steps=2))
