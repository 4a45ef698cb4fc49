"""The page of a look: what a template shows, with every picture it needs. Whatever a user named is escaped by the template.

Legend: Q rows asked for, M rows on the map, k neighbours, G groups (classes, and the unlabelled).
"""

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tcs.images.thumbnails import Pictures
from tcs.looking.findings import Findings
from tcs.looking.result import Look
from tcs.looking.spaces import BITS, Space
from tcs.looking.typical import TypicalRows
from tcs.reporting.charts.palette import LIGHT
from tcs.reporting.layout import environment
from tcs.reporting.page import json_island
from tcs.reporting.sheets import Cell, Sheet
from tcs.reporting.tiles import Strip, Tile, shortened

EXAMPLES = 12
MOST_CHIPS = 200
MAP_WIDTH, MAP_HEIGHT, MARGIN = 1000, 640, 14

Ints = NDArray[np.int64]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Block:
    """Strips that belong together; `tile` is the image that they are of."""

    title: str
    note: str
    strips: Sequence[Strip]
    tile: Tile | None = None


class PageMaker:
    """Turns findings into what the template shows."""

    def __init__(self, findings: Findings, pictures: Pictures) -> None:
        self._found, self._pictures = findings, pictures

    def render(self, look: Look) -> str:
        """The page as text."""
        found, examples = self._found, self._example_places()
        self._pictures.prepare(self._shown_rows(examples))
        sheet_uri, columns = self._pictures.sheet(found.maps.rows_M.tolist())
        return (
            environment()
            .get_template("look.html")
            .render(
                title=shortened(pathlib.Path(look.store).name),
                look=look,
                headline=headline(look),
                sheet=kept_sheet(look),
                contact=[self._class_block(item) for item in found.typical],
                examples=[self._example(place) for place in examples],
                ends=[self._end_block(item) for item in found.ends],
                chips=self._chips(),
                groups=self._map_groups(),
                dots={group: colour_of(group, found, "dot") for group, _, _ in self._chips()},
                size=(MAP_WIDTH, MAP_HEIGHT),
                sheet_uri=sheet_uri,
                map_json=json_island(self._map_facts(columns)),
                notes=[*look.notes, *self._broken()],
            )
        )

    def _shown_rows(self, examples: Sequence[int]) -> list[int]:
        found = self._found
        rows = [row for item in found.typical for row in (*item.most.tolist(), *item.least.tolist())]
        rows += [row for item in found.ends for row in (*item.low.tolist(), *item.high.tolist())]
        rows += found.comparison.asked_Q[list(examples)].tolist()
        return rows + [row for near in found.comparison.near for row in near.rows_Qk[list(examples)].ravel().tolist()]

    def _broken(self) -> list[str]:
        count = len(self._pictures.broken)
        if not count:
            return []
        return [
            f"{count:,} {'picture' if count == 1 else 'pictures'} could not be read and {'is' if count == 1 else 'are'} left out."
        ]

    def _tile(self, row: int, lines: Sequence[str] = (), mark: str = "") -> Tile:
        key, label = shortened(self._found.keys[row]), self._class_of(row)
        alt = ", ".join(
            part
            for part in (label, key, {"kept": "kept", "new": "not among the nearest by features"}.get(mark))
            if part
        )
        return Tile(uri=self._pictures.uri(row), name=key, alt=alt, lines=tuple(lines), mark=mark)

    def _class_of(self, row: int) -> str:
        return shortened(self._found.names[self._found.groups_N[row]])

    def _class_block(self, item: TypicalRows) -> Block:
        strips = [
            Strip(title=title, tiles=[self._typical_tile(row, item.label) for row in rows.tolist()])
            for title, rows in (("most typical", item.most), ("least typical", item.least))
            if len(rows)
        ]
        note = "" if strips else "Too few images for a most and a least typical one."
        return Block(
            title=shortened(item.name),
            note=f"{item.rows:,} {'image' if item.rows == 1 else 'images'}. {note}",
            strips=strips,
        )

    def _typical_tile(self, row: int, label: int) -> Tile:
        nearest, distance = self._found.nearest[row]
        other = self._found.groups_N[nearest] != label
        return self._tile(
            row,
            (
                f"central {_hundredths(self._found.centrality_N[row])}",
                f"nearest {_hundredths(distance)}" + (f", {self._class_of(nearest)}" if other else ""),
            ),
        )

    def _example_places(self) -> list[int]:
        """Places in the asked rows of images from the worst kept to the best, evenly; by the last space there is."""
        kept_Q = self._found.comparison.near[-1].kept_Q
        assert kept_Q is not None
        order_Q = np.argsort(kept_Q, kind="stable")
        at = np.linspace(0, len(order_Q) - 1, min(EXAMPLES, len(order_Q))).round().astype(int)
        return [int(place) for place in order_Q[np.unique(at)]]

    def _example(self, place: int) -> Block:
        comparison, strips = self._found.comparison, []
        first = set(comparison.near[0].rows_Qk[place].tolist())
        for number, (space, near) in enumerate(zip(self._found.spaces, comparison.near, strict=True)):
            rows = near.rows_Qk[place].tolist()
            tiles = [
                self._tile(
                    row,
                    (self._class_of(row), distance_words(space, float(product))),
                    mark="" if number == 0 else "kept" if row in first else "new",
                )
                for row, product in zip(rows, near.products_Qk[place], strict=True)
            ]
            kept = len(first & set(rows))
            strips.append(
                Strip(title=space.name, tiles=tiles, note="" if number == 0 else f"keeps {kept} of {len(rows)}")
            )
        row = int(comparison.asked_Q[place])
        return Block(
            title=self._class_of(row), note=shortened(self._found.keys[row]), strips=strips, tile=self._tile(row)
        )

    def _end_block(self, item: Any) -> Block:
        strips = [
            Strip(title=title, tiles=[self._tile(row, (self._class_of(row),)) for row in rows.tolist()])
            for title, rows in (("lowest", item.low), ("highest", item.high))
        ]
        return Block(title=f"Coordinate {item.number}", note=f"{100 * item.share:.1f} % of the variance", strips=strips)

    def _chips(self) -> list[tuple[int, str, int]]:
        """(group, name, rows on the map), the largest MOST_CHIPS in their order."""
        counts_G = np.bincount(self._found.groups_N[self._found.maps.rows_M], minlength=len(self._found.names))
        largest = np.sort(np.argsort(-counts_G, kind="stable")[:MOST_CHIPS])
        return [
            (group, shortened(self._found.names[group]), int(counts_G[group]))
            for group in largest.tolist()
            if counts_G[group]
        ]

    def _map_groups(self) -> list[tuple[int, str, list[tuple[int, int, int]]]]:
        """(group, its style, (place, x, y) of its points on the first map)."""
        groups_M = self._found.groups_N[self._found.maps.rows_M]
        x_y_M2 = _on_canvas(next(iter(self._found.maps.places.values())))
        return [
            (
                group,
                colour_of(group, self._found, "pt"),
                [(int(m), *x_y_M2[m].tolist()) for m in np.flatnonzero(groups_M == group)],
            )
            for group in np.unique(groups_M).tolist()
        ]

    def _map_facts(self, columns: int) -> dict[str, Any]:
        """What the script reads: names, and the places of every map."""
        maps = self._found.maps
        return {
            "columns": columns,
            "names": [shortened(self._found.keys[row]) for row in maps.rows_M.tolist()],
            "groups": self._found.groups_N[maps.rows_M].tolist(),
            "classes": [shortened(name) for name in self._found.names],
            "places": {name: _on_canvas(places_M2).ravel().tolist() for name, places_M2 in maps.places.items()},
        }


