"""`tcs suggest`."""

import json
from typing import Any

import click

from tcs.config.labelling import SuggestConfig


@click.command()
@click.argument("store", type=click.Path())
@click.option("-n", "--n", type=int, required=True, help="How many images to label next.")
@click.option(
    "--out", required=True, type=click.Path(), help="Table key,rank,reason,class (.csv); class is yours to fill in."
)
@click.option("--labelled", type=click.Path(), help="What is labelled so far: such a table, or `class key` lines.")
@click.option("--readout", help="Readout of the store; needed where it holds several. A map is averaged.")
@click.option(
    "--also", multiple=True, type=click.Path(), help="Another teacher's store of the same images. Repeatable."
)
@click.option("--sheet", type=click.Path(), help="Also a picture (.png, .jpg) of thumbnails with rank and key.")
@click.option("--folder", type=click.Path(), help="Also a folder with copies of the images.")
@click.option("--data", help="The images, for a store that holds none.")
@click.option("--seed", type=int, default=42, show_default=True, help="Of the draws.")
@click.option("--overwrite", is_flag=True, help="Replace outputs made otherwise, with the classes filled in.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
def command(as_json: bool, **options: Any) -> None:
    """Choose the images of STORE to label next: typical ones at first; with labels, unsure ones that are not alike.

    Labels that STORE holds are not read.
    """
    config = SuggestConfig(**options)
    from tcs.labelling.suggest import suggest

    suggestions = suggest(config)
    if as_json:
        rows = [{"key": item.key, "rank": item.rank, "reason": item.reason} for item in suggestions]
        click.echo(json.dumps({"out": config.out, "suggestions": rows}))
    else:
        for item in suggestions:
            click.echo(f"{item.rank:4} {item.key}  ({item.reason})")
