"""`tcs.measure_latency`, as it is called. Written by scripts/make_stages.py; not to be edited."""

from typing import Any, overload

from tcs.config.inference import LatencyConfig
from tcs.config.plain import AnyPath, Several
from tcs.config.stage import takes
from tcs.inference.latency import measure_latency as run

# fmt: off

@overload
def measure_latency(
    config: LatencyConfig, /
) -> list[dict[str, Any]]: ...
@overload
def measure_latency(
    models: Several[AnyPath], *, against: Several[str] = (), batch_size: int = 32, threads: int | None = None,
    seconds: float = 2.0, devices: Several[str] = ()
) -> list[dict[str, Any]]: ...
@takes(run, LatencyConfig)
def measure_latency(*given: Any, **named: Any) -> Any:
    """A mapping a model and device, those of `against` last.

    `latency_ms` (batch 1) and `infer_samples_per_sec` (batches of `batch_size`) are medians, with `_low` and `_high` their
    quartiles; `param_count` and `infer_gmacs` (timm's names: millions, and 1e9 multiply-adds an image) are None where they cannot
    be counted, as in an ONNX file. ArtefactError, ModelError or ConfigError for a model or device that cannot be used.

    Takes the options below, which are those of tcs.LatencyConfig, or one such configuration as its only argument. A
    path is a text or any os.PathLike, and a list may stand for a tuple. TypeError for a name that is no option,
    ConfigError for a value that makes no sense.

    Args:
        models (tuple of paths): Each a run (all its students), RUN/<student>, an exported folder, or an .onnx file.
        against (tuple of str): A timm model, as the teacher. Default: ().
        batch_size (int): Images at once, for throughput. Default: 32.
        threads (int or None): Of the processor. Default: all cores.
        seconds (float): How long each number is measured. Default: 2.0.
        devices (tuple of str): Where to measure. Default: cpu, and cuda where there is one.
    """
