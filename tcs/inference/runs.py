"""Students of a run, read back from their folders: plain timm models with the folded weights, and their records."""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from tcs.checkpoint import load_weights
from tcs.config.pixels import student_rules_in
from tcs.config.plain import with_tuples
from tcs.errors import ArtefactError, ModelError, first_line
from tcs.hub import cached_alone
from tcs.inference.card import Card
from tcs.plain_files import CONFIG, FOLDED, load_record, train_anew
from tcs.schemas.check import require_schema
from tcs.schemas.runs import FinishedRun
from tcs.students.backbone import StudentSpec, create_backbone, is_known, parse_student
from tcs.students.bounds import BUILD_ERRORS, MOST_NUMBER, numbers_in, room_of_weights, values_of


@dataclasses.dataclass(frozen=True, kw_only=True)
class FinishedStudent:
    """A trained student, read back from its folder: the plain timm model with the folded weights, and its record. A student
    that was trained without labels has no `classes` in it, and the model has num_classes=0."""

    folder: pathlib.Path
    model: nn.Module
    record: dict[str, Any]


def load_student(folder: str | pathlib.Path) -> FinishedStudent:
    """Read RUN/<student>/. ArtefactError where it is missing, failed, unfinished or broken."""
    folder = pathlib.Path(folder)
    record = load_record(folder)
    if not {"format", "state", "identity"} & record.keys():  # any other program's config.json
        raise ArtefactError(
            f"{folder / CONFIG} is not of a student that tcs train made; give a run of it, or RUN/<student>."
        )
    if record.get("state") == "failed":
        raise ArtefactError(
            f"student {folder} failed in training ({record.get('error')}); name the others with --model to evaluate them."
        )
    if record.get("state") != "finished":
        raise ArtefactError(f"student {folder} is not finished; run the same tcs train command again to resume it.")
    require_schema(folder / CONFIG, record, FinishedRun, train_anew(folder))
    model = _built(folder, record)
    return FinishedStudent(folder=folder, model=model.eval(), record=record)


def _built(folder: pathlib.Path, record: Mapping[str, Any]) -> nn.Module:
    """The model that the record names with the folded weights; ArtefactError where it cannot be built or they do not fit it."""
    student = record["student"]
    spec = StudentSpec(text=record["identity"]["model"], name=student["name"], kwargs=with_tuples(student["kwargs"]))
    if not is_known(spec):
        raise ArtefactError(
            f"{folder / CONFIG} names the architecture '{spec.name}', which this timm does not have; use the timm that it was trained "
            f"with, or {train_anew(folder)}."
        )
    large = [value for value in numbers_in(student["kwargs"]) if abs(value) > MOST_NUMBER]
    if large:
        raise ArtefactError(
            f"{folder / CONFIG} gives {spec.name} the number {large[0]:g}, and no architecture takes one above {MOST_NUMBER:,}; "
            f"{train_anew(folder)}."
        )
    weights = load_weights(folder / FOLDED)
    try:
        with cached_alone():  # a run has its weights with it; whatever its config names, nothing is fetched
            room = room_of_weights(values_of(weights))
            model = create_backbone(spec, len(record["classes"]), room=room)
        model.load_state_dict(weights)
    except (ModelError, *BUILD_ERRORS) as error:
        reason = first_line(error.__cause__ or error)
        raise ArtefactError(
            f"the weights {folder / FOLDED} do not fit what {CONFIG} beside them says ({reason}); use the timm that it was "
            f"trained with, or {train_anew(folder)}."
        ) from error
    return model


def find_students(run: pathlib.Path, models: Sequence[str]) -> list[pathlib.Path]:
    """The student folders of a run, all or those of `models`. ArtefactError where there is none, or not that one."""
    found = sorted(path.parent for path in run.glob(f"*/{CONFIG}")) if run.is_dir() else []
    if not found:
        raise ArtefactError(f"run {run} holds no student; give the --out folder of a tcs train command.")
    wanted = [parse_student(model).folder for model in models]
    for name in wanted:
        if name not in {path.name for path in found}:
            raise ArtefactError(f"run {run} has no student '{name}'; it has {', '.join(path.name for path in found)}.")
    return [path for path in found if not wanted or path.name in wanted]


def card_of(student: FinishedStudent) -> Card:
    """What its record says of a student."""
    record, details = student.record, student.record["student"]
    calibration = record.get("calibration") or {}
    return Card(
        architecture=details["name"],
        kwargs=details["kwargs"],
        classes=tuple(record["classes"]),
        size=details["image_size"],
        mean=tuple(details["mean"]),
        std=tuple(details["std"]),
        rules=student_rules_in(details, str(student.folder)),
        temperature=calibration.get("temperature"),
        run={"model": record["identity"]["model"], "method": record["config"]["method"]},
    )
