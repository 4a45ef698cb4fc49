"""The stage `tcs latency`: milliseconds for an image, images a second in batches, parameters and multiply-adds.

Times are of the forward pass alone, of images that are normalised and on the device. They are taken by torch.utils.benchmark, which
warms up, fixes the number of threads and synchronises with a GPU.

Legend: B batch, S image side in pixels.
"""

import contextlib
import dataclasses
import functools
import logging
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import timm.data
import torch
import torch.utils.flop_counter
from torch import nn

from tcs.config.inference import LatencyConfig
from tcs.errors import ConfigError, ModelError, listed
from tcs.images.stored import cores
from tcs.inference.card import Card
from tcs.inference.model import UsableModel, of_module
from tcs.inference.network import TorchNetwork
from tcs.inference.opening import Opener, find_models
from tcs.runtime import pick_device, say
from tcs.students.backbone import StudentSpec, create_backbone, parse_student

SIZE = "img_size"
QUARTILES = (25, 50, 75)
WARM_UPS = 3
LEAST_RUNS = 5


@dataclasses.dataclass(frozen=True, kw_only=True)
class Speed:
    """Median and quartiles of `runs` measurements of one kind."""

    low: float
    median: float
    high: float
    runs: int


def measure_latency(config: LatencyConfig) -> list[dict[str, Any]]:
    """A mapping a model and device, those of `config.against` last.

    `latency_ms` (batch 1) and `infer_samples_per_sec` (batches of `batch_size`) are medians, with `_low` and `_high` their
    quartiles; `param_count` and `infer_gmacs` (timm's names: millions, and 1e9 multiply-adds an image) are None where they cannot
    be counted, as in an ONNX file. ArtefactError, ModelError or ConfigError for a model or device that cannot be used.
    """
    threads, before = config.threads or cores(), torch.get_num_threads()
    torch.set_num_threads(threads)  # which ONNX files are opened with, too
    try:
        return _rows(config, threads)
    finally:
        torch.set_num_threads(before)


def _rows(config: LatencyConfig, threads: int) -> list[dict[str, Any]]:
    openers = [opener for given in config.models for opener in find_models(given, alone=True)]
    openers += [functools.partial(open_named, name) for name in config.against]
    found = []
    for number, opener in enumerate(openers):
        is_against = number >= len(openers) - len(config.against)
        for name in config.devices or _devices():
            row = _row(opener, name, config, threads)
            if row is not None:
                found.append(row | {"against": is_against})
    return found


def _devices() -> tuple[str, ...]:
    return ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",)


def open_named(text: str, device: torch.device) -> UsableModel:
    """A timm model by name, `NAME[,k=v...]`, with random weights: what it costs does not depend on them, and nothing is fetched.

    `img_size` says for every architecture at which size it is measured, for convolutional ones too, whose timm model has no such
    argument.
    """
    spec = parse_student(text)
    model = _of_any_size(spec)
    facts = timm.data.resolve_model_data_config(model)
    size = spec.kwargs.get(SIZE, facts["input_size"][-1])
    size = size if isinstance(size, int) else int(size[-1])
    card = Card(architecture=spec.name, classes=(), size=size, mean=facts["mean"], std=facts["std"])
    return of_module(text, pathlib.Path(text), model, card, device)


def _of_any_size(spec: StudentSpec) -> nn.Module:
    """The model without classes; where it does not take an `img_size`, without that."""
    try:
        return create_backbone(spec, 0)
    except ModelError:
        if SIZE not in spec.kwargs:
            raise
        kwargs = {name: value for name, value in spec.kwargs.items() if name != SIZE}
        with contextlib.suppress(ModelError):
            return create_backbone(dataclasses.replace(spec, kwargs=kwargs), 0)
        raise


def _row(opener: Opener, device: str, config: LatencyConfig, threads: int) -> dict[str, Any] | None:
    """The numbers of a model on a device; None, which is said, where nobody asked for the device and it cannot be used."""
    try:
        model = opener(pick_device(device))
    except ConfigError as error:
        if config.devices or device == "cpu":
            raise
        say(str(error))
        return None
    one, many = (_speed(model, batch, threads, config.seconds) for batch in (1, config.batch_size))
    return {
        "model": model.name,
        "path": str(model.path),
        "device": device if device == "cpu" else torch.cuda.get_device_name(torch.device(device)),
        "threads": threads,
        "img_size": model.card.size,
        "param_count": None if model.parameters is None else round(model.parameters / 1e6, 4),
        "infer_gmacs": gigamacs(model),
        "latency_ms": round(one.median, 4),
        "latency_ms_low": round(one.low, 4),
        "latency_ms_high": round(one.high, 4),
        "latency_runs": one.runs,
        "batch_size": config.batch_size,
        "infer_samples_per_sec": round(1000 * config.batch_size / many.median, 2),
        "infer_samples_per_sec_low": round(1000 * config.batch_size / many.high, 2),
        "infer_samples_per_sec_high": round(1000 * config.batch_size / many.low, 2),
        "infer_runs": many.runs,
    }


