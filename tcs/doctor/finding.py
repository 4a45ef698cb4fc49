"""One line of `tcs doctor`. Standard library alone, as the rest of this room at import: what is missing is to be said, not met."""

import dataclasses

OK, WARNING, ERROR = "ok", "warning", "error"
LEVELS = (OK, WARNING, ERROR)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Finding:
    """What was found out about `name`; a `remedy` where `level` is warning or error, and sometimes advice where all is well."""

    name: str
    text: str
    level: str = OK
    remedy: str | None = None

    def __post_init__(self) -> None:
        assert self.level in LEVELS
        assert self.level == OK or self.remedy

    def in_words(self) -> str:
        """The line."""
        return f"{self.level:8}{self.name:13} {self.text}" + (f"; {self.remedy}" if self.remedy else "")


def gib(count: float) -> str:
    """Bytes as GiB, for a line."""
    return f"{count / 2**30:,.1f} GiB"
