"""Readouts of inner layers and maps against forward hooks, together and alone, and where a model has none."""

from typing import Any

import numpy as np
import pytest
import timm
import torch

from tcs.errors import ConfigError, ModelError
from tcs.teacher.readouts import parse_readout, read_features, require_consistent, require_readouts

torch.set_num_threads(1)
VIT = ("cls", "avg", "pool", "map", "block0.cls", "block3.avg", "block3.map", "block5.map")
CNN = ("avg", "pool", "map", "stage0.map", "stage2.avg", "stage2.map", "stage4.map")


def seeded(name: str, **kwargs: Any) -> torch.nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = timm.create_model(name, pretrained=False, num_classes=0, **kwargs).eval()
        with torch.no_grad():  # norms start as the identity, which would hide a norm left out
            for value in model.parameters():
                value.add_(0.1 * torch.randn_like(value))
    return model


def images(size: int = 96, count: int = 3) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).standard_normal((count, 3, size, size)).astype(np.float32))


def hooked(model: torch.nn.Module, layers: dict[str, torch.nn.Module], x_B3HW: torch.Tensor) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = {}
    handles = [
        layer.register_forward_hook(lambda module, inputs, output, name=name: found.update({name: output}))
        for name, layer in layers.items()
    ]
    model.forward_features(x_B3HW)
    for handle in handles:
        handle.remove()
    return found


@torch.inference_mode()
@pytest.mark.parametrize("options", [{}, {"reg_tokens": 3}])
def test_blocks_of_a_vit_are_what_hooks_see(options: dict[str, Any]) -> None:
    model = seeded("test_vit", img_size=96, **options)
    prefix = model.num_prefix_tokens
    tokens = hooked(model, {str(i): model.blocks[i] for i in range(6)} | {"norm": model.norm}, images())
    found = read_features(model, images(), VIT)
    torch.testing.assert_close(found["block0.cls"], tokens["0"][:, 0])
    torch.testing.assert_close(found["block3.avg"], tokens["3"][:, prefix:].mean(1))
    torch.testing.assert_close(found["map"], tokens["norm"][:, prefix:].reshape(3, 6, 6, 64))
    for row in range(6):  # position (row, column) is token 6 row + column
        torch.testing.assert_close(found["block5.map"][:, row, 2], tokens["5"][:, prefix + 6 * row + 2])
    normed = read_features(model, images(), ("block3+norm.cls", "block3+norm.map"))
    torch.testing.assert_close(normed["block3+norm.cls"], model.norm(tokens["3"])[:, 0])
    torch.testing.assert_close(normed["block3+norm.map"], model.norm(tokens["3"])[:, prefix:].reshape(3, 6, 6, 64))
    require_consistent(model, images(), VIT)


@torch.inference_mode()
def test_stages_of_a_cnn_are_what_hooks_see() -> None:
    model = seeded("test_resnet")
    layers = {"0": model.act1, "2": model.layer2, "4": model.layer4}
    maps = {name: value.permute(0, 2, 3, 1) for name, value in hooked(model, layers, images()).items()}
    found = read_features(model, images(), CNN)
    for name in ("0", "2", "4"):
        torch.testing.assert_close(found[f"stage{name}.map"], maps[name])
    torch.testing.assert_close(found["stage2.avg"], maps["2"].mean((1, 2)))
    torch.testing.assert_close(found["map"], maps["4"])
    assert [info["num_chs"] for info in model.feature_info][2] == found["stage2.map"].shape[-1]


@torch.inference_mode()
def test_map_keeps_rows_and_columns_of_a_wide_image() -> None:
    for name in ("test_resnet", "test_mambaout", "test_vit"):
        model = seeded(name, **({"img_size": (64, 96)} if name == "test_vit" else {}))
        wide = images(96)[:, :, :64]
        found = read_features(model, wide, ("map", "avg"))
        height, width = found["map"].shape[1:3]
        assert height * 3 == width * 2
        torch.testing.assert_close(found["map"].mean((1, 2)), found["avg"], rtol=1e-4, atol=1e-5)


@torch.inference_mode()
@pytest.mark.parametrize(
    ("name", "names"),
    [
        ("test_vit", VIT),
        ("test_vit3", ("avg", "map", "block1.avg", "block8.map")),
        ("test_resnet", CNN),
        ("test_convnext", ("avg", "pool", "map", "stage1.map")),
        ("test_efficientnet", ("avg", "map", "stage4.map")),
        ("test_mambaout", ("avg", "map", "stage1.avg")),
    ],
)
def test_one_pass_for_all_equals_a_pass_for_each_bit_for_bit(name: str, names: tuple[str, ...]) -> None:
    model, x_B3HW = seeded(name), images(160 if name.startswith("test_vit") else 96)
    together = read_features(model, x_B3HW, names)
    assert list(together) == list(names)
    for one in names:
        alone = read_features(model, x_B3HW, (one,))[one]
        assert alone.dtype == torch.float32
        assert torch.equal(alone, together[one]), one


