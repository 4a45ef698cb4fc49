"""Eight-bit ONNX files: quantised on real images, and measured against the float file on others.

Static quantisation with QDQ nodes around convolutions and matrix products; normalisation and softmax stay float, since a ViT loses
decisions otherwise. Weights are signed, one scale a channel. Activations are unsigned, one scale and zero point a tensor from their
least and largest values: onnxruntime's x86 kernels are made for unsigned times signed, and signed ones took 2.6 times (a ResNet) to 6
times (MobileNetV3) as long (docs/how-to/export.md). Weights take 7 of the 8 bits: without VNNI x86 adds pairs of 8-bit products in 16 bits,
which overflow (onnxruntime's documentation of quantisation, `reduce_range`), so that a file would be right on one machine and wrong
on another.

Legend: N images, B batch rows, S image side in pixels, C classes.
"""

import dataclasses
import pathlib
import tempfile
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tcs.config.pixels import PixelRules
from tcs.errors import ArtefactError, ConfigError, DataError, first_line
from tcs.export.fresh import inputs_for
from tcs.export.graphs import INPUT
from tcs.export.sources import Pictures, open_pictures
from tcs.inference.runs import FinishedStudent
from tcs.runtime import seed_for

CALIBRATION_IMAGES, MEASURED_IMAGES = 256, 2000
BATCH = 32
QUANTISED = ("Conv", "MatMul", "Gemm")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Comparison:
    """Float and int8 on `n` images that were not calibrated with: agreement of the decisions in percent, and top-1 of both in percent
    where `labelled` of the images have a class that the student knows (None where none has)."""

    n: int
    agreement: float
    labelled: int
    top1_float: float | None
    top1_int8: float | None

    @property
    def drop(self) -> float:
        """What int8 loses, in points: of top-1 where there are labels, else of agreement."""
        if self.top1_float is None or self.top1_int8 is None:
            return 100.0 - self.agreement
        return self.top1_float - self.top1_int8

    def in_words(self) -> str:
        """One line, float and int8 side by side."""
        said = f"agrees with float on {self.agreement:.2f} % of {self.n:,} images"
        if self.top1_float is None:
            return f"{said} (without labels)"
        return f"top-1 {self.top1_int8:.2f} %, float {self.top1_float:.2f} % of {self.labelled:,}; {said}"


def require_decisions(student: FinishedStudent) -> None:
    """ConfigError for a student that decides nothing: without two classes there is no accuracy that int8 could lose."""
    count = len(student.record["classes"])
    if count < 2:
        raise ConfigError(
            f"--int8 measures how often decisions change, and {student.folder} has {count} classes; export it without --int8."
        )


def require_pictures(data: str) -> None:
    """DataError where `data` has too few images, or is nothing that images are read from."""
    split_pictures(open_pictures(data, (), PixelRules()))


def split_pictures(pictures: Pictures) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Numbers of the images to calibrate with, up to 256 and at most half, and of those to measure on, up to 2,000, at random.

    DataError where there are fewer than two.
    """
    count = len(pictures.keys)
    if count < 2:
        raise DataError(
            f"--int8 {pictures.name} has {count} images; it needs 2 or more, one half to calibrate with and one to measure on."
        )
    order_N = np.random.default_rng(seed_for(0, "int8")).permutation(count)
    calibration = min(CALIBRATION_IMAGES, count // 2)
    return order_N[:calibration], order_N[calibration : calibration + MEASURED_IMAGES]


def quantised(float_model: bytes, images_N3SS: NDArray[np.uint8], metadata: Mapping[str, Any]) -> Any:
    """The int8 model (onnx's ModelProto) of a float one with `metadata`, calibrated on uint8 images.

    ArtefactError where onnxruntime refuses.
    """
    import onnx
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with tempfile.TemporaryDirectory(prefix="tcs-int8-") as folder:
        given, prepared, made = (pathlib.Path(folder) / f"{name}.onnx" for name in ("float", "prepared", "int8"))
        try:
            given.write_bytes(float_model)
            quant_pre_process(given, prepared, skip_symbolic_shape=True)
            quantize_static(
                prepared,
                made,
                _Batches(images_N3SS, metadata),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=list(QUANTISED),
                per_channel=True,
                reduce_range=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
            )
            return onnx.load(made)
        except Exception as error:  # onnxruntime raises many kinds, of its own modules
            raise ArtefactError(
                f"the ONNX file cannot be quantised ({first_line(error)}); export without --int8, or free space in "
                f"{tempfile.gettempdir()} if that is what it lacks."
            ) from error


class _Batches:
    """Calibration images, batch by batch, in onnxruntime's form."""

    def __init__(self, images_N3SS: NDArray[np.uint8], metadata: Mapping[str, Any]) -> None:
        self._batches = _inputs(images_N3SS, metadata)

    def get_next(self) -> dict[str, Any] | None:
        """The next batch by the name of the graph's input; None after the last."""
        inputs_B3SS = next(self._batches, None)
        return None if inputs_B3SS is None else {INPUT: inputs_B3SS}


def _inputs(images_N3SS: NDArray[np.uint8], metadata: Mapping[str, Any]) -> Iterator[Any]:
    for start in range(0, len(images_N3SS), BATCH):
        yield inputs_for(images_N3SS[start : start + BATCH], metadata)


def logits_of(model: bytes, images_N3SS: NDArray[np.uint8], metadata: Mapping[str, Any]) -> NDArray[np.float32]:
    """Outputs (N, C) float32 of an ONNX model on uint8 images."""
    import onnxruntime

    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return np.concatenate([session.run(None, {INPUT: inputs})[0] for inputs in _inputs(images_N3SS, metadata)])


def compare(float_NC: NDArray[np.float32], int8_NC: NDArray[np.float32], labels_N: NDArray[np.int64]) -> Comparison:
    """Decisions of the two on the same images; labels are int64, -1 where there is none."""
    float_N, int8_N, known_N = float_NC.argmax(1), int8_NC.argmax(1), labels_N >= 0

    def top1(decided_N: NDArray[np.int64]) -> float | None:
        return 100 * float((decided_N == labels_N)[known_N].mean()) if known_N.any() else None

    return Comparison(
        n=len(float_N),
        agreement=100 * float((float_N == int8_N).mean()),
        labelled=int(known_N.sum()),
        top1_float=top1(float_N),
        top1_int8=top1(int8_N),
    )
