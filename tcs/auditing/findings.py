"""What an audit finds, a line each, in the order of its table."""

import csv
import dataclasses
import io
from collections.abc import Sequence

from tcs.config.audit import KINDS
from tcs.errors import DataError, did_you_mean
from tcs.ordinary import read_ordinary

COLUMNS = ("kind", "key", "class", "suggested", "other_key", "other_store", "score")


@dataclasses.dataclass(frozen=True, kw_only=True)
class AuditFinding:
    """One line: what (`kind`), the image `key` of the audited store, its class, the class that it more likely has, the image that it is
    a copy of, and of which other store, and a score that ranks lines of one kind (falling)."""

    kind: str
    key: str
    label: str = ""
    suggested: str = ""
    other_key: str = ""
    other_store: str = ""
    score: float

    def fields(self) -> tuple[str, ...]:
        """The line of the table."""
        named = (self.kind, self.key, self.label, self.suggested, self.other_key, self.other_store)
        return (*named, f"{self.score:.6f}")


def ordered(findings: Sequence[AuditFinding]) -> tuple[AuditFinding, ...]:
    """By kind, and the highest score first; ties in order of the store."""
    return tuple(sorted(findings, key=lambda item: (KINDS.index(item.kind), -item.score)))


def table_bytes(findings: Sequence[AuditFinding]) -> bytes:
    """The table as a file. DataError for a key that no line can hold."""
    broken = [item.key for item in findings if "\n" in item.key or "\r" in item.key]
    if broken:
        raise DataError(f"key '{broken[0]!r}' holds a line break, which a table of keys cannot; rename the image.")
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(item.fields() for item in findings)
    return text.getvalue().encode("utf-8", "surrogateescape")


def read_findings(path: str) -> list[tuple[str, str]]:
    """(kind, key) of every line of a table, in its order; lines that people took out are missed by nobody. DataError."""
    try:
        text = read_ordinary(path).decode("utf-8-sig", "surrogateescape")
        header = text.partition("\n")[0].rstrip("\r")
        delimiter = (
            ";" if header.startswith(";".join(COLUMNS[:2])) else ","
        )  # as spreadsheets of some countries save it
        lines = list(csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter))
    except OSError as error:
        raise DataError(f"--exclude {path} cannot be read ({error.strerror}); name a table of tcs audit.") from error
    except csv.Error as error:
        raise DataError(f"--exclude {path} is no table ({error}); name a table of tcs audit.") from error
    if header.split(delimiter)[:2] != list(COLUMNS[:2]):
        raise DataError(
            f"--exclude {path} does not begin with the columns kind,key; name a table that tcs audit --out wrote."
        )
    for number, line in enumerate(lines, 2):
        kind = line["kind"]
        if kind not in KINDS:
            raise DataError(
                f"line {number} of {path} has the kind '{kind}'; it must be one of {', '.join(KINDS)}."
                f"{did_you_mean(kind, KINDS)}"
            )
    return [(line["kind"], line["key"] or "") for line in lines]
