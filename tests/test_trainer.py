"""The loop: phases, resume, divergence, what moves and what stays. Legend: n rows, K coordinates, H hash bits, C classes."""

import dataclasses
import os
import pathlib
import signal

import numpy as np
import pytest
import torch

from tcs.config.augment import AugmentPolicy
from tcs.config.optimiser import OptimiserConfig
from tcs.errors import ArtefactError, ConfigError, DivergedError
from tcs.functional.coordinates import HashPlanes
from tcs.methods.named import METHODS, find_method, resolve_method
from tcs.students.backbone import parse_student
from tcs.students.student import StudentPlan, build_student
from tcs.training.batches import batch_positions
from tcs.training.feed import Feed, Showing
from tcs.training.images import ResidentImages
from tcs.training.loop import Outcome, Pace, Runner, train_students
from tcs.training.metrics import load_metrics
from tcs.training.probe_start import Probe
from tcs.training.recipe import Recipe, plan_phases, plan_stages
from tcs.training.rows import TrainingRows
from tcs.training.trainer import Surroundings, Trainer

STUDENT = "resnet18,layers=(1,1,1,1),channels=(4,4,8,8)"
DROPOUT_STUDENT = STUDENT + ",drop_path_rate=0.3"
N, K, H, C, SIZE = 48, 6, 16, 3, 16
AUGMENTED = AugmentPolicy(crop="pad", padding=2, hflip=0.5)
PACE = Pace(log=1, save=5, look=100)
OPTIMISER = [field.name for field in dataclasses.fields(OptimiserConfig)]


class CountingBar:
    """Counts steps; can end the process's patience at one of them."""

    def __init__(self, interrupt_at: int | None = None) -> None:
        self.steps, self.interrupt_at = 0, interrupt_at
        self.begun: list[int] = []

    def begin_at(self, done: int) -> None:
        self.begun.append(done)
        self.steps = done

    def advance(self, amount: int, note: str = "") -> None:
        self.steps += amount
        if self.steps == self.interrupt_at:
            os.kill(os.getpid(), signal.SIGINT)


def rows() -> TrainingRows:
    generator = torch.Generator().manual_seed(0)
    bits_NH = torch.randint(0, 2, (N, H), generator=generator).numpy().astype(np.uint8)
    labels_n = torch.full((N,), -1)
    labels_n[:12] = torch.arange(12) % C
    return TrainingRows(
        labels_n=labels_n,
        labelled_m=torch.arange(12),
        coordinates_nK=torch.randn(N, K, generator=generator),
        packed_nP=torch.from_numpy(np.packbits(bits_NH, axis=1, bitorder="little")),
    )


