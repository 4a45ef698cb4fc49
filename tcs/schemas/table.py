"""Every file of tcs that has a schema: what docs/reference/formats.md shows."""

from collections.abc import Mapping

import msgspec

from tcs.schemas.coordinates import CoordinateFacts, TargetFacts
from tcs.schemas.exports import ExportCard
from tcs.schemas.grids import CellLine, Ledger
from tcs.schemas.probes import ProbeRecord, TeachersRecord
from tcs.schemas.runs import FinishedRun, MetricsRow, PretrainState, ResumeState

# Where it lies, as the heading has it -> what it holds
SCHEMAS: Mapping[str, type[msgspec.Struct]] = {
    "RUN/STUDENT/config.json": FinishedRun,
    "RUN/STUDENT/metrics.jsonl": MetricsRow,
    "RUN/STUDENT/resume.pt": ResumeState,
    "TEACHER.resume.pt": PretrainState,
    "coordinates.safetensors": CoordinateFacts,
    "targets.h5": TargetFacts,
    "GRID/ledger.json": Ledger,
    "GRID/cells.jsonl": CellLine,
    "EXPORT/tcs.json": ExportCard,
    "PROBE/probe.json": ProbeRecord,
    "PROBE/teachers.json": TeachersRecord,
}
