"""Files that are not waited for: no test cuts the power, and what a killed process has written is there without the disk.

Waiting is what most of a small run is made of. That it is done, of what and when, is tested where files are written:
test_store_files.py, test_store_streamed.py.
"""

import os


def _checked(descriptor: int) -> None:
    """In the place of os.fsync: the descriptor must be open, as it must be there."""
    os.fstat(descriptor)


def wait_for_nothing() -> None:
    """Let os.fsync return at once, in this process and those that it forks."""
    os.fsync = _checked
