"""Options of `tcs predict` and `tcs latency`. Pure standard library."""

import dataclasses
import pathlib

from tcs.config.plain import PathText, require_file_name, take_plain
from tcs.errors import either, require

TABLES = (".csv", ".json", ".parquet")


@dataclasses.dataclass(frozen=True, kw_only=True)
class PredictConfig:
    """`tcs predict`: the classes of images, by one student. `temperature` None: the one fitted in training, if there is one."""

    model: PathText = dataclasses.field(kw_only=False)
    paths: tuple[PathText, ...] = dataclasses.field(kw_only=False)
    student: str | None = None  # which of several that `model` holds
    out: PathText | None = None
    topk: int = 5
    temperature: float | None = None
    batch_size: int = 64
    workers: int | None = None
    device: str = "cpu"
    overwrite: bool = False

    def __post_init__(self) -> None:
        take_plain(self)
        require(
            len(self.paths) > 0, "there are no paths; name images, folders, tars, tables, or - for a list on stdin."
        )
        require(self.topk >= 1, f"--topk is {self.topk}; it must be 1 or more.")
        require(self.batch_size >= 1, f"--batch-size is {self.batch_size}; it must be 1 or more.")
        require(self.workers is None or self.workers >= 1, f"--workers is {self.workers}; it must be 1 or more.")
        require_temperature(self.temperature)
        if self.out is not None:
            require_file_name(self.out, "--out")
            suffix = pathlib.PurePath(self.out).suffix.lower()
            require(suffix in TABLES, f"--out is '{self.out}'; its name must end in {either(TABLES)}.")


def require_temperature(temperature: float | None) -> None:
    """ConfigError for a temperature that is not above 0."""
    require(temperature is None or temperature > 0, f"--temperature is {temperature}; it must be above 0.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class LatencyConfig:
    """`tcs latency`: how long students take for an image and for a batch. `against` is a teacher, or any timm name, beside them.

    `seconds` is how long each number is measured. Without `devices` the CPU, and the GPU where there is one.
    """

    models: tuple[PathText, ...] = dataclasses.field(kw_only=False)
    against: tuple[str, ...] = ()
    batch_size: int = 32
    threads: int | None = None
    seconds: float = 2.0
    devices: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        take_plain(self)
        require(len(self.models) > 0, "there are no models; name a run, an exported folder or an .onnx file.")
        require(self.batch_size >= 1, f"--batch-size is {self.batch_size}; it must be 1 or more.")
        require(self.threads is None or self.threads >= 1, f"--threads is {self.threads}; it must be 1 or more.")
        require(self.seconds > 0, f"--seconds is {self.seconds}; it must be above 0.")
