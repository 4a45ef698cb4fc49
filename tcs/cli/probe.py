"""`tcs probe`."""

import json
from typing import Any

import click

from tcs.config.evaluate import COMPRESSIONS, HEADS, PROJECTIONS, ProbeConfig


@click.command()
@click.argument("store", type=click.Path())
@click.option("--test", required=True, type=click.Path(), help="Store to score on, of the same teacher.")
@click.option("--readout", help="Readout of both stores; needed where they hold several. A map is averaged.")
@click.option(
    "--projection",
    "projections",
    type=click.Choice(PROJECTIONS),
    multiple=True,
    help="Kind of compression. Repeatable; all of them without it.",
)
@click.option("--dims", type=int, multiple=True, help="Coordinates K. Repeatable.")
@click.option(
    "--compression",
    "compressions",
    type=float,
    multiple=True,
    help=f"Dims of the features over K. Repeatable; {', '.join(f'{ratio:g}' for ratio in COMPRESSIONS)} without it.",
)
@click.option(
    "--head",
    type=click.Choice(HEADS),
    default="ridge",
    show_default=True,
    help="Classifier on K coordinates; transductive: labels are spread over all other rows of STORE first.",
)
@click.option("--shots", type=int, help="Labelled rows a class; all labels without it.")
@click.option("--split-seed", type=int, help="One k-shot split for all seeds; a split a seed without it.")
@click.option("--split-file", type=click.Path(), help="The labelled rows of this file of `class key` lines.")
@click.option("--seed", "seeds", type=int, multiple=True, help="Seed of projections and splits. Repeatable; 0, 1, 2.")
@click.option("--copies", type=int, default=200, show_default=True, help="Noisy copies of a row; --head ibm2 only.")
@click.option("--device", default="cpu", show_default=True, help="Where --head ibm2 and transductive are fitted.")
@click.option("--out", type=click.Path(), help="Folder for the table (.csv, .md) and the figure.")
@click.option("--overwrite", is_flag=True, help="Replace the results of other options in --out.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
def command(as_json: bool, projections: tuple[str, ...], seeds: tuple[int, ...], **options: Any) -> None:
    """Score a head on compressed features of STORE, from 2x to 32x: the accuracy that a K-wide student could reach."""
    config = ProbeConfig(projections=projections or PROJECTIONS, seeds=seeds or ProbeConfig.seeds, **options)
    import pathlib

    from tcs.evaluation.probe import measure_compression
    from tcs.reporting.compression import render, summary, write_compression

    result = measure_compression(config)
    if as_json:
        click.echo(json.dumps({"results": list(result.rows), "table": summary(result.rows), "out": config.out}))
    else:
        click.echo(render(result), nl=False)
    if config.out is not None:
        write_compression(result, pathlib.Path(config.out))
