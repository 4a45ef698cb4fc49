"""`tcs predict`."""

import json
import os
from collections.abc import Sequence
from typing import Any

import click

from tcs.config.inference import PredictConfig


@click.command()
@click.argument("model", type=click.Path())
@click.argument("paths", nargs=-1, required=True, type=click.Path())
@click.option("--model", "student", help="Which student, where MODEL holds several.")
@click.option("--out", type=click.Path(), help="Table .csv, .json or .parquet.  [default: CSV on stdout]")
@click.option("--topk", type=int, default=5, show_default=True, help="Likeliest classes of an image.")
@click.option("--temperature", type=float, help="Divides the logits.  [default: the one fitted in training, if any]")
@click.option("-b", "--batch-size", type=int, default=64, show_default=True, help="Images at once.")
@click.option("-j", "--workers", type=int, help="Decoding threads.  [default: one a core]")
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda, cuda:1 ...")
@click.option("--overwrite", is_flag=True, help="Replace the table in --out.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
@click.pass_context
def command(context: click.Context, /, as_json: bool, **options: Any) -> None:
    """Name the likeliest classes of images: PATHS are files, folders, tars, tables, or - for paths on stdin.

    MODEL is a run of tcs train, RUN/<student>, a folder that tcs export wrote (or any timm model's for the Hub), or an .onnx
    file. Images that cannot be read are named and skipped; the exit code is then 1.
    """
    config = PredictConfig(**options)
    # Decoding threads share the cores with torch's, which by default spin while they wait. Read at torch's import.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    from tcs.inference.prediction import predict
    from tcs.inference.predictions import csv_text

    def tell(rows: Sequence[dict[str, Any]], columns: Sequence[str] | None) -> None:
        click.echo(csv_text(rows, columns).encode(), nl=False)  # UTF-8 whatever the terminal has

    result = predict(config, tell if config.out is None and not as_json else None)
    if as_json:
        click.echo(json.dumps({**result.facts(), "results": list(result.rows)}))
    context.exit(1 if result.broken else 0)
