"""The outputs of exported students, computed as a stranger would: run as a script, in a process of its own, without tcs.

    python -P fresh.py REQUEST.json

The request is a list of {"format", "path", "images", "out", "needs_zoo"}: uint8 images (N, 3, S, S) as .npy in, float32 outputs (N, C)
as .npy out. Each export is loaded as docs/how-to/export.md tells its users, and its images are normalised as the export itself says.
The images go in as two batches of other sizes than the one that was exported with.

Legend: N images, B batch rows, S image side, C classes (or features).
"""

import json
import pathlib
import runpy
import sys
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float32]


def normalised(images_B3SS: Pixels, transform: Mapping[str, Any]) -> Floats:
    """float32 (B, 3, S, S) = (uint8 / 255 - mean) / std."""
    mean_311, std_311 = (np.array(transform[name], np.float32).reshape(3, 1, 1) for name in ("mean", "std"))
    return (images_B3SS.astype(np.float32) / np.float32(255) - mean_311) / std_311


def transformed(images_B3SS: Pixels, transform: Callable[[Any], Any]) -> Any:
    """The images through timm's own evaluation transform, as one torch batch."""
    import torch
    from PIL import Image

    return torch.stack([transform(Image.fromarray(image_3SS.transpose(1, 2, 0))) for image_3SS in images_B3SS])


def from_timm(path: pathlib.Path) -> Callable[[Pixels], Floats]:
    """What the script beside the weights loads."""
    loaded = runpy.run_path(str(path / "load.py"))
    return lambda images_B3SS: loaded["model"](transformed(images_B3SS, loaded["transform"])).numpy()


def from_hf(path: pathlib.Path) -> Callable[[Pixels], Floats]:
    """timm's model of the folder, with the preprocessing that timm reads there."""
    import timm
    from timm.data import create_transform, resolve_model_data_config

    model = timm.create_model(f"local-dir:{path}", pretrained=True).eval()
    transform = create_transform(**resolve_model_data_config(model), is_training=False)
    return lambda images_B3SS: model(transformed(images_B3SS, transform)).numpy()


def from_onnx(path: pathlib.Path) -> Callable[[Pixels], Floats]:
    """onnxruntime on the CPU."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    told = json.loads(session.get_modelmeta().custom_metadata_map["tcs"])
    return lambda images_B3SS: session.run(None, {"images": inputs_for(images_B3SS, told)})[0]


def from_torch_export(path: pathlib.Path) -> Callable[[Pixels], Floats]:
    """torch alone."""
    import torch

    extra = {"tcs.json": ""}
    model = torch.export.load(path, extra_files=extra).module()
    told = json.loads(extra["tcs.json"])
    return lambda images_B3SS: model(torch.from_numpy(inputs_for(images_B3SS, told))).numpy()


def inputs_for(images_B3SS: Pixels, told: Mapping[str, Any]) -> Pixels | Floats:
    """What a graph is fed: pixels where it normalises them itself."""
    return images_B3SS if told["preprocess_in_graph"] else normalised(images_B3SS, told["transform"])


READERS: Mapping[str, Callable[[pathlib.Path], Callable[[Pixels], Floats]]] = {
    "timm": from_timm,
    "hf": from_hf,
    "onnx": from_onnx,
    "torch-export": from_torch_export,
}


def answer(request: Mapping[str, Any]) -> None:
    """Load one export and write its outputs."""
    if request["needs_zoo"]:
        import tcs.students.zoo  # noqa: F401  the one import that students of our own need
    network = READERS[request["format"]](pathlib.Path(request["path"]))
    images_N3SS = np.load(request["images"])
    np.save(request["out"], np.concatenate([network(part) for part in (images_N3SS[:1], images_N3SS[1:]) if len(part)]))


def main() -> None:
    """Answer all requests of the file."""
    requests = json.loads(pathlib.Path(sys.argv[1]).read_text())
    if any(request["format"] != "onnx" for request in requests):
        import torch

        torch.set_grad_enabled(False)
    for request in requests:
        print(request["path"], flush=True)  # which one an error is about
        answer(request)


if __name__ == "__main__":
    main()
