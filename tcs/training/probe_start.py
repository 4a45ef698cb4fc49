"""The teacher-space probe that a student's classifier may start from. Legend: C classes, K coordinates, k selected ones."""

import dataclasses
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tcs.methods import PROBE_FROZEN, PROBED
from tcs.student import Student


@dataclasses.dataclass(frozen=True, kw_only=True)
class Probe:
    """The ridge probe of the labelled rows' cached coordinates: weight_CK and bias_C float; zero outside the selection."""

    weight_CK: NDArray[np.floating[Any]]
    bias_C: NDArray[np.floating[Any]]
    active_k: NDArray[np.int64]


def install_probe(student: Student, probe: Probe | None, classifier: str) -> None:
    """Select the probe's coordinates, and write its weights where the method's `classifier` starts from them or is them."""
    if probe is not None:
        student.select(torch.as_tensor(probe.active_k))
    if classifier not in PROBED:
        return
    assert probe is not None
    assert student.classifier is not None
    with torch.no_grad():
        student.classifier.weight.copy_(torch.as_tensor(probe.weight_CK))
        student.classifier.bias.copy_(torch.as_tensor(probe.bias_C))
    student.classifier.requires_grad_(classifier != PROBE_FROZEN)
