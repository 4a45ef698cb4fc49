"""Ctrl-C that Python would lose.

What is raised in a destructor or in a weak reference's callback (the import system has some) cannot reach the command: Python
prints it as ignored, and goes on. A Ctrl-C that falls there is sent again a moment later, when it can be raised.
"""

import _thread
import contextlib
import signal
import sys
import threading
from collections.abc import Iterator

# Long enough for a callback to end. Where it has not, what is sent is lost as well, and is sent again.
AGAIN_SECONDS = 0.02


@contextlib.contextmanager
def kept_interrupts(*, until_delivered: bool = False) -> Iterator[None]:
    """For the duration, a KeyboardInterrupt that Python ignores is sent to the main thread again; other errors are told as before.

    One that is still on its way at the end comes no more, since a command that has ended is not stopped; with `until_delivered` it is
    raised then.
    """
    before, sent = sys.unraisablehook, list[threading.Timer]()

    def hook(ignored: "sys.UnraisableHookArgs") -> None:
        if not issubclass(ignored.exc_type, KeyboardInterrupt):
            before(ignored)
            return
        while True:
            try:
                again = threading.Timer(AGAIN_SECONDS, _interrupt)
                again.daemon = True
                sent.append(again)
                again.start()
            except KeyboardInterrupt:  # pressed once more, just here: nothing may leave a hook
                continue
            return

    sys.unraisablehook = hook
    try:
        yield
    finally:
        sys.unraisablehook = before
        is_pending = [again.is_alive() for again in sent]
        for again in sent:
            again.cancel()
    if until_delivered and any(is_pending):
        raise KeyboardInterrupt


def _interrupt() -> None:
    """A signal and not only a flag, so that a main thread that waits in a system call wakes up."""
    if hasattr(signal, "pthread_kill"):
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
    else:
        _thread.interrupt_main()
