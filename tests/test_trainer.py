"""The loop: phases, resume, divergence, what moves and what stays. Legend: n rows, K coordinates, H hash bits, C classes."""

import dataclasses
import pathlib

import numpy as np
import pytest
import torch
from trainers import (
    PACE,
    STUDENT,
    UNCHANGED,
    C,
    CountingBar,
    K,
    feed_of,
    images,
    make,
    one_step,
    rows,
    run,
    same,
)

from tcs.config.train import TrainConfig
from tcs.errors import ArtefactError, ConfigError, DivergedError
from tcs.methods.named import METHODS, find_method, resolve_method
from tcs.training.batches import batch_positions
from tcs.training.loop import Runner, train_students
from tcs.training.metrics import load_metrics
from tcs.training.phases import plan_phases

DROPOUT_STUDENT = STUDENT + ",drop_path_rate=0.3"


@pytest.mark.parametrize("method", list(METHODS))
def test_every_method_lowers_its_own_loss(method: str, tmp_path: pathlib.Path) -> None:
    trainer = make(method, steps=32, lr=5e-3)
    cost = run(trainer, tmp_path, augment=UNCHANGED)
    main = [row["loss"] for row in load_metrics(tmp_path / "metrics.jsonl") if row["phase"] == "main"]
    assert np.mean(main[-5:]) < np.mean(main[:5])
    stages = trainer.job.stages
    starts = [0, *(stop for stop, _ in stages)]
    assert cost.images_seen == sum(
        (stop - start) * plan.rows for start, (stop, plan) in zip(starts, stages, strict=False)
    )


@pytest.mark.parametrize("method", ["labels", "tcs+elsh", "tcs-probe"])
@pytest.mark.parametrize("stop", [1, 3, 7])
def test_an_interrupted_run_goes_on_bit_for_bit(method: str, stop: int, tmp_path: pathlib.Path) -> None:
    whole = make(method, student=DROPOUT_STUDENT, warmup_phase_share=0.25)
    (tmp_path / "whole").mkdir()
    (tmp_path / "cut").mkdir()
    expected = run(whole, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(
            make(method, student=DROPOUT_STUDENT, warmup_phase_share=0.25),
            tmp_path / "cut",
            CountingBar(interrupt_at=stop),
        )
    resumed = make(method, student=DROPOUT_STUDENT, warmup_phase_share=0.25)
    torch.manual_seed(999)
    bar = CountingBar()
    cost = run(resumed, tmp_path / "cut", bar)
    assert same(whole, resumed)
    assert (bar.begun, bar.steps) == ([stop], resumed.job.steps)
    assert cost.images_seen == expected.images_seen
    one, other = (load_metrics(tmp_path / name / "metrics.jsonl", measured=False) for name in ("whole", "cut"))
    assert one == other


def test_the_run_depends_on_the_seed_and_not_on_the_global_generator() -> None:
    trainers = []
    for global_seed, seed in ((0, 5), (1, 5), (0, 6)):
        torch.manual_seed(global_seed)
        trainers.append(make("tcs+elsh", student=DROPOUT_STUDENT, seed=seed))
        run(trainers[-1])
    assert same(trainers[0], trainers[1])
    assert not same(trainers[0], trainers[2])


def test_a_resume_file_of_another_run_is_refused(tmp_path: pathlib.Path) -> None:
    run(make("labels"), tmp_path)
    trainer = make("labels")
    trainer.job = dataclasses.replace(trainer.job, identity={"run": "another"})
    other = Runner(trainer=trainer, folder=tmp_path)
    with pytest.raises(ArtefactError, match="belongs to another configuration"):
        train_students(feed_of(other.trainer), [other], CountingBar(), PACE)


def test_a_broken_resume_file_is_named(tmp_path: pathlib.Path) -> None:
    (tmp_path / "resume.pt").write_bytes(b"nonsense")
    with pytest.raises(ArtefactError, match=r"resume.pt cannot be read"):
        run(make("labels"), tmp_path)


def test_a_loss_that_is_not_finite_stops_before_the_update() -> None:
    data = rows()
    broken = dataclasses.replace(data, coordinates_nK=torch.full_like(data.coordinates_nK, float("nan")))
    trainer = make("tcs-probe", data=broken)
    before = {key: value.clone() for key, value in trainer.student.named_parameters()}
    with pytest.raises(DivergedError, match=r"loss 'l2' is nan at step 0; lower --lr"):
        one_step(trainer)
    assert all(torch.equal(before[key], value) for key, value in trainer.student.named_parameters())


def test_the_teacher_space_probe_stays_frozen_and_reads_the_selection_only() -> None:
    trainer = make("tcs-probe")
    run(trainer)
    assert torch.equal(trainer.student.classifier.weight, torch.eye(C, K))
    assert trainer.student.mask_K.tolist() == [1, 1, 1, 0, 1, 0]
    weight_CS, _bias_C = trainer.student.folded_classifier()
    expected = torch.eye(C, K) * trainer.student.mask_K @ trainer.student.projection.weight
    assert torch.allclose(weight_CS, expected, atol=1e-6)


def test_the_refit_is_a_ridge_regression_of_the_cached_coordinates() -> None:
    trainer = make("tcs", steps=20)
    feed = feed_of(trainer)
    while trainer.step < trainer.job.phases[1].start:
        one_step(trainer, feed)
    before = trainer.student.projection.weight.clone()
    trainer.refit_projection(feed)
    trainer.student.eval()
    with torch.no_grad():
        z_nK = trainer.student(trainer.normalised(images())).z_BK
    residual = (z_nK - trainer.rows.coordinates_nK).square().mean()
    constant = (trainer.rows.coordinates_nK - trainer.rows.coordinates_nK.mean(0)).square().mean()
    assert not torch.equal(before, trainer.student.projection.weight)
    assert residual <= constant + 1e-6  # never worse than the best constant


def test_labels_outside_the_split_are_never_read() -> None:
    data = rows()
    for method in ("labels", "tcs+elsh", "rdimkd-p"):
        one, other = (
            make(method, data=data),
            make(method, data=dataclasses.replace(data, labels_n=data.labels_n.clone())),
        )
        other.rows.labels_n[12:] = 1
        run(one)
        run(other)
        assert same(one, other)


def test_mimic_rows_are_shown_clean_where_asked() -> None:
    trainer = make("rdimkd-p", mimic_view="clean", labelled_share=0.5)
    seen = []
    trainer.student.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0].clone()))
    feed = feed_of(trainer)
    one_step(trainer, feed)
    _, pool = batch_positions(feed.plan(0), trainer.rows.labelled_m, 0)
    assert torch.equal(seen[0][4:], trainer.normalised(images()[pool]))


