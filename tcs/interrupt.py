"""Ctrl-C and SIGTERM as requests that a loop answers between two steps."""

import contextlib
import signal
import threading
from collections.abc import Iterator


class StopRequest:
    """Set by a signal, read between steps, so that no step is ever left half done."""

    def __init__(self) -> None:
        self.signal: int | None = None

    @property
    def requested(self) -> bool:
        """Whether a signal has come."""
        return self.signal is not None

    def leave(self) -> None:
        """End the process's work the way the signal asked for."""
        if self.signal == signal.SIGINT:
            raise KeyboardInterrupt
        raise SystemExit(128 + int(self.signal or signal.SIGTERM))


@contextlib.contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """Turn Ctrl-C and SIGTERM into a request for the duration (main thread only: others never get signals)."""
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return

    def remember(number: int, _frame: object) -> None:
        request.signal = number

    before = {number: signal.signal(number, remember) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
