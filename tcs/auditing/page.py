"""The page of an audit: one file that loads nothing, made by a template, which escapes everything a user named."""

import dataclasses
import pathlib
from collections.abc import Sequence

import cache
from tcs.auditing.findings import AuditFinding
from tcs.auditing.outliers import ClassFacts
from tcs.auditing.result import Audit, Confusion
from tcs.config.audit import KINDS, AuditConfig
from tcs.images.stored import rules_of
from tcs.images.thumbnails import Pictures
from tcs.reporting.layout import environment
from tcs.reporting.sheets import Cell, Sheet
from tcs.reporting.tiles import Tile, shortened

MOST_SHOWN = 200  # lines of a kind, of up to two pictures: 2,000 in all
PICTURE_BYTES = 3500  # so that these stay below 10 MB, as base64
MOST_PAIRS = 20

# kind -> (heading, what it is)
TITLES = {
    "label-error": (
        "Labels that look wrong",
        "Another class looks likelier to a probe that has not seen the image, and to the images beside it. The number is the share of that "
        "class less the share of the label.",
    ),
    "duplicate": ("Exact copies", "Byte for byte an earlier image."),
    "near-duplicate": (
        "Near copies",
        "As near as that to an earlier image, by cosine: a copy, or another picture of one series.",
    ),
    "leak": (
        "Copies of test images",
        "At 1.000 the very image of a test store, below it one as near as that: a copy, or another picture of one series.",
    ),
    "conflict": ("Copies with two labels", "A copy, exact or near, of an image that has another label."),
    "outlier": (
        "Images that look like no other",
        "Far from their nearest images; the number counts robust deviations from the median of the store.",
    ),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Card:
    """A line of the table: one picture or two, what is wrong in words, and the score."""

    tiles: Sequence[Tile]
    words: str
    score: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Section:
    """The lines of a kind that are shown."""

    kind: str
    title: str
    lede: str
    count: str
    cards: Sequence[Card]


def page_bytes(found: Audit, store: cache.Store, tests: Sequence[cache.Store], config: AuditConfig) -> bytes:
    """The page, UTF-8. Of every kind the first `config.top` lines (200 at most) are shown with their pictures."""
    album = _Album({"": store, **dict(zip(config.test, tests, strict=True))})
    most = min(config.top, MOST_SHOWN)
    sections = [_section(kind, lines, album, most) for kind in KINDS if (lines := found.of(kind))]
    return (
        environment()
        .get_template("audit.html")
        .render(
            title=shortened(pathlib.Path(found.store).name),
            headline=headline(found),
            found=found,
            near=f"{config.near:g}",
            sections=sections,
            absent=[TITLES[kind][0] for kind in KINDS if not found.of(kind) and (kind != "leak" or tests)],
            is_tested=bool(tests),
            tables=[sheet for sheet in (_mixed(found.confusions), _classes(found.classes)) if sheet.rows],
        )
        .encode()
    )


def likely(errors: Sequence[AuditFinding]) -> int:
    """How many labels look more like another class; all others are in the ranking, too."""
    return sum(item.score > 0 for item in errors)


def headline(found: Audit) -> str:
    """What matters most, in one sentence."""
    wrong = likely(found.of("label-error"))
    copies = sum(len(found.of(kind)) for kind in ("duplicate", "near-duplicate", "conflict"))
    told = [
        f"{wrong:,} of {found.labelled:,} labels look more like another class" if found.of("label-error") else "",
        f"{copies:,} exact or near copies within the store" if copies else "",
        f"{len(found.of('leak')):,} of test images" if found.of("leak") else "",
    ]
    return (
        "; ".join(part for part in told if part) + "." if any(told) else "No label looks wrong, and no copy was found."
    )


def _section(kind: str, lines: Sequence[AuditFinding], album: "_Album", most: int) -> Section:
    shown = lines[:most]
    album.prepare(shown)
    title, lede = TITLES[kind]
    count = f"{len(lines):,}" if len(shown) == len(lines) else f"the first {len(shown):,} of {len(lines):,}"
    if kind == "label-error":
        count += (
            f", of which {likely(lines):,} look more like another class (above 0); the others are ranked behind them"
        )
    return Section(kind=kind, title=title, lede=lede, count=count, cards=[_card(line, album) for line in shown])


def _card(line: AuditFinding, album: "_Album") -> Card:
    tiles = [album.tile("", line.key, line.label)]
    if line.other_key:
        tiles.append(album.tile(line.other_store, line.other_key, ""))
    words = line.label or "unlabelled"
    return Card(
        tiles=tiles,
        words=shortened(words) + (f", rather {shortened(line.suggested)}" if line.suggested else ""),
        score=f"{line.score:.3f}",
    )


def _mixed(confusions: Sequence[Confusion]) -> Sheet:
    rows = [
        [
            Cell(shortened(item.label)),
            Cell(shortened(item.taken_for)),
            Cell(f"{item.images:,} of {item.rows:,}", f"{item.images}"),
            Cell(f"{100 * item.images / item.rows:.1f}"),
        ]
        for item in confusions[:MOST_PAIRS]
    ]
    columns = [("class", False), ("taken for", False), ("images", True), ("share (%)", True)]
    return Sheet(name="Classes that are mixed up, out of fold", columns=columns, rows=rows)


def _classes(facts: Sequence[ClassFacts]) -> Sheet:
    rows = [
        [
            Cell(shortened(item.name)),
            Cell(f"{item.rows:,}", f"{item.rows}"),
            Cell(f"{item.spread:.2f}"),
            Cell(", ".join(["few images"] * item.is_few + ["one-sided"] * item.is_one_sided)),
        ]
        for item in facts
    ]
    columns = [("class", False), ("images", True), ("spread (median class: 1)", True), ("", False)]
    return Sheet(name="Classes", columns=columns, rows=rows)


class _Album:
    """Pictures of several stores, by name of the store ("" for the audited one) and key; none of stores that hold no images."""

    def __init__(self, stores: dict[str, cache.Store]) -> None:
        self._pictures = {
            name: Pictures(store.image_bytes if store.has_images else None, rules_of(store), PICTURE_BYTES)
            for name, store in stores.items()
        }
        self._row_of = {name: {key: row for row, key in enumerate(store.keys)} for name, store in stores.items()}

    def prepare(self, lines: Sequence[AuditFinding]) -> None:
        """Make the pictures of these lines."""
        wanted = [("", line.key) for line in lines]
        wanted += [(line.other_store, line.other_key) for line in lines if line.other_key]
        for name, pictures in self._pictures.items():
            pictures.prepare([self._row_of[name][key] for other, key in wanted if other == name])

    def tile(self, name: str, key: str, label: str) -> Tile:
        """The picture of a key that was prepared, over the key and its store."""
        lines = (shortened(key), f"of {shortened(pathlib.Path(name).name)}" if name else "")
        alt = ", ".join(shortened(part) for part in (label, key) if part)
        return Tile(uri=self._pictures[name].uri(self._row_of[name][key]), name=shortened(key), alt=alt, lines=lines)
