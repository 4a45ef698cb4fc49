"""A finished student in a person's own code: where it comes from, what it knows, and what it says of images.

Legend: C classes.
"""

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Any

from torch import nn

from tcs.config.inference import require_temperature
from tcs.config.plain import AnyPath, plain_value
from tcs.config.stage import errors_by_name
from tcs.errors import ArtefactError, DataError, require
from tcs.images.stored import cores
from tcs.inference.memory import AnyImage, listed_images
from tcs.inference.model import UsableModel
from tcs.inference.network import TorchNetwork
from tcs.inference.opening import open_model
from tcs.inference.prediction import PROBE
from tcs.inference.predictions import Prediction, predictions_of
from tcs.inference.stream import Flow, score_images
from tcs.runtime import pick_device


@dataclasses.dataclass(frozen=True)
class Student:
    """A finished student, ready for use, on the device that it was loaded on. `tcs.load_student` makes one."""

    opened: UsableModel

    @property
    def folder(self) -> pathlib.Path:
        """Where it was read from: the folder of a run's student or of an export, or an ONNX file."""
        return self.opened.path

    @property
    def classes(self) -> tuple[str, ...]:
        """The C names of its outputs, in their order; none where it was trained without labels."""
        return self.opened.card.classes

    @property
    def image_size(self) -> int:
        """Images are squares of so many pixels a side."""
        return self.opened.card.size

    @property
    def temperature(self) -> float | None:
        """What its logits are divided by before the softmax; None where none was fitted."""
        return self.opened.card.temperature

    @property
    def model(self) -> nn.Module:
        """The plain timm model, in evaluation mode: float32 (B, 3, image_size, image_size), normalised, to logits (B, C).

        ArtefactError for an ONNX file, which holds a graph and no such model.
        """
        if not isinstance(self.opened.network, TorchNetwork):
            raise ArtefactError(
                f"{self.folder} is an ONNX file, and holds no timm model; load the run that it was exported from."
            )
        return self.opened.network.model

    @property
    def record(self) -> dict[str, Any]:
        """What `tcs train` recorded of it: `config`, `method`, `identity`, `scores`, ... Empty for what was exported."""
        return {} if self.opened.student is None else self.opened.student.record

    def predict(
        self,
        images: AnyImage | Sequence[AnyImage],
        *,
        topk: int = 5,
        temperature: float | None = None,
        batch_size: int = 64,
        workers: int | None = None,
    ) -> list[Prediction]:
        """The likeliest classes of `images`, one `Prediction` an image, in order: what `tcs predict` says of the same images.

        An image is a path, an image of PIL, or pixels uint8 (H, W, 3) or (H, W); a path may also be a folder, a tar or a table of
        images. They become pixels by the rules that the student was trained by, whatever their size; only what is in memory is never
        decoded at a fraction. A prediction names `topk` classes, or as many as there are. Probabilities are softmax(logits /
        temperature), with the student's own temperature where None is given (Guo et al. 2017, arXiv 1706.04599), else 1. `workers`
        threads decode (None: one a core), the model gets `batch_size` images at once, whose number may change the last bits.

        DataError for what is no image, and for the first image that cannot be read (`tcs.predict` names these and goes on);
        ArtefactError for a student without classes, ConfigError for options out of range, DivergedError for logits that are not finite.
        """
        self.opened.require_classifier(PROBE)
        for option, value in (("topk", topk), ("batch_size", batch_size), ("workers", workers)):
            plain_value(option, value, int | None if option == "workers" else int)
            require(value is None or value >= 1, f"{option} is {value}; it must be 1 or more.")
        with errors_by_name("predict", ("temperature",)):
            require_temperature(plain_value("temperature", temperature, float | None))
        named = listed_images(images)
        flow = Flow(batch_size=batch_size, workers=workers or cores())
        found: list[Prediction] = []
        for batch in score_images([image for image, _ in named], self.opened.network, self.opened.pixels(), flow):
            if batch.broken:
                place, reason = batch.broken[0]
                raise DataError(
                    f"{named[place][0].path}: {reason}; leave it out, or use tcs.predict, which goes on without it."
                )
            paths = [named[place][1] for place in batch.places_b]
            used = self.temperature if temperature is None else temperature
            found += predictions_of(paths, batch.logits_bC, self.classes, topk, used)
        return found


def load_student(path: AnyPath, name: str | None = None, *, device: str = "cpu") -> Student:
    """The student at `path`, on `device`: a run of `tcs train` or RUN/<student>, a folder that `tcs export` wrote, or an .onnx file.

    `name` says which, where a run or a folder of exports has several. ArtefactError where there is none, where there are several and no
    name, and for one that is unfinished, failed or broken; ModelError for an architecture that timm does not know; ConfigError for
    a device that is not there, and for an ONNX file without onnxruntime.
    """
    place, name = plain_value("path", path, AnyPath), plain_value("name", name, str | None)
    with errors_by_name("load_student", ("name", "device")):
        return Student(open_model(place, name, pick_device(device)))
