"""Feature stores, by the package that writes them."""

import pathlib

from tcs.maintenance.verify import result_lines, verified
from tcs.verifying.outcome import Notes


def check_store(path: pathlib.Path, notes: Notes) -> None:
    """What `tcs cache verify` checks: every byte."""
    with notes.part("manifest"):
        found = verified(path)
        lines = result_lines(found)
        if found.is_sound:
            notes.checked.append(lines[0].partition(" is sound: ")[2].rstrip("."))
        else:
            *problems, summary = lines  # which ends with what to do
            notes.problems += [*problems[:-1], f"{problems[-1].rstrip('.')}; {summary.rpartition('; ')[2]}"]
