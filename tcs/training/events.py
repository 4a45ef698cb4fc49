"""Scalars for TensorBoard, in files that its own writer of records makes. The package is an extra, imported when asked for.

Not through torch.utils.tensorboard: its writer is a thread, which a full disk ends with a traceback and no error.
"""

import pathlib
import time
from typing import Any

from tcs.errors import ConfigError
from tcs.training.appended import AppendedFile
from tcs.training.metrics import STEP, Row

PATTERN = "events.out.tfevents.*"


def require_tensorboard() -> Any:
    """TensorBoard's classes Event, SessionLog, Summary and RecordWriter; ConfigError naming the extra where it is missing."""
    try:
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.summary.writer.record_writer import RecordWriter
    except ImportError as error:
        raise ConfigError(
            f'--tensorboard needs the package tensorboard ({error}); pip install "tcs-distill[tensorboard]".'
        ) from error
    return Event, SessionLog, Summary, RecordWriter


class EventFile:
    """A new event file in `folder`, which takes over at `first_step`: TensorBoard forgets what earlier files say of it and later."""

    def __init__(self, folder: pathlib.Path, first_step: int) -> None:
        """ConfigError without TensorBoard; StoreWriteError where the system refuses the file."""
        self._event, session, self._summary, writer = require_tensorboard()
        folder.mkdir(parents=True, exist_ok=True)
        takes_over = any(folder.glob(PATTERN))
        # TensorBoard reads the files of a folder in the order of their names.
        self._file = AppendedFile(folder / PATTERN.replace("*", str(time.time_ns())))
        self._records = writer(self._file)
        self._add(file_version="brain.Event:2")
        if takes_over:  # purge_step, in torch's SummaryWriter
            self._add(step=first_step, session_log=session(status=session.START))

    def write(self, row: Row) -> None:
        """Append the numbers of `row` as scalars of its step; texts have no place there."""
        numbers = {key: value for key, value in row.items() if isinstance(value, float | int) and key != STEP}
        values = [self._summary.Value(tag=key, simple_value=value) for key, value in numbers.items()]
        self._add(step=row[STEP], summary=self._summary(value=values))

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    def _add(self, **fields: Any) -> None:
        self._records.write(self._event(wall_time=time.time(), **fields).SerializeToString())
