"""Layouts of weight files: each known one is recognised, its encoder taken whole, and the rest named or refused."""

from typing import Any

import pytest
import torch

from tcs.errors import ConfigError, ModelError
from tcs.teacher.layouts import BOOKKEEPING, HEADS, LAYOUTS, find_container, find_encoder

ENCODER = {f"blocks.{i}.weight": torch.full((2,), float(i)) for i in range(3)} | {"norm.bias": torch.ones(1)}
T = torch.zeros(1)


def under(prefix: str, tensors: dict[str, torch.Tensor] = ENCODER, scale: float = 1.0) -> dict[str, torch.Tensor]:
    return {prefix + key: scale * value for key, value in tensors.items()}


# What their training scripts save: name -> (content of the file, dict taken, layout, prefix, how many keys are left out).
FILES: dict[str, tuple[Any, str, str, str, int]] = {
    "plain": (ENCODER, "", "plain", "", 0),
    "distributed and compiled": (under("module._orig_mod."), "", "plain", "module._orig_mod.", 0),
    "timm, with averaged weights": (
        {"state_dict": under("", scale=9), "state_dict_ema": ENCODER, "epoch": 3, "arch": "x"},
        "state_dict_ema",
        "plain",
        "",
        0,
    ),
    "DINO": (
        {
            "student": under("module.backbone.", scale=9) | {"module.head.last_layer.weight_g": T},
            "teacher": under("backbone.") | {"head.mlp.0.weight": T, "head.last_layer.weight_v": T},
            "optimizer": {"state": {0: {"exp_avg": T}}, "param_groups": []},
            "dino_loss": {"center": T},
            "epoch": 100,
        },
        "teacher",
        "dino",
        "backbone.",
        2,
    ),
    "DINOv2, the teacher alone": (
        {"teacher": under("backbone.") | {"dino_head.mlp.0.weight": T, "ibot_head.mlp.0.weight": T}},
        "teacher",
        "dino",
        "backbone.",
        2,
    ),
    "DINOv2, the whole module": (
        {
            "model": under("teacher.backbone.")
            | under("student.backbone.", scale=9)
            | {"teacher.dino_head.mlp.0.weight": T, "dino_loss.center": T}
        },
        "model",
        "dinov2",
        "teacher.backbone.",
        6,
    ),
    "iBOT": (
        {"state_dict": under("module.backbone.") | {"module.head.mlp.0.weight": T}},
        "state_dict",
        "dino",
        "module.backbone.",
        1,
    ),
    "MoCo v3": (
        {
            "arch": "vit_small",
            "state_dict": under("module.base_encoder.")
            | {"module.base_encoder.head.0.weight": T, "module.predictor.0.weight": T}
            | under("module.momentum_encoder.", scale=9),
            "optimizer": {"state": {}},
        },
        "state_dict",
        "moco-v3",
        "module.base_encoder.",
        6,
    ),
    "MoCo v2": (
        {
            "state_dict": under("module.encoder_q.")
            | under("module.encoder_k.", scale=9)
            | {"module.queue": T, "module.queue_ptr": T}
        },
        "state_dict",
        "moco-v2",
        "module.encoder_q.",
        6,
    ),
    "MAE": (
        {"model": ENCODER | {"mask_token": T, "decoder_pos_embed": T, "decoder_blocks.0.weight": T}, "epoch": 800},
        "model",
        "mae",
        "",
        3,
    ),
    "SimMIM": (
        {"model": under("encoder.") | {"encoder.mask_token": T, "decoder.0.weight": T}},
        "model",
        "simmim",
        "encoder.",
        2,
    ),
    "MSN": (
        {
            "encoder": under("module.", scale=9),
            "target_encoder": under("module.") | {"module.fc.fc1.weight": T, "module.fc.bn1.bias": T},
            "prototypes": T,
            "epoch": 800,
        },
        "target_encoder",
        "msn",
        "module.",
        2,
    ),
    "SimSiam": (
        {"state_dict": under("module.encoder.") | {"module.predictor.0.weight": T}},
        "state_dict",
        "simsiam",
        "module.encoder.",
        1,
    ),
    "BYOL": (
        under("online_network.") | under("target_network.", scale=9) | {"predictor.net.0.weight": T},
        "",
        "byol",
        "online_network.",
        5,
    ),
    "BYOL, two dicts": (
        {"online_network_state_dict": ENCODER, "target_network_state_dict": under("", scale=9)},
        "online_network_state_dict",
        "plain",
        "",
        0,
    ),
    "BYOL, nested": (
        under("online_encoder.net.")
        | under("net.", scale=9)
        | {"online_encoder.projector.0.weight": T, "target_encoder.net.norm.bias": T, "online_predictor.0.bias": T},
        "",
        "byol-nested",
        "online_encoder.net.",
        7,
    ),
    "SwAV": (
        under("module.") | {"module.projection_head.0.weight": T, "module.prototypes.weight": T},
        "",
        "plain",
        "module.",
        2,
    ),
    "Barlow Twins": (
        {"model": under("module.backbone.") | {"module.projector.0.weight": T, "module.bn.running_mean": T}},
        "model",
        "dino",
        "module.backbone.",
        2,
    ),
    "averaged by torch": (under("module.") | {"n_averaged": T}, "", "plain", "module.", 1),
    "two dicts deep": ({"checkpoint": {"weights": ENCODER, "step": 3}}, "checkpoint/weights", "plain", "", 0),
}


