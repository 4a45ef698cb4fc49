"""What an export says of its student, and an ONNX file without an export."""

import pathlib

import numpy as np
import pytest
from finished import KWARGS, MEAN, NAME, STD

from tcs.inference.card import CROP

CARD = {
    "format": 1,
    "architecture": NAME,
    "kwargs": {name: list(value) for name, value in KWARGS.items()},
    "classes": ["ant", "bee", "cow"],
    "transform": {"img_size": 16, "mean": MEAN, "std": STD, "interpolation": "bicubic", "crop": CROP},
    "preprocess_in_graph": False,
    "temperature": 1.3,
    "teacher": {},
    "run": {"method": "tcs-pool"},
}


def graph(path: pathlib.Path, *, uint8: bool = False, metadata: str | None = None, opset: int = 17) -> pathlib.Path:
    """An ONNX file whose logits are a linear map of the mean colour, 10 a level: weights [[9, 0, 0], [0, 9, 0], [0, 0, 9]]."""
    onnx = pytest.importorskip("onnx")
    kind = onnx.TensorProto.UINT8 if uint8 else onnx.TensorProto.FLOAT
    made = [
        onnx.helper.make_node("Cast", ["images"], ["float"], to=onnx.TensorProto.FLOAT),
        onnx.helper.make_node("GlobalAveragePool", ["float"], ["mean"]),
        onnx.helper.make_node("Flatten", ["mean"], ["flat"]),
        onnx.helper.make_node("Gemm", ["flat", "weight"], ["logits"]),
    ]
    weight = onnx.numpy_helper.from_array(np.eye(3, dtype=np.float32) * 9, "weight")
    inside = onnx.helper.make_tensor_value_info("images", kind, ["batch", 3, 16, 16])
    outside = onnx.helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, ["batch", 3])
    body = onnx.helper.make_graph(made, "mean colour", [inside], [outside], [weight])
    model = onnx.helper.make_model(body, opset_imports=[onnx.helper.make_opsetid("", opset)], ir_version=10)
    if metadata is not None:
        onnx.helper.set_model_props(model, {"tcs": metadata})
    path.write_bytes(model.SerializeToString())
    return path
