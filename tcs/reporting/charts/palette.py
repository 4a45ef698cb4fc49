"""One look per method, the same in every figure: colours that colour-blind readers can tell apart, markers and dashes beside them.

The hues are those of Okabe and Ito (2008) and Tol (2021), darkened for text on white (contrast of 4.5 and more) and lightened for
text on the dark ground. A method has a class m0 to m7 for its colour, so that the same figure serves both grounds.
"""

import dataclasses
from collections.abc import Sequence

from tcs.reporting.results import Table

LIGHT = ("#0063a3", "#b84300", "#00724f", "#8a3a8f", "#8a6100", "#1b7588", "#a11a4f", "#5d6b1a")
DARK = ("#6cb8f0", "#ff9a5c", "#4fd1a5", "#dd9be0", "#e8bd4f", "#7fd3e6", "#ff8fb5", "#c3d16a")
DASHES = ("", "6 3", "2 3", "8 3 2 3")
REFERENCE_DASHES = ("5 4", "1.5 3", "8 3 2 3", "12 4")
MARKERS = ("circle", "square", "diamond", "triangle")


@dataclasses.dataclass(frozen=True)
class Look:
    """The class of a method's colour, the dashes of its lines, its marker, and whether it is a reference (grey, no marker)."""

    colour: str
    dash: str
    marker: str
    is_reference: bool = False


def looks_of(tables: Sequence[Table], first: Sequence[str] = ()) -> dict[str, Look]:
    """A look for every method of the tables: those of `first` (the comparison) before the others, references in grey."""
    references = frozenset().union(*(table.references | table.bounds.keys() for table in tables))
    methods = dict.fromkeys([*first, *(method for table in tables for method in table.methods)])
    students = [method for method in methods if method not in references]
    looks = {method: _look(index) for index, method in enumerate(students)}
    for index, method in enumerate(sorted(references)):
        looks[method] = Look("ref", REFERENCE_DASHES[index % len(REFERENCE_DASHES)], "", is_reference=True)
    return looks


def _look(index: int) -> Look:
    turn = index // len(LIGHT)
    return Look(f"m{index % len(LIGHT)}", DASHES[turn % len(DASHES)], MARKERS[(index + turn) % len(MARKERS)])


def variables(colours: Sequence[str]) -> str:
    """The colours as CSS variables --m0, --m1, ..."""
    return "".join(f"--m{index}:{colour};" for index, colour in enumerate(colours))


def classes() -> str:
    """The CSS that gives a method's class its colour, as the variable --c."""
    return "".join(f".m{index}{{--c:var(--m{index})}}" for index in range(len(LIGHT)))


def standalone_style() -> str:
    """The style of a figure that stands alone, for viewers that know no CSS variables."""
    hues = "".join(
        f".m{index} .s,.m{index}.s{{stroke:{colour}}}.m{index} .f,.m{index}.f{{fill:{colour}}}"
        for index, colour in enumerate(LIGHT)
    )
    return (
        "text{font:12px system-ui,sans-serif;fill:#333}.t{font-size:11px;fill:#666}.grid{stroke:#e4e4e4}.axis{stroke:#888}"
        ".s{fill:none}.ref .s,.ref.s{stroke:#777}.ref .f,.ref.f{fill:#777}.hollow{fill:#fff}.ink{fill:#222}.zero{stroke:#444}"
        f".bar{{stroke:#333}}.quiet{{opacity:.35}}{hues}"
    )
