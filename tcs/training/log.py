"""The log of a student's training: metrics.jsonl as it goes, summary.csv at checkpoints, TensorBoard's events if asked for.

TensorBoard is an extra, imported when asked for. Its events are scalars, in files that its own writer of records makes, and not
torch.utils.tensorboard: that writer is a thread, which a full disk ends with a traceback and no error.
"""

import contextlib
import pathlib
import time
from types import TracebackType
from typing import Any, Self

from cache import atomic_write_bytes
from tcs.errors import ConfigError
from tcs.ordinary import read_ordinary
from tcs.plain_files import SUMMARY, save_table
from tcs.training.metrics import STEP, AppendedFile, Row, parse_lines, to_line

METRICS, TENSORBOARD = "metrics.jsonl", "tensorboard"
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


class RunLog:
    """Takes the rows of one student's training: plain numbers and texts by column, with the whole number `step`.

    Rows are kept in memory as well, for summary.csv. Of several processes only one logs.
    """

    def __init__(self, folder: pathlib.Path, rows: list[Row], events: EventFile | None) -> None:
        """Use `RunLog.open`."""
        self._folder, self._rows, self._events = folder, rows, events
        self._lines = AppendedFile(folder / METRICS)

    @classmethod
    def open(cls, folder: pathlib.Path, resume_step: int | None, tensorboard: bool = False) -> Self:
        """The log in `folder`, to go on after `resume_step`; None begins a new one in place of what is there.

        Rows of later steps go, and the last line if a kill cut it short, so that the steps run again give the files of an
        uninterrupted run, apart from the MEASURED_COLUMNS. Raises ArtefactError, with file and line, where metrics.jsonl
        holds anything else; ConfigError where `tensorboard` is asked for and not installed; StoreWriteError where the
        system refuses a write.
        """
        path = folder / METRICS
        found = read_ordinary(path) if resume_step is not None and path.exists() else b""
        rows: list[Row] = [
            row for row in parse_lines(found, path) if resume_step is not None and row[STEP] <= resume_step
        ]
        events = _open_events(folder / TENSORBOARD, resume_step, rows) if tensorboard else None
        atomic_write_bytes(path, b"".join(to_line(row) for row in rows))
        log = cls(folder, rows, events)
        log.save()
        return log

    def write(self, row: Row) -> None:
        """Append `row`, at once: it survives a kill of this process. StoreWriteError where the system refuses."""
        self._lines.write(to_line(row))
        if self._events is not None:
            self._events.write(row)
        self._rows.append(dict(row))

    def save(self) -> None:
        """Write summary.csv whole, and let every row reach the disk.

        To be called at the end, and before the resume state of the same step is saved: rows behind that state could not
        be had again, rows ahead of it are dropped by `open`.
        """
        self._lines.sync()
        if self._rows:
            save_table(self._folder / SUMMARY, self._rows)
        else:
            (self._folder / SUMMARY).unlink(missing_ok=True)

    def close(self) -> None:
        """Let go of the files; a second call changes nothing."""
        self._lines.close()
        if self._events is not None:
            self._events.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def delete_log(folder: pathlib.Path) -> None:
    """Delete the log files in `folder`, and nothing else; for --overwrite."""
    for path in (folder / METRICS, folder / SUMMARY, *(folder / TENSORBOARD).glob(PATTERN)):
        path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # not there, or it holds files of somebody else
        (folder / TENSORBOARD).rmdir()


def _open_events(folder: pathlib.Path, resume_step: int | None, rows: list[Row]) -> EventFile:
    """An event file from `resume_step` on; from the start where TensorBoard is asked for only now."""
    is_first = not any(folder.glob(PATTERN))
    events = EventFile(folder, 0 if resume_step is None else resume_step + 1)
    for row in rows if is_first else ():
        events.write(row)
    return events
