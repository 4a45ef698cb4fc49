"""What a text says of the pool of a run, the rows whose pixels it may use without labels. Pure standard library.

`all`, `none`, a number of rows; and two that read the true labels of the pool, as a benchmark may to make one that is not uniform:
`longtail-F` (class sizes that fall exponentially, the largest F times the smallest) and `without [a, b]` (no image of those classes).
"""

import dataclasses
import math
import re

from tcs.errors import ConfigError

ALL, NONE = "all", "none"
FORMS = "all, none, a whole number of rows, longtail-F with F above 1, or 'without [class, class]'"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pool:
    """What of the rows without a label is in the pool: all of them, the number `rows` (0: none), those of a long tail, or those of other
    classes than `without`."""

    rows: int | None = None
    longtail: float | None = None
    without: tuple[str, ...] = ()

    @property
    def reads_labels(self) -> bool:
        """Whether the pool is made by true labels, which no run could know: an oracle of the benchmark."""
        return self.longtail is not None or bool(self.without)


def parse_pool(text: str, option: str = "--unlabelled") -> Pool:
    """The pool that `text` asks for; ConfigError, naming `option`, for a text of no such form."""
    if text == ALL:
        return Pool()
    if text == NONE:
        return Pool(rows=0)
    if text.isascii() and text.isdecimal():
        return Pool(rows=int(text))
    if match := re.fullmatch(r"longtail-([0-9]+(?:\.[0-9]+)?)", text):
        factor = float(match[1])
        if 1 < factor < math.inf:
            return Pool(longtail=factor)
    if match := re.fullmatch(r"without \[(.*)\]", text, re.DOTALL):
        names = tuple(name.strip() for name in match[1].split(","))
        if all(names) and len(set(names)) == len(names):
            return Pool(without=names)
    raise ConfigError(f"{option} is '{text}'; it must be {FORMS}.")


def without_text(classes: list[str]) -> str:
    """The text of the pool without `classes`."""
    return f"without [{', '.join(classes)}]"
