"""What `tcs fit` says: a coordinate system, its selection and its ceiling curve as text."""

from typing import Any

import numpy as np

from tcs.coordinates.ceiling import recommended_components
from tcs.coordinates.system import CoordinateSystem


def describe(system: CoordinateSystem) -> str:
    """The coordinate system, its selection and its ceiling curve as text."""
    variances_D = np.asarray(system.spectrum_D, np.float64)
    share = 100 * variances_D[: system.components].sum() / max(variances_D.sum(), 1e-30)
    lines = [f"{system.method}: {system.components} of {system.dims} axes hold {share:.1f} % of the variance."]
    if system.selection is not None:
        lines.append(
            f"selection ({system.selection.method}): {len(system.selection.active_k)} coordinates. {system.selection.note}"
        )
    ceiling = system.ceiling or {"rows": [], "note": None}
    lines += _ceiling_table(ceiling["rows"]) + ([ceiling["note"]] if ceiling["note"] else [])
    lines += _copies_line(ceiling.get("copies", {"images": 0, "known": 0}))
    lines += _transductive_lines(ceiling.get("transductive", []), {row["shots"] for row in ceiling["rows"]} - {None})
    lines += _recommendation(ceiling["rows"], system)
    return "\n".join(lines)


def _copies_line(copies: dict[str, int]) -> list[str]:
    """What makes a ceiling too high, where it is so."""
    if not copies["known"]:
        return []
    return [
        f"LEAKAGE: {copies['known']:,} of the {copies['images']:,} test images of the ceiling are copies of images that these axes "
        "are fitted to; take them out of one of the stores."
    ]


def _transductive_lines(rows: list[dict[str, Any]], shots: set[int]) -> list[str]:
    """A line per shots, a line where the ridge probe stands in for the spread labels of some splits, and one for what was left out."""
    lines = []
    for row in rows:
        error = "" if row["stderr"] is None else f" ± {row['stderr']:.1f}"
        lines.append(
            f"Transductive probe at K={row['components']}, {row['shots']} shots spread over {row['pool_rows']:,} rows:"
            f" {row['accuracy']:.1f}{error}; ridge probe {row['ridge_accuracy']:.1f} ({row['n']} splits, {row['scored_rows']:,}"
            " rows scored that no pool holds)"
        )
        if row["fell_back"]:
            lines.append(f"  {len(row['fell_back'])} of {row['n']} are the ridge probe: {row['fell_back'][0]}")
    left_out = sorted(shots - {row["shots"] for row in rows})
    if rows and left_out:
        others = f"tcs probe --head transductive --shots {left_out[0]}"
        lines.append(f"  Many classes: {rows[0]['shots']} shots alone; {others} has others.")
    return lines


def _recommendation(rows: list[dict[str, Any]], system: CoordinateSystem) -> list[str]:
    """One sentence, or none where no cell of the curve has a standard error."""
    found = recommended_components(rows, system.method, system.power)
    if not found:
        return []
    by_shots = ", ".join(f"{size} at {shots} shots" for shots, size in found.items())
    counts = " (the largest of these)" if len(set(found.values())) > 1 else ""
    return [
        f"Recommended: --components {max(found.values())}{counts}, by the smallest K whose ridge probe lies within one standard error"
        f" of the best: {by_shots}; this fit has {system.components}."
    ]


def _ceiling_table(rows: list[dict[str, Any]]) -> list[str]:
    """Ridge-probe accuracy in percent: a line per shots, axes and power, a column per K."""
    if not rows:
        return []
    sizes = sorted({row["components"] for row in rows})
    found = {(row["shots"], row["axes"], row["power"], row["components"]): row["accuracy"] for row in rows}
    lines = [
        "Ceiling: ridge probe of cached coordinates, top-1 %",
        "shots  axes      power " + "".join(f"K={size:<8}" for size in sizes),
    ]
    for shots, axes, power in dict.fromkeys((row["shots"], row["axes"], row["power"]) for row in rows):
        cells = [found.get((shots, axes, power, size)) for size in sizes]
        values = "".join(f"{'-' if cell is None else f'{cell:.1f}':<10}" for cell in cells)
        lines.append(f"{'all' if shots is None else shots!s:<6} {axes:<9} {power:<5} {values}")
    return lines