def _on_canvas(places_M2: NDArray[np.float64]) -> Ints:
    """Places in whole pixels of the map, both sides at one scale, whole and in the middle."""
    low_2, high_2 = places_M2.min(axis=0), places_M2.max(axis=0)
    room_2 = np.array([MAP_WIDTH, MAP_HEIGHT]) - 2 * MARGIN
    scale = float((room_2 / np.maximum(high_2 - low_2, 1e-12)).min())
    centred_M2 = (places_M2 - (low_2 + high_2) / 2) * min(scale, 1e12) * (1, -1)
    pixels_M2: Ints = (centred_M2 + np.array([MAP_WIDTH, MAP_HEIGHT]) / 2).round().astype(np.int64)
    return pixels_M2


def colour_of(group: int, found: Findings, kind: str) -> str:
    """The class, or the hue, that gives points of a group their colour: the palette where it has enough, grey without a label."""
    if group >= found.classes:
        return f'class="{kind} ref"'
    if found.classes <= len(LIGHT):
        return f'class="{kind} m{group}"'
    return f'class="{kind} hue" style="--hue:{360 * group / found.classes:.1f};--odd:{group % 2}"'


def distance_words(space: Space, product: float) -> str:
    """How far a row is, in the measure of its space."""
    return f"{(space.dims - product) / 2:.0f} bits" if space.name == BITS else _hundredths(1 - product)


def _hundredths(value: float) -> str:
    """Two decimals, and no minus before a zero."""
    return f"{round(value, 2) + 0.0:.2f}"


def headline(look: Look) -> str:
    """What is kept, in one sentence."""
    told = [
        f"{'coordinates' if item.space != BITS else 'hash bits'} keep {100 * item.recall:.0f} %"
        for item in look.kept[1:]
    ]
    return f"Of each image's {look.neighbours} nearest, {' and '.join(told)}."


def kept_sheet(look: Look) -> Sheet:
    """The numbers of every space."""
    columns = [("space", False), ("kept (%)", True), ("same class (%)", True), ("width", True), ("from", False)]
    rows = []
    for item in look.kept:
        error = "" if not item.error else f" ± {196 * item.error:.1f}"
        same = "" if item.same_class is None else f"{100 * item.same_class:.1f}"
        rows.append(
            [
                Cell(item.space),
                Cell(f"{100 * item.recall:.1f}{error}", f"{item.recall}"),
                Cell(same),
                Cell(f"{item.dims:,}", f"{item.dims}"),
                Cell(item.source),
            ]
        )
    return Sheet(name="What each space keeps", columns=columns, rows=rows)
