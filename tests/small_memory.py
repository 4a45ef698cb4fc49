"""Memory that a block may ask for: what is made to do harm claims sizes that nothing may allocate."""

import contextlib
import tracemalloc

MOST_BYTES = 8 << 20


@contextlib.contextmanager
def little_memory():
    """Fails where the block asks for much memory, whether the system would grant it or not."""
    tracemalloc.start()
    try:
        yield
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < MOST_BYTES
