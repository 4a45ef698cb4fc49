"""`tcs train`."""

import json
from typing import Any

import click

from tcs.cli.config_file import config_file_option
from tcs.config import HEADS, MIMIC_VIEWS, TrainConfig


@click.command()
@config_file_option(nullable=("clip_grad",))
@click.argument("store", type=click.Path())
@click.option("--out", required=True, type=click.Path(), help="Run folder; holds one folder a student.")
@click.option(
    "--model", "models", multiple=True, required=True, help="Student: NAME[,k=v...], any timm model. Repeatable."
)
@click.option("--targets", type=click.Path(), help="Targets file; needed by methods that read coordinates or bits.")
@click.option("--readout", help="Vectors that losses of features read.  [default: the only ones of STORE]")
@click.option("--method", help="A named method, from tcs methods.  [default: tcs-probe with --targets, else labels]")
@click.option(
    "--head", type=click.Choice(HEADS), help="Instead of --method: the student's head.  [default: by the loss]"
)
@click.option("--loss", help='Instead of --method: a sum such as "ce + 0.5*rkd"; a loss without a factor counts once.')
@click.option(
    "--mimic-view",
    type=click.Choice(MIMIC_VIEWS),
    default="same",
    show_default=True,
    help="View that mimic losses see.",
)
@click.option("--shots", type=int, help="Labelled images per class; all labelled rows without it.")
@click.option("--split-seed", type=int, help="Seed of the k-shot split; --seed without it.")
@click.option("--split-file", type=click.Path(), help="Labelled rows from a file of 'class key' lines.")
@click.option(
    "--selection",
    help="Coordinates the classifier reads: ridge (by the labels), gates (trained), or a tcs fit FILE.  [default: all]",
)
@click.option("--keep", type=int, help="Coordinates whose gates stay open, with --selection gates.  [default: half]")
@click.option(
    "--unlabelled", default="all", show_default=True, help="Other rows whose pixels are used: all, none or a number."
)
@click.option("--steps", type=int, help="Training steps (2000 without --steps and --epochs).")
@click.option("--epochs", type=int, help="Passes over the rows of the run, instead of --steps.")
@click.option("--labelled-share", type=float, help="Share of labelled rows in a batch (0.25, or 1.0 without a pool).")
@click.option("-b", "--batch-size", type=int, default=128, show_default=True, help="Rows per step, in all.")
@click.option("--img-size", type=int, help="Student image size in pixels; timm's data config without it.")
@click.option(
    "--crop-padding",
    type=float,
    default=0.125,
    show_default=True,
    help="Padding of the random crop, as a share of the side.",
)
@click.option("--hflip", type=float, default=0.5, show_default=True, help="Probability of a horizontal flip.")
@click.option("--opt", default="adamw", show_default=True, help="Optimiser, by timm's name.")
@click.option("--lr", type=float, default=2e-3, show_default=True, help="Learning rate at the top of the cosine.")
@click.option("--clip-grad", type=float, default=1.0, show_default=True, help="Largest norm of the gradient.")
@click.option("--weight-decay", type=float, default=0.05, show_default=True)
@click.option(
    "--warmup-share", type=float, default=0.05, show_default=True, help="Share of the steps over which the rate rises."
)
@click.option(
    "--warmup-phase-share",
    type=float,
    default=0.1,
    show_default=True,
    help="Share of the steps that mimic before the labels count, in methods with such a phase.",
)
@click.option("--pretrained", is_flag=True, help="Start from timm's pretrained weights.")
@click.option("--channels-last/--no-channels-last", default=True, show_default=True, help="Memory layout of images.")
@click.option("--seed", type=int, default=42, show_default=True)
@click.option("--device", default="cpu", show_default=True)
@click.option("--checkpoint-every", type=int, default=200, show_default=True, help="Steps between resumable states.")
@click.option("--overwrite", is_flag=True, help="Delete what an earlier run left in the student's folder.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
def command(as_json: bool, **options: Any) -> None:
    """Train students from a store, without the teacher.

    `tcs methods` lists the losses and named methods: what each needs in the store, trains and costs; `tcs methods NAME`
    tells all about one. Published factors suit the features they were published for, so none is applied by itself.

    Rerun the same command to resume. RUN/<student>/ holds last.safetensors, folded.safetensors (a plain timm state dict),
    summary.csv and config.json.
    """
    config = TrainConfig(**options)
    from tcs.train import train

    folders = train(config)
    if as_json:
        click.echo(json.dumps({"students": [str(folder) for folder in folders]}))
    else:
        click.echo("\n".join(f"{folder}/folded.safetensors" for folder in folders))
