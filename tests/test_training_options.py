"""Options of the step itself: parts of a batch, precision, layout, compilation, changed labels. Legend: B rows, C classes."""

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor
from trainers import STUDENT, feed_of, images, make, one_step, rows, same

from tcs.criteria.base import StepRows
from tcs.errors import ConfigError
from tcs.methods.named import METHODS, resolve_method
from tcs.training.trainer import Trainer

VIT = "vit_tiny_patch16_224,img_size=16,patch_size=8,embed_dim=16,depth=1,num_heads=2"
N = 48


@pytest.fixture(autouse=True)
def summed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A method with three losses: of labels, of bits and of coordinates."""
    method = resolve_method(None, "tcs", "ce + 0.5*elsh + 2*l2")
    monkeypatch.setitem(METHODS, "summed", method)


def gradients(trainer: Trainer) -> tuple[dict[str, float], list[Tensor]]:
    """Loss terms and gradients of the first step, before any clipping."""
    trainer._train_mode()
    trainer.optimisation.begin(0)
    values = trainer._backward(feed_of(trainer).batch(0))
    found = [torch.zeros_like(p) if p.grad is None else p.grad for p in trainer.student.parameters()]
    return {name: float(value.detach()) for name, value in values.items()}, found


@pytest.mark.parametrize("view", ["same", "clean"])
@pytest.mark.parametrize(("parts", "batch"), [(2, 8), (3, 13), (5, 24), (4, 8)])
def test_a_batch_in_parts_is_the_whole_batch(parts: int, batch: int, view: str) -> None:
    options: dict[str, Any] = {"student": VIT, "batch_size": batch, "mimic_view": view, "labelled_share": 0.4}
    values, expected = gradients(make("summed", **options))
    in_parts, found = gradients(make("summed", grad_accum_steps=parts, **options))
    assert in_parts == pytest.approx(values, rel=1e-5)
    assert sum(bool(gradient.any()) for gradient in expected) > 10
    for one, other in zip(found, expected, strict=True):
        assert (one - other).abs().max() <= 2e-6 * max(1.0, float(other.abs().max()))


def test_smoothed_and_mixed_labels_go_in_parts_too() -> None:
    found = []
    for parts in (1, 2):
        trainer = make("labels", student=VIT, smoothing=0.1, mixup=0.8, grad_accum_steps=parts)
        values = trainer._backward(feed_of(trainer).batch(0))
        found.append(float(values["loss"].detach()))
    assert found[1] == pytest.approx(found[0], rel=1e-5)


def test_parts_without_labelled_rows_train_what_is_not_frozen() -> None:
    trainer = make("labels", student=VIT, freeze=("backbone",), batch_size=4, grad_accum_steps=2)
    before = trainer.student.classifier.weight.clone()
    one_step(trainer)
    assert not torch.equal(before, trainer.student.classifier.weight)


def test_parts_of_one_row_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"--grad-accum-steps is 5, for a batch of 8 rows; .* Use 4 parts or fewer"):
        feed_of(make("labels", grad_accum_steps=5))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_lower_precision_reaches_the_losses_as_float32_and_resumes_bit_for_bit(dtype: str) -> None:
    options: dict[str, Any] = {"student": VIT, "amp": True, "amp_dtype": dtype, "warmup_phase_share": 0.25}
    whole, cut, resumed = (make("tcs+elsh", **options) for _ in range(3))
    inside: list[torch.dtype] = []
    whole.student.backbone.get_submodule("blocks.0.mlp.fc1").register_forward_hook(
        lambda _module, _inputs, output: inside.append(output.dtype)
    )
    outputs: list[StepRows] = []
    for criterion in whole.criteria.values():
        criterion.register_forward_pre_hook(lambda _module, inputs: outputs.append(inputs[0]))
    feed = feed_of(whole)
    for _ in range(12):
        one_step(whole, feed)
    assert getattr(torch, dtype) in inside
    assert {tensor.dtype for seen in outputs for tensor in (seen.logits_BC, seen.features_BS, seen.z_BK)} == {
        torch.float32
    }
    for _ in range(7):
        one_step(cut, feed)
    state = cut.state()
    assert bool(state["scaler"]) == (dtype == "float16")
    resumed.load_state(copy.deepcopy(state))
    for _ in range(5):
        one_step(resumed, feed)
    assert same(whole, resumed)
    assert whole.optimisation.state()["scaler"] == resumed.optimisation.state()["scaler"]
    assert not same(whole, trained(make("tcs+elsh", student=VIT, warmup_phase_share=0.25), 12))


def trained(trainer: Trainer, steps: int) -> Trainer:
    feed = feed_of(trainer)
    for _ in range(steps):
        one_step(trainer, feed)
    return trainer


def test_an_overflow_of_float16_leaves_the_weights_and_lowers_the_scale() -> None:
    trainer = make("labels", student=VIT, amp=True, amp_dtype="float16")
    feed, before = feed_of(trainer), copy.deepcopy(trainer.student.state_dict())
    state = trainer.optimisation.state()
    state["scaler"]["scale"] = 2.0**120
    trainer.optimisation.load_state(state)
    one_step(trainer, feed)
    assert all(torch.equal(before[key], value) for key, value in trainer.student.state_dict().items())
    assert trainer.optimisation.state()["scaler"]["scale"] == 2.0**119
    state = trainer.optimisation.state()
    state["scaler"]["scale"] = 1024.0
    trainer.optimisation.load_state(state)
    one_step(trainer, feed)
    assert not torch.equal(before["classifier.weight"], trainer.student.classifier.weight)


def test_the_memory_layout_changes_no_result() -> None:
    one, other = (trained(make("labels", channels_last=on, lr=1e-4), 3) for on in (True, False))
    weights = [trainer.student.backbone.get_submodule("layer2.0.conv1").weight for trainer in (one, other)]
    assert [weight.is_contiguous(memory_format=torch.channels_last) for weight in weights] == [True, False]
    assert one.normalised(images()[:2]).is_contiguous(memory_format=torch.channels_last)
    assert not other.normalised(images()[:2]).is_contiguous(memory_format=torch.channels_last)
    assert torch.allclose(one.student.classifier.weight, other.student.classifier.weight, atol=1e-4)


# Of the interpreter, not of the student: torch says it on one release of Python
@pytest.mark.filterwarnings("ignore:Guards may run slower on Python 3.13.0:RuntimeWarning")
@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_a_compiled_student_trains_as_without(backend: str) -> None:
    options: dict[str, Any] = {"student": VIT, "model_ema": True, "model_ema_decay": 0.5}
    options |= {"opt": "momentum", "lr": 1e-3}  # Adam would make much of a rounding error
    plain, compiled = make("labels", **options), make("labels", torchcompile=backend, **options)
    trained(plain, 6)
    trained(compiled, 4)
    resumed = make("labels", torchcompile=backend, **options)
    resumed.load_state(copy.deepcopy(compiled.state()))
    assert resumed.step == 4
    trained(resumed, 2)
    trained(compiled, 2)
    assert same(compiled, resumed)
    for one, other in ((plain.student, compiled.student), (plain.final, compiled.final)):
        first, second = one.state_dict(), other.state_dict()
        assert list(first) == list(second)
        assert all(torch.allclose(first[key], second[key], atol=1e-4) for key in first)


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("labels", {"smoothing": 0.2}),
        ("labels", {"mixup": 0.8}),
        ("labels", {"cutmix": 1.0, "smoothing": 0.1}),
        ("summed", {"mixup": 0.4, "cutmix": 1.0, "mixup_switch_prob": 0.5, "smoothing": 0.1}),
    ],
)
def test_changed_labels_give_the_soft_cross_entropy_made_by_hand(method: str, options: dict[str, Any]) -> None:
    smoothing, plain = options.get("smoothing", 0.0), {"crop_padding": 0.0, "hflip": 0.0}
    trainer = make(method, student=VIT, mimic_view="clean" if method == "summed" else "same", **plain, **options)
    batch = feed_of(trainer).batch(0)
    trainer._train_mode()
    values = trainer._backward(batch)
    with torch.no_grad():
        logits_BC = trainer.student(trainer.normalised(batch.shown_b3HW)).logits_BC[: batch.labelled].double()
    labels = rows().labels_n[batch.positions_B[: batch.labelled]]
    expected = []
    for row, label in enumerate(labels):
        target_C = torch.zeros(3, dtype=torch.float64)
        own = 1.0 if batch.mix is None else float(batch.mix.own_L[row])
        partner = labels[batch.labelled - 1 - row]
        for share, which in ((own, label), (1 - own, partner)):
            target_C += share * ((1 - smoothing) * F.one_hot(which, 3) + smoothing / 3)
        expected.append(-(target_C * logits_BC[row].log_softmax(0)).sum())
    assert float(values["loss_ce"].detach()) == pytest.approx(float(torch.stack(expected).mean()), rel=1e-5)
    if method == "summed":  # the pool is shown as it is cached
        pool = images()[batch.positions_B[batch.labelled :]]
        assert torch.equal(batch.shown_b3HW[batch.labelled :], pool)


def test_one_part_is_the_whole_batch_bit_for_bit() -> None:
    one = trained(make("tcs+elsh", student=STUDENT, grad_accum_steps=1), 4)
    assert one.config.optimiser.grad_accum_steps == 1
    assert same(one, trained(make("tcs+elsh", student=STUDENT), 4))