@torch.inference_mode()
def test_layers_that_a_model_lacks_are_refused() -> None:
    vit, cnn = seeded("test_vit", img_size=96), seeded("test_resnet")
    wrong = [
        (vit, "stage2.map", "test_vit has blocks, so --readout stage2.map is undefined; use block2.map"),
        (cnn, "block2.avg", "test_resnet has stages, so --readout block2.avg is undefined; use stage2.avg"),
        (vit, "block6.avg", "--readout names layer 6, and test_vit has 6, counted from 0; use 0 to 5"),
        (cnn, "stage5.map", "--readout names layer 5, and test_resnet has 5, counted from 0; use 0 to 4"),
        (cnn, "stage1.cls", "test_resnet has no class token, so --readout stage1.cls is undefined; use avg or map"),
        (
            seeded("test_vit2", img_size=64),
            "block1.cls",
            "test_vit2 has no class token, so --readout block1.cls is undefined",
        ),
    ]
    for model, name, message in wrong:
        with pytest.raises(ModelError, match=message):
            read_features(model, images(64 if model.num_features == 64 and model is not vit else 96), (name,))


def test_names_are_taken_apart_and_odd_ones_refused() -> None:
    spec = parse_readout("block11+norm.map")
    assert (spec.kind, spec.layer, spec.word, spec.is_normed) == ("map", 11, "block", True)
    for name in ("block.avg", "block-1.avg", "block01.avg", "block3.pool", "layer3.avg", "block3", "Map", ""):
        with pytest.raises(
            ConfigError, match=r"it must be one of cls, avg, pool, map, or of an inner layer block3\.cls"
        ):
            parse_readout(name)
    with pytest.raises(ConfigError, match=r"one pass gives inner layers with \+norm or without, not both"):
        require_readouts(("block1.avg", "block2+norm.avg"))
    with pytest.raises(ConfigError, match=r"stages have no norm of their own, leave out \+norm"):
        require_readouts(("stage1+norm.avg",))
    require_readouts(("avg", "block1+norm.avg", "block2+norm.map"))


@torch.inference_mode()
def test_models_whose_two_ways_disagree_are_refused() -> None:
    model = seeded("test_vit", img_size=96)
    honest, last_map = model.forward_intermediates, model.forward_intermediates

    def shifted(*args: Any, **options: Any) -> Any:
        last, inner = honest(*args, **options)
        return last + 1, inner

    model.forward_intermediates = shifted
    with pytest.raises(ModelError, match="test_vit gives other features when its inner layers are read; leave out"):
        require_consistent(model, images(), ("avg", "block1.avg"))
    require_consistent(model, images(), ("avg", "map"))

    def transposed(x: torch.Tensor, indices: Any = None, return_prefix_tokens: bool = False, norm: bool = False) -> Any:
        last, inner = last_map(x, indices=indices, return_prefix_tokens=return_prefix_tokens, norm=norm)
        return last, [(map_BDHW.transpose(2, 3), prefix) for map_BDHW, prefix in inner]

    model.forward_intermediates = transposed
    with pytest.raises(ModelError, match="test_vit does not say where its tokens lie, so --readout map is undefined"):
        require_consistent(model, images(), ("map",))


@torch.inference_mode()
def test_features_that_are_not_finite_are_named_as_such() -> None:
    model = seeded("test_vit", img_size=96)
    model.norm.weight.data[0] = torch.nan
    for name in ("map", "block1.avg"):
        with pytest.raises(ModelError, match="test_vit gives features that are not finite; check its weights"):
            require_consistent(model, images(), (name,))


@torch.inference_mode()
def test_models_without_inner_layers_or_places_leave_the_rest() -> None:
    model = seeded("test_vit", img_size=96)
    model.forward_intermediates = lambda *args, **options: 1 / 0
    assert set(read_features(model, images(), ("cls", "avg", "pool"))) == {"cls", "avg", "pool"}

    class Plain(torch.nn.Module):
        num_features, num_prefix_tokens = 4, 0

        def forward_features(self, x: torch.Tensor) -> torch.Tensor:
            return torch.zeros(len(x), 5, 4)

    with pytest.raises(ModelError, match="Plain does not give its inner layers; use cls, avg, pool"):
        read_features(Plain(), images(), ("block1.avg",))
    with pytest.raises(
        ModelError, match="Plain ends with 5 tokens, and its patches are 2 x 2, so --readout map is und"
    ):
        read_features(Plain(), images(), ("map",))
