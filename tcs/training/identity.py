"""What tells one student's run from another: all that decides its weights, and nothing that only says where things lie."""

from typing import Any

from tcs.config.train import PLACES, TrainConfig, without_later
from tcs.coordinates.from_store import StoreCoordinates
from tcs.coordinates.selection import Selection
from tcs.methods.named import DEFAULT, METHODS, Method
from tcs.splits.shots import Split
from tcs.students.backbone import StudentSpec
from tcs.students.start import digest_of_file
from tcs.training.data import RunData, reads_coordinates, reads_targets


def run_identity(
    spec: StudentSpec,
    config: TrainConfig,
    method: Method,
    data: RunData,
    split: Split,
    selection: Selection | None,
) -> dict[str, Any]:
    """All that decides a student's weights, and nothing that only says where things lie. A run is resumed where this is equal."""
    kept = {key: value for key, value in without_later(config.options()).items() if key not in PLACES}
    reads = reads_targets(method) or reads_coordinates(method, config)
    return kept | {
        "model": spec.text,
        "store_identity": data.store.identity,
        **({} if data.excluded is None else {"excluded": data.excluded}),
        "targets_identity": data.targets.identity if data.targets is not None and reads else None,
        "split_digest": split.digest,
        "selected": None if selection is None else [int(k) for k in selection.active_k],
        **_since_first_releases(config, method, data),
    }


def _since_first_releases(config: TrainConfig, method: Method, data: RunData) -> dict[str, Any]:
    """What runs of the first releases had not: later labels, a start from a file, axes fitted here, another default method."""
    found: dict[str, Any] = {}
    if data.store.manifest.later_labels is not None and method.reads_labels:
        found["labels"] = data.store.labelled_identity
    if config.student_checkpoint is not None:
        found["student_weights"] = digest_of_file(config.student_checkpoint)
    if data.targets is None and reads_coordinates(method, config):
        fitted = data.coordinates(config.readout)
        assert isinstance(fitted, StoreCoordinates)
        found["coordinates"] = fitted.recipe()
    name = next((name for name, known in METHODS.items() if known is method), method.loss)
    if config.method is None and config.head is None and config.loss is None:
        if name != ("labels" if data.targets is None else "tcs-probe"):
            found["default"] = name
    elif config.method == DEFAULT and name != DEFAULT:
        found["becomes"] = name
    return found