def images() -> torch.Tensor:
    return torch.randint(0, 256, (N, 3, SIZE, SIZE), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def make(
    method: str, *, student: str = STUDENT, steps: int = 12, data: TrainingRows | None = None, **recipe: object
) -> Trainer:
    chosen = METHODS[method]
    generator = torch.Generator().manual_seed(1)
    plan = StudentPlan(
        spec=parse_student(student),
        n_classes=0 if chosen.head == "none" else C,
        components=K,
        reads_coordinates=chosen.head == "tcs",
        image_size=SIZE,
        pretrained=False,
        seed=5,
    )
    around = Surroundings(
        planes=HashPlanes(
            rotation_HK=torch.randn(H, K, generator=generator), thresholds_H=torch.zeros(H), rms_H=torch.ones(H)
        ),
        probe=Probe(weight_CK=np.eye(C, K), bias_C=np.arange(C, dtype=np.float64), active_k=np.array([0, 1, 2, 4])),
        mean=(0.5, 0.5, 0.5),
        std=(0.25, 0.25, 0.25),
        device=torch.device("cpu"),
    )
    optimiser = OptimiserConfig(**{name: recipe.pop(name) for name in list(recipe) if name in OPTIMISER})
    settings = {"batch_size": 8, "seed": 5} | recipe
    made = Recipe(method=chosen, steps=steps, optimiser=optimiser, **settings)
    return Trainer(build_student(plan), data or rows(), made, around, student)


def feed_of(trainer: Trainer, policy: AugmentPolicy = AUGMENTED) -> Feed:
    recipe, labelled_m = trainer.recipe, trainer.rows.labelled_m
    showing = Showing(size=SIZE, policy=policy, mixing=None, clean_pool=recipe.mimic_view == "clean", seed=recipe.seed)
    return Feed(ResidentImages(images()), labelled_m, plan_stages(recipe, len(labelled_m), N), showing)


def run(
    trainer: Trainer,
    folder: pathlib.Path | None = None,
    bar: CountingBar | None = None,
    policy: AugmentPolicy = AUGMENTED,
) -> Outcome:
    runner = Runner(trainer=trainer, folder=folder, fingerprint="fingerprint")
    (outcome,) = train_students(feed_of(trainer, policy), [runner], bar or CountingBar(), PACE)
    if runner.failure is not None:
        raise runner.failure
    return outcome


def one_step(trainer: Trainer, feed: Feed | None = None) -> None:
    feed = feed or feed_of(trainer)
    trainer.train_step(feed, feed.batch(trainer.step))


def same(one: Trainer, other: Trainer) -> bool:
    first, second = one.student.state_dict(), other.student.state_dict()
    return all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize("method", list(METHODS))
def test_every_method_lowers_its_own_loss(method: str, tmp_path: pathlib.Path) -> None:
    trainer = make(method, steps=60, lr=5e-3)
    outcome = run(trainer, tmp_path, policy=AugmentPolicy())
    main = [row["loss"] for row in load_metrics(tmp_path / "metrics.jsonl") if row["phase"] == "main"]
    assert np.mean(main[-5:]) < np.mean(main[:5])
    stages = plan_stages(trainer.recipe, 12, N)
    starts = [0, *(stop for stop, _ in stages)]
    assert outcome.images_seen == sum(
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
    outcome = run(resumed, tmp_path / "cut", bar)
    assert same(whole, resumed)
    assert (bar.begun, bar.steps) == ([stop], resumed.recipe.steps)
    assert outcome.images_seen == expected.images_seen
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
    other = Runner(trainer=make("labels"), folder=tmp_path, fingerprint="other")
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
    while trainer.step < trainer.phases[1].start:
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
    recipe = Recipe(method=find_method("tcs+elsh"), steps=100)
    warm_up, main = plan_phases(recipe)
    assert (warm_up.start, warm_up.stop, main.start, main.stop, main.refit) == (0, 10, 10, 100, True)
    (only,) = plan_phases(dataclasses.replace(recipe, pretrained=True))
    assert (only.start, only.refit) == (0, True)
    with pytest.raises(ConfigError, match=r"--steps is 1, and the warm-up phase takes 1 of them .*; use more steps"):
        plan_phases(dataclasses.replace(recipe, steps=1))


def test_a_batch_of_one_is_refused() -> None:
    trainer = make("labels", batch_size=1)
    with pytest.raises(ConfigError, match=r"a batch has 1 row\(s\)"):
        feed_of(trainer)


def test_methods_are_found_by_name() -> None:
    with pytest.raises(ConfigError, match=r"known methods are labels.*Did you mean tcs\+elsh"):
        find_method("tcs-elsh")
    assert resolve_method(None, None, None, has_targets=False) is METHODS["labels"]
    assert resolve_method(None, "tcs", "ce + 0.5*elsh", has_targets=True).needs == {"labels", "bits"}
    with pytest.raises(ConfigError, match="trains no classifier and --head linear has no other"):
        resolve_method(None, "linear", "l2", has_targets=True)


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
    method = resolve_method(None, head, loss, has_targets=True, picks_labels=picks)
    assert (method.head, method.classifier, set(method.needs)) == expected
    assert method.reads_labels == ("labels" in expected[2])


@pytest.mark.parametrize(
    ("loss", "why"), [("ce + l2", "trains a classifier"), ("kd", "trains a classifier"), ("lshl2_s", "reads labels")]
)
def test_head_none_takes_no_loss_that_needs_labels(loss: str, why: str) -> None:
    with pytest.raises(ConfigError, match=rf"--head none .* reads no label, and --loss '.*' {why}; leave one out"):
        resolve_method(None, "none", loss, has_targets=True)