@pytest.mark.parametrize("kind", FILES)
def test_encoder_of_every_known_layout_is_taken_whole(kind: str) -> None:
    content, container, layout, prefix, left_out = FILES[kind]
    key, tensors, _ = find_container(content, None, "f.pth")
    found = find_encoder(tensors, ENCODER, {}, "f.pth")
    assert (key, found.layout, found.prefix) == (container, layout, prefix)
    assert sum(map(len, found.left_out.values())) == left_out
    extra = set(found.tensors) - set(ENCODER)
    assert all(name.startswith("head.") for name in extra) or not extra
    assert all(torch.equal(found.tensors[name], value) for name, value in ENCODER.items())


def test_every_row_of_the_table_is_tried() -> None:
    assert {layout.name for layout in LAYOUTS} <= {row[2] for row in FILES.values()}


def test_what_the_model_itself_has_is_neither_wrapper_nor_head_nor_bookkeeping() -> None:
    own = {"model.decoder_x": T, "model.head.norm.weight": T, "backbone.conv.weight": T, "queue": T, "module.a": T}
    found = find_encoder(own, own, {}, "f.pth")
    assert (found.layout, found.prefix, found.left_out) == ("plain", "", {})
    assert found.tensors == own
    wrapped = find_encoder(under("module.model.", {"a": T}), {"model.a": T}, {}, "f.pth")
    assert (wrapped.prefix, set(wrapped.tensors)) == ("module.", {"model.a"})


def test_projection_heads_are_left_out_wherever_they_lie() -> None:
    for head in HEADS:
        for key in (f"{head}0.weight", f"backbone.{head}0.weight"):
            found = find_encoder(under("backbone.") | {key: T}, ENCODER, {}, "f.pth")
            assert (set(found.tensors), list(found.left_out.values())) == (set(ENCODER), [(key,)])
    for name in BOOKKEEPING:
        assert find_encoder(ENCODER | {name: T}, ENCODER, {}, "f.pth").left_out == {"bookkeeping": (name,)}


def test_tensors_that_a_layout_does_not_know_are_refused_by_name() -> None:
    strange = under("module.backbone.") | {"module.bottleneck.weight": T}
    with pytest.raises(
        ModelError,
        match=r"f.pth looks like dino, which does not know 1 of its tensors \(module.bottleneck.weight\); say with --key",
    ):
        find_encoder(strange, ENCODER, {}, "f.pth")


def test_checkpoint_key_settles_which_dict_is_read() -> None:
    content = {"student": ENCODER, "teacher": under("", scale=2), "ema": {"weights": ENCODER}}
    assert find_container(content, None, "f.pth")[::2] == ("teacher", ("student", "ema/weights"))
    assert find_container(content, "student", "f.pth")[0] == "student"
    assert find_container(content, "ema/weights", "f.pth")[0] == "ema/weights"
    with pytest.raises(
        ModelError, match=r"--checkpoint-key is 'studnt', which is no dict .* has 'student', .* Did you mean student"
    ):
        find_container(content, "studnt", "f.pth")
    with pytest.raises(ModelError, match=r"'x', which is no dict of tensors in f.pth; it has one, at its top level"):
        find_container(ENCODER, "x", "f.pth")


def test_several_unknown_dicts_are_not_chosen_between() -> None:
    with pytest.raises(
        ModelError, match=r"f.pth holds several dicts of tensors: 'left', 'right'; name .* with --checkpoint-key"
    ):
        find_container({"left": ENCODER, "right": ENCODER}, None, "f.pth")
    for nothing in ({}, {"epoch": 3}, [T], {"a": T, "epoch": 3}, {0: T}, T):
        with pytest.raises(ModelError, match=r"f.pth holds no state dict; give a file of named tensors"):
            find_container(nothing, None, "f.pth")


def test_key_map_replaces_beginnings_and_drops() -> None:
    content = under("vision.trunk.") | under("text.") | {"vision.ln.bias": T}
    found = find_encoder(content, ENCODER, {"vision.trunk.": "", "text.": "-", "vision.ln.": "fc_norm."}, "f.pth")
    assert set(found.tensors) == {*ENCODER, "fc_norm.bias"}
    assert (found.layout, found.left_out) == ("key-map", {"by --key-map": tuple(under("text."))})
    momentum = under("module.base_encoder.", scale=9) | under("module.momentum_encoder.")
    found = find_encoder(momentum, ENCODER, {"module.momentum_encoder.": "", "module.base_encoder.": "-"}, "f.pth")
    assert all(torch.equal(found.tensors[name], value) for name, value in ENCODER.items())
    with pytest.raises(ConfigError, match=r"--key-map vison.= fits no key of the file; its keys begin vision, text"):
        find_encoder(content, ENCODER, {"vison.": ""}, "f.pth")
    with pytest.raises(ConfigError, match=r"--key-map gives two keys of the file the name blocks.0.weight; drop one"):
        find_encoder(content, ENCODER, {"vision.trunk.": "", "text.": ""}, "f.pth")
