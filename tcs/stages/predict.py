"""`tcs.predict`, as it is called. Written by scripts/make_stages.py; not to be edited."""

from collections.abc import Callable, Sequence
from typing import Any, overload

from tcs.config.inference import PredictConfig
from tcs.config.plain import AnyPath, Several
from tcs.config.stage import takes
from tcs.inference.prediction import Predictions
from tcs.inference.prediction import predict as run

# fmt: off

@overload
def predict(
    config: PredictConfig, /, tell: Callable[[Sequence[dict[str, Any]], Sequence[str] | None], None] | None = ...
) -> Predictions: ...
@overload
def predict(
    model: AnyPath, paths: Several[AnyPath], *, student: str | None = None, out: AnyPath | None = None, topk: int = 5,
    temperature: float | None = None, batch_size: int = 64, workers: int | None = None, device: str = "cpu",
    overwrite: bool = False
) -> Predictions: ...
@takes(run, PredictConfig)
def predict(*given: Any, **named: Any) -> Any:
    """The likeliest classes of the images that `paths` name, written to `out` where that is given: `Predictions`.

    A row is a mapping: `path`, `class`, `probability` (0 to 1), `class2`, `probability2`, ... with the likeliest first.

    `tell` is given the rows of each batch as soon as they are there, which are then not kept, so that there may be any number; the
    first time the columns as well. An image that cannot be read or decoded is named on stderr and has no row. Pixels are those by
    which `tcs eval` scores the student; what was done to make them is told on stderr, as `tcs extract` tells it. ArtefactError for a model
    that cannot be used, and for an `out` that exists; DataError for paths that name no images.

    Takes the options below, which are those of tcs.PredictConfig, or one such configuration as its first argument.
    After a configuration, and only there, it takes tell too. A path is a text or any os.PathLike, and a list may stand
    for a tuple. TypeError for a name that is no option, ConfigError for a value that makes no sense.

    Args:
        model (path): A student: a run, RUN/<student>, a folder that `tcs.export_students` wrote, or an .onnx file.
        paths (tuple of paths): Images, folders, .tar files, tables, or - for paths on stdin.
        student (str or None): Which student, where `model` holds several. Default: None.
        out (path or None): Table .csv, .json or .parquet. Default: CSV on stdout.
        topk (int): Likeliest classes of an image. Default: 5.
        temperature (float or None): Divides the logits. Default: the one fitted in training, if any.
        batch_size (int): Images at once. Default: 64.
        workers (int or None): Decoding threads. Default: one a core.
        device (str): cpu, cuda, cuda:1 ... Default: "cpu".
        overwrite (bool): Replace the table in `out`. Default: False.
    """
