"""`tcs export`."""

import json
from typing import Any

import click

from tcs.config.export import FORMATS, MAX_DROP_POINTS, ExportConfig


@click.command()
@click.argument("run", type=click.Path())
@click.option(
    "--to", required=True, type=click.Choice(FORMATS), help="What to write: docs/how-to/export.md compares them."
)
@click.option(
    "--out",
    required=True,
    type=click.Path(),
    help="A folder (timm, hf) or a file (.onnx, .pt2); of several students, a folder with one of them each.",
)
@click.option("--model", "models", multiple=True, help="Only this student of the run. Repeatable.")
@click.option(
    "--store", type=click.Path(), help="Compare on images of this store.  [default: the one the run was trained on]"
)
@click.option("--data", help="The images, for a store that holds none.")
@click.option("--test", type=click.Path(), help="hf: score this store and put top-1 with its interval on the card.")
@click.option(
    "--with-preprocess", is_flag=True, help="onnx, torch-export: the graph takes uint8 RGB pixels and normalises them."
)
@click.option(
    "--int8",
    metavar="DATA",
    help="onnx: also an 8-bit file, calibrated on one part of these images (a store, a folder ...) and measured on the other.",
)
@click.option(
    "--max-drop",
    type=float,
    default=MAX_DROP_POINTS,
    show_default=True,
    help="Points of top-1 (of agreement, without labels) that the 8-bit file may lose.",
)
@click.option("--overwrite", is_flag=True, help="Replace exports of other students at --out.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
def command(as_json: bool, **options: Any) -> None:
    """Write the students of RUN, or of RUN/STUDENT, in a form that is loaded without tcs.

    Each export is loaded in a fresh process and compared with the run on real images before it gets its name.
    """
    config = ExportConfig(**options)
    from tcs.export.stage import export_students

    rows = export_students(config)
    if as_json:
        click.echo(json.dumps({"exports": rows}))
        return
    for row in rows:
        difference = row["max_difference"]
        proof = "" if difference is None else f"  (largest difference from the run {difference:.1e})"
        click.echo(f"{row['path']}{proof}")
        if "int8" in row:
            click.echo(row["int8"])
