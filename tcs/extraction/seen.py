"""What a pass sees of the images themselves while it decodes them anyway: sizes, formats, and which look like a mistake.

Counts by value, so that those of several passes add up and medians are exact.
"""

import dataclasses
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from PIL import Image

TINY_PIXELS = 32  # a shorter side below: CIFAR's images are not tiny
EXTREME_ASPECT = 5.0  # a longer side above so many shorter ones: a panorama of three frames is not extreme
NAMED = 10  # keys of each suspicion that are kept
CONSTANT, TINY, STRIP = "constant", "tiny", "extreme aspect"
SUSPICIONS = (CONSTANT, TINY, STRIP)
COARSE = (8, 8)  # pixels that tell nearly every image from a constant one

# First bytes of a file -> its format
SIGNATURES = (
    (b"\xff\xd8\xff", "jpeg"),
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"GIF8", "gif"),
    (b"BM", "bmp"),
    (b"II*\x00", "tiff"),
    (b"MM\x00*", "tiff"),
)
BRANDS = {b"avif": "avif", b"avis": "avif"}  # of files that begin as HEIF does


@dataclasses.dataclass(frozen=True, kw_only=True)
class Seen:
    """One image: its size in pixels, the format of its file, and whether it is of one colour."""

    width: int
    height: int
    format: str
    is_constant: bool

    def suspicions(self) -> list[str]:
        """What about it looks like a mistake."""
        least, most = sorted((self.width, self.height))
        found = {CONSTANT: self.is_constant, TINY: least < TINY_PIXELS, STRIP: most > EXTREME_ASPECT * least}
        return [name for name in SUSPICIONS if found[name]]


def format_of(data: bytes) -> str:
    """The format of an image file by its first bytes; `other` for what they do not tell."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "webp"
    if data[4:8] == b"ftyp":
        return BRANDS.get(data[8:12], "heif")
    return next((name for start, name in SIGNATURES if data.startswith(start)), "other")


def look_at(data: bytes, image: Image.Image) -> Seen:
    """What there is to see of a file and its decoded RGB image."""
    return Seen(width=image.width, height=image.height, format=format_of(data), is_constant=is_constant(image))


def is_constant(image: Image.Image) -> bool:
    """Whether every pixel of an RGB image has the same colour."""
    return _is_plain(image.resize(COARSE, Image.Resampling.NEAREST)) and _is_plain(image)


def _is_plain(image: Image.Image) -> bool:
    pairs: tuple[tuple[int, int], ...] = image.getextrema()  # type: ignore[assignment]  # of an image of one band it is one pair
    return all(least == most for least, most in pairs)


class SeenImages:
    """Counts over many images."""

    def __init__(self) -> None:
        """Nothing seen yet."""
        self.images = 0
        self._counts: dict[str, Counter[str]] = {
            name: Counter() for name in ("widths", "heights", "formats", "suspicious")
        }
        self._named: dict[str, list[str]] = {name: [] for name in SUSPICIONS}

    def add(self, images: Iterable[tuple[str, Seen]]) -> None:
        """Count images, by key."""
        for key, seen in images:
            self.images += 1
            for name, value in (("widths", seen.width), ("heights", seen.height), ("formats", seen.format)):
                self._counts[name][str(value)] += 1
            for suspicion in seen.suspicions():
                self._counts["suspicious"][suspicion] += 1
                self._name(suspicion, [key])

    def add_counts(self, told: Mapping[str, Any]) -> None:
        """Count what `to_json` gave of another pass."""
        self.images += told["images"]
        for name, counts in self._counts.items():
            counts.update(told[name])
        for suspicion, keys in told["named"].items():
            self._name(suspicion, keys)

    def remove(self, images: Iterable[tuple[str, Seen]]) -> None:
        """Take images out of the counts."""
        for key, seen in images:
            self.images -= 1
            for name, value in (("widths", seen.width), ("heights", seen.height), ("formats", seen.format)):
                self._counts[name].subtract([str(value)])
            self._counts["suspicious"].subtract(seen.suspicions())
            for keys in self._named.values():
                if key in keys:
                    keys.remove(key)

    def rename(self, names: Mapping[str, str]) -> None:
        """Name images by other keys than before."""
        for suspicion, keys in self._named.items():
            self._named[suspicion] = [names.get(key, key) for key in keys]

    def to_json(self) -> dict[str, Any]:
        """The counts as JSON types: `images`, and by value `widths`, `heights`, `formats`, `suspicious`; `named` are first keys of each."""
        counts = {name: dict(sorted((+found).items())) for name, found in self._counts.items()}
        return {"images": self.images, **counts, "named": {name: keys for name, keys in self._named.items() if keys}}

    def _name(self, suspicion: str, keys: list[str]) -> None:
        known = self._named[suspicion]
        known.extend(keys[: NAMED - len(known)])
