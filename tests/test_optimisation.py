"""How weights move: schedules, groups, clipping, averages and frozen parts, each against a slow reference written out by hand."""

import copy
import math
import pathlib
from collections.abc import Callable
from typing import Any

import pytest
import timm.optim
import torch
from torch import nn
from trainers import STUDENT, feed_of, make, one_step, run

from tcs.config.optimiser import OptimiserConfig
from tcs.errors import ModelError
from tcs.training.optimisation import freeze, own_randomness
from tcs.training.trainer import Trainer

VIT = "vit_tiny_patch16_224,img_size=16,patch_size=8,embed_dim=16,depth=2,num_heads=2"
STEPS, LR = 20, 0.1


def cosine(step: int) -> float:
    return LR * (1 + math.cos(math.pi * step / STEPS)) / 2


def tanh(step: int) -> float:
    """timm's tanh: from lb = -7 to ub = 3."""
    return LR / 2 * (1 - math.tanh(-7 * (1 - step / STEPS) + 3 * step / STEPS))


SCHEDULES: dict[str, tuple[dict[str, Any], Callable[[int], float]]] = {
    "cosine": ({}, cosine),
    "cosine to a floor": ({"sched": "cosine", "min_lr": 0.02}, lambda step: 0.02 + 0.8 * cosine(step)),
    "tanh": ({"sched": "tanh"}, tanh),
    "step": ({"sched": "step", "decay_steps": 6, "decay_rate": 0.5}, lambda step: LR * 0.5 ** (step // 6)),
    "multistep": (
        {"sched": "multistep", "decay_milestones": (8, 15), "decay_rate": 0.2},
        lambda step: LR * 0.2 ** sum(step + 1 >= at for at in (8, 15)),
    ),
    "poly": ({"sched": "poly", "decay_rate": 2.0}, lambda step: LR * (1 - step / STEPS) ** 2),
    "constant": ({"sched": "constant"}, lambda step: LR),
}


@pytest.mark.parametrize("warmup", [0, 4])
@pytest.mark.parametrize("name", list(SCHEDULES))
def test_a_schedule_is_timms_with_steps_for_epochs(name: str, warmup: int) -> None:
    options, formula = SCHEDULES[name]
    ramp = {"warmup_share": warmup / STEPS} | ({"warmup_lr": 0.01} if warmup else {})
    trainer = make("tcs", steps=STEPS, lr=LR, opt="sgd", **ramp, **options)
    feed, found = feed_of(trainer), []
    for _ in range(STEPS):  # over the phases of the method: the schedule is one
        one_step(trainer, feed)
        found.append(trainer.optimisation.lr)
    top = tanh(warmup) if name == "tanh" else LR  # timm's tanh rises to where it goes on
    expected = [0.01 + (top - 0.01) * step / warmup if step < warmup else formula(step) for step in range(STEPS)]
    assert found == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_warm_up_starts_at_a_hundredth_by_default() -> None:
    trainer = make("labels", steps=STEPS, lr=LR, warmup_share=0.25)
    one_step(trainer)
    assert trainer.optimisation.lr == pytest.approx(LR / 100)


def groups_of(trainer: Trainer) -> dict[str, tuple[float, float]]:
    """(factor of the learning rate, weight decay) of each parameter by its name, each in one group."""
    names = {parameter: name for name, parameter in trainer.student.named_parameters()}
    found = {}
    for group in trainer.optimisation.optimiser.param_groups:
        for parameter in group["params"]:
            assert names[parameter] not in found
            found[names[parameter]] = (group.get("lr_scale", 1.0), group["weight_decay"])
    return found


def vit_depth(name: str) -> int:
    """Layers of a ViT of two blocks: patches and tokens, blocks, head; the norm goes with the last block."""
    if name.startswith("backbone.blocks."):
        return 1 + int(name.split(".")[2])
    return {"backbone.norm": 2, "backbone.head": 3}.get(name.rpartition(".")[0], 0)


def test_layer_decay_slows_a_layer_by_its_distance_from_the_head() -> None:
    found = groups_of(make("tcs+elsh", student=VIT, layer_decay=0.5))
    trainer = make("tcs+elsh", student=VIT)
    assert set(found) == {name for name, _ in trainer.student.named_parameters()}
    for name, parameter in trainer.student.named_parameters():
        inside = name.startswith("backbone.")
        decay = 0.0 if parameter.ndim < 2 or name.startswith("projection") else 0.05
        assert found[name] == (0.5 ** (3 - vit_depth(name)) if inside else 1.0, decay), name


def test_layer_decay_scales_the_learning_rate_of_a_step() -> None:
    trainer = make("labels", student=VIT, layer_decay=0.5, sched="constant", warmup_share=0.0, lr=LR)
    one_step(trainer)
    rates = {group.get("lr_scale", 1.0): group["lr"] for group in trainer.optimisation.optimiser.param_groups}
    assert rates == pytest.approx({scale: LR * scale for scale in (1.0, 0.5, 0.25, 0.125)})


def test_weight_decay_alone_moves_what_is_decayed() -> None:
    trainer = make(
        "tcs", opt="momentum", momentum=0.0, weight_decay=0.3, clip_grad=0.0, sched="constant", warmup_share=0.0, lr=LR
    )
    before = {name: value.clone() for name, value in trainer.student.named_parameters()}
    trainer.optimisation.begin(0)
    for parameter in trainer.student.parameters():
        parameter.grad = torch.zeros_like(parameter)
    trainer.optimisation.move(trainer.optimisation.gradient_norm(lambda: None, lambda: None))
    for name, value in trainer.student.named_parameters():
        is_decayed = value.ndim >= 2 and not name.startswith("projection")
        assert torch.allclose(value, before[name] * (1 - LR * 0.3 if is_decayed else 1.0), atol=1e-7), name


def clipped_by_hand(
    mode: str, gradients: list[torch.Tensor], weights: list[torch.Tensor], most: float
) -> list[torch.Tensor]:
    if mode == "value":
        return [gradient.clamp(-most, most) for gradient in gradients]
    if mode == "norm":
        norm = torch.sqrt(sum(gradient.double().square().sum() for gradient in gradients))
        return [gradient * min(1.0, most / (float(norm) + 1e-6)) for gradient in gradients]
    return [adapted(gradient, weight, most) for gradient, weight in zip(gradients, weights, strict=True)]


def adapted(gradient: torch.Tensor, weight: torch.Tensor, most: float) -> torch.Tensor:
    """Brock et al. 2021, equation 3: the norm of each unit's gradient is at most a share of that of its weights."""
    units = [(gradient, weight)] if weight.ndim < 2 else list(zip(gradient, weight, strict=True))
    factors = [min(1.0, most * max(float(w.norm()), 1e-3) / max(float(g.norm()), 1e-6)) for g, w in units]
    return (
        gradient * torch.tensor(factors).view(-1, *[1] * (gradient.ndim - 1)) if weight.ndim else gradient * factors[0]
    )


@pytest.mark.parametrize(
    ("mode", "most"), [("norm", 0.05), ("norm", 1e4), ("value", 0.01), ("agc", 0.01), ("norm", 0.0)]
)
def test_gradients_are_clipped_as_by_hand(mode: str, most: float) -> None:
    options = {"clip_mode": mode, "clip_grad": most, "opt": "momentum", "momentum": 0.0, "weight_decay": 0.0}
    trainer = make("labels", student=VIT, sched="constant", warmup_share=0.0, lr=LR, **options)
    parameters = [p for p in trainer.student.parameters() if p.requires_grad]
    before = [p.detach().clone() for p in parameters]
    seen: list[torch.Tensor] = []
    step = trainer.optimisation.move

    def move(norm: torch.Tensor) -> None:
        seen.extend(torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in parameters)
        step(norm)

    trainer.optimisation.move = move  # type: ignore[method-assign]
    one_step(trainer)
    expected = clipped_by_hand(mode, seen, before, most) if most else seen
    changed = 0
    for parameter, start, gradient in zip(parameters, before, expected, strict=True):
        assert torch.allclose(parameter, start - LR * gradient, rtol=1e-5, atol=1e-8)
        changed += not torch.equal(parameter, start)
    assert changed > 10


@pytest.mark.parametrize("warms_up", [False, True])
def test_the_running_average_is_the_one_made_by_hand(warms_up: bool, tmp_path: pathlib.Path) -> None:
    trainer = make("labels", model_ema=True, model_ema_decay=0.7, model_ema_warmup=warms_up, steps=6)
    feed, average = feed_of(trainer), copy.deepcopy(trainer.student.state_dict())
    for step in range(1, 7):
        one_step(trainer, feed)
        rise = min(0.7, 1 - step ** -(2 / 3)) if warms_up else 0.7  # timm: power 2/3, from the second step on
        decay = 0.0 if step == 1 else rise
        for key, value in trainer.student.state_dict().items():
            kept = decay * average[key] + (1 - decay) * value
            average[key] = kept if value.is_floating_point() else value.clone()
    assert trainer.final is not trainer.student
    found = trainer.final.state_dict()
    assert all(torch.allclose(found[key], average[key], rtol=1e-4, atol=1e-6) for key in average)
    assert not torch.allclose(found["classifier.weight"], trainer.student.classifier.weight)


def test_frozen_parts_stay_as_they_are_with_their_norms_in_evaluation_mode() -> None:
    trainer = make("tcs+elsh", freeze=("conv1", "bn1", "layer1"), steps=12)
    before = copy.deepcopy(trainer.student.state_dict())
    modes: list[tuple[bool, bool]] = []
    backbone = trainer.student.backbone
    first, last = backbone.get_submodule("layer1.0.bn1"), backbone.get_submodule("layer2.0.bn1")
    trainer.student.register_forward_pre_hook(lambda *_: modes.append((first.training, last.training)))
    run(trainer)
    frozen = ("backbone.conv1.", "backbone.bn1.", "backbone.layer1.")
    after = trainer.student.state_dict()
    for key, value in before.items():
        if key.startswith(frozen):
            assert torch.equal(after[key], value), key
    assert modes[0] == (False, True)
    assert set(modes) <= {(False, True), (False, False)}
    assert not torch.equal(after["backbone.layer2.0.conv1.weight"], before["backbone.layer2.0.conv1.weight"])
    assert all(p.grad is None for key, p in trainer.student.named_parameters() if key.startswith(frozen))


def test_a_frozen_backbone_trains_the_head_alone() -> None:
    trainer = make("labels", freeze=("backbone",))
    before = copy.deepcopy(trainer.student.state_dict())
    run(trainer)
    for key, value in trainer.student.state_dict().items():
        assert torch.equal(value, before[key]) == key.startswith(("backbone.", "projection.", "mask")), key


@pytest.mark.parametrize("name", ["layer9", "conv1.weight", "classifier"])
def test_a_part_that_is_none_is_refused_with_those_there_are(name: str) -> None:
    with pytest.raises(
        ModelError, match=rf"--freeze is '{name}', which is no part .* name backbone, or one of conv1, bn1"
    ):
        make("labels", freeze=("layer1", name))


def test_freezing_all_that_a_loss_trains_is_refused() -> None:
    trainer = make("labels", freeze=("backbone",))
    freeze(trainer.student, ())
    trainer.student.classifier.requires_grad_(False)
    with pytest.raises(
        ModelError, match="--freeze backbone leaves nothing of the student that the losses of the main phase"
    ):
        one_step(trainer)


@pytest.mark.parametrize("opt", ["lookahead_adamw", "sgd", "lamb", "adan"])
def test_an_optimiser_goes_on_bit_for_bit_and_leaves_the_global_generator_alone(opt: str) -> None:
    whole, cut = make("labels", student=STUDENT, opt=opt, steps=12), make("labels", student=STUDENT, opt=opt, steps=12)
    feed = feed_of(whole)
    torch.manual_seed(0)
    at_first = torch.get_rng_state()
    for _ in range(12):
        one_step(whole, feed)
    assert torch.equal(torch.get_rng_state(), at_first)
    for _ in range(7):
        one_step(cut, feed)
    resumed = make("labels", student=STUDENT, opt=opt, steps=12)
    resumed.load_state(copy.deepcopy(cut.state()))
    torch.manual_seed(1)
    for _ in range(5):
        one_step(resumed, feed)
    assert_same(whole.student, resumed.student)


def assert_same(one: nn.Module, other: nn.Module) -> None:
    first, second = one.state_dict(), other.state_dict()
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_options_of_the_optimiser_reach_it() -> None:
    trainer = make("labels", opt="adamw", opt_betas=(0.8, 0.95), opt_eps=1e-5, lr=0.01)
    group = trainer.optimisation.optimiser.param_groups[0]
    assert (group["betas"], group["eps"], group["weight_decay"]) == ((0.8, 0.95), 1e-5, OptimiserConfig().weight_decay)
    assert isinstance(make("labels", opt="lookahead_lamb").optimisation.optimiser, timm.optim.Lookahead)
    assert make("labels", opt="sgd", momentum=0.5).optimisation.optimiser.param_groups[0]["momentum"] == 0.5


@pytest.mark.parametrize(
    "device",
    [
        "cpu",
        pytest.param(
            "cuda",
            marks=[pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")],
        ),
    ],
)
def test_randomness_of_its_own_is_that_of_the_seed_and_leaves_the_others_as_they_were(device: str) -> None:
    place = torch.device(device)
    torch.rand(3, device=place)  # wherever the generators stand
    states = torch.get_rng_state(), torch.cuda.get_rng_state() if device == "cuda" else None
    with own_randomness(7, place):
        drawn = torch.rand(4), torch.rand(4, device=place)
    assert torch.equal(torch.get_rng_state(), states[0])
    assert states[1] is None or torch.equal(torch.cuda.get_rng_state(), states[1])
    with torch.random.fork_rng():
        torch.manual_seed(7)
        expected = torch.rand(4), torch.rand(4, device=place)
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(drawn, expected, strict=True))
