"""`tcs targets`."""

import json
from typing import Any

import click

from tcs.config.coordinates import TargetsConfig


@click.command()
@click.argument("store", type=click.Path())
@click.argument("coordinates", type=click.Path(), required=False)
@click.option("--out", required=True, type=click.Path(), help="Targets file (.h5).")
@click.option(
    "--from",
    "from_targets",
    type=click.Path(),
    metavar="OLD.h5",
    help="Instead of COORDINATES: targets of STORE before an update, to be extended to its new rows.",
)
@click.option("--also", multiple=True, type=click.Path(), help="A store that tcs fit had beside STORE. Repeatable.")
@click.option("--bits", type=int, default=1024, show_default=True, help="Hash bits: a multiple of 8, at most 8192.")
@click.option(
    "--sample-rows", type=int, default=65536, show_default=True, help="Rows that the thresholds are medians of."
)
@click.option("--seed", type=int, default=42, show_default=True, help="Seed of the rotation and of the sample.")
@click.option("--overwrite", is_flag=True, help="Replace a targets file made otherwise.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
def command(as_json: bool, **options: Any) -> None:
    """Write the coordinates and hash bits of every row of STORE: all that a mimic loss reads.

    COORDINATES is a file of tcs fit. With --from the rows that OLD.h5 has keep their coordinates and bits, and rows that an update has
    added get theirs by the same axes and thresholds: nothing is fitted again.
    """
    config = TargetsConfig(**options)
    from tcs.coordinates.targets import fit_targets, open_targets

    path = fit_targets(config)
    if as_json:
        targets = open_targets(path)
        shape = {"rows": len(targets.z_NK), "components": targets.z_NK.shape[-1], "bits": len(targets.thresholds_H)}
        shape |= {"views": targets.z_NK.shape[1]} if targets.z_NK.ndim == 3 else {}
        click.echo(json.dumps({"targets": str(path), "identity": targets.identity, **shape}))
    else:
        click.echo(str(path))
