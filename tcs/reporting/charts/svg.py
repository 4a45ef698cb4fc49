"""SVG as text: elements with their attributes and text escaped, scales, ticks, and labels that do not lie upon each other."""

import dataclasses
import math
import re
from collections.abc import Mapping, Sequence

from markupsafe import Markup, escape

Attributes = Mapping[str, object]
STEPS = (1, 2, 2.5, 5, 10)
NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # XML 1.0 has no way to write these


def tag(name: str, attributes: Attributes | None = None, *inside: str) -> Markup:
    """An element; attribute values and text are escaped, Markup inside it is not. Attributes that are None or empty are left out."""
    told = Markup("").join(
        Markup(' {}="{}"').format(key, shown(value))
        for key, value in (attributes or {}).items()
        if value not in (None, "")
    )
    content = Markup("").join(part if isinstance(part, Markup) else escape(_written(part)) for part in inside)
    return Markup("<{0}{1}>{2}</{0}>").format(name, told, content) if content else Markup("<{}{}/>").format(name, told)


def shown(value: object) -> str:
    """Numbers with one decimal at most where they are large and two where not, everything else as it is."""
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else _written(str(value))


def _written(what: str) -> str:
    """`what` with a replacement character for each that no XML may hold: a file of results can hold any."""
    return NO_XML.sub("\ufffd", what)


def joined(parts: Sequence[str]) -> Markup:
    """Elements one after the other."""
    return Markup("").join(parts)


def figure(
    width: float, height: float, title: str, description: str, parts: Sequence[str], *, has_size: bool = False
) -> Markup:
    """The svg element, which screen readers take for one picture with a title and a description. A page says how wide it is shown; a
    file has to say so itself (`has_size`, in CSS pixels), or it is shown as wide as what it is in."""
    size = {"width": shown(width), "height": shown(height)} if has_size else {}
    attributes = {
        **size,
        "viewBox": f"0 0 {shown(width)} {shown(height)}",
        "role": "img",
        "aria-label": f"{title}. {description}",
    }
    return tag("svg", {"xmlns": "http://www.w3.org/2000/svg", **attributes}, joined(parts))


def text(x: float, y: float, what: str, kind: str = "", anchor: str = "", hint: str = "") -> Markup:
    """Text at its baseline; `hint` is what a pointer that rests on it is told."""
    inside = [what, *([tag("title", None, hint)] if hint else [])]
    return tag("text", {"x": float(x), "y": float(y), "class": kind, "text-anchor": anchor}, *inside)


def line(x1: float, y1: float, x2: float, y2: float, kind: str, dash: str = "", width: float | None = None) -> Markup:
    """A straight line."""
    ends = {"x1": float(x1), "y1": float(y1), "x2": float(x2), "y2": float(y2)}
    return tag("line", {**ends, "class": kind, "stroke-dasharray": dash, "stroke-width": width})


def path(points: Sequence[tuple[float, float]], kind: str, dash: str = "", width: float = 2.0) -> Markup:
    """An open line through points."""
    told = " ".join(f"{shown(float(x))},{shown(float(y))}" for x, y in points)
    attributes = {"points": told, "class": kind, "stroke-dasharray": dash, "stroke-width": width}
    return tag("polyline", {**attributes, "stroke-linejoin": "round", "fill": "none"})


def marker(x: float, y: float, shape: str, kind: str, hint: str = "", size: float = 4.0) -> Markup:
    """A circle, square, diamond or triangle about a point."""
    inside = [tag("title", None, hint)] if hint else []
    if shape == "circle":
        return tag("circle", {"cx": float(x), "cy": float(y), "r": size, "class": kind, "stroke-width": 1.6}, *inside)
    corners = {
        "square": ((-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)),
        "diamond": ((0, -1.25), (1.25, 0), (0, 1.25), (-1.25, 0)),
        "triangle": ((0, -1.2), (1.15, 0.85), (-1.15, 0.85)),
    }[shape]
    points = " ".join(f"{shown(float(x + size * dx))},{shown(float(y + size * dy))}" for dx, dy in corners)
    return tag("polygon", {"points": points, "class": kind, "stroke-width": 1.6}, *inside)


@dataclasses.dataclass(frozen=True)
class Scale:
    """A value of `low` to `high` as a place of `start` to `end`; `is_log` for a logarithmic one of positive values."""

    low: float
    high: float
    start: float
    end: float
    is_log: bool = False

    def __call__(self, value: float) -> float:
        """Where `value` lies; the middle where the scale has no width."""
        low, high = (math.log(self.low), math.log(self.high)) if self.is_log else (self.low, self.high)
        at = math.log(value) if self.is_log else value
        share = 0.5 if high == low else (at - low) / (high - low)
        return self.start + share * (self.end - self.start)


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Round numbers within low and high, at most about `most` of them."""
    if high <= low:
        return [low]
    rough = (high - low) / most
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(unit * factor for factor in STEPS if unit * factor >= rough)
    first = math.ceil(low / step - 1e-9)
    return [index * step for index in range(first, math.floor(high / step + 1e-9) + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of ten within low and high; powers alone where those are many, round numbers where there are too few."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    every = [factor * 10.0**power for power in decades for factor in (1, 2, 5)]
    inside = [value for value in every if low * 0.999 <= value <= high * 1.001]
    if len(inside) < 2:
        return ticks(low, high, 4)
    return inside if len(inside) <= 6 else [value for value in inside if math.log10(value) % 1 in (0.0, 1.0)]


def spread(places: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Places moved apart so that neighbours are `gap` or more from each other, as little as a simple sweep finds, within low and
    high where they fit. Order and positions in the list are kept."""
    order = sorted(range(len(places)), key=places.__getitem__)
    moved = [places[index] for index in order]
    for _ in range(60):
        for index in range(1, len(moved)):
            lack = gap - (moved[index] - moved[index - 1])
            if lack > 1e-6:
                moved[index - 1] -= lack / 2
                moved[index] += lack / 2
        if moved and moved[0] < low:
            moved = [max(place, low + gap * index) for index, place in enumerate(moved)]
        if moved and moved[-1] > high:
            last = len(moved) - 1
            moved = [min(place, high - gap * (last - index)) for index, place in enumerate(moved)]
    back = [0.0] * len(places)
    for index, place in zip(order, moved, strict=True):
        back[index] = place
    return back


def shortened(name: str, most: int) -> str:
    """The name, with its end cut and marked where it is longer than `most` characters."""
    return name if len(name) <= most else name[: most - 1].rstrip(" -_,(·") + "…"
