"""How image files become pixels, as far as that is a choice. It decides what teacher and students see, so it is a part of a store's
identity: the field `pixels` there. Stores of releases that had no such choice have no such field, and are of rules 1 for good.

What rules 2 do with every kind of file is the table of docs/reference/data.md.
"""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

from tcs.errors import ArtefactError, did_you_mean, require

FIELD = "pixels"  # of a store's identity, of a student's record, and of the transform of an exported student
LARGEST_SIDE = 8192  # pixels of the squares that models take: a zero too many would ask for all memory
FIRST, NEWEST = 1, 2
VERSIONS = (FIRST, NEWEST)
WHITE = "#ffffff"
# A JPEG that is decoded at a fraction for a frame keeps this many times the frame's side at least. Recorded, as it decides pixels:
# of 40 photographs frames change at 2 by 0.4 to 0.5 levels of 255 on average, at 1 by 1.5 to 1.6; of mosaics of them at 2 by 0.1 to
# 0.6, of text and line drawings at 2 by 1.8 to 7.5 (benchmarks/RESULTS.md, 18).
SCALED_MARGIN = 2
SCALED = "scaled"  # in what is recorded

# The names of CSS 1 and three more that people use; all others are written as #rrggbb.
COLOURS: Mapping[str, str] = {
    "aqua": "#00ffff",
    "black": "#000000",
    "blue": "#0000ff",
    "cyan": "#00ffff",
    "fuchsia": "#ff00ff",
    "gray": "#808080",
    "green": "#008000",
    "grey": "#808080",
    "lime": "#00ff00",
    "magenta": "#ff00ff",
    "maroon": "#800000",
    "navy": "#000080",
    "olive": "#808000",
    "purple": "#800080",
    "red": "#ff0000",
    "silver": "#c0c0c0",
    "teal": "#008080",
    "white": WHITE,
    "yellow": "#ffff00",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class PixelRules:
    """`version` 2: EXIF orientation is applied where `orientation` says so, transparency lies on the `background` (#rrggbb), and
    colour profiles are followed. `version` 1 does nothing of that, whatever else stands here: see `EARLIER`.

    `scaled` is of students alone, by either version: a large JPEG may be decoded at a half, a quarter or an eighth of its size, no
    smaller than SCALED_MARGIN times the frame that is made of it. What needs a whole image gets one.
    """

    version: int = NEWEST
    orientation: bool = True
    background: str = WHITE
    scaled: bool = False

    def to_json(self) -> dict[str, Any] | None:
        """What is recorded; None for rules 1 of whole images, which nobody ever recorded."""
        scaled = {SCALED: SCALED_MARGIN} if self.scaled else {}
        if self.version == FIRST:
            return {"rules": FIRST, **scaled} if scaled else None
        return {"rules": self.version, "orientation": self.orientation, "background": self.background, **scaled}

    def scaled_if(self, scaled: bool) -> "PixelRules":
        """The rules of a store as a student follows them, which is trained with scaled decoding or without."""
        return dataclasses.replace(self, scaled=scaled)

    @property
    def entry(self) -> dict[str, Any]:
        """The field of an identity or record: nothing for rules 1."""
        value = self.to_json()
        return {} if value is None else {FIELD: value}

    def describe(self) -> str:
        """A few words for a message."""
        scaled = ", large JPEGs decoded at a half, a quarter or an eighth" if self.scaled else ""
        if self.version == FIRST:
            return f"rules 1: EXIF orientation not applied, transparency dropped{scaled}"
        applied = "applied" if self.orientation else "not applied"
        return f"rules {self.version}: EXIF orientation {applied}, transparency on {self.background}{scaled}"


EARLIER = PixelRules(version=FIRST, orientation=False)


def require_side(size: int | None, least: int = 1, option: str = "--img-size") -> None:
    """ConfigError where `size`, unless it is None, is no side of a square that a model could be shown."""
    if size is not None:
        require(size >= least, f"{option} is {size}; it must be {least} or more.")
        require(size <= LARGEST_SIDE, f"{option} is {size}; it must be {LARGEST_SIDE} or less.")


def hex_colour(text: str, option: str = "--background") -> str:
    """A colour by its name or as #rrggbb -> #rrggbb in small letters. ConfigError for anything else."""
    found = COLOURS.get(text.lower(), text.lower())
    require(
        re.fullmatch(r"#[0-9a-f]{6}", found) is not None,
        f"{option} is '{text}'; it must be a colour as #rrggbb, or one of {', '.join(COLOURS)}.{did_you_mean(text, COLOURS)}",
    )
    return found


def rules_in(recorded: Mapping[str, Any], where: str) -> PixelRules:
    """The rules in the field `pixels` of an identity or record of a store; rules 1 where there is none.

    ArtefactError, naming `where`, for rules that this release does not know.
    """
    value = recorded.get(FIELD)
    if value is None:
        return EARLIER
    known = isinstance(value, Mapping) and value.get("rules") == NEWEST
    if not known or set(value) != {"rules", "orientation", "background"}:
        raise ArtefactError(
            f"{where} has pixels by the rules {str(value)[:80]}, and this release knows {FIRST} and {NEWEST}; use the release that "
            "made it."
        )
    orientation, background = value["orientation"], value["background"]
    if not isinstance(orientation, bool) or not re.fullmatch(r"#[0-9a-f]{6}", str(background)):
        raise ArtefactError(
            f"{where} has pixels with orientation {orientation!r} and background {str(background)[:40]!r}, which are true or false "
            "and #rrggbb; the file is damaged, make it again."
        )
    return PixelRules(version=NEWEST, orientation=orientation, background=background)


def student_rules_in(recorded: Mapping[str, Any], where: str) -> PixelRules:
    """The same of what is recorded of a student, which may be trained with scaled decoding: no store is."""
    value = recorded.get(FIELD)
    if not isinstance(value, Mapping) or SCALED not in value:
        return rules_in(recorded, where)
    if value[SCALED] != SCALED_MARGIN or isinstance(value[SCALED], bool):
        raise ArtefactError(
            f"{where} has images that are decoded at {str(value[SCALED])[:40]} times the frame or more, and this release knows "
            f"{SCALED_MARGIN}; use the release that made it."
        )
    others = {name: item for name, item in value.items() if name != SCALED}
    rules = EARLIER if others == {"rules": FIRST} else rules_in({FIELD: others}, where)
    return rules.scaled_if(True)


def other_rules(mine: PixelRules, theirs: PixelRules, here: str, there: str) -> str | None:
    """One line where two things that are compared have their pixels by other rules; None where they are alike."""
    if mine == theirs:
        return None
    alike = (
        "--pixel-rules 1"
        if FIRST in (mine.version, theirs.version)
        else "one --background and --ignore-orientation for both"
    )
    return (
        f"{here} and {there} have their pixels by other rules ({mine.describe()}; {theirs.describe()}): images with an EXIF "
        f"orientation, transparency or a colour profile look different in them, all others the same (alike by {alike})."
    )
