"""`tcs pretrain`."""

import json
import os
from typing import Any

import click

from tcs.cli.extract import parse_kwargs
from tcs.config.pretrain import VIEWS, PretrainConfig, SimclrConfig


@click.command()
@click.argument("data")
@click.option(
    "--out", required=True, type=click.Path(), help="Weights to write, NAME.safetensors; the card is NAME.json."
)
@click.option("--test", metavar="DATA", help="Images with the same classes, to score the finished teacher on.")
@click.option("--model", default=SimclrConfig.model, help="timm architecture.")
@click.option("--model-kwargs", multiple=True, callback=parse_kwargs, metavar="K=V", help="For timm. Repeatable.")
@click.option(
    "--views", type=click.Choice(VIEWS), default=SimclrConfig.views, help="Kind of images: photographs, or signs."
)
@click.option("--img-size", type=int, default=SimclrConfig.img_size, help="Pixels a side.")
@click.option("--mean", type=float, nargs=3, metavar="R G B", default=SimclrConfig.mean, help="Of the pixels, 0 to 1.")
@click.option("--std", type=float, nargs=3, metavar="R G B", default=SimclrConfig.std, help="Their spread.")
@click.option("--epochs", type=int, default=SimclrConfig.epochs, help="Passes over DATA.")
@click.option(
    "-b", "--batch-size", type=int, default=SimclrConfig.batch_size, help="Images per update, each seen twice."
)
@click.option("--opt", default=SimclrConfig.opt, help="timm optimizer.")
@click.option("--lr", type=float, default=SimclrConfig.lr, help="Learning rate at the top of the cosine schedule.")
@click.option("--weight-decay", type=float, default=SimclrConfig.weight_decay, help="Not of biases and norms.")
@click.option("--warmup-share", type=float, default=SimclrConfig.warmup_share, help="Of the steps.")
@click.option("--temperature", type=float, default=SimclrConfig.temperature, help="Of the loss.")
@click.option(
    "--projection-dims", type=int, default=SimclrConfig.projection_dims, help="Of the head that is thrown away."
)
@click.option("--amp", is_flag=True, help="Forward passes in bfloat16.")
@click.option("--seed", type=int, default=SimclrConfig.seed, help="Everything random is a function of it.")
@click.option("--device", default=PretrainConfig.device, help="cpu, cuda, cuda:1 ...")
@click.option("-j", "--workers", type=int, default=PretrainConfig.workers, help="Processes that decode; 0: this one.")
@click.option("--checkpoint-every", type=int, default=PretrainConfig.checkpoint_every, help="Steps.")
@click.option("--dry-run", is_flag=True, help="Print what it costs, and write nothing.")
@click.option("--overwrite", is_flag=True, help="Delete the teacher that is there, and begin anew.")
@click.option("--json", "as_json", is_flag=True, help="Print the card on stdout.")
def command(as_json: bool, **options: Any) -> None:
    """Pretrain a teacher for your kind of images from them alone, by SimCLR: no labels, no weights of others.

    DATA is what tcs extract reads: a folder, a .tar, a table ... Labels are not read, but for the scores with --test. Give as many
    images as there are; tens of thousands, and a GPU, make a teacher of use. Where a published one fits your images, it is better.

    Rerun the same command to resume. Then: tcs extract DATA --teacher-card NAME.json --out X.store
    """
    config = PretrainConfig(**options)
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # as in tcs extract
    from tcs.plain_files import load_json
    from tcs.pretraining.teacher import pretrain

    card = pretrain(config)
    if as_json and card.exists():
        click.echo(json.dumps(load_json(card)))
