"""The one comparison of a grid that is named before its first row, sealed so that a later change is seen as one.

A comparison that was chosen after looking at results is no test. So the ledger of a grid notes the two methods, the time and
the number of rows that were there, under a digest; the report calls a comparison fixed beforehand only if the seal says so.
The digest keeps out slips and hand edits of a line, not a forger: who rewrites the ledger and its digest can claim anything.
"""

import dataclasses
import datetime
from collections.abc import Mapping, Sequence
from typing import Any

import cache

BEFOREHAND, EXPLORATORY, UNKNOWN = "beforehand", "exploratory", "unknown"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Trust:
    """How far a comparison can be trusted: `kind` is BEFOREHAND, EXPLORATORY or UNKNOWN, `about` says why."""

    kind: str
    about: str


def seal(primary: Sequence[str] | None, origin: Mapping[str, Any], rows: int) -> dict[str, Any]:
    """The seal of a grid: its comparison (None: none is named), what the grid is of, the time (UTC), and how many rows exist."""
    sealed = {
        "primary": None if primary is None else list(primary),
        "origin": dict(origin),
        "rows": rows,
        "at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }
    return sealed | {"digest": cache.digest_of_json(sealed)}


def is_whole(sealed: Mapping[str, Any]) -> bool:
    """Whether a seal is as it was written."""
    rest = {key: value for key, value in sealed.items() if key != "digest"}
    return sealed.get("digest") == cache.digest_of_json(rest)


def trust_in(primary: Sequence[str], ledger: Mapping[str, Any]) -> Trust:
    """What the ledger of a grid says of the comparison `primary` that its recipe names now."""
    sealed = ledger.get("seal")
    if sealed is None:
        return Trust(kind=UNKNOWN, about="named by the recipe; when is not recorded")
    if not is_whole(sealed):
        return Trust(kind=EXPLORATORY, about="the seal in ledger.json was changed by hand")
    if sealed["rows"]:
        return Trust(kind=EXPLORATORY, about=f"sealed {sealed['at']}, when {sealed['rows']} rows were there")
    if list(primary) != sealed["primary"]:
        first = "no comparison" if sealed["primary"] is None else " - ".join(sealed["primary"])
        return Trust(kind=EXPLORATORY, about=f"named after the first row; sealed before it ({sealed['at']}): {first}")
    return Trust(kind=BEFOREHAND, about=f"sealed {sealed['at']}, before the first row")
