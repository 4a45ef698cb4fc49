"""Which images of a store a table of `tcs audit` leaves out: `tcs cache subset --exclude`. Loads no torch."""

from collections.abc import Sequence

from tcs.auditing.findings import read_findings
from tcs.config.audit import ExclusionConfig
from tcs.errors import DataError


def excluded_keys(config: ExclusionConfig, keys: Sequence[str]) -> set[str]:
    """The keys to leave out of a store of `keys`: of every line of a wanted kind, of label errors of the first `top` lines.

    DataError for a file that is no such table, and for a line that names an image which the store lacks: it is another's table.
    """
    lines, known = read_findings(config.exclude), set(keys)
    foreign = next((key for _, key in lines if key not in known), None)
    if foreign is not None:
        raise DataError(
            f"--exclude {config.exclude} names '{foreign}', which is no image of this store; name the table of an audit of it."
        )
    errors = [key for kind, key in lines if kind == "label-error"][: config.top or 0]
    others = {key for kind, key in lines if kind in config.kinds and kind != "label-error"}
    return others | (set(errors) if "label-error" in config.kinds else set())
