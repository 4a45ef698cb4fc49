"""Exports that are one file: the graph of the student as ONNX, or as a `torch.export` program.

Legend: B batch rows, S image side in pixels, C classes (features of a student without classes).
"""

import importlib.util
import io
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.fx
from torch import Tensor, nn

from tcs.augmentation.pixels import normalise
from tcs.errors import ConfigError, ModelError, first_line, listed
from tcs.export.metadata import to_text
from tcs.inference.card import FILE, KEY
from tcs.inference.runs import FinishedStudent

ONNX_PACKAGES = ("onnx", "onnxruntime", "onnxscript")
INPUT, LOGITS, FEATURES, BATCH = "images", "logits", "features", "batch"
EXAMPLE_BATCH = 2  # any number but 1, which would be taken for a constant
MOST_BATCH = (
    1 << 30
)  # without an end, torch 2.7 finds that the largest integer there is would not do, and exports no transformer
MOST_BYTES = 2**31 - 2**20  # a protobuf, and so an ONNX file, ends at 2 GiB


class Preprocessed(nn.Module):
    """A model that takes uint8 RGB images (B, 3, S, S) and normalises them itself."""

    mean_311: Tensor
    std_311: Tensor

    def __init__(self, model: nn.Module, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.model = model
        self.register_buffer("mean_311", torch.tensor(mean).view(3, 1, 1))
        self.register_buffer("std_311", torch.tensor(std).view(3, 1, 1))

    def forward(self, images_B3SS: Tensor) -> Tensor:
        """Logits (B, C)."""
        outputs_BC: Tensor = self.model(normalise(images_B3SS, self.mean_311, self.std_311))
        return outputs_BC


def require_onnx() -> None:
    """ConfigError, which says what to install, where a package is missing that ONNX files are made or checked with."""
    missing = [name for name in ONNX_PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"--to onnx needs {listed(missing)}, which is not installed: pip install 'tcs-distill[export]'."
        )


def program_bytes(student: FinishedStudent, metadata: Mapping[str, Any]) -> bytes:
    """The file of `--to torch-export`: `torch.export.save`, the metadata as an extra file."""
    buffer = io.BytesIO()
    with _quiet():
        torch.export.save(_program(student, metadata), buffer, extra_files={FILE: to_text(metadata)})
    return buffer.getvalue()


def onnx_bytes(student: FinishedStudent, metadata: Mapping[str, Any]) -> bytes:
    """The file of `--to onnx`: weights inside, batch of any size, the metadata under the key `tcs`."""
    import torch.onnx

    size = sum(value.numel() * value.element_size() for value in student.model.state_dict().values())
    if size > MOST_BYTES:
        raise ModelError(
            f"student {student.folder} has {size / 2**30:.1f} GiB of weights, and an ONNX file holds 2; use --to torch-export."
        )
    program = _program(student, metadata)
    with _quiet():
        made = torch.onnx.export(
            program,
            dynamo=True,
            external_data=False,
            verbose=False,
            dynamic_shapes=({0: BATCH},),  # the program has it already: this is its name
            input_names=[INPUT],
            output_names=[LOGITS if metadata["classes"] else FEATURES],
        )
    assert made is not None
    return with_metadata(made.model_proto, metadata)


def with_metadata(model: Any, metadata: Mapping[str, Any]) -> bytes:
    """An ONNX model (a protobuf) with the metadata in it, as bytes."""
    import onnx.helper

    onnx.helper.set_model_props(model, {KEY: to_text(metadata)})
    return bytes(model.SerializeToString())


def _program(student: FinishedStudent, metadata: Mapping[str, Any]) -> Any:
    """The student as torch sees it, in evaluation mode, for batches of any size. ModelError where it cannot be followed."""
    transform, model = metadata["transform"], student.model.eval()
    shape = (EXAMPLE_BATCH, 3, transform["img_size"], transform["img_size"])
    example_B3SS = torch.zeros(shape)
    if metadata["preprocess_in_graph"]:
        model, example_B3SS = Preprocessed(model, transform["mean"], transform["std"]).eval(), example_B3SS.byte()
    try:
        with _quiet(), torch.no_grad():
            batch = torch.export.Dim(BATCH, min=1, max=MOST_BATCH)
            program = torch.export.export(model, (example_B3SS,), dynamic_shapes=({0: batch},))
    except Exception as error:  # torch raises many kinds, of its own modules
        raise ModelError(
            f"student {student.folder} cannot be exported as a graph ({first_line(error)}); use --to timm or --to hf."
        ) from error
    _forget_places(program)
    return program


def _forget_places(program: Any) -> None:
    """Drop the lines of source that each node came from: paths of this machine, which would be published with the file."""
    for module in program.graph_module.modules():
        if isinstance(module, torch.fx.GraphModule):
            for node in module.graph.nodes:
                node.meta.pop("stack_trace", None)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what the exporters tell of their own business."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir", "torch.export", "torch")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
