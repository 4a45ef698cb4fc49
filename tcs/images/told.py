"""What was done to images to make pixels of them: counted over a pass of a teacher or a student, and told at its end."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tcs.config.pixels import PixelRules
from tcs.errors import listed
from tcs.images.colour import CONVERTED, FIRST_FRAME, IGNORED, NARROW, TRANSPARENT, TURNED
from tcs.images.scaled import SCALED

KEPT_KEYS = 10  # of each kind, by name

# kind -> the sentence on it, of a number of images, in the order in which they are told
SENTENCES: Mapping[str, str] = {
    TURNED: "{images} turned upright by {their} EXIF orientation.",
    TRANSPARENT: "{images} with transparency shown on {background}.",
    FIRST_FRAME: "{images} of several frames or pages: the first one counts.",
    CONVERTED: "{images} converted from {their} colour profile to sRGB.",
    IGNORED: "{images} with a colour profile that cannot be followed: it is ignored ({keys}).",
    NARROW: "{images} of 16 bits with less than a quarter of that range in use, so nearly black: {keys}. If that is not meant, stretch "
    "the values to 0 to 65535, or save 8 bits.",
    SCALED: "{images} decoded at a half, a quarter or an eighth of {their} size, as the student was trained (--scaled-decoding).",
}


class PixelCounts:
    """How many of the images that were decoded had each thing done to them, and the first keys of each."""

    def __init__(self) -> None:
        self.images = 0
        self.counts: Counter[str] = Counter()
        self.keys: dict[str, list[str]] = {}

    def add(self, images: Iterable[tuple[str, Iterable[str]]]) -> None:
        """Count decoded images: their keys, and what was done to each (names of `tcs.images.colour`)."""
        for key, done in images:
            self.images += 1
            for kind in done:
                self._add(kind, 1, [key])

    def remove(self, images: Iterable[tuple[str, Iterable[str]]]) -> None:
        """Take images out of the counts."""
        for key, done in images:
            self.images -= 1
            for kind in done:
                self.counts[kind] -= 1
                if key in self.keys[kind]:
                    self.keys[kind].remove(key)
        self.counts = +self.counts

    def rename(self, names: Mapping[str, str]) -> None:
        """Name images by other keys than before."""
        self.keys = {kind: [names.get(key, key) for key in keys] for kind, keys in self.keys.items()}

    def take(self, found: Mapping[str, Any]) -> None:
        """Add what another process counted."""
        self.images += found["images"]
        for kind, count in found["counts"].items():
            self._add(kind, count, found["keys"][kind])

    def to_json(self) -> dict[str, Any]:
        """`images` decoded, `counts` by kind, and `keys`: up to 10 of each kind, in order."""
        kinds = sorted(self.counts)
        return {
            "images": self.images,
            "counts": {kind: self.counts[kind] for kind in kinds},
            "keys": {kind: sorted(self.keys[kind])[:KEPT_KEYS] for kind in kinds},
        }

    def sentences(self, rules: PixelRules) -> list[str]:
        """A line for each kind that there is."""
        told = []
        for kind, sentence in SENTENCES.items():
            count = self.counts[kind]
            if count:
                shown = sorted(self.keys[kind])[:KEPT_KEYS]
                more = f" and {count - len(shown)} more" if count > len(shown) else ""
                told.append(
                    sentence.format(
                        images="1 image" if count == 1 else f"{count:,} images",
                        their="its" if count == 1 else "their",
                        background=rules.background,
                        keys=listed(shown) + more,
                    )
                )
        return told

    def _add(self, kind: str, count: int, keys: Sequence[str]) -> None:
        self.counts[kind] += count
        kept = self.keys.setdefault(kind, [])
        kept += keys[: KEPT_KEYS - len(kept)] if len(kept) < KEPT_KEYS else []