def _speed(model: UsableModel, batch: int, threads: int, seconds: float) -> Speed:
    """Milliseconds of a forward pass of `batch` random images."""
    size, generator = model.card.size, torch.Generator().manual_seed(0)
    images_B3SS = torch.randint(0, 256, (batch, 3, size, size), dtype=torch.uint8, generator=generator)
    inputs = model.network.inputs(images_B3SS)
    return timed(lambda: model.network.forward(inputs), threads, seconds)


def timed(call: Callable[[], Any], threads: int, seconds: float) -> Speed:
    """Milliseconds of `call`, measured for about `seconds` (LEAST_RUNS times at least) after WARM_UPS calls, with torch on `threads`
    threads. A run is as many calls as make the clock's own time negligible."""
    # It says at import that there is no GPU, where only the compiler of one is installed.
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
    from torch.utils.benchmark import Timer

    for _ in range(WARM_UPS):
        call()
    timer = Timer("call()", globals={"call": call}, num_threads=threads)
    times = list(timer.blocked_autorange(min_run_time=seconds).times)
    while len(times) < LEAST_RUNS:
        times += timer.timeit(1).times
    low, median, high = np.percentile(times, QUARTILES) * 1000
    return Speed(low=float(low), median=float(median), high=float(high), runs=len(times))


def gigamacs(model: UsableModel) -> float | None:
    """1e9 multiply-adds of one image, counted of convolutions, products and attention; None where the model is no module of torch."""
    if not isinstance(model.network, TorchNetwork):
        return None
    size = model.card.size
    inputs = model.network.inputs(torch.zeros(1, 3, size, size, dtype=torch.uint8))
    with torch.utils.flop_counter.FlopCounterMode(display=False) as counter:
        model.network.forward(inputs)
    return round(int(counter.get_total_flops()) / 2e9, 6)


def names_of(rows: Sequence[dict[str, Any]]) -> list[str]:
    """How to call the model of each row: by its name, or by its path where another model has that name, as a student's export has."""
    places: dict[str, set[str]] = {}
    for row in rows:
        places.setdefault(row["model"], set()).add(row["path"])
    return [row["model"] if len(places[row["model"]]) == 1 else row["path"] for row in rows]


UNSTEADY = 2  # upper quartile by lower one


def comparison(rows: Sequence[dict[str, Any]]) -> list[str]:
    """A sentence for every model and each it is held against, on one device: how many times as fast, with how much arithmetic."""
    lines, called = [], names_of(rows)
    for other in (row for row in rows if row["against"]):
        for row, name in zip(rows, called, strict=True):
            if row["against"] or row["device"] != other["device"]:
                continue
            latency = other["latency_ms"] / row["latency_ms"]
            throughput = row["infer_samples_per_sec"] / other["infer_samples_per_sec"]
            macs = _share(other["infer_gmacs"], row["infer_gmacs"], "multiply-adds")
            parameters = _share(other["param_count"], row["param_count"], "parameters")
            lines.append(
                f"{name} against {other['model']} ({row['device']}): {latency:.1f} times as fast for one image, "
                f"{throughput:.1f} times in batches{macs}{parameters}."
            )
    unsteady = [
        name
        for row, name in zip(rows, called, strict=True)
        if row["latency_ms_high"] > UNSTEADY * row["latency_ms_low"]
    ]
    if lines and unsteady:
        lines.append(
            f"Not to be quoted: the quartiles of {listed(unsteady)} lie more than {UNSTEADY} times apart, as on a busy machine. "
            "Close other programs, or ask for --threads 1 and more --seconds."
        )
    return lines


def _share(theirs: float | None, ours: float | None, noun: str) -> str:
    return "" if not theirs or not ours else f", 1 / {theirs / ours:.1f} of its {noun}"
