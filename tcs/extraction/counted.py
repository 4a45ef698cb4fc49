"""What an extraction counts of images while it decodes them anyway. It is put down shard by shard, so that a store knows of all of its
images, whichever run of the command wrote which shard, in whichever process.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import cache
from tcs.extraction.decoding import DecodedImage
from tcs.extraction.seen import SeenImages
from tcs.images.told import PixelCounts
from tcs.store_summary import PIXELS, SEEN, recorded

KINDS = ("images", "counts", "keys")  # of `PixelCounts.to_json`


@dataclasses.dataclass(frozen=True)
class Counted:
    """What was done to make pixels of images, and what they look like."""

    pixels: PixelCounts = dataclasses.field(default_factory=PixelCounts)
    seen: SeenImages = dataclasses.field(default_factory=SeenImages)

    def add(self, items: Iterable[DecodedImage], keys: Sequence[str]) -> None:
        """Count decoded images, broken ones left out; `keys` are those of all images by position."""
        good = [item for item in items if item.reason is None]
        self.pixels.add((keys[item.position], item.done) for item in good)
        self.seen.add((keys[item.position], item.seen) for item in good if item.seen is not None)

    def take(self, counts: Mapping[str, Any]) -> None:
        """Add what `to_json` gave, as far as it is there."""
        found = recorded(counts)
        if found[PIXELS] is not None and found[PIXELS].keys() >= set(KINDS):
            self.pixels.take(found[PIXELS])
        if found[SEEN] is not None:
            self.seen.add_counts(found[SEEN])

    def to_json(self) -> dict[str, Any]:
        """Two entries of a store's provenance."""
        return {PIXELS: self.pixels.to_json(), SEEN: self.seen.to_json()}


def counted_in(notes: Iterable[Mapping[str, Any]]) -> Counted:
    """The sum over notes of shards."""
    found = Counted()
    for note in notes:
        found.take(note)
    return found


def counted_of(writer: cache.StoreWriter) -> Counted:
    """What was counted of all images of a store that is about to be closed.

    One that was closed before, and has lost shards since, has no notes of the others: then it is what was counted in the first place.
    Of a store that an earlier release began it is what this one has counted.
    """
    found = counted_in(writer.notes().values())
    before = counted_in([cache.read_manifest(writer.path).provenance])
    return Counted(
        pixels=max(before.pixels, found.pixels, key=lambda counts: counts.images),
        seen=max(before.seen, found.seen, key=lambda counts: counts.images),
    )
