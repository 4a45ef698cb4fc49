"""Where teachers come from: the four kinds of --teacher, Python functions of the user's own, and who may name one."""

import hashlib
import pathlib
import socket
import sys
from typing import Any

import pytest
import timm.models
import torch
from safetensors.torch import save_file

from tcs.config.extract import ExtractConfig
from tcs.errors import ConfigError, ModelError
from tcs.students.zoo.cifar import register
from tcs.teacher.model import Teacher, load_teacher
from tcs.teacher.source import parse_source, teacher_to_run

torch.set_num_threads(1)
SIZED = {"img_size": 8, "mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5), "crop_pct": 1.0, "interpolation": "bicubic"}
MODULE = '''
import torch
from torch import nn

class Pooled(nn.Module):
    """No timm interface: a strided convolution, averaged."""

    def __init__(self, width=5, kind="pool"):
        super().__init__()
        torch.manual_seed(3)
        self.conv, self.kind = nn.Conv2d(3, width, 4, 4), kind

    def forward(self, images):
        maps = self.conv(images)
        vectors = maps.mean((2, 3))
        found = {"pool": vectors, "map": maps, "list": [vectors], "few": vectors[:1], "int": vectors.long()}
        return {"first": vectors, "double": 2 * vectors} if self.kind == "dict" else found[self.kind]

def pooled(**kwargs):
    return Pooled(**kwargs)

def carded():
    model = Pooled().half()
    model.pretrained_cfg = {"input_size": (3, 8, 12), "mean": (0.1,) * 3, "std": (1.0,) * 3, "crop_pct": 1.0,
                            "interpolation": "bilinear", "license": "cc-by-nc-4.0", "classifier": None}
    return model

def of_timm(seed=0, **kwargs):
    import timm
    torch.manual_seed(seed)
    return timm.create_model("test_vit", num_classes=0, **kwargs)

def broken():
    raise RuntimeError("no such luck\\nsecond line")

def number():
    return 3

def leaving():
    raise SystemExit(0)

def leaving_later():
    model = Pooled()
    model.forward = lambda images: leaving()
    return model
'''


@pytest.fixture
def module(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module in the current folder, under a name of its own for each test."""
    name = f"mine_{hashlib.blake2b(str(tmp_path).encode(), digest_size=4).hexdigest()}"
    (tmp_path / f"{name}.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return name


def loaded(spec: str, **options: Any) -> Teacher:
    return load_teacher(ExtractConfig(data="d", out="o", teacher=spec, **options))


def pictures(teacher: Teacher) -> torch.Tensor:
    return torch.randn(8, *teacher.input_shape, generator=torch.Generator().manual_seed(0))


def test_the_four_kinds() -> None:
    kinds = {
        "vit_small_patch14_dinov2.lvd142m": ("timm", "vit_small_patch14_dinov2.lvd142m"),
        "hf-hub:owner/name@main": ("hf-hub", "owner/name@main"),
        "hf_hub:owner/name": ("hf-hub", "owner/name"),
        "local-dir:/some/folder": ("local-dir", "/some/folder"),
        "package.module:function": ("factory", "function"),
        "module:function": ("factory", "function"),
    }
    assert {spec: (parse_source(spec).kind, parse_source(spec).rest) for spec in kinds} == kinds
    for odd in ("hub:owner/name", "local-dir:", "hf_hub:", "a-b:c", "a:b:c", ":f", "m:", "m.:f", "C:/weights"):
        with pytest.raises(
            ModelError, match=r"teacher '.*' is none of: a timm name, hf-hub:owner/name, local-dir:FOLDER"
        ):
            parse_source(odd)
    with pytest.raises(
        ModelError, match=r"'a/b' is no timm name; write hf-hub:a/b for the Hub, local-dir:a/b for a folder"
    ):
        loaded("a/b")


def test_a_stores_record_never_runs_code_unasked() -> None:
    assert teacher_to_run("resnet18.a1_in1k", None) == "resnet18.a1_in1k"
    with pytest.raises(
        ModelError, match=r"the store's teacher is os:abort, .* if you trust it, name it: --teacher os:abort"
    ):
        teacher_to_run("os:abort", None)
    assert teacher_to_run("mine:net", "mine:net") == "mine:net"


def test_function_in_the_current_folder_is_a_teacher(module: str) -> None:
    teacher = loaded(f"{module}:pooled", readouts=("pool",), teacher_kwargs={"width": 7}, **SIZED)
    assert teacher.readouts == {"pool": 7}
    x_B3HW = pictures(teacher)
    with torch.inference_mode():
        assert torch.equal(teacher.features(x_B3HW)["pool"], teacher.model.conv(x_B3HW).mean((2, 3)))
    assert teacher.identity["teacher"] == f"{module}:pooled"
    assert teacher.identity["teacher_kwargs"] == {"width": 7}
    digest = hashlib.blake2b(MODULE.encode(), digest_size=16).hexdigest()
    assert teacher.provenance["code"] == {"file": f"{module}.py", "digest": digest}
    assert (teacher.provenance["source"], teacher.provenance["licence"]) == ("factory", "unknown")
    other = loaded(f"{module}:pooled", readouts=("pool",), teacher_kwargs={"width": 6}, **SIZED)
    assert other.identity["teacher_weights"] != teacher.identity["teacher_weights"]


def test_forward_may_name_its_own_readouts(module: str) -> None:
    options = {"teacher_kwargs": {"kind": "dict"}, **SIZED}
    teacher = loaded(f"{module}:pooled", readouts=("double", "first"), **options)
    found = teacher.features(pictures(teacher))
    assert torch.equal(found["double"], 2 * found["first"])
    with pytest.raises(
        ModelError, match=r"Pooled has no forward_features .* gives first, double, not --readout duble. Did"
    ):
        loaded(f"{module}:pooled", readouts=("duble",), **options)
    with pytest.raises(ModelError, match=r"its forward gives pool, not --readout avg"):
        loaded(f"{module}:pooled", **SIZED)


def test_only_vectors_are_readouts(module: str) -> None:
    wrong = {
        "map": r"gives torch.float32 of shape \(1, 5, 2, 2\) for readout pool of 1 images; it must be numbers \(B, D\)",
        "int": r"gives torch.int64 of shape \(1, 5\)",
        "list": r"Pooled gives list for readout pool; its forward must give a tensor",
        "nothing": r"cannot process an image of 3x8x8 \('nothing'\)",
    }
    for kind, message in wrong.items():
        with pytest.raises(ModelError, match=message):
            loaded(f"{module}:pooled", readouts=("pool",), teacher_kwargs={"kind": kind}, **SIZED)


def test_timm_model_from_a_function_has_all_readouts(module: str) -> None:
    teacher = loaded(f"{module}:of_timm", readouts=("cls", "avg", "pool"), img_size=160)
    tokens = teacher.model.forward_features(pictures(teacher))
    assert torch.equal(teacher.features(pictures(teacher))["cls"], tokens[:, 0])
    assert teacher.preprocessing["mean"] == [0.5, 0.5, 0.5]  # by the card that timm gave it
    with pytest.raises(ConfigError, match=r"--readout is 'clss'; it must be one of"):
        loaded(f"{module}:of_timm", readouts=("clss",), img_size=160)


def test_preprocessing_is_asked_for_by_name_and_never_guessed(module: str) -> None:
    with pytest.raises(
        ConfigError,
        match=r":pooled does not say how its images are prepared; give --img-size, --mean, --std, --crop-pct, --interpol",
    ):
        loaded(f"{module}:pooled", readouts=("pool",))
    with pytest.raises(ConfigError, match=r"are prepared; give --crop-pct, or a `pretrained_cfg` dict"):
        loaded(f"{module}:pooled", readouts=("pool",), **(SIZED | {"crop_pct": None}))
    teacher = loaded(f"{module}:carded", readouts=("pool",), mean=(0.2, 0.3, 0.4))
    assert teacher.input_shape == (3, 8, 12)
    assert teacher.preprocessing["mean"] == [0.2, 0.3, 0.4]
    assert teacher.preprocessing["interpolation"] == "bilinear"
    assert teacher.features(pictures(teacher))["pool"].dtype == torch.float32  # the module came in half precision
    assert teacher.provenance["licence_terms"] == "non-commercial"


def test_weights_of_a_function_may_come_from_a_file(module: str, tmp_path: pathlib.Path) -> None:
    weights = {"conv.weight": torch.ones(5, 3, 4, 4), "conv.bias": torch.arange(5.0)}
    torch.save({"teacher": {f"backbone.{key}": value for key, value in weights.items()}}, tmp_path / "w.pth")
    options = {"readouts": ("pool",), "teacher_checkpoint": str(tmp_path / "w.pth"), **SIZED}
    teacher = loaded(f"{module}:pooled", **options)
    black = teacher.features(torch.zeros(2, 3, 8, 8))["pool"]
    assert torch.equal(black, torch.arange(5.0).expand(2, 5))
    assert (teacher.weights.layout, teacher.weights.matched) == ("dino", 2)
    with pytest.raises(
        ModelError, match=r"w.pth does not fit .*:pooled: 2 of another shape \(conv.weight, conv.bias\)"
    ):
        loaded(f"{module}:pooled", teacher_kwargs={"width": 6}, **options)
    torch.save({"conv.weight": weights["conv.weight"], "b": torch.ones(1)}, tmp_path / "w.pth")
    with pytest.raises(ModelError, match=r"1 missing \(conv.bias\); 1 unknown to it \(b\)"):
        loaded(f"{module}:pooled", **options)


def test_functions_that_fail_are_one_line(module: str) -> None:
    pathlib.Path("leaves.py").write_text("raise SystemExit(0)")
    wrong = {
        "nowhere_to_be_found:f": r"teacher nowhere_to_be_found:f cannot be imported \(ModuleNotFoundError: .*run from the",
        f"{module}:poolled": r"has no function poolled. Did you mean pooled",
        f"{module}:broken": r":broken fails with {} \(RuntimeError: no such luck\); correct it or --teacher-kwargs",
        f"{module}:number": r":number returns int; it must return a torch.nn.Module",
        f"{module}:leaving": r":leaving fails with {} \(SystemExit: 0\)",
        f"{module}:leaving_later": r":leaving_later cannot process an image of 3x8x8 \(0\)",
        "leaves:f": r"teacher leaves:f cannot be imported \(SystemExit: 0\)",
    }
    for spec, message in wrong.items():
        with pytest.raises(ModelError, match=message) as error:
            loaded(spec, **SIZED)
        assert "\n" not in str(error.value)
    with pytest.raises(ModelError, match=r"fails with {'depth': 3} \(TypeError: "):
        loaded(f"{module}:pooled", teacher_kwargs={"depth": 3}, **SIZED)


def test_network_is_not_touched_unless_something_remote_is_named(
    module: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = timm.create_model("test_vit", num_classes=0)
    timm.models.save_for_hf(model, tmp_path / "folder", safe_serialization=True)
    save_file(model.state_dict(), tmp_path / "w.safetensors")

    def forbidden(*arguments: Any, **options: Any) -> Any:
        raise AssertionError("the network was asked for")

    for name in ("getaddrinfo", "create_connection"):
        monkeypatch.setattr(socket, name, forbidden)
    monkeypatch.setattr(socket.socket, "connect", forbidden)
    with pytest.raises(AssertionError, match="the network was asked for"):
        socket.create_connection(("localhost", 1))
    weights, found = {"teacher_checkpoint": str(tmp_path / "w.safetensors")}, []
    for spec, options in (
        (f"local-dir:{tmp_path / 'folder'}", {}),
        ("test_vit", weights),
        ("test_vit.r160_in1k", weights | {"img_size": 96}),
    ):
        teacher = loaded(spec, **options)
        found.append(teacher.model.state_dict()["patch_embed.proj.weight"])
    assert all(torch.equal(one, model.state_dict()["patch_embed.proj.weight"]) for one in found)
    assert set(loaded(f"{module}:pooled", readouts=("pool",), **SIZED).features(torch.zeros(1, 3, 32, 32))) == {"pool"}


def test_a_small_image_student_teaches_by_its_name_alone(tmp_path: pathlib.Path) -> None:
    register()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = timm.create_model("cifar_resnet8", num_classes=10).eval()
    save_file(model.state_dict(), tmp_path / "student.safetensors")
    config = {"data": "x", "out": "y", "teacher": "cifar_resnet8", "readouts": ("avg",)}
    teacher = load_teacher(ExtractConfig(**config, teacher_checkpoint=str(tmp_path / "student.safetensors")))
    images_B3HW = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected_BD = model.forward_features(images_B3HW).mean((2, 3))
    assert torch.allclose(teacher.features(images_B3HW)["avg"], expected_BD, atol=1e-6)
    with pytest.raises(
        ModelError, match=r"cifar_resnet8 could not be loaded .*give a local file with --teacher-checkpoint"
    ):
        load_teacher(ExtractConfig(**config))
