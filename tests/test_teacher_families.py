"""Families of teachers at tiny sizes, saved as their authors save them: load_teacher gives the source's features, bit for bit."""

import copy
import json
import pathlib
import re
from collections.abc import Callable
from typing import Any

import pytest
import timm.models
import torch
from safetensors.torch import save_file

from tcs.config.extract import ExtractConfig
from tcs.errors import ModelError
from tcs.teacher.model import Teacher, load_teacher

torch.set_num_threads(1)
State = dict[str, torch.Tensor]
VIT = {"depth": 2, "embed_dim": 48, "num_heads": 3}
CNN = {"depths": (1, 1, 1, 1), "dims": (8, 16, 24, 32)}
T = torch.zeros(1)


def under(prefix: str, state: State, scale: float = 1.0) -> State:
    return {prefix + key: scale * value for key, value in state.items()}


def dinov2(state: State) -> Any:
    return {"teacher": under("backbone.", state | {"mask_token": T}) | {"dino_head.mlp.0.weight": T}}


def dinov2_with_registers(state: State) -> Any:
    """The original adds a position to the class token; timm has the sum. 0.5 and its difference are exact in float32."""
    state = dict(state)
    registers, grid, token = state.pop("reg_token"), state.pop("pos_embed"), state.pop("cls_token")
    position = torch.zeros_like(token)
    original = {"register_tokens": registers, "pos_embed": torch.cat([position, grid], 1), "cls_token": token}
    return state | original | {"mask_token": T}


def dinov3(state: State) -> Any:
    renamed = {key.replace("gamma_1", "ls1.gamma").replace("gamma_2", "ls2.gamma"): v for key, v in state.items()}
    renamed["storage_tokens"] = renamed.pop("reg_token")
    bias = torch.zeros(3 * 48)
    extra = {f"blocks.{i}.attn.qkv.{name}": bias for i in range(2) for name in ("bias", "bias_mask")}
    return renamed | extra | {"mask_token": T, "rope_embed.periods": T}


def facebook_convnext(state: State) -> Any:
    """The names of the original code: downsample_layers, dwconv, pwconv, one norm at the end, a classifier."""
    found = {}
    for key, value in state.items():
        key = re.sub(r"^stem\.", "downsample_layers.0.", key)
        key = re.sub(r"^stages\.(\d)\.downsample\.", r"downsample_layers.\1.", key)
        key = key.replace(".blocks.", ".").replace("conv_dw", "dwconv").replace("mlp.fc", "pwconv")
        found[key.replace("head.norm.", "norm.")] = value
    return {"model": found | {"head.weight": torch.zeros(5, 32), "head.bias": torch.zeros(5)}}


def moco_v3(state: State) -> Any:
    queries = under("module.base_encoder.", state | {"head.0.weight": T, "head.1.running_mean": T})
    keys = under("module.momentum_encoder.", state, scale=2)
    return {"epoch": 300, "arch": "vit_small", "state_dict": queries | keys | {"module.predictor.0.weight": T}}


def moco_v2(state: State) -> Any:
    queries = under("module.encoder_q.", state | {"fc.0.weight": T, "fc.2.bias": T})
    return {"state_dict": queries | under("module.encoder_k.", state, scale=2) | {"module.queue": T}}


def mae(state: State) -> Any:
    decoder = {"decoder_pos_embed": T, "decoder_embed.weight": T, "decoder_blocks.0.norm1.weight": T}
    return {"model": state | {"mask_token": T} | decoder, "epoch": 800, "scaler": {}}


def dino(state: State) -> Any:
    heads = {"head.mlp.0.weight": T, "head.last_layer.weight_g": T}
    student = under("module.", under("backbone.", state, scale=2) | heads)
    return {"student": student, "teacher": under("backbone.", state) | heads, "epoch": 100, "dino_loss": {"center": T}}


def msn(state: State) -> Any:
    return {
        "encoder": under("module.", state, scale=2),
        "target_encoder": under("module.", state | {"fc.fc1.weight": T}),
    }


def supervised_swin(state: State) -> Any:
    """The original downsamples at the end of a stage, keeps its index buffers, and has a classifier."""
    moved = {
        re.sub(r"layers\.(\d)\.downsample", lambda m: f"layers.{int(m[1]) - 1}.downsample", k): v
        for k, v in state.items()
    }
    return {"model": moved | {"head.weight": torch.zeros(5, 192), "layers.0.blocks.0.attn.relative_position_index": T}}


