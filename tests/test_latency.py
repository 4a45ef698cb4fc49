"""`tcs latency`: what is counted against hand work, what is timed against a call that waits."""

import json
import pathlib
import time

import pytest
import torch
from finished import FOLDER, make_student

import tcs
from tcs.cli import main
from tcs.inference.latency import comparison, open_named, timed

TINY = "test_resnet,img_size=32"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("latency")
    make_student(folder / "run")
    return folder / "run"


def test_times_are_those_of_the_call() -> None:
    speed = timed(lambda: time.sleep(0.004), threads=1, seconds=0.04)
    assert 4 <= speed.low <= speed.median <= speed.high < 1000
    assert speed.runs >= 5
    slow = timed(lambda: time.sleep(0.02), threads=1, seconds=1e-4)
    assert slow.runs == 5  # however little time is given


def test_a_student_beside_a_teacher(run: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = torch.get_num_threads()
    line = ["latency", str(run), "--against", "test_resnet", "--seconds", "0.005", "--threads", "1", "-b", "2"]
    for json_too in (["--json"], []):
        with pytest.raises(SystemExit) as ended:
            main([*line, "--device", "cpu", *json_too])
        assert ended.value.code == 0
        told = capsys.readouterr()
        if json_too:
            ours, theirs = json.loads(told.out)["results"]
    assert torch.get_num_threads() == before
    model = tcs.load_student(run / FOLDER).model
    assert ours["param_count"] == round(sum(p.numel() for p in model.parameters()) / 1e6, 4)
    assert (ours["model"], ours["device"], ours["threads"], ours["img_size"]) == (FOLDER, "cpu", 1, 16)
    assert (theirs["model"], theirs["against"], theirs["batch_size"]) == ("test_resnet", True, 2)
    for row in (ours, theirs):
        assert 0 < row["latency_ms_low"] <= row["latency_ms"] <= row["latency_ms_high"]
        assert 0 < row["infer_samples_per_sec_low"] <= row["infer_samples_per_sec"] <= row["infer_samples_per_sec_high"]
        assert row["latency_runs"] >= 5
    assert told.out.count("  one image  ") == 2
    assert f"{FOLDER} against test_resnet (cpu): " in told.out


def test_multiply_adds_are_those_of_the_layers(run: pathlib.Path) -> None:
    """Every convolution and the classifier, by hand from the shapes of a forward pass."""
    model, macs = tcs.load_student(run / FOLDER).model, 0

    def count(layer: torch.nn.Module, _given: object, made: torch.Tensor) -> None:
        nonlocal macs
        weights_a_value = layer.weight[0].numel()
        macs += weights_a_value * made.numel()

    for layer in model.modules():
        if isinstance(layer, torch.nn.Conv2d | torch.nn.Linear):
            layer.register_forward_hook(count)
    model(torch.zeros(1, 3, 16, 16))
    config = tcs.LatencyConfig(models=(str(run),), seconds=0.001, threads=1, devices=("cpu",), batch_size=1)
    (row,) = tcs.measure_latency(config)
    assert row["infer_gmacs"] == pytest.approx(macs / 1e9, abs=1e-6)


def test_a_named_model_is_measured_at_its_own_size() -> None:
    assert open_named("test_vit,img_size=32", torch.device("cpu")).card.size == 32
    assert open_named("test_resnet", torch.device("cpu")).card.size == 160
    named = open_named("test_resnet,img_size=48", torch.device("cpu"))  # timm's ResNet takes no such argument
    assert (named.card.size, named.name) == (48, "test_resnet,img_size=48")
    with pytest.raises(tcs.ModelError, match="unexpected keyword argument 'depht'"):
        open_named("test_vit,img_size=32,depht=3", torch.device("cpu"))
    with pytest.raises(tcs.ModelError, match=r"names 'resnet19', which timm .* does not have"):
        open_named("resnet19", torch.device("cpu"))


def test_comparisons_divide_the_right_way() -> None:
    def row(name: str, against: bool, milliseconds: float, rate: float, device: str = "cpu") -> dict:
        return {
            "model": name,
            "path": f"runs/{name}",
            "against": against,
            "device": device,
            "latency_ms": milliseconds,
            "latency_ms_low": 0.9 * milliseconds,
            "latency_ms_high": 1.8 * milliseconds,
            "infer_samples_per_sec": rate,
            "infer_gmacs": None if against else 0.5,
            "param_count": 10.0 if against else 2.0,
        }

    rows = [row("s", False, 2.0, 300.0), row("s", False, 1.0, 900.0, "H200"), row("t", True, 10.0, 50.0)]
    assert comparison(rows) == [
        "s against t (cpu): 5.0 times as fast for one image, 6.0 times in batches, 1 / 5.0 of its parameters."
    ]
    shaken = [rows[0] | {"latency_ms_high": 2.0}, rows[1], rows[2] | {"latency_ms_high": 400.0}]
    assert comparison(shaken)[1:] == [
        "Not to be quoted: the quartiles of t lie more than 2 times apart, as on a busy machine. Close other programs, or ask for "
        "--threads 1 and more --seconds."
    ]
    # A student and what was exported of it have one name, and two places.
    twins = [rows[0], rows[0] | {"path": "s.onnx"}, *rows[1:]]
    assert [line.partition(" (cpu)")[0] for line in comparison(twins)] == ["runs/s against t", "s.onnx against t"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"models": ()}, "there are no models; name a run, an exported folder or an .onnx file"),
        ({"batch_size": 0}, "--batch-size is 0; it must be 1 or more"),
        ({"threads": 0}, "--threads is 0; it must be 1 or more"),
        ({"seconds": 0.0}, "--seconds is 0.0; it must be above 0"),
    ],
)
def test_options_without_sense_are_refused(options: dict, message: str) -> None:
    with pytest.raises(tcs.ConfigError, match=message):
        tcs.LatencyConfig(**{"models": ("run",), **options})


def test_a_device_that_is_not_there_is_told(run: pathlib.Path) -> None:
    with pytest.raises(tcs.ConfigError, match=r"^devices is 'cuda:77', which this machine cannot use"):
        tcs.measure_latency(tcs.LatencyConfig(models=(str(run),), devices=("cuda:77",)))
