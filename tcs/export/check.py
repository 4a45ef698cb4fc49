"""The proof of an export: loaded in a fresh process, its outputs are those of the run on real images.

Legend: N images, S image side in pixels, C classes (features of a student without classes).
"""

import copy
import dataclasses
import json
import os
import pathlib
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tcs.errors import ArtefactError
from tcs.export import fresh
from tcs.inference.network import logits_of
from tcs.inference.runs import FinishedStudent
from tcs.students.zoo.cifar import STUDENTS

TOLERANCE = (
    1e-4  # of the largest output; measured differences are below 1e-5, those of a wrong epsilon or mean above 1e-3
)
CHECKED_IMAGES = 16
MOST_TOLD = 300  # characters of what the other process said
READ_BY_TIMM = ("timm", "hf")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Claim:
    """An export at `path`, of `format`, that says to give `expected_NC` on uint8 `images_N3SS`; `architecture` is timm's name."""

    path: pathlib.Path
    format: str
    architecture: str
    images_N3SS: NDArray[np.uint8]
    expected_NC: NDArray[np.float32]


def outputs_of_run(student: FinishedStudent, images_N3SS: Tensor) -> NDArray[np.float32]:
    """What the run itself gives on uint8 images (N, 3, S, S): float32 (N, C), computed as `tcs eval` does."""
    details = student.record["student"]
    model = copy.deepcopy(student.model)  # its memory layout is changed
    return logits_of(model, images_N3SS, details["mean"], details["std"], torch.device("cpu"), len(images_N3SS))


def differences(claims: Sequence[Claim]) -> list[float]:
    """The largest absolute difference of each export from what it claims. ArtefactError where one cannot be loaded, or differs by
    more than TOLERANCE of its largest output."""
    found = []
    for claim, outputs_NC in zip(claims, _outputs(claims), strict=True):
        expected_NC = claim.expected_NC
        if outputs_NC.shape != expected_NC.shape:
            raise ArtefactError(
                f"the {claim.format} export gives outputs of shape {outputs_NC.shape}, the run {expected_NC.shape}; nothing was "
                "written. Export to another format, and report this student."
            )
        difference, largest = float(np.abs(outputs_NC - expected_NC).max()), float(np.abs(expected_NC).max())
        if not difference <= TOLERANCE * largest:
            raise ArtefactError(
                f"the {claim.format} export of {claim.architecture} differs from the run by {difference:.1e} on outputs up to "
                f"{largest:.1e} (more than {TOLERANCE:.0e} of it); nothing was written. Export to another format, and report this "
                "student."
            )
        found.append(difference)
    return found


def _outputs(claims: Sequence[Claim]) -> list[NDArray[np.float32]]:
    """The outputs of all exports, by one fresh process."""
    with tempfile.TemporaryDirectory(prefix="tcs-export-") as folder:
        place = pathlib.Path(folder)
        requests = [_request(claim, place, number) for number, claim in enumerate(claims)]
        (place / "request.json").write_text(json.dumps(requests))
        _run(place / "request.json", claims[0].format)
        return [np.load(request["out"]) for request in requests]


def _request(claim: Claim, place: pathlib.Path, number: int) -> Mapping[str, Any]:
    images, out = place / f"images-{number}.npy", place / f"outputs-{number}.npy"
    np.save(images, claim.images_N3SS)
    needs_zoo = claim.format in READ_BY_TIMM and claim.architecture in STUDENTS
    paths = {"path": str(claim.path.absolute()), "images": str(images), "out": str(out)}
    return {"format": claim.format, "needs_zoo": needs_zoo, **paths}


def _run(request: pathlib.Path, format_: str) -> None:
    home = str(
        pathlib.Path(fresh.__file__).parents[2]
    )  # students of our own need an import that may be found nowhere else
    paths = os.pathsep.join([*filter(None, [os.environ.get("PYTHONPATH")]), home])
    done = subprocess.run(
        [sys.executable, "-P", fresh.__file__, str(request)],
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
        env={**os.environ, "PYTHONPATH": paths, "HF_HUB_OFFLINE": "1"},
    )
    if done.returncode:
        said = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1][:MOST_TOLD]
        raise ArtefactError(
            f"the {format_} export cannot be loaded in a fresh process ({said}); nothing was written. Free memory if that is what it "
            "lacks, or export to another format."
        )