def plain(state: State) -> Any:
    return state


FAMILIES: list[tuple[str, int, dict[str, Any], Callable[[State], Any], str]] = [
    ("vit_small_patch14_dinov2", 28, VIT, dinov2, "dino"),
    ("vit_small_patch14_reg4_dinov2", 28, VIT, dinov2_with_registers, "plain"),
    ("vit_giant_patch14_dinov2", 28, VIT, plain, "plain"),
    ("vit_small_patch16_dinov3", 32, VIT, dinov3, "plain"),
    ("convnext_tiny", 64, CNN, facebook_convnext, "plain"),
    ("convnextv2_atto", 64, CNN, plain, "plain"),
    ("vit_base_patch16_224", 32, VIT, mae, "mae"),
    ("vit_small_patch16_224", 32, VIT, dino, "dino"),
    ("vit_small_patch16_224", 32, VIT, moco_v3, "moco-v3"),
    ("vit_small_patch16_224", 32, VIT, msn, "msn"),
    ("resnet50", 64, {"layers": (1, 1, 1, 1)}, moco_v2, "moco-v2"),
    ("eva02_tiny_patch14_224", 28, VIT, plain, "plain"),
    ("beitv2_base_patch16_224", 32, VIT, plain, "plain"),
    (
        "swin_tiny_patch4_window7_224",
        56,
        {"depths": (1, 1, 1, 1), "embed_dim": 24, "num_heads": (1, 2, 2, 4)},
        supervised_swin,
        "plain",
    ),
    ("naflexvit_base_patch16_gap", 32, VIT, plain, "plain"),
]


def source(name: str, size: int, kwargs: dict[str, Any]) -> torch.nn.Module:
    sized = {} if name.startswith(("conv", "res", "naflex", "dla", "test")) else {"img_size": size}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = timm.create_model(name, num_classes=0, **sized, **kwargs).eval()
        with torch.no_grad():
            for value in model.parameters():
                value.add_(0.02 * torch.randn_like(value))
    return model


def loaded(name: str, path: pathlib.Path | None, size: int, **options: Any) -> Teacher:
    options = {
        "readouts": ("avg", "pool"),
        "teacher_channels_last": False,
    } | options  # the other layout rounds otherwise
    file = None if path is None else str(path)
    return load_teacher(
        ExtractConfig(data="d", out="o", teacher=name, teacher_checkpoint=file, img_size=size, **options)
    )


@torch.inference_mode()
def require_same_features(teacher: Teacher, model: torch.nn.Module) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        images = torch.randn(8, *teacher.input_shape)
    features = model.forward_features(images)
    found = teacher.features(images)
    assert torch.equal(found["pool"], model.forward_head(features, pre_logits=True).flatten(1))
    tokens = features[:, model.num_prefix_tokens :].mean(1) if features.ndim == 3 else None
    if tokens is not None:
        assert torch.equal(found["avg"], tokens)
    assert found["pool"].std() > 0


@pytest.mark.parametrize(
    ("name", "size", "kwargs", "saved", "layout"), FAMILIES, ids=[f"{row[0]}-{row[3].__name__}" for row in FAMILIES]
)
def test_teacher_from_its_authors_file_gives_the_sources_features(
    tmp_path: pathlib.Path,
    capsys: pytest.CaptureFixture[str],
    name: str,
    size: int,
    kwargs: dict[str, Any],
    saved: Callable[[State], Any],
    layout: str,
) -> None:
    model = source(name, size, kwargs)
    torch.save(saved(copy.deepcopy(model.state_dict())), tmp_path / "w.pth")
    teacher = loaded(name, tmp_path / "w.pth", size, teacher_kwargs=kwargs)
    require_same_features(teacher, model)
    assert (teacher.weights.layout, teacher.weights.missing) == (layout, ())
    assert teacher.weights.matched == len(model.state_dict())
    assert capsys.readouterr().out == ""  # timm prints while it converts DINOv3; stdout is for machines
    json.dumps(teacher.provenance)


