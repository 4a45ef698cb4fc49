"""`tcs fit`."""

import json
from typing import Any

import click

from tcs.config.coordinates import COORDINATE_METHODS, SELECTIONS, FitConfig


@click.command()
@click.argument("store", type=click.Path())
@click.option("--out", required=True, type=click.Path(), help="Coordinate system (.safetensors).")
@click.option(
    "--also", multiple=True, type=click.Path(), help="Another teacher's store of the same images. Repeatable."
)
@click.option("--method", type=click.Choice(COORDINATE_METHODS), default="pca", show_default=True, help="Kind of axes.")
@click.option("--components", type=int, help="Coordinates K; min(256, D) without it.")
@click.option(
    "--power", type=float, default=0.0, show_default=True, help="0 leaves variances as they are, 1 whitens fully."
)
@click.option("--readout", help="Readout of the store; needed where it holds several.")
@click.option("--shots", type=int, help="Also select coordinates from the labels of this k-shot split.")
@click.option("--split-seed", type=int, help="Seed of the k-shot split; --seed without it.")
@click.option("--split-file", type=click.Path(), help="Also select coordinates from the labelled rows of this file.")
@click.option(
    "--selection",
    type=click.Choice(SELECTIONS),
    default="ridge",
    show_default=True,
    help="By the labelled rows alone, or by their labels spread over the pool, all rows of STORE.",
)
@click.option(
    "--ceiling-shots", type=int, multiple=True, default=(4, 16), show_default=True, help="Shots of the ceiling curve."
)
@click.option(
    "--ceiling-test", type=click.Path(), help="Store to score the ceiling curve on; rows outside the shots without it."
)
@click.option(
    "--ceiling-test-also",
    multiple=True,
    type=click.Path(),
    help="Store of its images by a teacher of --also. Repeatable.",
)
@click.option(
    "--seed", type=int, default=42, show_default=True, help="Of axes that are drawn or trained, and of splits."
)
@click.option("--overwrite", is_flag=True, help="Replace a coordinate system made otherwise.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
def command(as_json: bool, **options: Any) -> None:
    """Fit a coordinate system on the features of STORE and print its ceiling curve.

    With --also the features of several teachers stand side by side: each row's of each store scaled to length 1, centred, and each store
    weighed to the same total variance.
    """
    config = FitConfig(**options)
    from tcs.coordinates.ceiling import recommended_components
    from tcs.coordinates.described import describe
    from tcs.coordinates.fit import fit

    system = fit(config)
    if as_json:
        selection = None if system.selection is None else system.selection.to_json()
        shape = {"dims": system.dims, "components": system.components, "identity": system.identity}
        found = recommended_components((system.ceiling or {"rows": []})["rows"], system.method, system.power)
        measured = {"ceiling": system.ceiling, "recommended_components": found, "selection": selection}
        click.echo(json.dumps({"coordinates": config.out, **shape, **measured}))
    else:
        click.echo(describe(system))