def test_the_projection_biases_and_norms_are_not_decayed() -> None:
    trainer = make("tcs+elsh")
    decayed, plain = trainer.optimisation.optimiser.param_groups
    assert decayed["weight_decay"] == 0.05
    assert plain["weight_decay"] == 0.0
    assert any(parameter is trainer.student.projection.weight for parameter in plain["params"])
    assert all(parameter.ndim >= 2 for parameter in decayed["params"])
    assert len(decayed["params"]) + len(plain["params"]) == sum(1 for _ in trainer.student.parameters())


def test_phases_of_a_method_with_a_warm_up() -> None:
    config, method = TrainConfig(store="s", out="o", models=("m",)), find_method("tcs+elsh")
    warm_up, main = plan_phases(config, method, 100)
    assert (warm_up.start, warm_up.stop, main.start, main.stop, main.refit) == (0, 10, 10, 100, True)
    (only,) = plan_phases(dataclasses.replace(config, pretrained=True), method, 100)
    assert (only.start, only.refit) == (0, True)
    with pytest.raises(ConfigError, match=r"--steps is 1, and the warm-up phase takes 1 of them .*; use more steps"):
        plan_phases(config, method, 1)


def test_a_batch_of_one_is_refused() -> None:
    trainer = make("labels", batch_size=1)
    with pytest.raises(ConfigError, match=r"a batch has 1 row\(s\)"):
        feed_of(trainer)


def test_methods_are_found_by_name() -> None:
    with pytest.raises(ConfigError, match=r"known methods are labels.*Did you mean tcs\+elsh"):
        find_method("tcs-elsh")
    assert resolve_method(None, None, None) is METHODS["tcs-pool"]
    assert resolve_method(None, "tcs", "ce + 0.5*elsh").needs == {"labels", "bits"}
    with pytest.raises(ConfigError, match="trains no classifier and --head linear has no other"):
        resolve_method(None, "linear", "l2")


@pytest.mark.parametrize(
    ("head", "loss", "picks", "expected"),
    [
        (None, "l2", False, ("none", "none", {"coordinates"})),
        (None, "0.5*elsh + queue-kl", False, ("none", "none", {"bits", "features"})),
        ("none", "projector", False, ("none", "none", {"features"})),
        ("tcs", "l2", False, ("tcs", "probe-frozen", {"coordinates", "labels"})),
        (None, "l2", True, ("tcs", "probe-frozen", {"coordinates", "labels"})),
        (None, "ce + l2", False, ("tcs", "trained", {"coordinates", "labels"})),
    ],
)
def test_a_loss_without_labels_has_no_classifier_unless_asked_for(
    head: str | None, loss: str, picks: bool, expected: tuple[str, str, set[str]]
) -> None:
    method = resolve_method(None, head, loss, picks_labels=picks)
    assert (method.head, method.classifier, set(method.needs)) == expected
    assert method.reads_labels == ("labels" in expected[2])


@pytest.mark.parametrize(
    ("loss", "why"), [("ce + l2", "trains a classifier"), ("kd", "trains a classifier"), ("lshl2_s", "reads labels")]
)
def test_head_none_takes_no_loss_that_needs_labels(loss: str, why: str) -> None:
    with pytest.raises(ConfigError, match=rf"--head none .* reads no label, and --loss '.*' {why}; leave one out"):
        resolve_method(None, "none", loss)