def test_conversions_that_change_values_are_told(tmp_path: pathlib.Path) -> None:
    model = source("vit_small_patch16_224", 32, VIT)
    save_file(model.state_dict(), tmp_path / "w.safetensors")
    same = loaded("vit_small_patch16_224", tmp_path / "w.safetensors", 32, teacher_kwargs=VIT)
    assert (same.weights.converted, same.weights.renamed) == ((), 0)
    larger = loaded("vit_small_patch16_224", tmp_path / "w.safetensors", 48, teacher_kwargs=VIT)
    assert larger.weights.converted == ("pos_embed 1x5x48 -> 1x10x48",)
    assert "converted by timm: pos_embed 1x5x48 -> 1x10x48" in larger.weights.describe()
    convnext = source("convnext_tiny", 64, CNN)
    torch.save(facebook_convnext(convnext.state_dict()), tmp_path / "c.pth")
    report = loaded("convnext_tiny", tmp_path / "c.pth", 64, teacher_kwargs=CNN).weights
    assert (report.renamed, report.converted) == (len(convnext.state_dict()), ())
    assert report.left_out == {"heads and networks beside the encoder": ("head.weight", "head.bias")}


def test_gaps_that_timm_lets_pass_are_refused(tmp_path: pathlib.Path) -> None:
    state = source("dla34", 64, {}).state_dict()  # timm loads this architecture leniently
    torch.save({key: value for key, value in state.items() if not key.startswith("level5.")}, tmp_path / "gap.pth")
    with pytest.raises(ModelError, match=r"gap.pth does not fit dla34: \d+ missing \(level5\."):
        loaded("dla34", tmp_path / "gap.pth", 64)


def test_norm_after_pooling_may_be_missing_where_it_is_not_read(tmp_path: pathlib.Path) -> None:
    model = source("convnextv2_atto", 64, CNN)
    state = {key: value for key, value in model.state_dict().items() if not key.startswith("head.norm.")}
    torch.save(state | {"decoder_x": T}, tmp_path / "fcmae.pth")
    teacher = loaded("convnextv2_atto", tmp_path / "fcmae.pth", 64, teacher_kwargs=CNN, readouts=("avg",))
    assert teacher.weights.missing == ("head.norm.weight", "head.norm.bias")
    images = torch.randn(8, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert torch.equal(teacher.features(images)["avg"], model.forward_features(images).mean((2, 3)))
    with pytest.raises(
        ModelError, match=r"lack head.norm.weight, head.norm.bias, which --readout pool needs; use anoth"
    ):
        loaded("convnextv2_atto", tmp_path / "fcmae.pth", 64, teacher_kwargs=CNN)


def test_folder_that_timm_saved_is_a_teacher_wherever_it_lies(tmp_path: pathlib.Path) -> None:
    model = source("vit_small_patch14_reg4_dinov2", 28, VIT)
    for folder in ("here", "there/deeper"):
        timm.models.save_for_hf(model, tmp_path / folder, safe_serialization=True)
    teachers = [
        load_teacher(
            ExtractConfig(data="d", out="o", teacher=f"local-dir:{tmp_path / folder}", readouts=("avg", "pool"))
        )
        for folder in ("here", "there/deeper")
    ]
    for teacher in teachers:
        require_same_features(teacher, model)
        assert teacher.preprocessing["input_size"] == [3, 28, 28]
        assert teacher.provenance["licence"] == "apache-2.0"
    assert teachers[0].identity == teachers[1].identity
    assert teachers[0].identity["teacher"] == "vit_small_patch14_reg4_dinov2"
    assert teachers[0].identity["teacher_kwargs"]["depth"] == 2
    (tmp_path / "here/model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"here holds neither model.safetensors nor pytorch_model.bin; name a file"):
        loaded(f"local-dir:{tmp_path / 'here'}", None, 28)
    (tmp_path / "here/config.json").write_text('{"architectures": ["Dinov2Model"]}')
    with pytest.raises(ModelError, match=r"config.json names no timm architecture; give a folder in timm's layout"):
        loaded(f"local-dir:{tmp_path / 'here'}", None, 28)
    with pytest.raises(
        ModelError, match=r"local-dir:.*gone has no readable config.json; give a folder in timm's layout"
    ):
        loaded(f"local-dir:{tmp_path / 'gone'}", None, 28)


def test_architecture_that_timm_fills_otherwise_is_refused(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = source("test_resnet", 64, {})
    save_file(model.state_dict(), tmp_path / "w.safetensors")
    monkeypatch.setattr(timm, "create_model", lambda *arguments, **options: model)
    with pytest.raises(
        ModelError, match="teacher test_resnet is not filled by timm from a state dict; it cannot be used"
    ):
        loaded("test_resnet", tmp_path / "w.safetensors", 64)
