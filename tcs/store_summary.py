"""A store on one screen: what its rows and its provenance tell of the images. Loads no torch, and reads no image.

Legend: N rows of the store.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

import cache
from tcs.errors import listed, number_of

SEEN = "seen"  # entry of the provenance: what the pass counted (tcs.extraction.seen)
PIXELS = "pixels"  # entry of the provenance: how many images were turned, are animations ...
ENDS = 3  # classes named as the largest, and as the smallest
LISTED = 10
NOT_COUNTED = "not counted of the images that are there"
NO_CONTENT = "of keys only"  # what the identity says of hashes that no image stands behind


def summary_of(store: cache.Store) -> dict[str, Any]:
    """`duplicates`, `seen` and `pixels` of a closed store, as JSON types; null where nothing is known."""
    return {"duplicates": duplicates(store), **recorded(store.manifest.provenance)}


def recorded(provenance: Mapping[str, Any]) -> dict[str, Any]:
    """What the pass counted, where it is recorded as this release does."""
    seen, pixels = provenance.get(SEEN), provenance.get(PIXELS)
    is_seen = isinstance(seen, Mapping) and all(
        name in seen for name in ("images", "widths", "heights", "formats", "suspicious")
    )
    return {"seen": seen if is_seen else None, "pixels": pixels if isinstance(pixels, Mapping) else None}


def duplicates(store: cache.Store) -> dict[str, int] | None:
    """Rows whose files are equal byte for byte: `groups` of them, `rows` in these, and groups with more than one class.

    None where the store has hashes of keys only. A row without a label is of no class.
    """
    if store.manifest.plan.identity.get("hashes") == NO_CONTENT:
        return None
    order_N = np.argsort(np.ascontiguousarray(store.hashes_N16).view("<u8")[:, 0], kind="stable")
    sorted_N16, labels_N = store.hashes_N16[order_N], store.labels_N[order_N]
    starts_G = np.flatnonzero(np.append(True, (sorted_N16[1:] != sorted_N16[:-1]).any(axis=1)))[: len(order_N)]
    if not len(starts_G):
        return {"groups": 0, "rows": 0, "across_classes": 0}
    sizes_G = np.diff(np.append(starts_G, len(order_N)))
    most_G = np.maximum.reduceat(labels_N, starts_G)
    least_G = np.minimum.reduceat(np.where(labels_N < 0, np.iinfo(np.int64).max, labels_N), starts_G)
    is_group_G = sizes_G > 1
    return {
        "groups": int(is_group_G.sum()),
        "rows": int(sizes_G[is_group_G].sum()),
        "across_classes": int((is_group_G & (most_G > least_G) & (most_G >= 0)).sum()),
    }


def image_lines(found: Mapping[str, Any]) -> dict[str, str]:
    """Duplicates, sizes, formats and suspicious images in a few words each; nothing of what is not known."""
    told = {}
    if found["duplicates"] is not None:
        told["copies"] = _copies(found["duplicates"])
    seen = found["seen"]
    if seen is None:
        return told
    if seen["images"]:
        told["image sizes"] = f"width {_spread(seen['widths'])}, height {_spread(seen['heights'])}{_share(seen, found)}"
        told["formats"] = listed((f"{name} {count:,}" for name, count in _falling(seen["formats"])), LISTED)
        told["suspicious"] = _suspicious(seen)
    elif found["rows"]:
        told["image sizes"] = NOT_COUNTED
    return told | _pixels_changed(found)


def _pixels_changed(found: Mapping[str, Any]) -> dict[str, str]:
    """What was done to make pixels; nothing where that was nothing and all images were counted."""
    pixels = found["pixels"] or {}
    counts = pixels.get("counts")
    if not isinstance(counts, Mapping):
        return {}
    share = _share(pixels, found) if "images" in pixels else ""
    if share and not pixels["images"]:
        return {"pixels changed": NOT_COUNTED}
    named = ", ".join(f"{kind.replace('_', ' ')} {count:,}" for kind, count in _falling(counts))
    return {"pixels changed": f"{named or 'none'}{share}"} if named or share else {}


def class_ends(rows_of_class: Mapping[str, int]) -> str:
    """Of more classes than fit a line the largest and the smallest."""
    ranked = _falling(rows_of_class)
    largest, smallest = (
        ", ".join(f"{name} {rows:,}" for name, rows in part) for part in (ranked[:ENDS], ranked[-ENDS:])
    )
    return f"largest {largest}; smallest {smallest}"


def by_reason(quarantine: Sequence[Mapping[str, str]]) -> str:
    """Inputs in quarantine, counted by what was wrong."""
    return ", ".join(
        f"{reason} {count:,}" for reason, count in _falling(Counter(entry["reason"] for entry in quarantine))
    )


def _falling(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    """Name and count, the largest first; of equal ones by name."""
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def _copies(found: Mapping[str, int]) -> str:
    if not found["groups"]:
        return "no two files are equal"
    across = f", {found['across_classes']:,} of them with more than one class" if found["across_classes"] else ""
    return f"{found['rows']:,} images in {number_of(found['groups'], 'group')} of equal files{across}"


def _spread(counts: Mapping[str, int]) -> str:
    """`20 to 1,024, median 500` of sizes counted by value (the lower one of two medians)."""
    sizes, totals = zip(*sorted((int(size), count) for size, count in counts.items()), strict=True)
    middle = sizes[int(np.searchsorted(np.cumsum(totals), (sum(totals) + 1) // 2))]
    return f"{sizes[0]:,}" if len(sizes) == 1 else f"{sizes[0]:,} to {sizes[-1]:,}, median {middle:,}"


def _share(seen: Mapping[str, Any], found: Mapping[str, Any]) -> str:
    """Of how many images the counts are, where it is not all."""
    rows = found["rows"]
    return (
        ""
        if rows is None or seen["images"] >= rows
        else f" (of {seen['images']:,} of the {rows:,} images; the others were not counted)"
    )


def _suspicious(seen: Mapping[str, Any]) -> str:
    named = seen.get("named", {})
    told = [f"{count:,} {name} ({_first(named.get(name, []), count)})" for name, count in _falling(seen["suspicious"])]
    return "; ".join(told) or "none"


def _first(keys: Sequence[str], count: int) -> str:
    shown = list(keys[:ENDS])
    return ", ".join(shown) + (" ..." if count > len(shown) else "")
