"""`tcs look`."""

import dataclasses
import json
from typing import TYPE_CHECKING, Any

import click

from tcs.config.look import MAPS, LookConfig

if TYPE_CHECKING:
    from tcs.looking.result import Look

SHOWN = 8


@click.command()
@click.argument("store", type=click.Path())
@click.option("--out", type=click.Path(), default=LookConfig.out, show_default=True, help="The page.")
@click.option("--coordinates", type=click.Path(), help="Coordinates of tcs fit; principal ones of STORE without it.")
@click.option("--targets", type=click.Path(), help="Coordinates and hash bits of tcs targets; made anew without it.")
@click.option("--readout", help="Readout of the store; needed where it holds several. A map is averaged.")
@click.option("--data", type=click.Path(), help="The images, for a store that holds none.")
@click.option(
    "--map", "map_", type=click.Choice(MAPS), default="tsne", show_default=True, help="pca: no t-SNE beside it."
)
@click.option(
    "--seed", type=int, default=42, show_default=True, help="Of the t-SNE map, hash bits, and draws of images."
)
@click.option("--overwrite", is_flag=True, help="Replace a page that is there.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
def command(as_json: bool, map_: str, **options: Any) -> None:
    """Show what the teacher of STORE sees in its images, as one page.

    Typical images, a map, nearest images by features, coordinates and hash bits, and how much these keep.
    """
    config = LookConfig(map=map_, **options)
    from tcs.looking.run import look

    found = look(config)
    if as_json:
        click.echo(json.dumps(dataclasses.asdict(found)))
    else:
        click.echo("\n".join(_lines(found)))


def _lines(found: "Look") -> list[str]:
    """One screen: what is kept, the most and least typical by name, and where the page is."""
    lines = [f"{found.store}: {found.images:,} images, {found.labelled:,} with a label, readout {found.readout}"]
    drawn = f"{found.asked:,} images" + (" drawn" if found.asked < found.images else "")
    lines.append(
        f"kept of the {found.neighbours} nearest images by features (mean of {drawn}; by chance {100 * found.kept[0].chance:.3g} %):"
    )
    for space in found.kept[1:]:
        error = "" if space.error is None else f" +- {196 * space.error:.1f}"
        lines.append(f"  {space.space} ({space.dims:,}, {space.source}): {100 * space.recall:.1f}{error} %")
    same = [f"{item.space} {100 * item.same_class:.1f} %" for item in found.kept if item.same_class is not None]
    if same:
        lines.append(f"of the same class among the {found.neighbours} nearest: {', '.join(same)}")
    if found.classes:
        lines.append("most and least typical of a class (mean cosine to the others of it):")
    for item in found.classes[:SHOWN]:
        if item.most:
            most, least = (f"{image.key} ({image.centrality:.2f})" for image in (item.most[0], item.least[0]))
            lines.append(f"  {item.name} ({item.images:,}): {most}; {least}")
    if len(found.classes) > SHOWN:
        lines.append(f"  {len(found.classes) - SHOWN:,} more classes are on the page")
    return [
        *lines,
        f"{found.page}: {found.page_bytes / 1e6:.1f} MB, {' and '.join(found.maps)} of {found.mapped:,} images",
    ]
