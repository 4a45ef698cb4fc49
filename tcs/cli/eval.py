"""`tcs eval`."""

import json
import os
from typing import Any

import click

from tcs.config.evaluate import EvalConfig
from tcs.config.extract import LABEL_SOURCES


@click.command()
@click.argument("run", type=click.Path(), metavar="MODEL")
@click.argument("store", type=click.Path(), metavar="DATA")
@click.option(
    "--probe",
    type=click.Path(),
    help="Fit a ridge probe of the students' frozen features on the labels of this store, instead of their classifiers.",
)
@click.option("--model", "models", multiple=True, help="Only this student of the run. Repeatable.")
@click.option("--data", help="The images, where DATA is a store that holds none: what it was made from.")
@click.option("--labels", type=click.Choice(LABEL_SOURCES[:2]), default="auto", help="Folder demands class folders.")
@click.option("--split", help="Part of DATA to use, as val: a sub-folder, or a split of a named data set.")
@click.option("--data-dir", type=click.Path(), help="Where a table's paths start, or a named data set is kept.")
@click.option("--input-key", help="Column of the images or paths.  [default: image; path in a table]")
@click.option("--target-key", help="Column of the classes.  [default: label]")
@click.option("--temperature", type=float, help="Divides the logits.  [default: the one fitted in training, if any]")
@click.option("-b", "--batch-size", type=int, default=256, show_default=True, help="Images at once.")
@click.option("-j", "--workers", type=int, help="Decoding threads.  [default: one a core]")
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda, cuda:1 ...")
@click.option("--out", type=click.Path(), help="Table .csv, one row a student.")
@click.option("--errors", type=click.Path(), metavar="DIR", help="Contact sheet and list of the images that are wrong.")
@click.option("--overwrite", is_flag=True, help="Replace what is in --out and --errors.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
@click.pass_context
def command(context: click.Context, /, as_json: bool, **options: Any) -> None:
    """Score students on labelled images: accuracies with intervals, each class, what is taken for what, calibration.

    MODEL is a run of tcs train (all its students), RUN/<student>, a folder that tcs export wrote, or an .onnx file. DATA is a store,
    a folder with one sub-folder per class, a .tar of one, or a table with the columns path and label; no teacher is needed.
    Students that were trained without labels have no classifier: give them one with --probe. Images that cannot be read are
    named and left out; the exit code is then 1.
    """
    config = EvalConfig(**options)
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # decoding threads share the cores: see tcs predict
    from tcs.evaluation.students import evaluate
    from tcs.evaluation.tables import shown

    rows = evaluate(config)
    if as_json:
        click.echo(json.dumps({"results": rows}))
    else:
        click.echo("\n".join(line for row in rows for line in shown(row)))
    context.exit(1 if any(row["broken"] for row in rows) else 0)
