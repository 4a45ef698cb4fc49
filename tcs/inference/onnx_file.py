"""Students as ONNX files, run by onnxruntime: what the graph takes and gives, and the card in its metadata.

Legend: B batch, S image side in pixels, C classes.
"""

import importlib
import pathlib
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tcs.errors import ArtefactError, ConfigError, first_line
from tcs.inference.card import KEY, Card, read_card
from tcs.inference.model import UsableModel, square_pixels
from tcs.inference.network import require_finite
from tcs.ordinary import require_ordinary

SUFFIX = ".onnx"
INSTALL = 'pip install "tcs-distill[export]"'
ERRORS_ALONE = 3  # of onnxruntime's log levels: warnings about nodes that it places elsewhere are none of the user's


def open_onnx(path: pathlib.Path, device: torch.device, threads: int, *, alone: bool = False) -> UsableModel:
    """The student in the ONNX file `path`, on `threads` threads, which sleep while they wait unless it is `alone`.

    ArtefactError for a file that onnxruntime cannot run or that `tcs export` did not write; ConfigError without onnxruntime, or for
    a device that it was not built for.
    """
    session = _session(path, device, threads, alone)
    text = session.get_modelmeta().custom_metadata_map.get(KEY)
    if text is None:
        raise ArtefactError(
            f"{path} does not say which classes it has and how its images are made (no metadata '{KEY}'); use a file that "
            "tcs export RUN --to onnx wrote."
        )
    card = read_card(text, path)
    network = OnnxNetwork(session, card)
    return UsableModel(name=path.stem, path=path, card=card, network=network, make_pixels=square_pixels(card.size))


def _session(path: pathlib.Path, device: torch.device, threads: int, alone: bool) -> Any:
    try:
        onnxruntime: Any = importlib.import_module("onnxruntime")  # an extra, without types
    except ImportError as error:
        raise ConfigError(f"{path} needs onnxruntime, which is not installed; {INSTALL}.") from error
    provider = "CPUExecutionProvider" if device.type == "cpu" else "CUDAExecutionProvider"
    if device.type not in ("cpu", "cuda") or provider not in onnxruntime.get_available_providers():
        raise ConfigError(
            f"--device is '{device}', which onnxruntime {onnxruntime.__version__} was not built for; use --device cpu, or "
            "install onnxruntime-gpu."
        )
    options = onnxruntime.SessionOptions()
    options.log_severity_level = ERRORS_ALONE
    options.intra_op_num_threads = threads
    if not alone:  # threads that spin take the cores from those that decode: 1.3 times the time on 2 cores
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    require_ordinary(path)
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=[provider])
    except Exception as error:  # its own kinds, none of which has a public base
        raise ArtefactError(
            f"onnxruntime {onnxruntime.__version__} cannot load {path} ({first_line(error)}); export the student again, or "
            "install a newer onnxruntime for a newer opset."
        ) from error


class OnnxNetwork:
    """An ONNX graph with one input (B, 3, S, S), uint8 or float32, and the logits as its first output.

    A float32 input is normalised by us, or, where the graph does so itself, only divided by 255.
    """

    def __init__(self, session: Any, card: Card) -> None:
        first = session.get_inputs()[0]
        self._session, self._name, self._takes_uint8 = session, first.name, first.type == "tensor(uint8)"
        shape = (3, 1, 1)
        normal = not card.preprocess_in_graph
        self._mean = np.reshape(np.asarray(card.mean if normal else (0, 0, 0), np.float32), shape)
        self._std = np.reshape(np.asarray(card.std if normal else (1, 1, 1), np.float32), shape)

    def inputs(self, images_B3SS: Tensor) -> NDArray[Any]:
        """What the graph is fed for uint8 images."""
        pixels_B3SS = images_B3SS.numpy()
        if self._takes_uint8:
            return pixels_B3SS
        return np.asarray((pixels_B3SS.astype(np.float32) / np.float32(255) - self._mean) / self._std, np.float32)

    def forward(self, inputs_B3SS: NDArray[Any]) -> NDArray[np.float32]:
        """Logits (B, C) of what `inputs` made."""
        logits_BC: NDArray[np.float32] = self._session.run(None, {self._name: inputs_B3SS})[0]
        return logits_BC

    def __call__(self, images_B3SS: Tensor) -> NDArray[np.float32]:
        """Logits (B, C) float32 of uint8 images. ArtefactError where the graph does not take such images."""
        try:
            logits_BC = self.forward(self.inputs(images_B3SS))
        except Exception as error:
            raise ArtefactError(
                f"the graph '{self._name}' does not take images of shape {tuple(images_B3SS.shape)} ({first_line(error)}); "
                "export the student again."
            ) from error
        return require_finite(logits_BC)
