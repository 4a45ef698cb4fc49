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

AGAIN_SECONDS = (
    0.02  # long enough for the callback to end; where it has not, the next one is lost and sent again as well
)


@contextlib.contextmanager
def kept_interrupts() -> Iterator[None]:
    """For the duration, a KeyboardInterrupt that Python ignores is sent to the main thread again; other errors are told as before."""
    before, sent = sys.unraisablehook, list[threading.Timer]()

    def hook(ignored: "sys.UnraisableHookArgs") -> None:
        if not issubclass(ignored.exc_type, KeyboardInterrupt):
            before(ignored)
            return
        again = threading.Timer(AGAIN_SECONDS, _interrupt)
        again.daemon = True
        again.start()
        sent.append(again)

    sys.unraisablehook = hook
    try:
        yield
    finally:
        sys.unraisablehook = before
        for (
            again
        ) in sent:  # the command has ended by itself: what comes now would be told as a fault of the interpreter's end
            again.cancel()


def _interrupt() -> None:
    """A signal and not only a flag, so that a main thread that waits in a system call wakes up."""
    if hasattr(signal, "pthread_kill"):
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
    else:
        _thread.interrupt_main()
